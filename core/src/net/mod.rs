//! A live connection: the driver that gives the [stream](crate::stream) a socket and a clock.
//!
//! [`Connection`] is the handle. It is opened once and stays: what breaks is made anew behind it.
//! Everything that waits has an async form for tasks and a blocking one for threads.

mod app;
mod backend;
mod backoff;
mod cause;
mod config;
mod connection;
mod continuity;
mod cork;
pub mod dev;
mod dial;
mod drive;
mod driver;
mod farewell;
mod gate;
mod gathering;
mod inbound;
mod outbound;
mod outbox;
mod refusal;
mod request;
mod role;
pub mod runtime;
mod sending;
mod shared;
mod sharing;
mod socket;
#[cfg(feature = "srv")]
mod srv;
mod stats;
mod tls;
mod turns;
mod wait;

pub use app::{App, AppConfig, AppStats, Claimed, Outcome};
pub use backend::{Backend, CLIENT_PORT, CLIENT_TLS_PORT, COMPONENT_PORT, Endpoint};
pub use backoff::Backoff;
pub use cause::Cause;
pub use config::{Account, Bounds, ConnectionConfig};
pub use connection::{Connection, Event};
pub use dev::DevServer;
pub use dial::endpoints;
pub use farewell::{farewell_time, say_goodbye};
pub use outbox::{Keeping, Kept, LiveOutbox};
pub use request::Request;
pub use sending::{Sending, Sent, message_batch};
pub use sharing::take_over;
pub use stats::Stats;
pub use tls::{Pin, Tls, TlsMode};
pub use turns::{keep_deliveries, released};
pub use wait::{Waited, block_on, block_on_checked};

pub use crate::auth::Secret;

#[cfg(test)]
mod peer;
#[cfg(test)]
mod tests;
