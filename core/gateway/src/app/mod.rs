//! One app, live: its stream to the XMPP server, App Engine's service, and its webhooks.

pub mod known;
pub mod waiters;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use appxmpp::net::{Backend, Connection, ConnectionConfig, Event};
use appxmpp::service::{
    Delivery, DropReason, InboundServices, MessageCall, Service, ServiceConfig, Status,
};
use appxmpp::stanza::{Stanza, StanzaKind};
use appxmpp::store::{DeadLetter, Store};
use appxmpp::stream::Batch;
use appxmpp::{Jid, Result, ns};
use http::HeaderValue;
use tokio::time::Instant;

use crate::config::{self, Event as Target};
use crate::deliver::engine::{Engine, Outbox, inbound};
use crate::deliver::{codes, reply};
use crate::metrics::{Direction, Metrics};
use crate::rest::error::RestError;
use known::Known;
use waiters::Waiters;

/// How long a stanza may wait to be written before its sender is told to come back later.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// How many inbound stanzas are taken at once.
const EVENTS: usize = 256;
/// How many of the service's own stanzas go out at once, so that an app's own are not kept waiting.
const ROOM: usize = 256;

/// One app, live.
pub struct App {
    /// The component's domain.
    pub own: Jid,
    /// What `WWW-Authenticate` says.
    pub challenge: HeaderValue,
    /// Who waits for answers.
    pub waiters: Arc<Waiters>,
    /// What needs no watching.
    pub known: Known,
    connection: Connection,
    service: Arc<Service>,
    keeps: bool,
    engine: Arc<Engine<Stream>>,
    /// Its settings; a reload changes them.
    config: RwLock<Arc<config::App>>,
    /// What it counts.
    pub metrics: Arc<Metrics>,
}

/// Where webhooks' replies go.
#[derive(Clone)]
struct Stream {
    connection: Connection,
    metrics: Arc<Metrics>,
    /// The service, if its store outlives the process.
    keeper: Option<Arc<Service>>,
}

impl Outbox for Stream {
    async fn send(&self, stanza: String) {
        match self.connection.send(&stanza).await {
            Ok(()) => self.metrics.stanza(Direction::Out, kind_of(&stanza)),
            Err(error) => tracing::warn!("a reply was lost: {error}"),
        }
    }

    fn forget(&self, id: u64) {
        if let Some(service) = &self.keeper {
            service.forget_delivery(id);
        }
    }

    fn bury(&self, id: u64, reason: &str) {
        let Some(service) = &self.keeper else { return };
        let utc = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // A fault is logged; the delivery is tried again after the next start.
        let _ = tokio::task::block_in_place(|| service.bury_delivery(id, utc, reason));
    }

    fn keeps(&self) -> bool {
        self.keeper.is_some()
    }
}

fn kind_of(stanza: &str) -> &'static str {
    match stanza.as_bytes().get(1) {
        Some(b'm') => "message",
        Some(b'p') => "presence",
        _ => "iq",
    }
}

