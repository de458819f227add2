//! Delivers: in order for each sender, side by side for different ones, a bounded number at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use appxmpp::service::{
    Attempt, Delivery, InboundService, Inbox, LaneLimits, Retry, Ticket, Verdict,
};
use appxmpp::stanza::{Stanza, StanzaKind};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LANGUAGE, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::Notify;

use super::client::{Answer, Failure, Poster};
use super::mark::mark;
use super::reply::{self, Inbound, Outcome};
use super::sign::{self, Signer};
use super::target::Target;
use super::{multipart, template};
use crate::config;
use crate::id;
use crate::metrics::{DeliveryOutcome, Metrics, Route};
use crate::rest::media::Media;
use crate::rest::path::Kind;
use crate::rest::stanza;

const ACCEPTED: &str =
    "application/xmpp+xml, application/json, application/x-www-form-urlencoded, text/plain";
/// What becomes of deliveries and of the replies to them.
pub trait Outbox: Send + Sync + 'static {
    /// Sends a stanza as soon as possible; what cannot be sent is logged and lost.
    fn send(&self, stanza: String) -> impl Future<Output = ()> + Send;
    /// The delivery `id` need not be kept any more: it is done, or given up for the reason `dead`.
    /// `reply` goes to its sender; where it can be stored, that is done with the rest, all or none.
    fn settle(
        &self,
        id: u64,
        dead: Option<&'static str>,
        reply: Option<String>,
    ) -> impl Future<Output = ()> + Send;
    /// Whether what is not delivered when the daemon stops will be after its next start.
    fn keeps(&self) -> bool;
    /// Whether this process may deliver now: another one may be doing it in its place.
    fn holds(&self) -> bool;
}

/// The deliveries of one app.
pub struct Engine<O> {
    live: RwLock<Arc<Live>>,
    poster: Poster,
    metrics: Arc<Metrics>,
    outbox: O,
    state: Mutex<State>,
    /// Wakes who waits for the last delivery to end.
    idle: Notify,
    origin: tokio::time::Instant,
    run: String,
}

/// What the settings say, ready for use. A delivery keeps those it began with.
struct Live {
    app: Arc<config::App>,
    signer: Signer,
    agent: HeaderValue,
    /// Where form posts go.
    url: Option<Target>,
    /// Where callbacks go, if that is the same for all of them.
    callback: Option<Target>,
    /// What callbacks are posted as; the callback may choose another than the settings.
    media: Mutex<Media>,
}

impl Live {
    fn new(app: Arc<config::App>) -> Arc<Self> {
        let agent = if app.strict {
            HeaderValue::from_static("Prosody XMPP Server")
        } else {
            HeaderValue::from_static(concat!("appxmpp/", env!("CARGO_PKG_VERSION")))
        };
        let target = |url: &Option<String>| url.as_deref().and_then(|url| Target::parse(url).ok());
        let is_fixed = !app.callback_url.as_deref().is_some_and(template::is_template);
        Arc::new(Self {
            url: target(&app.url),
            callback: target(&app.callback_url).filter(|_| is_fixed),
            signer: Signer::new(app.webhook_secret.expose()),
            media: Mutex::new(app.callback_media),
            agent,
            app,
        })
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(USER_AGENT, self.agent.clone());
        headers
    }

    fn sign(&self, headers: &mut HeaderMap, delivery: &str, body: &[u8]) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let value = self.signer.value(now, delivery, body);
        for (name, value) in [(sign::SIGNATURE, value.as_str()), (sign::DELIVERY, delivery)] {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }
}

impl config::App {
    fn retry(&self) -> Retry {
        Retry {
            first: self.webhook_pause,
            longest: self.webhook_longest_pause,
            deadline: if self.strict { Duration::ZERO } else { self.webhook_deadline },
        }
    }
}

#[derive(Debug)]
struct State {
    inbox: Inbox,
    running: usize,
    stopped: bool,
}

