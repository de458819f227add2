//! The thread that speaks with the database: one connection writes, another reads.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;
use tokio_postgres::Row;

use super::address::Address;
use super::heart::{Heart, Pulses};
use super::link::{Failure, Fault, Link, Op, explain, is_lost};
use super::{Unreported, sql};
use crate::error::Result;
use crate::store::{Change, Done, Listener, Member, Placed, Placing};

/// How many changes one transaction may take in.
const GROUP: usize = 1024;
/// How long a caller waits for a database that cannot be reached.
pub(super) const PATIENCE: Duration = Duration::from_secs(4);
/// How many changes that nobody waits for are kept for a database that cannot be reached.
const KEPT: usize = 100_000;

/// Changes to be applied together.
pub(super) struct Call {
    pub(super) changes: Vec<Change>,
    /// What other processes on the same store are told with them.
    pub(super) news: Vec<String>,
    pub(super) done: Option<Finish>,
}

/// Who is told what became of a call.
pub(super) enum Finish {
    Done(Done),
    /// And where the changes stand among those of all members of an app.
    Placed(Placing, String, u64),
}

impl Finish {
    pub(super) fn call(self, written: Result<Placed>) {
        match self {
            Self::Done(done) => done(written.map(drop)),
            Self::Placed(done, ..) => done(written),
        }
    }
}

impl Call {
    /// What is asked for it once its changes are stored.
    fn look(&self) -> Option<Op> {
        let puts = self.changes.iter().any(|change| matches!(change, Change::OutboxPut(..)));
        match &self.done {
            Some(Finish::Placed(_, app, member)) if puts => Some(sql::elsewhere(app, *member)),
            _ => None,
        }
    }

    fn deliveries(&self) -> usize {
        self.changes.iter().filter(|change| matches!(change, Change::InboxPut(..))).count()
    }
}

/// Gives each call what it asked for of the rows of its group: those of the deliveries that were put,
/// in order, and then those of what was asked after that.
fn places(calls: &[Call], rows: &[Row]) -> Vec<Placed> {
    let (puts, looks) =
        rows.split_at(calls.iter().map(Call::deliveries).sum::<usize>().min(rows.len()));
    let (mut puts, mut looks) = (puts.iter().map(sql::place_of), looks.iter());
    let place = |call: &Call| Placed {
        deliveries: puts.by_ref().take(call.deliveries()).collect(),
        elsewhere: call.look().is_some() && looks.next().is_some_and(|row| row.get(0)),
    };
    calls.iter().map(place).collect()
}

/// The connection that writes. All calls that wait while one transaction commits share the next one.
pub(super) struct Writer {
    link: Link,
    unreported: Unreported,
    pulses: Pulses,
    pending: VecDeque<Call>,
    /// Since when the database cannot be reached.
    down: Option<Instant>,
}

impl Writer {
    pub(super) fn new(link: Link, unreported: Unreported, pulses: Pulses) -> Self {
        Self { link, unreported, pulses, pending: VecDeque::new(), down: None }
    }

    /// Writes until nobody can call any more, and then what is left. Gives the connection back.
    pub(super) async fn run(mut self, calls: Receiver<Call>, wake: Arc<Notify>) -> Link {
        loop {
            let over = self.take(&calls);
            if self.pending.is_empty() {
                if over {
                    return self.link;
                }
                wake.notified().await;
                continue;
            }
            self.write().await;
            if over && self.down.is_some_and(|since| since.elapsed() >= PATIENCE) {
                self.give_up();
                return self.link;
            }
        }
    }

    /// Takes what has come; `true` if nothing more will.
    fn take(&mut self, calls: &Receiver<Call>) -> bool {
        loop {
            match calls.try_recv() {
                Ok(call) => self.pending.push_back(call),
                Err(TryRecvError::Empty) => return false,
                Err(TryRecvError::Disconnected) => return true,
            }
            // The others wait in their own queue, which is bounded.
            if self.pending.len() >= KEPT {
                return false;
            }
        }
    }

    /// Writes one group.
    async fn write(&mut self) {
        let mut size = 0;
        let count = self.pending.iter().take_while(|call| {
            let fits = size < GROUP;
            size += call.changes.len() + call.news.len();
            fits
        });
        let count = count.count();
        let ops = self.ops(count);
        let looks: Vec<_> = self.pending.iter().take(count).filter_map(Call::look).collect();
        let written = match ops.is_empty() {
            true => Ok(Vec::new()),
            false => self.link.transact(&ops, &looks).await,
        };
        match written {
            Err(failure) if is_lost(&failure) => self.lost(failure),
            written => {
                if !ops.is_empty() && self.down.take().is_some() {
                    tracing::info!("the state store {} can be reached again", self.link.address);
                }
                let group: Vec<_> = self.pending.drain(..count).collect();
                match written {
                    Ok(rows) => {
                        let places = places(&group, &rows);
                        group
                            .into_iter()
                            .zip(places)
                            .for_each(|(call, it)| self.report(call, Ok(it)));
                    }
                    Err(failure) => {
                        let fault = Arc::new(failure);
                        group.into_iter().for_each(|call| self.report(call, Err(&fault)));
                    }
                }
            }
        }
    }

