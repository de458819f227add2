//! Failures of the core as the exceptions of `appxmpp.errors`.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use appxmpp::error::{Error, ErrorKind};
use appxmpp::service;
use pyo3::prelude::*;

/// The exceptions, written in Python where people read them.
mod exceptions {
    pyo3::import_exception!(appxmpp.errors, CallTooLargeError);
    pyo3::import_exception!(appxmpp.errors, ConfigError);
    pyo3::import_exception!(appxmpp.errors, DeadlineError);
    pyo3::import_exception!(appxmpp.errors, InternalError);
    pyo3::import_exception!(appxmpp.errors, NotAuthorizedError);
    pyo3::import_exception!(appxmpp.errors, OverQuotaError);
    pyo3::import_exception!(appxmpp.errors, ServiceError);
    pyo3::import_exception!(appxmpp.errors, UnavailableError);
}
use exceptions::{
    CallTooLargeError, ConfigError, DeadlineError, InternalError, NotAuthorizedError,
    OverQuotaError, ServiceError, UnavailableError,
};

/// The exception for a failure of the core.
pub(crate) fn raised(error: &Error) -> PyErr {
    let text = error.to_string();
    match error.kind() {
        ErrorKind::NotConnected | ErrorKind::Backpressure | ErrorKind::Closed => {
            UnavailableError::new_err(text)
        }
        ErrorKind::Timeout => DeadlineError::new_err(text),
        ErrorKind::Config => ConfigError::new_err(text),
        ErrorKind::NotAuthorized => NotAuthorizedError::new_err(text),
        ErrorKind::Store | ErrorKind::Internal => InternalError::new_err(text),
        ErrorKind::RequestTooLarge => CallTooLargeError::new_err(text),
        ErrorKind::OverQuota => OverQuotaError::new_err(text),
        kind => ServiceError::new_err((service::ServiceError::from(kind) as i32, text)),
    }
}

/// The exception for a connection that cannot be used.
pub(crate) fn unavailable(text: &'static str) -> PyErr {
    UnavailableError::new_err(text)
}

/// Runs a call of Python's into the core, where a panic becomes `InternalError`.
///
/// PyO3 would raise its own `PanicException`, which `except Exception` does not catch.
pub(crate) fn guarded<T>(call: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| Err(panicked(&*panic)))
}

#[cold]
fn panicked(panic: &(dyn Any + Send)) -> PyErr {
    let what = (panic.downcast_ref::<&str>().copied())
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text");
    InternalError::new_err(format!("a fault in appxmpp ({what}); please report it"))
}
