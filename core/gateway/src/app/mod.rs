//! One app, live: its stream to the XMPP server, App Engine's service, and its webhooks.

pub mod archive;
pub mod known;
pub mod waiters;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use appxmpp::net::dev::{DevConfig, DevServer};
use appxmpp::net::{
    Backend, Connection, ConnectionConfig, Event, LiveOutbox, message_batch, take_over,
};
use appxmpp::service::{
    Delivery, DropReason, InboundServices, MessageCall, OutboxLimits, Outgoing, Sending, Service,
    ServiceConfig, Status,
};
use appxmpp::stanza::{Stanza, StanzaKind};
use appxmpp::store::{Change, DeadLetter, Store};
use appxmpp::{ErrorKind, Jid, Result};
use bytes::Bytes;
use http::HeaderValue;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::config::{self, Event as Target};
use crate::console::Stage;
use crate::deliver::engine::{Engine, Outbox, inbound, refusal};
use crate::deliver::{codes, reply};
use crate::metrics::{Direction, Metrics};
use crate::rest::error::RestError;
use archive::Archives;
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
    /// Whose queries of an archive are under way.
    pub archives: Arc<Archives>,
    /// What needs no watching.
    pub known: Known,
    /// The server inside the gateway that it is connected to.
    pub stage: Option<Stage>,
    connection: Connection,
    service: Arc<Service>,
    keeps: bool,
    outbox: Option<Arc<LiveOutbox>>,
    stream: Stream,
    /// Takes what arrives.
    task: Mutex<Option<JoinHandle<()>>>,
    /// The store has news for the service.
    news: Notify,
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
    outbox: Option<Arc<LiveOutbox>>,
}

