//! Waiting for the core with the interpreter released, and Ctrl-C at work.

use std::future::Future;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use appxmpp::net::{Waited, block_on_checked};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// How soon a signal is noticed while Python's main thread waits here.
const SLICE: Duration = Duration::from_millis(50);

/// The longest wait; longer ones mean "for ever".
const MAX_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// The main thread, by an address of its own; 0 if the module was imported on another one.
static MAIN: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static HERE: u8 = const { 0 };
}

fn here() -> usize {
    HERE.with(|here| std::ptr::from_ref(here).addr())
}

/// This thread is the one that Python's signal handlers run on.
pub(crate) fn this_is_the_main_thread() {
    MAIN.store(here(), Ordering::Relaxed);
}

/// How a wait of the core's looks after signals: `check` is to be called every `slice`.
pub(crate) struct Watch<'a> {
    pub(crate) slice: Duration,
    pub(crate) check: &'a mut (dyn FnMut(Duration) -> ControlFlow<()> + Send),
}

/// Runs `work` with the interpreter released. What a signal handler raises meanwhile is raised
/// here, after `work` ended for it.
pub(crate) fn detached<T: Send>(
    py: Python<'_>,
    work: impl FnOnce(Watch<'_>) -> T + Send,
) -> PyResult<T> {
    let main = MAIN.load(Ordering::Relaxed);
    let slice = if main == 0 || main == here() { SLICE } else { Duration::MAX };
    let mut raised = None;
    let mut check = |_: Duration| match Python::try_attach(|py| py.check_signals()) {
        Some(Ok(())) => ControlFlow::Continue(()),
        Some(Err(error)) => {
            raised = Some(error);
            ControlFlow::Break(())
        }
        // The interpreter is going away.
        None => ControlFlow::Break(()),
    };
    let result = py.detach(|| work(Watch { slice, check: &mut check }));
    raised.map_or(Ok(result), Err)
}

/// Waits for `future`, at most for `timeout`; `None` means that was too short.
pub(crate) fn wait<F>(py: Python<'_>, future: F, timeout: Duration) -> PyResult<Option<F::Output>>
where
    F: Future + Send,
    F::Output: Send,
{
    detached(py, |watch| {
        match block_on_checked(pin!(future), Some(timeout), watch.slice, watch.check) {
            Waited::Done(output) => Some(output),
            Waited::TimedOut | Waited::Interrupted(()) => None,
        }
    })
}

/// Seconds as Python gives them; what is not a time is refused.
pub(crate) fn seconds(value: f64) -> PyResult<Duration> {
    if value.is_nan() || value < 0.0 {
        let text = format!("a timeout is a number of seconds, 0 or more, not {value}");
        return Err(PyValueError::new_err(text));
    }
    Ok(Duration::try_from_secs_f64(value).map_or(MAX_WAIT, |time| time.min(MAX_WAIT)))
}
