//! The native module behind the Python package.
use pyo3::prelude::*;

/// The embedded connection and development server of appxmpp, seen from Python.
#[pymodule(gil_used = false)]
mod _native {
    use super::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