impl Stream {
    /// Sends a message or presence: stored where there is an outbox, else written. `changes` are
    /// stored with it, or soon.
    async fn send_stanza(&self, stanza: &str, changes: Vec<Change>) -> Result<()> {
        match &self.outbox {
            None => {
                let sent = self.connection.send(stanza).await;
                self.settle_soon(changes);
                sent
            }
            Some(outbox) => {
                self.connection.check(stanza)?;
                let head = Bytes::copy_from_slice(stanza.as_bytes());
                let one = Outgoing { recipient: 0, head, tail: Bytes::new() };
                outbox.keep_reply(&[one], changes).await.error.map_or(Ok(()), Err)
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
            Some(stanza) => self.reply(&stanza, changes).await,
            None => self.settle_soon(changes),
        }
    }

    fn keeps(&self) -> bool {
        self.keeper.is_some()
    }

    fn holds(&self) -> bool {
        self.keeper.as_ref().is_none_or(|service| service.holds())
    }
}

impl Stream {
    async fn reply(&self, stanza: &str, changes: Vec<Change>) {
        let sent = match self.send_stanza(stanza, changes.clone()).await {
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
        match sent {
            Ok(()) => self.metrics.stanza(Direction::Out, kind_of(stanza)),
            Err(error) => tracing::warn!("a reply was lost: {error}"),
        }
    }
}

fn utc() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A server for the app inside this process.
fn develop(config: &config::App) -> Result<Stage> {
    let server = DevServer::start_on(
        &tokio::runtime::Handle::current(),
        DevConfig {
            domain: config.domain.clone(),
            secret: appxmpp::net::Secret::new(config.secret.expose()),
            port: 0,
        },
    )?;
    let bot = format!("{}@{}", config.id, config.domain);
    Ok(Stage { domain: config.domain.clone(), bot, server })
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
    /// process, so that deliveries are worth keeping in it, and `outbox` what may wait there to be sent.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for settings that cannot work, [`ErrorKind::Store`] for a store that cannot
    /// be read.
    pub fn open(
        config: config::App,
        store: Box<dyn Store>,
        keeps: bool,
        outbox: Option<OutboxLimits>,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>> {
        let config = Arc::new(config);
        let own = Jid::parse(&config.domain)?;
        let stage = if config.development { Some(develop(&config)?) } else { None };
        let backend = match &stage {
            Some(stage) => stage.server.backend()?,
            None => Backend::parse(&config.backend)?,
        };
        let secret = appxmpp::net::Secret::new(config.secret.expose());
        let mut wire = ConnectionConfig::for_backend(&backend, Some(secret))?;
        // Every waiting request has a place of its own in `waiters`.
        wire.requests = 64;
        wire.one_of_several = store.shared().is_some();
        wire.gather = true;
        wire.barrier = outbox.map(|_| LiveOutbox::BARRIER);
        wire.confirm = keeps;
        if let Some(keepalive) = &mut wire.keepalive {
            keepalive.idle = config.keepalive;
            keepalive.answer = config.keepalive_timeout;
        }
        let service = Arc::new(Service::new(service_config(&config, &wire)?, store)?);
        let left = if keeps { service.restore_deliveries()? } else { Vec::new() };
        let runtime = tokio::runtime::Handle::current();
        let connection = Connection::open_for(&runtime, wire, &service, outbox.is_some());
        let outbox =
            outbox.map(|limits| LiveOutbox::new(connection.clone(), Arc::clone(&service), limits));
        if let Some(outbox) = &outbox {
            tokio::spawn(Arc::clone(outbox).run());
        }
        let stream = Stream {
            connection: connection.clone(),
            metrics: Arc::clone(&metrics),
            keeper: keeps.then(|| Arc::clone(&service)),
            outbox: outbox.clone(),
        };
        let realm = format!("basic realm=\"{0}/rest\", bearer realm=\"{0}/rest\"", config.domain);
        metrics.stream(&config.id, false);
        let app = Arc::new(Self {
            own,
            challenge: HeaderValue::from_str(&realm)
                .unwrap_or_else(|_| HeaderValue::from_static("basic, bearer")),
            waiters: Arc::default(),
            archives: Arc::default(),
            stage,
            known: Known::default(),
            engine: Engine::new(Arc::clone(&config), Arc::clone(&metrics), stream.clone()),
            connection,
            service,
            keeps,
            outbox,
            stream,
            task: Mutex::default(),
            news: Notify::new(),
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
        let waking = Arc::downgrade(&app);
        app.service.on_news(move || {
            if let Some(app) = waking.upgrade() {
                app.news.notify_one();
            }
        });
        let task = tokio::spawn(Arc::clone(&app).run());
        *app.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
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
    pub async fn ask(&self, iq: &str) -> Result<(), RestError> {
        self.within(self.connection.send(iq), "iq", RestError::from_core).await
    }

    /// Sends a message or presence. When this returns it is on disk, where there is an outbox, else
    /// written to the live stream.
    ///
    /// # Errors
    /// Why it was not.
    pub async fn send(&self, stanza: &str, kind: &'static str) -> Result<(), RestError> {
        let failed = match self.outbox {
            Some(_) => RestError::from_outbox,
            None => RestError::from_core,
        };
        let sending = async {
            self.outbox.as_ref().map_or(Ok(()), |outbox| outbox.check())?;
            self.stream.send_stanza(stanza, Vec::new()).await
        };
        self.within(sending, kind, failed).await
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
        self.service.set_utc(utc());
        let mut sending = self.service.send_message(call)?;
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
        self.metrics.standby(&self.config().id, self.is_standby());
        self.metrics.taking_over(&self.config().id, self.is_taking_over());
        if let Some(outbox) = &self.outbox {
            self.metrics.outbox(&self.config().id, &outbox.stats());
        }
    }

    /// Finishes deliveries, says goodbye, and closes the stream.
    pub async fn close(&self, deadline: Instant) {
        self.engine.drain(deadline).await;
        if let Some(outbox) = &self.outbox {
            let _ = tokio::time::timeout_at(deadline, outbox.drained()).await;
            outbox.close();
        }
        self.service.handle_closing();
        self.pump(Duration::MAX);
        if let Err(error) = self.service.sync() {
            tracing::error!(app = self.config().id, "the store was not written: {error}");
        }
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
        self.connection.close(left).await;
        // What was read before the end is stored yet.
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            let _ = tokio::time::timeout(left, task).await;
        }
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
                () = self.news.notified() => {
                    if !self.hear().await {
                        return;
                    }
                    continue;
                }
            };
            let events = match events {
                Ok(events) if !events.is_empty() => events,
                _ => return,
            };
            let mut arrived = Arrived::default();
            let mut stanzas = 0;
            for event in events {
                stanzas += usize::from(matches!(event, Event::Stanza(_)));
                if let Some(outbox) = &self.outbox {
                    outbox.handle_event(&event);
                }
                self.take(event, origin.elapsed(), &mut arrived);
            }
            let Arrived { mut deliveries, mut answers, lasting } = arrived;
            if self.keeps && !deliveries.is_empty() {
                self.keep(&mut deliveries, &mut answers).await;
            }
            // An account's server may forget what is stored.
            let _ = self.connection.confirm(stanzas);
            // Only now: who gets an answer may take what was sent before for received.
            self.say(&answers);
            self.say_lasting(&lasting).await;
            deliveries.into_iter().for_each(|delivery| self.engine.queue(delivery));
        }
    }

    /// Takes over what other processes left; `false` if others did that to this one.
    async fn hear(&self) -> bool {
        if self.service.is_evicted() {
            tracing::error!(
                app = self.config().id,
                "another gateway goes on with this app; this one serves it again after a restart"
            );
            self.connection.close(Duration::from_secs(1)).await;
            return false;
        }
        let left = take_over(&self.service, self.outbox.as_ref(), &self.connection).await;
        left.into_iter().for_each(|delivery| self.engine.restore(delivery));
        self.engine.wake();
        true
    }

    /// Stores what came, before anybody can learn that it came. What cannot be stored, so that a crash
    /// would lose it, is not taken: its sender is told, where one tells senders.
    async fn keep(&self, arrived: &mut Vec<Delivery>, answers: &mut Vec<Bytes>) {
        let changes = arrived.iter().map(|delivery| self.service.keep_delivery(delivery)).collect();
        let (told, answer) = tokio::sync::oneshot::channel();
        let done = move |stored: Result<()>| {
            let _ = told.send(stored);
        };
        self.service.submit(changes, Box::new(done));
        if let Ok(Err(error)) = answer.await {
            tracing::error!("{} deliveries could not be stored: {error}", arrived.len());
            arrived.retain(|delivery| {
                let answer = refusal(delivery);
                let is_taken = answer.is_none();
                answers.extend(answer.map(Bytes::from));
                is_taken
            });
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

    /// Sends what the service wants to say now; whether all of it went out.
    fn pump(&self, now: Duration) -> bool {
        let busy = self.connection.stats().is_ok_and(|stats| stats.outbound_queue > ROOM);
        if busy {
            return false;
        }
        self.say(&self.service.handle_timeout(now, ROOM))
    }

    /// Says what nobody asks for twice: stored, where there is an outbox.
    async fn say_lasting(&self, stanzas: &[Bytes]) {
        for stanza in stanzas {
            self.stream.reply(&String::from_utf8_lossy(stanza), Vec::new()).await;
        }
    }

    fn say(&self, stanzas: &[Bytes]) -> bool {
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

    fn take(&self, event: Event, now: Duration, arrived: &mut Arrived) {
        let config = self.config();
        let app = &config.id;
        match event {
            Event::Ready => {
                tracing::info!(app, "the stream is up");
                self.metrics.stream(app, true);
                if !self.service.addresses().is_account() {
                    self.service.handle_ready(now);
                }
            }
            Event::Bound { resumed, .. } => self.service.handle_session(now, resumed),
            Event::Roster { contacts, complete } => self.service.handle_roster(&contacts, complete),
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

    fn stanza(&self, stanza: Stanza, arrived: &mut Arrived) {
        let kind = match stanza.kind() {
            StanzaKind::Message => "message",
            StanzaKind::Presence => "presence",
            StanzaKind::Iq => "iq",
            StanzaKind::Other => "other",
        };
        self.metrics.stanza(Direction::In, kind);
        let Some(stanza) = self.archives.keep(stanza) else { return };
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
            decline(&stanza, arrived);
        }
    }

    /// App Engine's way.
    fn serve(&self, stanza: Stanza, arrived: &mut Arrived) {
        let inbound = self.service.handle_stanza(utc(), stanza.clone());
        let said = if inbound.lasting { &mut arrived.lasting } else { &mut arrived.answers };
        said.extend(inbound.sends);
        if let Some(delivery) = inbound.delivery {
            arrived.deliveries.push(delivery);
        } else if let Some(reason) = inbound.dropped {
            let unknown = !matches!(reason, DropReason::NotOurs | DropReason::NoSender);
            if self.config().callback_url.is_some() && unknown {
                self.call_back(stanza, arrived);
            } else if matches!(reason, DropReason::Disabled(_))
                && stanza.kind() == StanzaKind::Message
            {
                decline(&stanza, arrived);
            }
        }
    }

    /// mod_rest's way.
    fn call_back(&self, stanza: Stanza, arrived: &mut Arrived) {
        let Some(inbound) = inbound(&stanza, "") else { return };
        let config = self.config();
        let kind = config.callback_stanzas.contains(&inbound.kind);
        if kind && config.callback_events.contains(&target(&stanza)) {
            let id = self.service.new_delivery_id();
            arrived.deliveries.push(self.engine.callback_of(id, stanza));
        } else {
            decline(&stanza, arrived);
        }
    }
}

/// What came of events that were taken together.
#[derive(Default)]
struct Arrived {
    deliveries: Vec<Delivery>,
    /// What is to be said about them, once the deliveries are stored.
    answers: Vec<Bytes>,
    /// What of that must not get lost.
    lasting: Vec<Bytes>,
}

/// Nobody handles it: the sender is told so.
fn decline(stanza: &Stanza, arrived: &mut Arrived) {
    let id = crate::id::stanza();
    let Some(inbound) = inbound(stanza, &id) else { return };
    if matches!(inbound.type_, Some("error" | "result")) {
        return;
    }
    let error = reply::error(&inbound, codes::condition(503), None);
    arrived.answers.push(error.into());
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

fn service_config(app: &config::App, wire: &ConnectionConfig) -> Result<ServiceConfig> {
    let mut service = ServiceConfig::at(wire.addresses(Some(&app.id))?);
    service.inbound = match app.url {
        Some(_) => InboundServices::from_names(&app.inbound_services)?,
        None => InboundServices::NONE,
    };
    service.id_prefix = format!("{}-", crate::id::alphanumeric::<8>());
    Ok(service)
}
