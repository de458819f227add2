//! What an app says before its stream is closed.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::connection::Connection;
use crate::service::Service;
use crate::stream::Batch;

/// How many stanzas are written at once.
const ROUND: usize = 256;
/// A server that takes none of them for so long will not take the others.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is kept of the time for closing to say goodbye.
pub fn farewell_time(deadline: Duration) -> Duration {
    (deadline / 4).min(Duration::from_secs(2))
}

/// Tells contacts that the app is gone, as fast as the server takes it: all of them, unless the stream
/// ends or `until` passes. From its call on nobody else may call [`Service::handle_timeout`]. Returns
/// how many stanzas were written.
pub async fn say_goodbye(service: &Service, connection: &Connection, until: Instant) -> usize {
    service.handle_closing();
    let mut told = 0;
    while service.poll_timeout().is_some() && connection.is_ready() {
        let stanzas = service.handle_timeout(Duration::ZERO, ROUND);
        let mut batch = Batch::new();
        stanzas.iter().for_each(|stanza| batch.push_written(stanza));
        let patience = until.min(Instant::now() + PATIENCE);
        let sent = timeout_at(patience, connection.send_many(batch)).await;
        let written = sent.map_or(0, |sent| sent.written);
        told += written;
        if written < stanzas.len() {
            tracing::warn!(
                told,
                "the server takes no more: other contacts are not told that the app is gone"
            );
            break;
        }
    }
    told
}
