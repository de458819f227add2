//! One app, live: its stream to the XMPP server, App Engine's service, and its webhooks.

pub mod archive;
pub mod barrier;
pub mod known;
pub mod waiters;

mod inbound;
mod open;
mod stream;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use appxmpp::net::{Connection, LiveOutbox, farewell_time, message_batch, say_goodbye};
use appxmpp::service::address::{Addresses, Presentation};
use appxmpp::service::{Charge, MessageCall, Sending, Service, Status};
use appxmpp::store::DeadLetter;
use appxmpp::stream::Batch;
use appxmpp::{Jid, Result};
use http::HeaderValue;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::config;
use crate::console::Stage;
use crate::deliver::engine::Engine;
use crate::metrics::{Direction, Metrics};
use crate::rest::draft::{Address, Draft};
use crate::rest::error::RestError;
use archive::Archives;
use barrier::Barrier;
use known::Known;
use stream::Stream;
pub(crate) use stream::utc;
use waiters::Waiters;

/// How long a stanza may wait to be written before its sender is told to come back later.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// One app, live.
pub struct App {
    /// The component's domain.
    pub own: Jid,
    /// What `WWW-Authenticate` says.
    pub challenge: HeaderValue,
    /// Who waits for answers.
    pub waiters: Arc<Waiters>,
    /// Whose queries of an archive are under way.
    pub archives: Arc<Archives>,
    /// What needs no watching.
    pub known: Known,
    /// When no bounce can come any more. Where an app has several streams, what goes out on one may
    /// come back on another, and nothing says so.
    barrier: Option<Barrier>,
    /// The server inside the gateway that it is connected to.
    pub stage: Option<Stage>,
    connection: Connection,
    service: Arc<Service>,
    keeps: bool,
    outbox: Option<Arc<LiveOutbox>>,
    stream: Stream,
    /// Takes what arrives.
    task: Mutex<Option<JoinHandle<()>>>,
    /// Contacts are being told that the app is gone: nothing else is said of its own accord.
    closing: Mutex<bool>,
    /// The store has news for the service.
    news: Notify,
    /// Told when other processes have taken over from this one.
    evicted: Arc<Notify>,
    engine: Arc<Engine<Stream>>,
    /// Whether the stream is up, as far as has been said.
    up: watch::Sender<bool>,
    /// Its settings; a reload changes them.
    config: RwLock<Arc<config::App>>,
    /// What it counts.
    pub metrics: Arc<Metrics>,
}

