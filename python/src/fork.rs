//! What `fork` and the end of the interpreter do to what is open here.

use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError, Weak};
use std::time::Duration;

use appxmpp::net::runtime;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::wait;

/// How long the interpreter's end waits for a server to hear goodbye.
const FAREWELL: Duration = Duration::from_secs(3);

/// What is open and wants to be closed before the interpreter ends.
pub(crate) trait Close: Send + Sync {
    /// Says goodbye within `deadline`.
    fn close_within(&self, py: Python<'_>, deadline: Duration);
}

struct Open {
    generation: u32,
    what: Weak<dyn Close>,
}

static OPEN: Mutex<Vec<Open>> = Mutex::new(Vec::new());

/// Closes `what` at the end of the interpreter, if it is still there and this process opened it.
pub(crate) fn close_at_exit(py: Python<'_>, what: Weak<dyn Close>) -> PyResult<()> {
    let generation = runtime::generation();
    let first = {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|open| open.what.strong_count() > 0);
        let first = !open.iter().any(|open| open.generation == generation);
        open.push(Open { generation, what });
        first
    };
    if first {
        // atexit runs while other threads still can; a module's own end comes too late for that.
        let close = pyo3::wrap_pyfunction!(close_all, py)?;
        py.import("atexit")?.call_method1("register", (close,))?;
    }
    Ok(())
}

#[pyfunction]
#[pyo3(name = "_close_all")]
fn close_all(py: Python<'_>) {
    let generation = runtime::generation();
    let open = std::mem::take(&mut *OPEN.lock().unwrap_or_else(PoisonError::into_inner));
    for open in open.iter().filter(|open| open.generation == generation) {
        if let Some(what) = open.what.upgrade() {
            what.close_within(py, FAREWELL);
        }
    }
}

/// Has Python call `after_fork_in_child` in each process that it forks.
pub(crate) fn watch(py: Python<'_>) -> PyResult<()> {
    let os = py.import("os")?;
    if !os.hasattr("register_at_fork")? {
        return Ok(());
    }
    let hook = PyDict::new(py);
    hook.set_item("after_in_child", pyo3::wrap_pyfunction!(after_fork_in_child, py)?)?;
    os.call_method("register_at_fork", (), Some(&hook))?;
    Ok(())
}

#[pyfunction]
#[pyo3(name = "_after_fork_in_child")]
fn after_fork_in_child() {
    wait::this_is_the_main_thread();
    runtime::after_fork_in_child(|fd| {
        // SAFETY: the core names each socket that this process inherited once, and nothing in this
        // process uses it: its handles refuse to work and are never dropped after a fork.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    });
}
