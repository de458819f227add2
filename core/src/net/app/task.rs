//! The task that turns events into deliveries and keeps presence up to date.

use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Inner, Queue};
use crate::error::Error;
use crate::net::connection::Event;
use crate::net::farewell::say_goodbye;
use crate::net::inbound::register;
use crate::net::outbox::{Keeping, LiveOutbox, utc};
use crate::net::sharing::take_over;
use crate::net::stats::add;
use crate::net::turns::{keep_deliveries, released};
use crate::net::wait::bounded;
use crate::service::quota::KEEP_EVERY;
use crate::service::{Delivery, Outgoing, Service, Turns};
use crate::stanza::Condition;
use crate::stream::Batch;

/// How many events are taken at once.
const EVENTS: usize = 64;
/// For how many deliveries of those taken at once somebody is woken.
const WAKE_EACH: usize = 16;
/// How many stanzas of a round are written at once.
const ROUND: usize = 256;
/// How long an answer waits for room in the outgoing queue.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Whatever ends the task, whoever waits for the app learns of it.
struct AtEnd<'a>(&'a Inner);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        end(self.0);
    }
}

pub(super) async fn run(inner: Arc<Inner>) {
    let _at_end = AtEnd(&inner);
    let mut usage = tokio::time::interval_at(Instant::now() + KEEP_EVERY, KEEP_EVERY);
    let mut turns = Turns::default();
    while !inner.closing.load(Ordering::Acquire) {
        let turn = inner.queue().lanes.has_waiting().then(|| turns.due());
        let due = inner.service.poll_timeout().filter(|_| inner.connection.is_ready());
        tokio::select! {
            events = inner.connection.next_events(EVENTS) => match events {
                Ok(events) if !events.is_empty() => take(&inner, &mut turns, events).await,
                _ => break,
            },
            () = until(&inner, due) => round(&inner).await,
            () = until(&inner, turn) => release(&inner, &mut turns).await,
            _ = usage.tick() => inner.service.keep_usage(),
            () = inner.wake.notified() => {}
        }
        if inner.news.swap(false, Ordering::AcqRel) && !hear(&inner).await {
            break;
        }
    }
    refuse_waiting(&inner).await;
    if inner.connection.is_ready() {
        // Who closes the app closes the stream when the time is up.
        say_goodbye(&inner.service, &inner.connection, Instant::now() + bounded(Duration::MAX))
            .await;
    }
    inner.service.keep_usage();
    if let Err(error) = inner.service.sync() {
        tracing::error!(%error, "not everything could be stored");
    }
}

/// Takes over what other processes left; `false` if others did that to this one.
async fn hear(inner: &Arc<Inner>) -> bool {
    if inner.service.is_evicted() {
        tracing::error!("the app ends here: another process goes on with it; open it again");
        return false;
    }
    let deliveries = take_over(&inner.service, inner.outbox.as_ref(), &inner.connection).await;
    let mut queue = inner.queue();
    deliveries.into_iter().for_each(|delivery| queue.lanes.restore(delivery));
    queue.wake_all();
    true
}

/// Lets those deliveries go whose turn has come.
async fn release(inner: &Arc<Inner>, turns: &mut Turns) {
    let waiting = inner.queue().lanes.waiting();
    let free = released(&inner.service, turns, inner.now(), waiting).await;
    let mut queue = inner.queue();
    queue.lanes.release(&free);
    queue.wake_for_ready();
}

/// The senders of what nobody took in time are told.
async fn refuse_waiting(inner: &Inner) {
    let waiting = {
        let mut queue = inner.queue();
        let waiting = queue.lanes.drain();
        inner.note(&queue);
        waiting
    };
    if waiting.is_empty() {
        return;
    }
    if inner.outbox.is_some() {
        tracing::info!(deliveries = waiting.len(), "deliveries wait for the next start");
        return;
    }
    tracing::warn!(deliveries = waiting.len(), "not everything was delivered before the end");
    add(&inner.counters.refused, waiting.len() as u64);
    let refuse =
        |delivery: &Arc<Delivery>| inner.service.refuse(delivery, Condition::RecipientUnavailable);
    write(inner, waiting.iter().filter_map(refuse).collect()).await;
}

