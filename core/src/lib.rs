//! App Engine's chat service, on any XMPP server.
//!
//! A pure state machine with no clock and no socket knows XMPP; a driver gives it both; a service on
//! top knows what App Engine's chat service did.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod auth;
pub mod error;
pub mod jid;
#[cfg(feature = "net")]
pub mod net;
pub mod ns;
pub mod service;
pub mod stanza;
pub mod store;
pub mod stream;
#[cfg(feature = "tls")]
mod trust;
#[cfg(test)]
mod vectors;
pub mod xml;

pub use error::{Error, ErrorKind, Result};
pub use jid::{Jid, WireJid};
