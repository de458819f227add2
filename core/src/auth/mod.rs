//! Proving to a server who we are.
//!
//! A component does it with the XEP-0114 [`handshake`]: a digest over the stream's id and a shared
//! [`Secret`]. An account does it with [`sasl`]: SCRAM, or PLAIN where that is allowed.

pub mod handshake;
#[cfg(feature = "client")]
pub mod plain;
#[cfg(feature = "client")]
pub mod sasl;
#[cfg(feature = "client")]
pub mod scram;
mod secret;

pub use secret::Secret;
