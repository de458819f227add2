//! The one background thread that all connections of a process share, and what `fork` does to it.
//!
//! Nothing starts before the first connection is opened. A process that was made by `fork` inherits
//! the memory of its parent's runtime but not its thread, so it starts a runtime of its own: each
//! fork is a new *generation*. A handle of an older generation refuses to work instead
//! of waiting for a thread that does not exist, and whoever embeds this library calls
//! [`after_fork_in_child`] in each new process.

use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::runtime::Handle;

use super::drive::Driven;
use crate::error::{Error, ErrorKind, Result};

/// The runtime of one generation, and the next generation's. No lock in it is ever touched by two
/// generations: one that a thread of the parent held while it forked would never be released.
struct Slot {
    driven: OnceLock<&'static Driven>,
    starting: Mutex<()>,
    next: OnceLock<Box<Slot>>,
}

impl Slot {
    const fn new() -> Self {
        Self { driven: OnceLock::new(), starting: Mutex::new(()), next: OnceLock::new() }
    }

    fn start(&'static self) -> Result<&'static Driven> {
        if let Some(driven) = self.driven.get() {
            return Ok(driven);
        }
        let _guard = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        if self.driven.get().is_none() {
            let driven: &'static Driven = Box::leak(Box::new(Driven::new().map_err(no_runtime)?));
            driven.start().map_err(no_runtime)?;
            let _ = self.driven.set(driven);
        }
        self.driven.get().copied().ok_or_else(|| {
            Error::new(ErrorKind::Internal, "the background runtime vanished while it was started")
        })
    }

    /// The one of this process.
    fn current() -> &'static Self {
        let mut slot = &FIRST;
        for _ in 0..generation() {
            slot = slot.next.get_or_init(|| Box::new(Self::new()));
        }
        slot
    }
}

fn no_runtime(source: std::io::Error) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!("the background thread cannot be started ({source}); raise the process's limits"),
    )
    .with_source(source)
}

static FIRST: Slot = Slot::new();
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// How many forks lie between this process and the one that loaded the library.
pub fn generation() -> u32 {
    GENERATION.load(Ordering::Acquire)
}

/// The runtime of this process, started if it is the first use.
///
/// # Errors
/// [`ErrorKind::Internal`] if the operating system gives no thread.
pub fn handle() -> Result<Handle> {
    Ok(Slot::current().start()?.handle().clone())
}

/// The runtime of this process, for a thread that is to wait: if it was started, and if the thread is
/// in none.
pub(super) fn to_wait_on() -> Option<&'static Driven> {
    let driven = Slot::current().driven.get()?;
    Handle::try_current().is_err().then_some(*driven)
}

/// To be called once in each process that `fork` made, before anything else of this library, from
/// `os.register_at_fork(after_in_child=…)` or `pthread_atfork`.
///
/// It never blocks. `close` is called with the number of each descriptor inherited from the parent, and
/// should be `close(2)`: as long as a child holds a socket open, the server does not notice the parent's
/// end. (Closing a descriptor that somebody else owns is not safe Rust, so the caller does it.)
pub fn after_fork_in_child(mut close: impl FnMut(i32)) {
    GENERATION.fetch_add(1, Ordering::AcqRel);
    SOCKETS.take_all(&mut close);
}

/// A shared value that belongs to the process that made it.
///
/// In a process made by `fork` the value can neither be reached nor dropped: its locks may be held
/// for ever, its sockets are the parent's.
#[derive(Debug)]
pub(crate) struct Owned<T> {
    generation: u32,
    /// Always there until the drop.
    value: Option<Arc<T>>,
}

impl<T> Owned<T> {
    pub(crate) fn new(value: Arc<T>) -> Self {
        Self { generation: generation(), value: Some(value) }
    }

    /// The value.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] in any process but the one that made it.
    pub(crate) fn get(&self) -> Result<&Arc<T>> {
        match &self.value {
            Some(value) if self.generation == generation() => Ok(value),
            _ => Err(forked()),
        }
    }
}

#[cold]
fn forked() -> Error {
    Error::new(
        ErrorKind::Closed,
        "this connection was opened before fork() and belongs to the parent process; open another in this one",
    )
}

impl<T> Clone for Owned<T> {
    fn clone(&self) -> Self {
        Self { generation: self.generation, value: self.value.clone() }
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        if self.generation != generation() {
            std::mem::forget(self.value.take());
        }
    }
}

/// Keeps a descriptor, a socket or one end of a pipe, on the list of those that a child process must
/// close. To be dropped before it is closed.
#[derive(Debug)]
pub struct Listed(i32);

impl Listed {
    /// Puts `fd` on the list.
    pub fn new(fd: i32) -> Self {
        SOCKETS.add(fd);
        Self(fd)
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        SOCKETS.remove(self.0);
    }
}

/// The open descriptors, in a list that can be read without a lock.
struct Sockets {
    slots: [AtomicI32; 32],
    more: OnceLock<Box<Sockets>>,
}

const FREE: i32 = -1;
static SOCKETS: Sockets = Sockets::new();

impl Sockets {
    const fn new() -> Self {
        Self { slots: [const { AtomicI32::new(FREE) }; 32], more: OnceLock::new() }
    }

    fn add(&self, fd: i32) {
        let free = |slot: &&AtomicI32| {
            slot.compare_exchange(FREE, fd, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        if !self.slots.iter().any(|slot| free(&slot)) {
            self.more.get_or_init(|| Box::new(Self::new())).add(fd);
        }
    }

    fn remove(&self, fd: i32) {
        let taken = |slot: &AtomicI32| {
            slot.compare_exchange(fd, FREE, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        if !self.slots.iter().any(taken)
            && let Some(more) = self.more.get()
        {
            more.remove(fd);
        }
    }

    fn take_all(&self, close: &mut impl FnMut(i32)) {
        for slot in &self.slots {
            let fd = slot.swap(FREE, Ordering::AcqRel);
            if fd != FREE {
                close(fd);
            }
        }
        if let Some(more) = self.more.get() {
            more.take_all(close);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_runtime_serves_all() {
        let on = |handle: &Handle| handle.id();
        assert_eq!(on(&handle().unwrap()), on(&handle().unwrap()));
    }

    #[test]
    fn open_sockets_are_listed_until_they_close() {
        let sockets = Sockets::new();
        for fd in 0..100 {
            sockets.add(fd);
        }
        for fd in 10..100 {
            sockets.remove(fd);
        }
        sockets.add(200);
        let mut inherited = Vec::new();
        sockets.take_all(&mut |fd| inherited.push(fd));
        inherited.sort_unstable();
        assert_eq!(inherited, (0..10).chain([200]).collect::<Vec<_>>());
        sockets.take_all(&mut |fd| panic!("{fd} was taken before"));
    }
}
