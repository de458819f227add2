//! Delivers: in order for each sender, side by side for different ones, a bounded number at once.

mod attempt;
mod live;
mod sender;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use appxmpp::service::{Charge, Delivery, InboundService, Inbox, LaneLimits, Ticket, Verdict};
use appxmpp::stanza::Stanza;
use appxmpp::store::Place;
use tokio::sync::Notify;

use super::client::Poster;
use super::mark::mark;
use super::reply::Reply;
use crate::app::utc;
use crate::config;
use crate::id;
use crate::metrics::{DeliveryOutcome, Metrics, Route};
use attempt::Tried;
use live::Live;
use sender::{given_up, reply_to, unpaid};
pub(crate) use sender::{inbound, refusal};

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
    /// Counts what the app says in its own XML.
    ///
    /// # Errors
    /// A quota is used up: it is not to be sent.
    fn charge(&self, charge: Charge) -> appxmpp::Result<()>;
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

#[derive(Debug)]
struct State {
    inbox: Inbox,
    running: usize,
    stopped: bool,
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
    pub fn reload(self: &Arc<Self>, app: Arc<config::App>) {
        self.lock().inbox.set_retry(app.retry());
        if self.live().app.callback_trust != app.callback_trust {
            self.poster.set_trust(Arc::clone(&app.callback_trust));
        }
        let (live, is_new) = self.live().followed_by(app);
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = live;
        if is_new {
            self.begin_probe();
        }
    }

    /// Asks the callback which media type it would like, if there is one, in a task of its own.
    pub fn begin_probe(self: &Arc<Self>) {
        if self.live().app.callback_url.is_some() {
            let engine = Arc::clone(self);
            tokio::spawn(async move { engine.probe().await });
        }
    }

    fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The deliveries whose turn has not come, as far as others of their sender do not wait before them.
    pub fn waiting(&self) -> Vec<Arc<Delivery>> {
        self.lock().inbox.waiting()
    }

    /// Whether there are deliveries whose turn has not come.
    pub fn has_waiting(&self) -> bool {
        self.lock().inbox.has_waiting()
    }

    /// The turns of these deliveries have come.
    pub fn release(self: &Arc<Self>, ids: &[u64]) {
        let mut state = self.lock();
        state.inbox.release(ids);
        self.start(&mut state);
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
        let (place, came) = (Place::default(), utc());
        Delivery { id, path: "", fields: Vec::new(), service, sender, stanza, place, came }
    }

    /// Queues what an earlier run left, whatever the bounds.
    pub fn restore(self: &Arc<Self>, delivery: Delivery) {
        let mut state = self.lock();
        state.inbox.restore(self.now(), utc(), delivery);
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
                app = self.live().app.name,
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
        let now = self.now();
        while state.running < most && !state.stopped && self.outbox.holds() {
            let Some((ticket, delivery)) = state.inbox.claim_one(now) else { break };
            state.running += 1;
            let engine = Arc::clone(self);
            // A task is moved whole when it is made and again when it ends, so that what is large is in
            // a box.
            tokio::spawn(async move { Box::pin(engine.work(ticket, delivery)).await });
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
            // What became due meanwhile found no room to start, and is started by nobody else.
            let now = self.now();
            let may_go_on = !state.stopped && self.outbox.holds();
            let next = if may_go_on { state.inbox.claim_one(now) } else { None };
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
            app = self.live().app.name,
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
            let reply = reply_to(live, delivery, id, &tried.result);
            reply.and_then(|reply| self.charged(delivery, id, reply))
        } else if dead.is_some() || tried.result.is_err() {
            given_up(delivery, id)
        } else {
            None
        };
        self.outbox.settle(delivery.id, dead, reply).await;
    }

    /// The reply, if the app's quotas allow it, else what tells the sender that there is none.
    fn charged(&self, delivery: &Delivery, id: &str, reply: Reply) -> Option<String> {
        let charged = reply.charge.map_or(Ok(()), |charge| self.outbox.charge(charge));
        match charged {
            Ok(()) => Some(reply.stanza),
            Err(error) => {
                tracing::warn!(app = self.live().app.name, "a reply is not sent: {error}");
                unpaid(delivery, id)
            }
        }
    }

    /// The delivery's id for its receiver: one that no other delivery has or had, and that stays where
    /// a delivery outlives the process.
    fn id_of(&self, delivery: &Delivery) -> String {
        if !self.outbox.keeps() {
            return format!("{}-{:x}", self.run, delivery.id);
        }
        format!("{:08x}-{:x}", mark(&delivery.stanza), delivery.id)
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

#[cfg(test)]
mod tests;
