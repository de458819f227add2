//! Waiting for a future on a thread that is not the runtime's.

use std::cell::RefCell;
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::runtime::to_wait_on;

/// Wakes the one thread it was made on.
struct Parker {
    thread: Thread,
    woken: AtomicBool,
}

impl Parker {
    fn park(&self, timeout: Option<Duration>) {
        if self.woken.load(Ordering::Acquire) {
            return;
        }
        match timeout {
            Some(timeout) => thread::park_timeout(timeout),
            None => thread::park(),
        }
    }
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.woken.swap(true, Ordering::Release) {
            self.thread.unpark();
        }
    }
}

thread_local! {
    static PARKER: RefCell<Option<Arc<Parker>>> = const { RefCell::new(None) };
}

fn parker() -> Arc<Parker> {
    PARKER.with_borrow_mut(|parker| {
        let parker = parker.get_or_insert_with(|| {
            Arc::new(Parker { thread: thread::current(), woken: AtomicBool::new(false) })
        });
        Arc::clone(parker)
    })
}

/// The longest time that is told from for ever: clocks overflow beyond some centuries.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// `time`, short enough to be added to any clock's.
pub(super) fn bounded(time: Duration) -> Duration {
    time.min(LONGEST)
}

/// Runs `future` on this thread until it is done or `timeout` has passed; `None` means the latter.
///
/// The futures of this crate's handles may be waited for on any thread. Call it on threads of your
/// own, never inside an async task.
pub fn block_on<F: Future>(future: F, timeout: Option<Duration>) -> Option<F::Output> {
    let never = |_: Duration| ControlFlow::<()>::Continue(());
    match block_on_checked(future, timeout, Duration::MAX, never) {
        Waited::Done(output) => Some(output),
        Waited::TimedOut | Waited::Interrupted(()) => None,
    }
}

/// How [`block_on_checked`] ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Waited<T, B> {
    /// The future is done.
    Done(T),
    /// Its time was up.
    TimedOut,
    /// The check said to stop, for this reason.
    Interrupted(B),
}

/// [`block_on`] for a thread that must look at something else now and then, at signals for
/// instance: `check` is called about every `slice`, with the time waited so far, and can end the
/// wait. It is not called at all if the future is done at once.
pub fn block_on_checked<F: Future, B>(
    future: F,
    timeout: Option<Duration>,
    slice: Duration,
    mut check: impl FnMut(Duration) -> ControlFlow<B>,
) -> Waited<F::Output, B> {
    let mut future = pin!(future);
    let parker = parker();
    let waker = Waker::from(Arc::clone(&parker));
    let mut context = Context::from_waker(&waker);
    parker.woken.store(false, Ordering::Relaxed);
    if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
        return Waited::Done(output);
    }
    // Whoever waits drives the runtime, if this process has one.
    let driven = to_wait_on();
    let started = Instant::now();
    let mut checked = Duration::ZERO;
    loop {
        let waited = started.elapsed();
        let left = timeout.map(|timeout| timeout.saturating_sub(waited));
        if left == Some(Duration::ZERO) {
            return Waited::TimedOut;
        }
        if waited - checked >= slice {
            checked = waited;
            if let ControlFlow::Break(reason) = check(waited) {
                return Waited::Interrupted(reason);
            }
            // The check may have waited for something itself, on this thread and its parker.
            parker.woken.store(true, Ordering::Relaxed);
        }
        let next_check = (checked.checked_add(slice)).map(|at| at.saturating_sub(waited));
        let least = [left, next_check].into_iter().flatten().min();
        if let Some(driven) = driven {
            if let Some(output) = driven.wait(future.as_mut(), least) {
                return Waited::Done(output);
            }
            continue;
        }
        parker.park(least);
        if parker.woken.swap(false, Ordering::Acquire)
            && let Poll::Ready(output) = future.as_mut().poll(&mut context)
        {
            return Waited::Done(output);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[test]
    fn what_is_done_is_returned_without_a_check() {
        let check = |_| -> ControlFlow<()> { panic!("no check is due") };
        let waited = block_on_checked(async { 7 }, Some(Duration::ZERO), Duration::ZERO, check);
        assert_eq!(waited, Waited::Done(7));
    }

    #[test]
    fn another_thread_ends_the_wait() {
        let (tx, rx) = oneshot::channel();
        let sender = thread::spawn(move || tx.send(7));
        assert_eq!(block_on(rx, None), Some(Ok(7)));
        sender.join().unwrap().unwrap();
    }

    #[test]
    fn time_runs_out() {
        let never = std::future::pending::<()>();
        assert_eq!(block_on(never, Some(Duration::from_millis(5))), None);
    }

    #[test]
    fn a_check_may_wait_itself() {
        let (tx, rx) = oneshot::channel();
        let mut tx = Some(tx);
        let waited = block_on_checked(rx, None, Duration::from_millis(1), |_| {
            if let Some(tx) = tx.take() {
                tx.send(7).unwrap();
            }
            assert_eq!(block_on(async { 8 }, None), Some(8));
            ControlFlow::<()>::Continue(())
        });
        assert_eq!(waited, Waited::Done(Ok(7)));
    }

    #[test]
    fn a_check_ends_the_wait() {
        let mut checks = 0;
        let waited =
            block_on_checked(std::future::pending::<()>(), None, Duration::from_millis(1), |_| {
                checks += 1;
                if checks == 3 { ControlFlow::Break("signal") } else { ControlFlow::Continue(()) }
            });
        assert_eq!(waited, Waited::Interrupted("signal"));
    }
}
