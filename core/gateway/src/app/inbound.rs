//! What arrives for an app, and what it says of itself.

use std::sync::Arc;
use std::time::Duration;

use appxmpp::net::{Event, keep_deliveries, released, take_over};
use appxmpp::service::quota::KEEP_EVERY;
use appxmpp::service::{Delivery, DropReason, Outgoing, Turns};
use appxmpp::stanza::{Stanza, StanzaKind};
use bytes::Bytes;
use tokio::time::{Instant, interval_at};

use super::App;
use super::stream::{kind_of, utc};
use crate::config::Event as Target;
use crate::deliver::engine::{inbound, refusal};
use crate::deliver::{codes, reply};
use crate::metrics::Direction;

/// How many inbound stanzas are taken at once.
const EVENTS: usize = 256;
/// How many of the service's own stanzas go out at once, so that an app's own are not kept waiting.
const ROOM: usize = 256;

impl App {
    /// Takes what arrives, until the connection ends.
    pub(super) async fn run(self: Arc<Self>) {
        let origin = Instant::now();
        let mut turns = Turns::default();
        let mut usage = interval_at(origin + KEEP_EVERY, KEEP_EVERY);
        loop {
            let closing = *self.closing();
            let due = self.service.poll_timeout().filter(|_| !closing).map(|at| origin + at);
            let turn = self.engine.has_waiting().then(|| origin + turns.due());
            let events = tokio::select! {
                events = self.connection.next_events(EVENTS) => events,
                () = sleep_until(due) => {
                    if !self.pump(origin.elapsed()) {
                        // The outgoing queue is full; the server takes it at its own pace.
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    continue;
                }
                () = sleep_until(turn) => {
                    let (now, waiting) = (origin.elapsed(), self.engine.waiting());
                    let free = released(&self.service, &mut turns, now, waiting).await;
                    self.engine.release(&free);
                    continue;
                }
                _ = usage.tick() => {
                    self.service.keep_usage();
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
            let (mut arrived, now) = (Arrived::default(), origin.elapsed());
            let mut stanzas = 0;
            for event in events {
                stanzas += usize::from(matches!(event, Event::Stanza(_)));
                if let Some(outbox) = &self.outbox {
                    outbox.handle_event(&event);
                }
                self.take(event, now, &mut arrived);
            }
            let Arrived { mut deliveries, mut answers, lasting, declined } = arrived;
            if self.keeps && !deliveries.is_empty() {
                self.keep(&mut deliveries, &mut answers).await;
            }
            // An account's server may forget what is stored.
            let _ = self.connection.confirm(stanzas);
            // Only now: who gets an answer may take what was sent before for received.
            self.say(&answers);
            self.say_lasting(lasting).await;
            self.say_declined(declined).await;
            deliveries.into_iter().for_each(|delivery| self.engine.queue(delivery));
        }
    }

    /// Takes over what other processes left; `false` if others did that to this one.
    async fn hear(&self) -> bool {
        if self.service.is_evicted() {
            tracing::error!(app = self.config().name, "another gateway goes on with this app");
            self.connection.close(Duration::from_secs(1)).await;
            self.evicted.notify_one();
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
        if let Err(error) = keep_deliveries(&self.service, arrived).await {
            tracing::error!("{} deliveries could not be stored: {error}", arrived.len());
            arrived.retain(|delivery| {
                let answer = refusal(delivery);
                let is_taken = answer.is_none();
                answers.extend(answer.map(Bytes::from));
                is_taken
            });
        }
    }

    /// Sends what the service wants to say now; whether all of it went out.
    fn pump(&self, now: Duration) -> bool {
        let closing = self.closing();
        if *closing {
            return true;
        }
        let busy = self.connection.stats().is_ok_and(|stats| stats.outbound_queue > ROOM);
        if busy {
            return false;
        }
        self.say(&self.service.handle_timeout(now, ROOM))
    }

    /// Says what nobody asks for twice: stored, where there is an outbox.
    async fn say_lasting(&self, stanzas: Vec<Bytes>) {
        let left = match &self.outbox {
            Some(outbox) => outbox.keep_lasting(stanzas.clone()).await,
            None => stanzas.clone(),
        };
        self.count_stored(&stanzas[..stanzas.len() - left.len()]);
        for stanza in &left {
            self.stream.write(&String::from_utf8_lossy(stanza)).await;
        }
    }

    /// Tells senders: stored with each other, where there is an outbox and room.
    async fn say_declined(&self, mut stanzas: Vec<Bytes>) {
        if let Some(outbox) = self.outbox.as_ref().filter(|_| !stanzas.is_empty()) {
            let outgoing: Vec<_> = stanzas.iter().cloned().map(Outgoing::whole).collect();
            let stored = outbox.keep_reply(&outgoing, Vec::new()).await.stored;
            self.count_stored(&stanzas[..stored]);
            stanzas.drain(..stored);
        }
        self.say(&stanzas);
    }

    fn count_stored(&self, stanzas: &[Bytes]) {
        stanzas.iter().for_each(|stanza| self.metrics.stanza(Direction::Out, kind_of(stanza)));
    }

    fn say(&self, stanzas: &[Bytes]) -> bool {
        let mut well = true;
        for stanza in stanzas {
            let text = String::from_utf8_lossy(stanza);
            match self.connection.try_send(&text) {
                Ok(()) => self.metrics.stanza(Direction::Out, kind_of(stanza)),
                Err(error) => {
                    well = false;
                    tracing::warn!(
                        app = self.config().name,
                        "a stanza of the service was lost: {error}"
                    );
                }
            }
        }
        well
    }

    fn take(&self, event: Event, now: Duration, arrived: &mut Arrived) {
        let config = self.config();
        let app = &config.name;
        match event {
            Event::Ready => {
                tracing::info!(app, "the stream is up");
                self.metrics.stream(app, true);
                self.up.send_replace(true);
                if !self.service.addresses().is_account() {
                    self.unless_closing(|| self.service.handle_ready(now));
                }
            }
            Event::Bound { resumed, .. } => {
                self.unless_closing(|| self.service.handle_session(now, resumed));
            }
            Event::Roster { contacts, complete } => self.service.handle_roster(&contacts, complete),
            Event::Stanza(stanza) => self.stanza(stanza, arrived),
            Event::Skipped(error) => tracing::warn!(app, "a stanza was left out: {error}"),
            Event::Disconnected { reason, cause, retry_in } => {
                match retry_in {
                    Some(pause) => {
                        tracing::warn!(app, retry_in = ?pause, "the stream is down: {reason}");
                    }
                    None => tracing::warn!(app, "the stream is down for good: {reason}"),
                }
                self.metrics.stream(app, false);
                self.up.send_replace(false);
                self.metrics.reconnect(app, cause.word());
                self.service.handle_disconnected();
            }
            _ => {}
        }
    }

    /// A stream that comes up while the app closes is none to greet anybody on.
    fn unless_closing(&self, greet: impl FnOnce()) {
        let closing = self.closing();
        if !*closing {
            greet();
        }
    }

    fn stanza(&self, stanza: Stanza, arrived: &mut Arrived) {
        let ask = |ping: &str| self.connection.try_send(ping).is_ok();
        if self.barrier.as_ref().is_some_and(|barrier| barrier.answered(&stanza, ask)) {
            return;
        }
        let kind = match stanza.kind() {
            StanzaKind::Message => "message",
            StanzaKind::Presence => "presence",
            StanzaKind::Iq => "iq",
            StanzaKind::Other => "other",
        };
        self.metrics.stanza(Direction::In, kind);
        let Some(stanza) = self.archives.keep(stanza) else { return };
        let Some(stanza) = self.waiters.answer(stanza) else { return };
        let config = self.config();
        if stanza.is_error()
            && let Some(from) = stanza.from().and_then(|from| from.prepared())
        {
            self.known.forget(kind, from, config.bounce_wait);
        }
        let iq = stanza.kind() == StanzaKind::Iq;
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
        let inbound = self.service.handle_stanza(utc(), stanza);
        let said = if inbound.lasting { &mut arrived.lasting } else { &mut arrived.answers };
        said.extend(inbound.sends);
        if let Some(delivery) = inbound.delivery {
            arrived.deliveries.push(delivery);
        } else if let Some((reason, stanza)) = inbound.dropped {
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
    /// What tells senders that nobody takes their messages.
    declined: Vec<Bytes>,
}

/// Nobody handles it: the sender is told so.
fn decline(stanza: &Stanza, arrived: &mut Arrived) {
    let id = crate::id::stanza();
    let Some(inbound) = inbound(stanza, &id) else { return };
    if matches!(inbound.type_, Some("error" | "result")) {
        return;
    }
    let error = reply::error(&inbound, codes::condition(503), None);
    // Whoever sent an iq asks again; whoever sent a message may wait for nothing else.
    let is_iq = stanza.kind() == StanzaKind::Iq;
    let into = if is_iq { &mut arrived.answers } else { &mut arrived.declined };
    into.push(error.into());
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