fn end(inner: &Inner) {
    inner.stop_intake();
    let mut ended = inner.ended.lock().unwrap_or_else(PoisonError::into_inner);
    ended.ended = true;
    ended.wakers.drain(..).for_each(std::task::Waker::wake);
}

async fn until(inner: &Inner, due: Option<Duration>) {
    match due {
        Some(due) => tokio::time::sleep_until(inner.origin + due).await,
        None => std::future::pending().await,
    }
}

/// One step of telling contacts the app's presence and asking for theirs.
async fn round(inner: &Inner) {
    let sends = inner.service.handle_timeout(inner.now(), ROUND);
    write(inner, sends).await;
}

async fn take(inner: &Arc<Inner>, turns: &mut Turns, events: Vec<Event>) {
    let utc = utc();
    let (mut sends, mut lasting) = (Vec::new(), Vec::new());
    let mut arrived = Vec::new();
    let mut refusals = Vec::new();
    let mut pushed = 0;
    let mut stanzas = 0;
    for event in events {
        if let Some(outbox) = &inner.outbox {
            outbox.handle_event(&event);
        }
        match event {
            Event::Stanza(stanza) => {
                stanzas += 1;
                let inbound = inner.service.handle_stanza(utc, stanza);
                let into = if inbound.lasting { &mut lasting } else { &mut sends };
                into.extend(inbound.sends);
                match inbound.delivery {
                    Some(delivery) if inner.outbox.is_some() => arrived.push(delivery),
                    Some(delivery) => {
                        deliver(inner, turns, delivery, &mut sends, &mut refusals).await;
                        pushed += 1;
                    }
                    None => {}
                }
                // Waking somebody costs more than handling a stanza: not for each of many.
                if pushed == WAKE_EACH {
                    inner.queue().wake_for_ready();
                    pushed = 0;
                }
            }
            Event::Ready if inner.service.addresses().is_account() => {}
            Event::Ready => inner.service.handle_ready(inner.now()),
            #[cfg(feature = "client")]
            Event::Bound { resumed, .. } => inner.service.handle_session(inner.now(), resumed),
            #[cfg(feature = "client")]
            Event::Roster { contacts, complete } => {
                inner.service.handle_roster(&contacts, complete);
            }
            Event::Disconnected { .. } => inner.service.handle_disconnected(),
            Event::Acked(_) | Event::Cut { .. } | Event::Skipped(_) => {}
        }
    }
    sends.extend(match &inner.outbox {
        Some(outbox) => outbox.keep_lasting(lasting).await,
        None => lasting,
    });
    if !arrived.is_empty()
        && let Err(error) = keep_deliveries(&inner.service, &mut arrived).await
    {
        refuse_unstored(inner, &error, &mut arrived, &mut sends);
    }
    // What could not be stored is in memory still: a server that sends it again would not help.
    let _ = inner.connection.confirm(stanzas);
    for delivery in arrived {
        deliver(inner, turns, delivery, &mut sends, &mut refusals).await;
    }
    inner.queue().wake_for_ready();
    for refusal in refusals {
        refusal.end(inner, &mut sends).await;
    }
    write(inner, sends).await;
}

/// A delivery that was refused, while the answer to its sender is stored and it is forgotten, both or
/// neither: a cut does not take the answer with it, nor a crash.
struct Refusal {
    id: u64,
    answer: Bytes,
    keeping: Keeping,
}

impl Refusal {
    fn begin(outbox: &Arc<LiveOutbox>, service: &Service, id: u64, answer: Bytes) -> Self {
        let stanza = [Outgoing::whole(answer.clone())];
        let keeping = outbox.keep_reply(&stanza, vec![service.delivery_done(id)]);
        Self { id, answer, keeping }
    }

    /// What could not be stored may still reach a live stream.
    async fn end(self, inner: &Inner, sends: &mut Vec<Bytes>) {
        if self.keeping.await.stored == 0 {
            inner.service.forget_delivery(self.id);
            sends.push(self.answer);
        }
    }
}

/// What a crash would lose is not taken: its sender is told, where one tells senders.
fn refuse_unstored(
    inner: &Inner,
    error: &Error,
    arrived: &mut Vec<Delivery>,
    sends: &mut Vec<Bytes>,
) {
    tracing::error!(%error, deliveries = arrived.len(), "deliveries could not be stored");
    arrived.retain(|delivery| {
        let answer = inner.service.refuse(delivery, Condition::ResourceConstraint);
        add(&inner.counters.refused, u64::from(answer.is_some()));
        let is_taken = answer.is_none();
        sends.extend(answer);
        is_taken
    });
}