impl App {
    /// Opens the stream of `config` and starts to serve it. `keeps` says whether `store` outlives the
    /// process, so that deliveries are worth keeping in it.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](appxmpp::error::ErrorKind::Config) for settings that cannot work, [`ErrorKind::Store`](appxmpp::error::ErrorKind::Store) for a store that
    /// cannot be read.
    pub fn open(
        config: config::App,
        store: Box<dyn Store>,
        keeps: bool,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>> {
        let config = Arc::new(config);
        let own = Jid::parse(&config.domain)?;
        let backend = Backend::parse(&config.backend)?;
        let secret = appxmpp::net::Secret::new(config.secret.expose());
        let mut wire = ConnectionConfig::for_backend(&backend, Some(secret))?;
        // Every waiting request has a place of its own in `waiters`.
        wire.requests = 64;
        let service = Arc::new(Service::new(service_config(&config)?, store)?);
        let left = if keeps { service.restore_deliveries()? } else { Vec::new() };
        let connection = Connection::open_on(&tokio::runtime::Handle::current(), wire);
        let outbox = Stream {
            connection: connection.clone(),
            metrics: Arc::clone(&metrics),
            keeper: keeps.then(|| Arc::clone(&service)),
        };
        let realm = format!("basic realm=\"{0}/rest\", bearer realm=\"{0}/rest\"", config.domain);
        metrics.stream(&config.id, false);
        let app = Arc::new(Self {
            own,
            challenge: HeaderValue::from_str(&realm)
                .unwrap_or_else(|_| HeaderValue::from_static("basic, bearer")),
            waiters: Arc::default(),
            known: Known::default(),
            engine: Engine::new(Arc::clone(&config), Arc::clone(&metrics), outbox),
            connection,
            service,
            keeps,
            metrics,
            config: RwLock::new(config),
        });
        if !left.is_empty() {
            tracing::info!(
                app = app.config().id,
                count = left.len(),
                "deliveries left before go on"
            );
        }
        left.into_iter().for_each(|delivery| app.engine.restore(delivery));
        tokio::spawn(Arc::clone(&app).run());
        if app.config().callback_url.is_some() {
            let engine = Arc::clone(&app.engine);
            tokio::spawn(async move { engine.probe().await });
        }
        Ok(app)
    }

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

    /// Waits until the stream is up.
    ///
    /// # Errors
    /// The server refused the credentials for good.
    pub async fn ready(&self) -> Result<()> {
        self.connection.ready().await
    }

    /// Sends a stanza, written to the live stream when this returns.
    ///
    /// # Errors
    /// Why it was not.
    pub async fn send(&self, stanza: &str, kind: &'static str) -> Result<(), RestError> {
        let sent = tokio::time::timeout(WRITE_TIMEOUT, self.connection.send(stanza)).await;
        match sent {
            Ok(Ok(())) => {
                self.metrics.stanza(Direction::Out, kind);
                Ok(())
            }
            Ok(Err(error)) => Err(RestError::from_core(&error)),
            Err(_) => Err(RestError { retry_after: Some(5), ..RestError::BUSY }),
        }
    }

    /// App Engine's `send_message`: one status for each recipient.
    ///
    /// # Errors
    /// What the service refuses.
    pub async fn send_message(&self, call: &MessageCall<'_>) -> Result<Vec<Status>> {
        let mut sending = self.service.send_message(call)?;
        let mut batch = Batch::new();
        let limits = appxmpp::xml::Limits::default();
        let mut indices = Vec::with_capacity(sending.stanzas.len());
        for index in 0..sending.stanzas.len() {
            let bytes = sending.stanzas[index].to_bytes();
            match batch.push(&bytes, ns::COMPONENT, &limits) {
                Ok(()) => indices.push(index),
                Err(_) => sending.fail(index),
            }
        }
        let sent = tokio::time::timeout(WRITE_TIMEOUT, self.connection.send_many(batch)).await;
        let written = sent.map_or(0, |sent| sent.written);
        indices.iter().skip(written).for_each(|index| sending.fail(*index));
        for _ in 0..written {
            self.metrics.stanza(Direction::Out, "message");
        }
        Ok(sending.statuses)
    }

    /// App Engine's service, for presence and invitations.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Brings the gauges up to date.
    pub fn measure(&self) {
        let stats = self.service.stats();
        self.metrics.gauges(
            &self.config().id,
            self.engine.depth(),
            self.waiters.len(),
            &stats.each(),
        );
    }

    /// Finishes deliveries, says goodbye, and closes the stream.
    pub async fn close(&self, deadline: Instant) {
        self.engine.drain(deadline).await;
        self.service.handle_closing();
        self.pump(Duration::MAX);
        if let Err(error) = self.service.sync() {
            tracing::error!(app = self.config().id, "the store was not written: {error}");
        }
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
        self.connection.close(left).await;
    }

    /// Takes what arrives, until the connection ends.
    async fn run(self: Arc<Self>) {
        let origin = Instant::now();
        loop {
            let due = self.service.poll_timeout().map(|at| origin + at);
            let events = tokio::select! {
                events = self.connection.next_events(EVENTS) => events,
                () = sleep_until(due) => {
                    if !self.pump(origin.elapsed()) {
                        // The outgoing queue is full; the server takes it at its own pace.
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    continue;
                }
            };
            let events = match events {
                Ok(events) if !events.is_empty() => events,
                _ => return,
            };
            let mut arrived = Vec::new();
            for event in events {
                self.take(event, origin.elapsed(), &mut arrived);
            }
            if self.keeps && !arrived.is_empty() {
                self.keep(&arrived).await;
            }
            arrived.into_iter().for_each(|delivery| self.engine.queue(delivery));
        }
    }

    /// Stores what came, before anybody acts on it.
    async fn keep(&self, arrived: &[Delivery]) {
        let changes = arrived.iter().map(|delivery| self.service.keep_delivery(delivery)).collect();
        let (told, answer) = tokio::sync::oneshot::channel();
        let done = move |stored: Result<()>| {
            let _ = told.send(stored);
        };
        self.service.submit(changes, Box::new(done));
        if let Ok(Err(error)) = answer.await {
            tracing::error!("deliveries could not be stored, a crash would lose them: {error}");
        }
    }

    /// What was given up, oldest first.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn dead_letters(&self) -> Result<Vec<DeadLetter>> {
        tokio::task::block_in_place(|| self.service.dead_letters())
    }

    /// Delivers a dead letter again; whether there is one with this id.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn replay(&self, id: u64) -> Result<bool> {
        let replayed = tokio::task::block_in_place(|| self.service.replay_dead_letter(id))?;
        let found = replayed.is_some();
        replayed.into_iter().for_each(|delivery| self.engine.restore(delivery));
        Ok(found)
    }

