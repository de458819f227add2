//! The native module behind the Python package: thin, frozen classes over the core.
//!
//! Rust owns grammar, sockets and the service; Python owns names, argument habits and exceptions.
//! Every wait releases the interpreter and hears signals, nothing starts before it is used, and no
//! runtime thread ever enters Python.

mod app;
mod dev;
mod error;
mod fork;
mod log;
mod wait;

use pyo3::prelude::*;

/// The embedded connection and development server of appxmpp, seen from Python.
#[pymodule(gil_used = false)]
mod _native {
    use std::ffi::{CStr, OsString};

    use appxmpp::net::Backend;
    use appxmpp::service::roster::{Direction, Subscription, SubscriptionVerb};
    use appxmpp_gateway::cli;
    use pyo3::exceptions::{PyRuntimeWarning, PyValueError};
    use pyo3::prelude::*;

    use crate::error::{guarded, raised};
    use crate::{fork, log, wait};

    #[pymodule_export]
    use crate::app::{App, Delivery};
    #[pymodule_export]
    use crate::dev::{DevEvent, DevServer};

    const DEBUG_BUILD: &CStr =
        c"appxmpp._native was built without optimisation; it is several times slower than a release build";

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let py = module.py();
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        let info = format!(
            "appxmpp {} ({profile}, {}-{})",
            env!("CARGO_PKG_VERSION"),
            std::env::consts::ARCH,
            std::env::consts::OS
        );
        module.add("build_info", info)?;
        fork::watch(py)?;
        super::note_main_thread(py)?;
        if cfg!(debug_assertions) {
            PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), DEBUG_BUILD, 1)?;
        }
        Ok(())
    }

    /// The domain of the component that a backend's URL names; None for `stub:`.
    #[pyfunction]
    fn backend_domain(url: &str) -> PyResult<Option<String>> {
        guarded(|| match Backend::parse(url).map_err(|error| raised(&error))? {
            Backend::Component { domain, .. } => Ok(Some(domain)),
            Backend::Client { account, .. } => Ok(Some(account.into_string())),
            _ => Ok(None),
        })
    }

    /// What a presence of the type `kind` does to a subscription in a state (RFC 6121 appendix A):
    /// whether it passes, and the state afterwards. States are numbered as a store keeps them.
    #[pyfunction]
    fn subscription_next(state: i64, inbound: bool, kind: &str) -> PyResult<(bool, u8)> {
        guarded(|| {
            let known = Subscription::from_number(state)
                .ok_or_else(|| PyValueError::new_err(format!("{state} is no state: 0 to 8 are")))?;
            let direction = if inbound { Direction::Inbound } else { Direction::Outbound };
            let verb = SubscriptionVerb::parse(kind).map_err(|error| raised(&error))?;
            let next = known.on(direction, verb);
            Ok((next.passes, next.state as u8))
        })
    }

    /// Keeps what the core says at this level of `logging` and above, for `log_records`; None
    /// keeps nothing.
    #[pyfunction]
    fn log_level(level: Option<u8>) -> PyResult<()> {
        guarded(|| {
            log::listen(level);
            Ok(())
        })
    }

    /// What the core said since the last call, waiting up to `timeout` seconds for the first of it.
    #[pyfunction]
    fn log_records(py: Python<'_>, timeout: f64) -> PyResult<Vec<log::Said>> {
        guarded(|| {
            let timeout = wait::seconds(timeout)?;
            Ok(py.detach(|| log::take(timeout)))
        })
    }

    /// Runs a command of the gateway's: `arguments` as after `appxmpp`. The exit code.
    ///
    /// The daemon takes over SIGTERM, SIGINT and SIGHUP of this process and does not give them back.
    #[pyfunction]
    fn gateway_main(py: Python<'_>, arguments: Vec<OsString>) -> PyResult<u8> {
        guarded(|| {
            let all = std::iter::once(OsString::from("appxmpp")).chain(arguments);
            Ok(py.detach(|| cli::main(all)))
        })
    }

    /// The names of those commands, and what each does.
    #[pyfunction]
    fn gateway_commands() -> PyResult<Vec<(String, String)>> {
        guarded(|| Ok(cli::commands()))
    }

    /// Panics, to show what becomes of it.
    #[pyfunction]
    fn _panic(text: String) -> PyResult<()> {
        #[expect(clippy::panic, reason = "this is what the function is for")]
        guarded(|| panic!("{text}"))
    }
}

fn note_main_thread(py: Python<'_>) -> PyResult<()> {
    let threading = py.import("threading")?;
    let current = threading.call_method0("current_thread")?;
    if current.is(&threading.call_method0("main_thread")?) {
        wait::this_is_the_main_thread();
    }
    Ok(())
}