fn push(inner: &Inner, delivery: Delivery) -> Result<(), Box<Delivery>> {
    let mut queue = inner.queue();
    queue.push(delivery)?;
    inner.note(&queue);
    Ok(())
}

async fn deliver(
    inner: &Arc<Inner>,
    turns: &mut Turns,
    delivery: Delivery,
    sends: &mut Vec<Bytes>,
    refusals: &mut Vec<Refusal>,
) {
    let Err(refused) = push(inner, delivery) else { return };
    inner.queue().wake_for_ready();
    // What waits to be written is for others: it need not wait for the app.
    write(inner, std::mem::take(sends)).await;
    let refused = match make_room(inner, turns, *refused).await {
        None => return,
        Some(refused) => refused,
    };
    add(&inner.counters.refused, 1);
    let condition = if inner.queue().over {
        Condition::RecipientUnavailable
    } else {
        Condition::ResourceConstraint
    };
    tracing::warn!(
        path = refused.path,
        id = refused.id,
        "no room for a delivery; its sender is told"
    );
    match (&inner.outbox, inner.service.refuse(&refused, condition)) {
        (Some(outbox), Some(answer)) => {
            refusals.push(Refusal::begin(outbox, &inner.service, refused.id, answer));
        }
        (Some(_), None) => inner.service.forget_delivery(refused.id),
        (None, answer) => sends.extend(answer),
    }
}

/// Whether the lanes are full for everybody, not for this sender alone.
fn is_full(inner: &Inner, queue: &Queue, delivery: &Delivery) -> bool {
    let limits = inner.config.lanes;
    let lanes = &queue.lanes;
    lanes.len() >= limits.deliveries
        || (!lanes.is_empty() && lanes.bytes() + delivery.size() > limits.bytes)
}

/// Waits for room, unless it is the sender's own share that is used up: others must not wait for
/// one. Gives the delivery back if there is none in time.
async fn make_room(inner: &Arc<Inner>, turns: &mut Turns, delivery: Delivery) -> Option<Delivery> {
    let mut waiting = Some(delivery);
    let until = Instant::now() + inner.config.room_timeout;
    loop {
        let over = attempt(inner, &mut waiting, until.min(next_turn(inner, turns))).await;
        if over || waiting.is_none() || until <= Instant::now() {
            return waiting;
        }
        // Those that take the room may wait for their turn.
        release(inner, turns).await;
    }
}

/// When it is to be asked whose turn it is.
fn next_turn(inner: &Inner, turns: &Turns) -> Instant {
    match inner.queue().lanes.has_waiting() {
        true => inner.origin + turns.due(),
        false => Instant::now() + inner.config.room_timeout,
    }
}

/// Puts what is `waiting` into its lane, as soon as there is room; `true` if there will be none.
async fn attempt(inner: &Inner, waiting: &mut Option<Delivery>, until: Instant) -> bool {
    let attempt = poll_fn(|context| {
        let Some(delivery) = waiting.take() else { return Poll::Ready(false) };
        let mut queue = inner.queue();
        let full = is_full(inner, &queue, &delivery);
        match queue.push(delivery) {
            Ok(()) => Poll::Ready(false),
            Err(delivery) => {
                *waiting = Some(*delivery);
                if queue.over || !full {
                    return Poll::Ready(true);
                }
                register(&mut queue.others, context.waker());
                Poll::Pending
            }
        }
    });
    timeout_at(until, attempt).await.unwrap_or(false)
}

/// Writes answers; what the server does not take in time is counted.
async fn write(inner: &Inner, sends: Vec<Bytes>) {
    if sends.is_empty() {
        return;
    }
    let mut batch = Batch::new();
    sends.iter().for_each(|stanza| batch.push_written(stanza));
    let (count, started) = (batch.len(), Instant::now());
    let sent = timeout(ANSWER_TIMEOUT, inner.connection.send_many(batch)).await;
    let written = sent.as_ref().map_or(0, |sent| sent.written);
    if written < count {
        add(&inner.counters.unanswered, (count - written) as u64);
        let waited = started.elapsed();
        tracing::warn!(unwritten = count - written, ?waited, "answers could not be written");
    }
}