    fn ops(&self, count: usize) -> Vec<Op> {
        let group = || self.pending.iter().take(count);
        let mut ops = self.fences(count);
        ops.extend(sql::ops(group().flat_map(|call| &call.changes)));
        ops.extend(group().flat_map(|call| &call.news).map(|news| sql::tell(news.clone())));
        ops
    }

    /// For each member here that a group puts something into the queue of.
    fn fences(&self, count: usize) -> Vec<Op> {
        let pulses = self.pulses.lock().unwrap_or_else(PoisonError::into_inner);
        let puts = |queue: &str| {
            let mut changes = self.pending.iter().take(count).flat_map(|call| &call.changes);
            changes.any(|change| sql::queue_of(change) == Some(queue))
        };
        let putting = pulses.iter().map(|pulse| &pulse.member).filter(|it| puts(&it.queue));
        putting.map(|member| sql::fence(member.number)).collect()
    }

    /// The connection broke. Changes are the same applied twice, so they are applied again on the next
    /// one; who has waited long enough is told.
    fn lost(&mut self, failure: Failure) {
        let fault = Arc::new(failure);
        let since = *self.down.get_or_insert_with(|| {
            tracing::error!("{}", explain(&self.link.address, &fault));
            Instant::now()
        });
        let mut soon = 0;
        let mut kept = VecDeque::with_capacity(self.pending.len());
        for call in std::mem::take(&mut self.pending) {
            let waits = call.done.is_some();
            soon += usize::from(!waits) * call.changes.len();
            let over = if waits { since.elapsed() >= PATIENCE } else { soon > KEPT };
            if over {
                self.report(call, Err(&fault));
            } else {
                kept.push_back(call);
            }
        }
        self.pending = kept;
    }

    fn give_up(&mut self) {
        let fault = Arc::new(Failure::Silent);
        for call in std::mem::take(&mut self.pending) {
            self.report(call, Err(&fault));
        }
    }

    fn report(&self, call: Call, written: Result<Placed, &Fault>) {
        let written = written.map_err(|fault| explain(&self.link.address, fault));
        match (call.done, written) {
            (Some(done), written) => done.call(written),
            (None, Err(error)) => {
                tracing::error!("{error}");
                let mut first = self.unreported.lock().unwrap_or_else(PoisonError::into_inner);
                first.get_or_insert(error);
            }
            (None, Ok(_)) => {}
        }
    }
}

/// A question, and where the answer goes.
pub(super) struct Ask {
    pub(super) op: Op,
    pub(super) reply: Sender<Result<Vec<Row>>>,
}

/// Answers questions, one after the other, until nobody can ask any more.
pub(super) async fn answer(mut link: Link, mut asks: UnboundedReceiver<Ask>) {
    while let Some(Ask { op, reply }) = asks.recv().await {
        let since = Instant::now();
        let rows = loop {
            match link.query(&op).await {
                Err(failure) if is_lost(&failure) && since.elapsed() < PATIENCE => {}
                rows => break rows,
            }
        };
        // Whoever asked may be gone.
        let _ = reply.send(rows.map_err(|failure| explain(&link.address, &Arc::new(failure))));
    }
}

/// Somebody who joins those who serve an app.
pub(super) struct Join {
    pub(super) app: String,
    pub(super) listener: Box<dyn Listener>,
    pub(super) reply: Sender<Result<Member>>,
}

/// Lets members join, until nobody can any more; they then have stopped beating.
pub(super) async fn members(
    address: Arc<Address>,
    mut joins: UnboundedReceiver<Join>,
    pulses: Pulses,
) {
    let mut hearts = Vec::new();
    while let Some(Join { app, listener, reply }) = joins.recv().await {
        let heart = Heart::join(Link::new(Arc::clone(&address)), app, listener).await;
        let joined = heart.map(|heart| {
            let pulse = heart.pulse();
            let member = pulse.member.clone();
            pulses.lock().unwrap_or_else(PoisonError::into_inner).push(pulse);
            hearts.push(tokio::spawn(heart.run()));
            member
        });
        // Whoever joined may be gone.
        let _ = reply.send(joined);
    }
    for heart in hearts {
        heart.abort();
        let _ = heart.await;
    }
}