impl App {
    /// Its settings as they are now.
    pub fn config(&self) -> Arc<config::App> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Goes by other settings from the next request and delivery on.
    pub fn reload(&self, config: config::App) {
        let config = Arc::new(config);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&config);
        self.engine.reload(config);
    }

    /// Whether the stream is up.
    pub fn is_ready(&self) -> bool {
        self.connection.is_ready()
    }

    /// Says each time whether the stream is up now.
    pub fn ups_and_downs(&self) -> watch::Receiver<bool> {
        self.up.subscribe()
    }

    /// Whether another process has the stream, and this one waits for its end.
    pub fn is_standby(&self) -> bool {
        self.connection.is_standby()
    }

    /// Whether this process waits until what another one left has been taken over.
    pub fn is_taking_over(&self) -> bool {
        self.connection.is_taking_over()
    }

    /// Waits until the stream is up.
    ///
    /// # Errors
    /// The server refused the credentials for good.
    pub async fn ready(&self) -> Result<()> {
        self.connection.ready().await
    }

    /// Sends an iq, written to the live stream when this returns.
    ///
    /// # Errors
    /// Why it was not.
    pub async fn ask(&self, iq: Batch) -> Result<(), RestError> {
        let sending = async { self.connection.send_many(iq).await.error.map_or(Ok(()), Err) };
        self.within(sending, "iq", RestError::from_core).await
    }

    /// The stanza of `draft`, addressed, as it can be sent.
    ///
    /// # Errors
    /// It is too long, or nested too deep.
    pub fn batch_of(&self, draft: &Draft<'_>, address: &Address<'_>) -> Result<Batch, RestError> {
        let xml = draft.write(address);
        let batch = match draft.depth {
            Some(depth) => self.connection.batch_checked(xml, depth),
            None => self.connection.batch(&xml),
        };
        batch.map_err(|error| RestError::from_core(&error))
    }

    /// A stanza as it can be sent.
    ///
    /// # Errors
    /// It cannot be.
    pub fn batch(&self, stanza: &str) -> Result<Batch> {
        self.connection.batch(stanza)
    }

    /// Sends a message or presence. When this returns it is on disk, where there is an outbox, else
    /// written to the live stream.
    ///
    /// # Errors
    /// Why it was not.
    pub async fn send(&self, stanza: Batch, kind: &'static str) -> Result<(), RestError> {
        let failed = match self.outbox {
            Some(_) => RestError::from_outbox,
            None => RestError::from_core,
        };
        let sending = async {
            self.outbox.as_ref().map_or(Ok(()), |outbox| outbox.check())?;
            self.stream.send_batch(stanza, Vec::new()).await
        };
        self.within(sending, kind, failed).await
    }

    /// Waits until the server has dealt with what was sent before. It may never come to that.
    pub async fn settled(&self) {
        let Some(barrier) = &self.barrier else { return std::future::pending().await };
        if let Some(outbox) = &self.outbox {
            outbox.written_out().await;
        }
        barrier.pass(|ping| self.connection.try_send(ping).is_ok()).await;
    }

    async fn within(
        &self,
        sending: impl Future<Output = Result<()>>,
        kind: &'static str,
        failed: fn(&appxmpp::Error) -> RestError,
    ) -> Result<(), RestError> {
        match tokio::time::timeout(WRITE_TIMEOUT, sending).await {
            Ok(Ok(())) => {
                self.metrics.stanza(Direction::Out, kind);
                Ok(())
            }
            Ok(Err(error)) => Err(failed(&error)),
            Err(_) => Err(RestError { retry_after: Some(5), ..RestError::BUSY }),
        }
    }

    /// App Engine's `send_message`: one status for each recipient.
    ///
    /// # Errors
    /// What the service refuses.
    pub async fn send_message(&self, call: &MessageCall<'_>) -> Result<Vec<Status>> {
        let mut sending = self.service().send_message(call)?;
        let sent = match &self.outbox {
            Some(outbox) => {
                let keep = outbox.keep(&sending.stanzas, Vec::new());
                tokio::time::timeout(WRITE_TIMEOUT, keep).await.map_or(0, |kept| kept.stored)
            }
            None => self.write(&sending).await,
        };
        for index in sent..sending.stanzas.len() {
            sending.fail(index);
        }
        for _ in 0..sent {
            self.metrics.stanza(Direction::Out, "message");
        }
        Ok(sending.statuses)
    }

    /// Writes to the live stream; how many from the first on were written.
    async fn write(&self, sending: &Sending) -> usize {
        let until = Instant::now() + WRITE_TIMEOUT;
        let mut written = 0;
        while let Some((batch, range)) = message_batch(sending, written) {
            let sent = tokio::time::timeout_at(until, self.connection.send_many(batch)).await;
            written += sent.map_or(0, |sent| sent.written);
            if written < range.end {
                break;
            }
        }
        written
    }

    /// App Engine's service, for presence and invitations. It knows what day it is.
    pub fn service(&self) -> &Service {
        self.service.set_utc(utc());
        &self.service
    }

    /// Which other names of its addresses the app is shown, and may write in turn.
    pub fn aliases(&self) -> Option<&Addresses> {
        Some(self.service.addresses()).filter(|it| it.presentation() == Presentation::AppEngine)
    }

    /// Counts what an app says in its own XML.
    ///
    /// # Errors
    /// A quota is used up: it is not to be sent.
    pub fn charge(&self, charge: Charge) -> Result<(), RestError> {
        self.service().charge(charge).map_err(|error| RestError::from_core(&error))
    }

    /// Brings the gauges up to date.
    pub fn measure(&self) {
        let stats = self.service.stats();
        self.metrics.quotas(&self.config().name, &self.service().usage());
        self.metrics.gauges(
            &self.config().name,
            self.engine.depth(),
            self.waiters.len(),
            &stats.each(),
        );
        self.metrics.standby(&self.config().name, self.is_standby());
        self.metrics.taking_over(&self.config().name, self.is_taking_over());
        if let Some(outbox) = &self.outbox {
            self.metrics.outbox(&self.config().name, &outbox.stats());
        }
    }

    /// Finishes deliveries, says goodbye, and closes the stream.
    pub async fn close(&self, deadline: Instant) {
        let left = || deadline.saturating_duration_since(Instant::now());
        let patience = deadline - farewell_time(left());
        self.engine.drain(patience).await;
        if let Some(outbox) = &self.outbox {
            let _ = tokio::time::timeout_at(patience, outbox.drained()).await;
        }
        self.say_goodbye(deadline).await;
        self.sync();
        let left = left().max(Duration::from_secs(1));
        self.connection.close(left).await;
        // What was read before the end is stored yet, and so are the answers: the outbox is open for them.
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            let _ = tokio::time::timeout(left, task).await;
        }
        if let Some(outbox) = &self.outbox {
            outbox.close();
        }
        self.service.keep_usage();
        self.sync();
    }

    async fn say_goodbye(&self, deadline: Instant) {
        *self.closing() = true;
        let told = say_goodbye(&self.service, &self.connection, deadline).await;
        for _ in 0..told {
            self.metrics.stanza(Direction::Out, "presence");
        }
    }

    fn closing(&self) -> MutexGuard<'_, bool> {
        self.closing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sync(&self) {
        if let Err(error) = self.service.sync() {
            tracing::error!(app = self.config().name, "the store was not written: {error}");
        }
    }

    /// What was given up, oldest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn dead_letters(&self) -> Result<Vec<DeadLetter>> {
        tokio::task::block_in_place(|| self.service.dead_letters())
    }

    /// Delivers dead letters again; those there were.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn replay(&self, ids: &HashSet<u64>) -> Result<Vec<u64>> {
        let replayed = tokio::task::block_in_place(|| self.service.replay_dead_letters(ids))?;
        let ids = replayed.iter().map(|delivery| delivery.id).collect();
        replayed.into_iter().for_each(|delivery| self.engine.restore(delivery));
        Ok(ids)
    }

    /// Forgets dead letters; those there were.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn purge(&self, ids: &HashSet<u64>) -> Result<Vec<u64>> {
        tokio::task::block_in_place(|| self.service.purge_dead_letters(ids))
    }
}
