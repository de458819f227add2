//! The XML stream as a state machine: no socket, no clock, no randomness.
//!
//! A driver owns one [`ComponentStream`] (or the other end, an [`AcceptStream`]; or, for an ordinary
//! account, a `ClientStream`), feeds it what arrives and the time, and carries out what it asks for:
//!
//! ```text
//!   bytes in  ──▶ handle_input      poll_event    ──▶ ready, stanzas, acknowledgements, the end
//!   time      ──▶ handle_timeout    poll_transmit ──▶ bytes out
//!   stanzas   ──▶ send, close       poll_timeout  ──▶ when to call handle_timeout
//! ```
//!
//! After any of the calls on the left: [`poll_event`](ComponentStream::poll_event) until there is
//! none, then [`poll_transmit`](ComponentStream::poll_transmit) and
//! [`poll_timeout`](ComponentStream::poll_timeout). A driver that cannot take more events stops
//! polling them, and stops giving input as soon as there is a
//! [backlog](ComponentStream::has_backlog): nothing is lost meanwhile, and the peer is not taken for
//! dead. It goes on polling as long as the stream is
//! [logging in](ComponentStream::is_logging_in), because the server waits for the log-in only so long,
//! and whoever takes no events may still want to send. Times are durations since any moment the driver
//! chose.

#[cfg(feature = "client")]
mod client;
mod component;
mod error;
mod iq;
#[cfg(feature = "client")]
mod negotiation;
mod outgoing;
mod probe;
mod server;
#[cfg(feature = "client")]
mod sm;
mod wire;

#[cfg(feature = "client")]
pub use client::{ClientConfig, ClientEvent, ClientStream, Encryption};
pub use component::{ComponentConfig, ComponentStream, Event, Stats};
pub use error::{Closed, StreamError};
pub use iq::{IqKey, IqTracker, OwnAddress};
#[cfg(feature = "client")]
pub use negotiation::RosterItem;
pub use outgoing::Batch;
#[cfg(feature = "net")]
pub(crate) use outgoing::check_sender;
pub use probe::{Barrier, Keepalive, Question};
pub use server::{AcceptConfig, AcceptEvent, AcceptStream};
#[cfg(feature = "client")]
pub use sm::Resumption;

#[cfg(test)]
mod tests;