/// How an attempt went.
struct Tried {
    result: Result<Answer, Failure>,
    outcome: DeliveryOutcome,
}

impl Tried {
    fn new(result: Result<Answer, Failure>) -> Self {
        let outcome = match &result {
            Ok(answer) => DeliveryOutcome::of(answer.status),
            Err(failure) => DeliveryOutcome::failed(failure),
        };
        Self { result, outcome }
    }

    fn attempt(&self) -> Attempt {
        match &self.result {
            Ok(answer) => {
                Attempt::Answered { status: answer.status, retry_after: answer.retry_after }
            }
            Err(Failure::Connect(_) | Failure::Timeout | Failure::Broken(_)) => Attempt::Unanswered,
            // Another attempt would end the same way.
            Err(Failure::Unusable(_)) => Attempt::Answered { status: 500, retry_after: None },
        }
    }
}

impl<O: Outbox> Engine<O> {
    /// The engine of `app`; replies go to `outbox`.
    pub fn new(app: Arc<config::App>, metrics: Arc<Metrics>, outbox: O) -> Arc<Self> {
        let limits = LaneLimits {
            deliveries: app.webhook_queue,
            per_sender: app.webhook_queue.div_ceil(10).max(100),
            ..LaneLimits::default()
        };
        Arc::new(Self {
            poster: Poster::new(app.webhook_concurrency, Arc::clone(&app.callback_trust)),
            metrics,
            outbox,
            state: Mutex::new(State {
                inbox: Inbox::new(limits, app.retry()),
                running: 0,
                stopped: false,
            }),
            idle: Notify::new(),
            origin: tokio::time::Instant::now(),
            run: id::alphanumeric::<8>(),
            live: RwLock::new(Live::new(app)),
        })
    }

    /// Goes by other settings from the next delivery on.
    pub fn reload(&self, app: Arc<config::App>) {
        self.lock().inbox.set_retry(app.retry());
        if self.live().app.callback_trust != app.callback_trust {
            self.poster.set_trust(Arc::clone(&app.callback_trust));
        }
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = Live::new(app);
    }

    fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many deliveries wait or run.
    pub fn depth(&self) -> usize {
        self.lock().inbox.len()
    }

    /// The mod_rest callback of a stanza.
    pub fn callback_of(&self, id: u64, stanza: Stanza) -> Delivery {
        let sender = stanza.from().map(|from| from.bare_key()).unwrap_or_default();
        // No path and no fields: what is posted depends on the callback's media type.
        let service = InboundService::Message;
        Delivery { id, path: "", fields: Vec::new(), service, sender, stanza }
    }

