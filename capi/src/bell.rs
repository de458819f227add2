//! What ends a wait besides what is waited for: an interrupt, and the file descriptor that a
//! program's own loop polls.

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use engine::net::runtime::Listed;

use crate::error::Failure;

/// Interrupts, and the descriptor once it was asked for.
///
/// Its lock is never held while anything else is called: the core rings while it holds its own.
#[derive(Default)]
pub(crate) struct Bell(Mutex<State>);

#[derive(Default)]
struct State {
    /// Counts the interrupts.
    interrupts: u64,
    /// An interrupt that nobody has noticed, since nobody waited.
    unnoticed: bool,
    waiting: usize,
    wakers: Vec<Waker>,
    /// Something is there for who polls the descriptor.
    rung: bool,
    pipe: Option<Pipe>,
}

/// Holds one byte exactly while it is to be readable, so neither end ever blocks.
struct Pipe {
    /// First: what is closed may be somebody else's at once.
    _listed: [Listed; 2],
    reader: PipeReader,
    writer: PipeWriter,
    readable: bool,
}

impl State {
    /// Makes the descriptor say what is so.
    fn show(&mut self) {
        let wanted = self.rung || self.unnoticed;
        let Some(pipe) = self.pipe.as_mut().filter(|pipe| pipe.readable != wanted) else { return };
        let done = if wanted {
            pipe.writer.write(&[0]).is_ok()
        } else {
            pipe.reader.read(&mut [0]).is_ok()
        };
        if done {
            pipe.readable = wanted;
        }
    }
}

impl Bell {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an interrupt awaits the next wait.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.state().unnoticed
    }

    /// Begins a wait; an interrupt that nobody has noticed ends it at once.
    pub(crate) fn begin(&self) -> Result<Waiting<'_>, Failure> {
        let mut state = self.state();
        if std::mem::take(&mut state.unnoticed) {
            state.show();
            return Err(Failure::interrupted());
        }
        state.waiting += 1;
        Ok(Waiting { bell: self, interrupts: state.interrupts, waker: None })
    }

    /// Ends all waits, or the next one if there is none.
    pub(crate) fn interrupt(&self) {
        let mut state = self.state();
        state.interrupts += 1;
        state.unnoticed |= state.waiting == 0;
        state.show();
        drop(state);
        self.wake_waiting();
    }

    /// There is something for who polls the descriptor, and for who waits.
    pub(crate) fn ring(&self) {
        let mut state = self.state();
        state.rung = true;
        state.show();
        drop(state);
        self.wake_waiting();
    }

    /// Has those who wait look again.
    pub(crate) fn wake_waiting(&self) {
        let wakers = std::mem::take(&mut self.state().wakers);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// There is nothing.
    pub(crate) fn quiet(&self) {
        let mut state = self.state();
        state.rung = false;
        state.show();
    }

    /// The descriptor, made at the first call.
    pub(crate) fn descriptor(&self) -> std::io::Result<RawFd> {
        let mut state = self.state();
        if state.pipe.is_none() {
            let (reader, writer) = std::io::pipe()?;
            let _listed = [Listed::new(reader.as_raw_fd()), Listed::new(writer.as_raw_fd())];
            state.pipe = Some(Pipe { _listed, reader, writer, readable: false });
            state.show();
        }
        Ok(state.pipe.as_ref().map_or(-1, |pipe| pipe.reader.as_raw_fd()))
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

/// A thread that waits.
pub(crate) struct Waiting<'a> {
    bell: &'a Bell,
    interrupts: u64,
    waker: Option<Waker>,
}

impl Waiting<'_> {
    /// Whether there was an interrupt since the wait began; `waker` is woken by the next ring.
    pub(crate) fn interrupted(&mut self, waker: &Waker) -> bool {
        let mut state = self.bell.state();
        if state.interrupts != self.interrupts {
            return true;
        }
        if !state.wakers.iter().any(|known| known.will_wake(waker)) {
            state.wakers.push(waker.clone());
            self.waker = Some(waker.clone());
        }
        false
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.bell.state();
        state.waiting -= 1;
        if let Some(waker) = &self.waker {
            state.wakers.retain(|known| !known.will_wake(waker));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupt_that_nobody_waited_for_ends_the_next_wait() {
        let bell = Bell::default();
        bell.interrupt();
        assert!(bell.begin().is_err());
        let mut waiting = bell.begin().unwrap();
        assert!(!waiting.interrupted(Waker::noop()));
        bell.interrupt();
        assert!(waiting.interrupted(Waker::noop()));
        drop(waiting);
        assert!(bell.begin().is_ok(), "it was noticed");
    }

    #[test]
    fn the_descriptor_is_readable_while_the_bell_is_rung() {
        let readable = |bell: &Bell| bell.state().pipe.as_ref().map(|pipe| pipe.readable);
        let bell = Bell::default();
        bell.ring();
        let fd = bell.descriptor().unwrap();
        assert_eq!(bell.descriptor().unwrap(), fd);
        assert_eq!(readable(&bell), Some(true));
        bell.ring();
        bell.quiet();
        assert_eq!(readable(&bell), Some(false));
        bell.interrupt();
        bell.quiet();
        assert_eq!(readable(&bell), Some(true), "the interrupt is still there");
        assert!(bell.begin().is_err());
        assert_eq!(readable(&bell), Some(false));
    }
}
