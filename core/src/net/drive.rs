//! Who drives the process's runtime: a thread that waits for it, if one does, and our own otherwise.
//!
//! A thread that waits for a delivery and drives the runtime meanwhile reads the socket itself. Were
//! that left to another thread, each delivery would cost two changes of threads: a bot in C that
//! answers messages one by one took 14 µs of CPU for each instead of 5.

use std::future::Future;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::thread::{self, Thread};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Notify;

/// How long our own thread waits for somebody to come back before it drives: the socket is not read
/// in the meantime.
const SLICE: Duration = Duration::from_millis(5);

pub(super) struct Driven {
    runtime: Runtime,
    /// Threads that wait; one of them drives.
    callers: AtomicUsize,
    /// How often the last of them went away.
    departures: AtomicU64,
    /// Our own thread drives, or is about to.
    driving: AtomicBool,
    /// Our own thread sleeps until the next departure.
    resting: AtomicBool,
    /// Has our own thread stop driving.
    wanted: Notify,
    own: OnceLock<Thread>,
}

impl Driven {
    /// A runtime without a thread yet.
    pub(super) fn new() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().max_blocking_threads(4).enable_all().build()?;
        Ok(Self {
            runtime,
            callers: AtomicUsize::new(0),
            departures: AtomicU64::new(0),
            driving: AtomicBool::new(true),
            resting: AtomicBool::new(false),
            wanted: Notify::new(),
            own: OnceLock::new(),
        })
    }

    /// Starts the thread of our own; to be called once.
    pub(super) fn start(&'static self) -> io::Result<()> {
        let thread = thread::Builder::new().name("appxmpp".to_owned()).spawn(|| self.run())?;
        let _ = self.own.set(thread.thread().clone());
        Ok(())
    }

    pub(super) fn handle(&self) -> &Handle {
        self.runtime.handle()
    }

    /// Waits on this thread, which is in no runtime, at most for `timeout`; `None` means that it has
    /// passed.
    pub(super) fn wait<F: Future>(
        &self,
        future: F,
        timeout: Option<Duration>,
    ) -> Option<F::Output> {
        self.callers.fetch_add(1, SeqCst);
        let _caller = Caller(self);
        if self.driving.load(SeqCst) {
            self.wanted.notify_one();
        }
        self.runtime.block_on(async move {
            match timeout {
                Some(timeout) => tokio::time::timeout(timeout, future).await.ok(),
                None => Some(future.await),
            }
        })
    }

    fn run(&self) {
        loop {
            self.driving.store(true, SeqCst);
            self.runtime.block_on(async {
                while self.callers.load(SeqCst) == 0 {
                    self.wanted.notified().await;
                }
            });
            self.driving.store(false, SeqCst);
            self.rest();
        }
    }

    /// Returns when nobody has driven for a while.
    fn rest(&self) {
        let mut seen = self.departures.load(SeqCst);
        loop {
            thread::park_timeout(SLICE);
            let departures = self.departures.load(SeqCst);
            if departures == seen {
                if self.callers.load(SeqCst) == 0 {
                    return;
                }
                self.sleep(departures);
            }
            seen = departures;
        }
    }

    /// Somebody drives and is not about to go: there is nothing to do until the next departure.
    fn sleep(&self, departures: u64) {
        self.resting.store(true, SeqCst);
        while self.departures.load(SeqCst) == departures {
            thread::park();
        }
        self.resting.store(false, SeqCst);
    }
}

struct Caller<'a>(&'a Driven);

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        let driven = self.0;
        if driven.callers.fetch_sub(1, SeqCst) > 1 {
            return;
        }
        driven.departures.fetch_add(1, SeqCst);
        if driven.resting.load(SeqCst)
            && let Some(own) = driven.own.get()
        {
            own.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::time::sleep;

    use super::*;

    fn started() -> &'static Driven {
        let driven: &'static Driven = Box::leak(Box::new(Driven::new().unwrap()));
        driven.start().unwrap();
        driven
    }

    /// On which thread a task runs.
    fn thread_of_task(driven: &Driven) -> mpsc::Receiver<Option<String>> {
        let (tx, rx) = mpsc::channel();
        driven.handle().spawn(async move { tx.send(thread::current().name().map(str::to_owned)) });
        rx
    }

    #[test]
    fn tasks_run_while_nobody_waits() {
        let driven = started();
        for _ in 0..3 {
            assert_eq!(thread_of_task(driven).recv().unwrap().as_deref(), Some("appxmpp"));
            assert_eq!(driven.wait(async { 7 }, None), Some(7));
        }
    }

    #[test]
    fn who_waits_drives_and_is_followed() {
        let driven = started();
        let (told, known) = mpsc::channel();
        let waiting = thread::Builder::new().name("waiting".to_owned()).spawn(move || {
            let (tx, rx) = tokio::sync::oneshot::channel::<()>();
            told.send(tx).unwrap();
            driven.wait(rx, None)
        });
        let end = known.recv().unwrap();
        // Until our own thread has let go, tasks may still run there.
        while thread_of_task(driven).recv().unwrap().as_deref() != Some("waiting") {}
        let more = thread::spawn(move || {
            driven.wait(async { sleep(Duration::from_millis(30)).await }, None)
        });
        assert_eq!(more.join().unwrap(), Some(()));
        end.send(()).unwrap();
        assert_eq!(waiting.unwrap().join().unwrap(), Some(Ok(())));
        assert_eq!(thread_of_task(driven).recv().unwrap().as_deref(), Some("appxmpp"));
    }

    #[test]
    fn time_runs_out_and_our_own_thread_goes_on() {
        let driven = started();
        let never = std::future::pending::<()>;
        for _ in 0..20 {
            assert_eq!(driven.wait(never(), Some(Duration::from_millis(1))), None);
        }
        assert_eq!(driven.wait(never(), Some(5 * SLICE)), None, "it sleeps by then");
        assert_eq!(thread_of_task(driven).recv().unwrap().as_deref(), Some("appxmpp"));
    }
}