    /// Queues what an earlier run left, whatever the bounds.
    pub fn restore(self: &Arc<Self>, delivery: Delivery) {
        let mut state = self.lock();
        state.inbox.restore(self.now(), delivery);
        self.start(&mut state);
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Queues a form post that the service made, or a callback.
    pub fn queue(self: &Arc<Self>, delivery: Delivery) {
        let refused = {
            let mut state = self.lock();
            let refused = state.inbox.push(self.now(), delivery).err();
            self.start(&mut state);
            refused
        };
        if let Some(delivery) = refused {
            self.metrics.delivered(route(&delivery), DeliveryOutcome::Refused);
            tracing::warn!(
                app = self.live().app.id,
                "the delivery queue is full; a stanza was refused"
            );
            let engine = Arc::clone(self);
            tokio::spawn(async move {
                engine.outbox.settle(delivery.id, None, refusal(&delivery)).await;
            });
        }
    }

    /// Starts as many deliveries as may run.
    fn start(self: &Arc<Self>, state: &mut State) {
        let most = self.live().app.webhook_concurrency;
        while state.running < most && !state.stopped && self.outbox.holds() {
            let Some((ticket, delivery)) = state.inbox.claim(self.now(), 1).pop() else { break };
            state.running += 1;
            let engine = Arc::clone(self);
            tokio::spawn(async move { engine.work(ticket, delivery).await });
        }
    }

    /// Attempts one delivery, and others after it for as long as there are any.
    async fn work(self: Arc<Self>, mut ticket: Ticket, mut delivery: Arc<Delivery>) {
        loop {
            let live = self.live();
            let id = self.id_of(&delivery);
            let tried = self.attempt(&live, &delivery, &id).await;
            let (now, attempt) = (self.now(), tried.attempt());
            let (verdict, since) = {
                let inbox = &self.lock().inbox;
                (inbox.judge(now, delivery.id, attempt), inbox.since(delivery.id))
            };
            if !matches!(verdict, Verdict::RetryAt(_)) {
                let took = now.saturating_sub(since.unwrap_or(now));
                self.metrics.delivery_took(route(&delivery), tried.outcome, took);
                self.settle(&live, &delivery, &id, &tried, verdict).await;
            }
            let mut state = self.lock();
            if let Verdict::RetryAt(at) = state.inbox.finish(now, ticket, delivery, attempt) {
                self.metrics.retried();
                self.start_at(at);
            }
            let now = self.now();
            let may_go_on = !state.stopped && self.outbox.holds();
            let next = if may_go_on { state.inbox.claim(now, 1).pop() } else { None };
            match next {
                Some(claimed) => (ticket, delivery) = claimed,
                None => {
                    state.running -= 1;
                    if state.running == 0 {
                        self.idle.notify_waiters();
                    }
                    return;
                }
            }
        }
    }

    /// Starts what can be started.
    pub fn wake(self: &Arc<Self>) {
        self.start(&mut self.lock());
    }

    /// Starts what is due at `at`.
    fn start_at(self: &Arc<Self>, at: Duration) {
        let engine = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep_until(engine.origin + at).await;
            engine.start(&mut engine.lock());
        });
    }

    /// Begins no more, and waits for what runs, at most until `deadline`. What waits is waited for only
    /// where it would be lost.
    pub async fn drain(&self, deadline: tokio::time::Instant) {
        self.lock().stopped = self.outbox.keeps();
        loop {
            let idle = self.idle.notified();
            {
                let state = self.lock();
                if state.running == 0 && (state.stopped || state.inbox.is_empty()) {
                    break;
                }
            }
            if tokio::time::timeout_at(deadline, idle).await.is_err() {
                break;
            }
        }
        let left = {
            let mut state = self.lock();
            state.stopped = true;
            if state.inbox.is_empty() {
                return;
            }
            if self.outbox.keeps() { Vec::new() } else { state.inbox.drain() }
        };
        tracing::warn!(
            app = self.live().app.id,
            left = self.depth() + left.len(),
            "stopped with deliveries left"
        );
        for delivery in left {
            self.metrics.delivered(route(&delivery), DeliveryOutcome::Stopped);
            if let Some(reply) = given_up(&delivery, &self.id_of(&delivery)) {
                self.outbox.send(reply).await;
            }
        }
    }

    /// A delivery is done or given up: its sender gets what is due.
    async fn settle(
        &self,
        live: &Live,
        delivery: &Delivery,
        id: &str,
        tried: &Tried,
        verdict: Verdict,
    ) {
        let dead = (verdict == Verdict::Dead).then(|| tried.outcome.word());
        // With one attempt each the app's answer is what counts, as in mod_rest.
        let patient = !live.app.retry().deadline.is_zero();
        let reply = if delivery.path.is_empty() && !(dead.is_some() && patient) {
            reply_to(live, delivery, id, &tried.result)
        } else if dead.is_some() || tried.result.is_err() {
            given_up(delivery, id)
        } else {
            None
        };
        self.outbox.settle(delivery.id, dead, reply).await;
    }

    async fn attempt(&self, live: &Live, delivery: &Delivery, id: &str) -> Tried {
        if delivery.path.is_empty() {
            self.callback(live, delivery, id).await
        } else {
            self.form_post(live, delivery, id).await
        }
    }

    async fn callback(&self, live: &Live, delivery: &Delivery, id: &str) -> Tried {
        let stanza = &delivery.stanza;
        let (Some(inbound), Some(url)) = (inbound(stanza, ""), &live.app.callback_url) else {
            return Tried::new(Err(Failure::Unusable("there is no callback_url any more".into())));
        };
        let media = *live.media.lock().unwrap_or_else(PoisonError::into_inner);
        let target = match &live.callback {
            Some(target) => Ok(target.clone()),
            None => Target::parse(&expand(url, &inbound)),
        };
        let mut headers = live.headers();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media.name()));
        headers.insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
        let language = stanza.lang().and_then(|lang| HeaderValue::from_str(lang).ok());
        if let Some(language) = language {
            headers.insert(CONTENT_LANGUAGE, language);
        }
        let body = stanza::to_media(stanza, media, live.app.strict);
        Tried::new(self.post(live, id, target, headers, body).await)
    }

    async fn form_post(&self, live: &Live, delivery: &Delivery, id: &str) -> Tried {
        let Some(base) = &live.url else {
            return Tried::new(Err(Failure::Unusable("there is no url any more".into())));
        };
        let fields: Vec<(&str, &str)> =
            delivery.fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let form = multipart::encode(&fields);
        let mut headers = live.headers();
        let content_type = HeaderValue::from_str(&form.content_type);
        headers.insert(
            CONTENT_TYPE,
            content_type.unwrap_or(HeaderValue::from_static("multipart/form-data")),
        );
        let body = Bytes::from(form.body);
        let mut paths = paths(delivery.path, live.app.fallback_paths).into_iter().peekable();
        loop {
            let path = paths.next().unwrap_or(delivery.path);
            let target = base.below(path);
            let tried =
                Tried::new(self.post(live, id, target, headers.clone(), body.clone()).await);
            let Ok(Answer { status, .. }) = tried.result else { return tried };
            if status == 404 && paths.peek().is_some() {
                continue;
            }
            if tried.outcome != DeliveryOutcome::Ok {
                tracing::warn!(app = live.app.id, path, status, "the app refused a delivery");
            }
            return tried;
        }
    }

    async fn post(
        &self,
        live: &Live,
        id: &str,
        target: Result<Target, Failure>,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, Failure> {
        let target = target?;
        live.sign(&mut headers, id, &body);
        let posted = self.poster.post(&target, headers, body, live.app.webhook_timeout).await;
        posted.inspect_err(|failure| {
            tracing::warn!(app = live.app.id, delivery = id, "webhook failed: {failure}");
        })
    }

    /// The delivery's id for its receiver: one that no other delivery has or had, and that stays where
    /// a delivery outlives the process.
    fn id_of(&self, delivery: &Delivery) -> String {
        if !self.outbox.keeps() {
            return format!("{}-{:x}", self.run, delivery.id);
        }
        format!("{:08x}-{:x}", mark(&delivery.stanza), delivery.id)
    }

    /// Asks the callback what it would like to get, as mod_rest does when a host is loaded.
    pub async fn probe(&self) {
        let live = self.live();
        let Some(url) = &live.app.callback_url else { return };
        let own = Inbound {
            kind: Kind::Message,
            from: &live.app.domain,
            to: &live.app.domain,
            id: None,
            type_: Some("info"),
            answer_id: "",
            wants_receipt: false,
        };
        let url = expand(&url.replace("{kind}", "meta"), &own);
        let Ok(target) = Target::parse(&url) else { return };
        let asked = self
            .poster
            .request(
                http::Method::OPTIONS,
                &target,
                live.headers(),
                Bytes::new(),
                live.app.webhook_timeout,
            )
            .await;
        match asked {
            Ok(answer) if answer.status == 200 => {
                if let Some(accept) = &answer.accept {
                    let media = Media::of_answer(Some(accept), None);
                    *live.media.lock().unwrap_or_else(PoisonError::into_inner) = media;
                    tracing::info!(
                        app = live.app.id,
                        media = media.name(),
                        "the callback chose its media type"
                    );
                }
            }
            Ok(answer) => {
                tracing::debug!(
                    app = live.app.id,
                    status = answer.status,
                    "the callback does not answer OPTIONS"
                );
            }
            Err(failure) => {
                tracing::warn!(app = live.app.id, "the callback is not there yet: {failure}")
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn route(delivery: &Delivery) -> Route {
    match delivery.service {
        _ if delivery.path.is_empty() => Route::Callback,
        InboundService::Message => Route::Message,
        InboundService::Presence => Route::Presence,
        InboundService::Subscribe => Route::Subscription,
        InboundService::Error => Route::Error,
    }
}

/// What a callback's answer says to the sender.
fn reply_to(
    live: &Live,
    delivery: &Delivery,
    id: &str,
    result: &Result<Answer, Failure>,
) -> Option<String> {
    let inbound = inbound(&delivery.stanza, id)?;
    let outcome = match result {
        Ok(answer) => Outcome::Answered {
            status: answer.status,
            content_type: answer.content_type.as_deref(),
            body: &answer.body,
        },
        Err(_) => Outcome::Unreachable,
    };
    reply::reply(&inbound, &outcome, live.app.strict)
}

/// The app could not be reached: the sender learns it, unless it is App Engine's presence or an
/// error, which nobody waits for an answer to.
fn given_up(delivery: &Delivery, id: &str) -> Option<String> {
    answer(delivery, id, super::codes::UNREACHABLE)
}

/// There is no room: the sender is told to try again later.
pub(crate) fn refusal(delivery: &Delivery) -> Option<String> {
    answer(delivery, &id::stanza(), super::codes::condition(429))
}

fn answer(delivery: &Delivery, id: &str, why: super::codes::Condition) -> Option<String> {
    let inbound = inbound(&delivery.stanza, id)?;
    let is_answerable = delivery.path.is_empty() || delivery.service == InboundService::Message;
    let is_answer = matches!(inbound.type_, Some("error" | "result"));
    (is_answerable && !is_answer).then(|| reply::error(&inbound, why, None))
}

/// What the reply to a stanza depends on; `None` for what is no stanza or has no sender.
pub(crate) fn inbound<'s>(stanza: &'s Stanza, answer_id: &'s str) -> Option<Inbound<'s>> {
    let kind = match stanza.kind() {
        StanzaKind::Message => Kind::Message,
        StanzaKind::Presence => Kind::Presence,
        StanzaKind::Iq => Kind::Iq,
        StanzaKind::Other => return None,
    };
    Some(Inbound {
        kind,
        from: stanza.from()?.as_str(),
        to: stanza.to().map_or("", |to| to.as_str()),
        id: stanza.id(),
        type_: stanza.type_(),
        answer_id,
        wants_receipt: wants_receipt(stanza),
    })
}

fn wants_receipt(stanza: &Stanza) -> bool {
    const RECEIPTS: &str = "urn:xmpp:receipts";
    stanza.kind() == StanzaKind::Message
        && stanza.id().is_some()
        && !matches!(stanza.type_(), Some("groupchat" | "error"))
        && memchr::memmem::find(stanza.raw(), RECEIPTS.as_bytes()).is_some()
        && stanza.element().is_ok_and(|element| element.child("request", RECEIPTS).is_some())
}

fn expand(url: &str, inbound: &Inbound<'_>) -> String {
    let fields = template::Fields {
        kind: inbound.kind.name(),
        type_: inbound.type_,
        to: inbound.to,
        from: inbound.from,
    };
    template::expand(url, &fields)
}

/// The path itself, and what apps copied from a faulty sample listen on.
fn paths(path: &'static str, fallback: bool) -> Vec<&'static str> {
    let mut paths = vec![path];
    if fallback {
        if path == "/_ah/xmpp/error/" {
            paths.push("/_ah/xmpp/message/error/");
        }
        paths.extend(path.strip_suffix('/'));
    }
    paths
}
