//! Encryption under a stream, and which servers it is trusted to lead to.

#[cfg(not(feature = "tls"))]
mod absent;
#[cfg(feature = "tls")]
mod session;
mod settings;
#[cfg(feature = "tls")]
mod trust;

#[cfg(not(feature = "tls"))]
pub(super) use absent::{Session, Trust};
#[cfg(feature = "tls")]
pub(super) use session::Session;
pub use settings::{Pin, Tls, TlsMode};
#[cfg(feature = "tls")]
pub(super) use trust::Trust;
