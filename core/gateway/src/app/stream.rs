//! What an app says to its server on its own, and what becomes of its deliveries.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use appxmpp::net::{Connection, LiveOutbox};
use appxmpp::service::{Charge, Outgoing, Service};
use appxmpp::store::Change;
use appxmpp::stream::Batch;
use appxmpp::{ErrorKind, Result};
use bytes::Bytes;

use crate::deliver::engine::Outbox;
use crate::metrics::{Direction, Metrics};

/// Where webhooks' replies go.
#[derive(Clone)]
pub(super) struct Stream {
    pub(super) connection: Connection,
    pub(super) metrics: Arc<Metrics>,
    pub(super) service: Arc<Service>,
    /// The service, if its store outlives the process.
    pub(super) keeper: Option<Arc<Service>>,
    pub(super) outbox: Option<Arc<LiveOutbox>>,
}

impl Stream {
    /// Sends messages or presence: stored where there is an outbox, else written. `changes` are
    /// stored with them, or soon.
    pub(super) async fn send_batch(&self, batch: Batch, changes: Vec<Change>) -> Result<()> {
        match &self.outbox {
            None => {
                let sent = self.connection.send_many(batch).await;
                self.settle_soon(changes);
                sent.error.map_or(Ok(()), Err)
            }
            Some(outbox) => {
                self.connection.check_senders(&batch)?;
                let stanzas: Vec<_> =
                    batch.iter().map(|it| Outgoing::whole(Bytes::copy_from_slice(it))).collect();
                outbox.keep_reply(&stanzas, changes).await.error.map_or(Ok(()), Err)
            }
        }
    }

    async fn send_stanza(&self, stanza: &str, changes: Vec<Change>) -> Result<()> {
        match self.connection.batch(stanza) {
            Ok(batch) => self.send_batch(batch, changes).await,
            Err(error) => {
                // Where there is an outbox, whoever asked goes on with them.
                if self.outbox.is_none() {
                    self.settle_soon(changes);
                }
                Err(error)
            }
        }
    }

    fn settle_soon(&self, changes: Vec<Change>) {
        if let Some(service) = &self.keeper {
            changes.into_iter().for_each(|change| service.settle_delivery(change));
        }
    }
}

impl Outbox for Stream {
    async fn send(&self, stanza: String) {
        self.reply(&stanza, Vec::new()).await;
    }

    async fn settle(&self, id: u64, dead: Option<&'static str>, reply: Option<String>) {
        let change = self.keeper.as_ref().map(|service| match dead {
            Some(reason) => service.delivery_dead(id, utc(), reason),
            None => service.delivery_done(id),
        });
        let changes: Vec<_> = change.into_iter().collect();
        match reply {
            Some(stanza) => self.answer(&stanza, changes).await,
            None => self.settle_soon(changes),
        }
    }

    fn charge(&self, charge: Charge) -> Result<()> {
        self.service.set_utc(utc());
        self.service.charge(charge)
    }

    fn keeps(&self) -> bool {
        self.keeper.is_some()
    }

    fn holds(&self) -> bool {
        self.keeper.as_ref().is_none_or(|service| service.holds())
    }
}

/// How long an answer that could not be stored waits before the store is asked again.
const AGAIN: Duration = Duration::from_secs(1);

impl Stream {
    /// An app's answer to a delivery. Where it can neither be stored nor written without overtaking what
    /// is stored, it waits, and what its sender says next waits behind it.
    async fn answer(&self, stanza: &str, changes: Vec<Change>) {
        loop {
            match self.send_stanza(stanza, changes.clone()).await {
                Err(error) if self.must_wait(error.kind()) => {
                    tracing::warn!("an answer waits until it can be stored: {error}");
                    tokio::time::sleep(AGAIN).await;
                }
                sent => return self.after(sent, stanza, changes).await,
            }
        }
    }

    fn must_wait(&self, error: ErrorKind) -> bool {
        matches!(error, ErrorKind::Store | ErrorKind::Backpressure)
            && self.outbox.as_ref().is_some_and(|outbox| outbox.has_stored() || !self.holds())
    }

    pub(super) async fn reply(&self, stanza: &str, changes: Vec<Change>) {
        let sent = self.send_stanza(stanza, changes.clone()).await;
        self.after(sent, stanza, changes).await;
    }

    async fn after(&self, sent: Result<()>, stanza: &str, changes: Vec<Change>) {
        let sent = match sent {
            // What was to be settled with it stays as it is, and goes on after the next start.
            Err(error) if error.kind() == ErrorKind::Closed => Err(error),
            Err(error) if self.outbox.is_some() => {
                // It may still reach a live stream.
                tracing::warn!("a reply could not be stored: {error}");
                self.settle_soon(changes);
                self.connection.send(stanza).await
            }
            sent => sent,
        };
        self.note(stanza, sent);
    }

    /// Writes to the live stream what is not stored.
    pub(super) async fn write(&self, stanza: &str) {
        let sent = self.connection.send(stanza).await;
        self.note(stanza, sent);
    }

    fn note(&self, stanza: &str, sent: Result<()>) {
        match sent {
            Ok(()) => self.metrics.stanza(Direction::Out, kind_of(stanza)),
            Err(error) => tracing::warn!("a reply was lost: {error}"),
        }
    }
}

pub(crate) fn utc() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

pub(super) fn kind_of(stanza: impl AsRef<[u8]>) -> &'static str {
    match stanza.as_ref().get(1) {
        Some(b'm') => "message",
        Some(b'p') => "presence",
        _ => "iq",
    }
}
