//! Proving to a server who we are.
//!
//! A component does it with the XEP-0114 [`handshake`]: a digest over the stream's id and a shared
//! [`Secret`].

pub mod handshake;
mod secret;

pub use secret::Secret;