    /// Forgets a dead letter.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn purge(&self, id: u64) -> Result<()> {
        tokio::task::block_in_place(|| self.service.purge_dead_letter(id))
    }

    /// Sends what the service wants to say now; whether all of it went out.
    fn pump(&self, now: Duration) -> bool {
        let busy = self.connection.stats().is_ok_and(|stats| stats.outbound_queue > ROOM);
        if busy {
            return false;
        }
        self.say(&self.service.handle_timeout(now, ROOM))
    }

    fn say(&self, stanzas: &[bytes::Bytes]) -> bool {
        let mut well = true;
        for stanza in stanzas {
            let text = String::from_utf8_lossy(stanza);
            match self.connection.try_send(&text) {
                Ok(()) => self.metrics.stanza(Direction::Out, kind_of(&text)),
                Err(error) => {
                    well = false;
                    tracing::warn!(
                        app = self.config().id,
                        "a stanza of the service was lost: {error}"
                    );
                }
            }
        }
        well
    }

    fn take(&self, event: Event, now: Duration, arrived: &mut Vec<Delivery>) {
        let config = self.config();
        let app = &config.id;
        match event {
            Event::Ready => {
                tracing::info!(app, "the stream is up");
                self.metrics.stream(app, true);
                self.service.handle_ready(now);
            }
            Event::Stanza(stanza) => self.stanza(stanza, arrived),
            Event::Skipped(error) => tracing::warn!(app, "a stanza was left out: {error}"),
            Event::Disconnected { reason, retry_in } => {
                tracing::warn!(app, ?retry_in, "the stream is down: {reason}");
                self.metrics.stream(app, false);
                let label = if retry_in.is_some() { "lost" } else { "refused" };
                self.metrics.reconnect(app, label);
                self.service.handle_disconnected();
            }
            _ => {}
        }
    }

    fn stanza(&self, stanza: Stanza, arrived: &mut Vec<Delivery>) {
        let kind = match stanza.kind() {
            StanzaKind::Message => "message",
            StanzaKind::Presence => "presence",
            StanzaKind::Iq => "iq",
            StanzaKind::Other => "other",
        };
        self.metrics.stanza(Direction::In, kind);
        let Some(stanza) = self.waiters.answer(stanza) else { return };
        if stanza.is_error()
            && let Some(from) = stanza.from()
        {
            self.known.forget(kind, from.as_str());
        }
        let iq = stanza.kind() == StanzaKind::Iq;
        let config = self.config();
        let callback = config.callback_url.is_some();
        // With both, App Engine's services take what they know and the callback the rest.
        let service = config.url.is_some() && !(callback && iq);
        let alone = config.url.is_none() && !callback && !config.strict;
        if service || alone {
            self.serve(stanza, arrived);
        } else if callback {
            self.call_back(stanza, arrived);
        } else {
            self.decline(&stanza);
        }
    }

    /// App Engine's way.
    fn serve(&self, stanza: Stanza, arrived: &mut Vec<Delivery>) {
        let utc = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let inbound = self.service.handle_stanza(utc, stanza.clone());
        self.say(&inbound.sends);
        if let Some(delivery) = inbound.delivery {
            arrived.push(delivery);
        } else if let Some(reason) = inbound.dropped {
            let unknown = !matches!(reason, DropReason::NotOurs | DropReason::NoSender);
            if self.config().callback_url.is_some() && unknown {
                self.call_back(stanza, arrived);
            } else if matches!(reason, DropReason::Disabled(_))
                && stanza.kind() == StanzaKind::Message
            {
                self.decline(&stanza);
            }
        }
    }

    /// mod_rest's way.
    fn call_back(&self, stanza: Stanza, arrived: &mut Vec<Delivery>) {
        let Some(inbound) = inbound(&stanza) else { return };
        let config = self.config();
        let kind = config.callback_stanzas.contains(&inbound.kind);
        if kind && config.callback_events.contains(&target(&stanza)) {
            arrived.push(self.engine.callback_of(stanza));
        } else {
            self.decline(&stanza);
        }
    }

    /// Nobody handles it: the sender is told so.
    fn decline(&self, stanza: &Stanza) {
        let Some(inbound) = inbound(stanza) else { return };
        if matches!(inbound.type_, Some("error" | "result")) {
            return;
        }
        let error = reply::error(&inbound, codes::condition(503), None);
        self.say(&[error.into()]);
    }
}

fn target(stanza: &Stanza) -> Target {
    match stanza.to() {
        Some(to) if to.resourcepart().is_some() => Target::Full,
        Some(to) if to.localpart().is_some() => Target::Bare,
        _ => Target::Host,
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

fn service_config(app: &config::App) -> Result<ServiceConfig> {
    let mut service = ServiceConfig::new(&app.id, &app.domain)?;
    service.inbound = match app.url {
        Some(_) => InboundServices::from_names(&app.inbound_services)?,
        None => InboundServices::NONE,
    };
    service.id_prefix = format!("{}-", crate::id::alphanumeric::<8>());
    Ok(service)
}
