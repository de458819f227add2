//! What has to be true of processes that share a database.

use appxmpp::store::QueueName;

use super::{Inbound, Kind, Message, Oracle, Pair};
use crate::ctx::{Ctx, SEC, Time};
use crate::database::Database;

impl Oracle {
    /// A run of a process opened an app.
    pub(crate) fn opened(&mut self, run: u32, app: usize, queue: &QueueName) {
        self.queues.insert((run, app), queue.clone());
    }

    /// Whether processes may think different things of a contact: the database did not take a change, or
    /// what the contact said reached nobody, and no other process has a reason to ask again.
    pub(crate) fn is_disputed(&self, app: usize, contact: usize, spreads: bool) -> bool {
        let Pair { disputed, inbound, .. } = &self.pairs[app][contact];
        let lost = |it: &Inbound| it.kind == Kind::Presence && it.received == 0;
        *disputed || (spreads && inbound.iter().any(lost))
    }

    /// A run of a process has this connection.
    pub(crate) fn dialled(&mut self, conn: u32, run: u32) {
        self.runs.insert(conn, run);
    }

    /// Whether others may act for an app in the place of this run.
    pub(super) fn is_over(&self, run: u32, app: usize) -> bool {
        let queue = self.queues.get(&(run, app));
        self.ended.contains_key(&run) || queue.is_some_and(|queue| self.claimed.contains_key(queue))
    }

    /// Learns who was taken over from.
    pub(crate) fn learn(&mut self, database: &Database) {
        database.claimed(&mut self.claimed);
    }

    /// Which run took over from a run.
    fn heir(&self, run: u32, app: usize) -> Option<u32> {
        let heir = self.claimed.get(self.queues.get(&(run, app))?)?;
        self.queues.iter().find(|(_, queue)| *queue == heir).map(|((run, _), _)| *run)
    }

    fn was_over(&self, run: u32, at: Time) -> bool {
        self.ended.get(&run).is_some_and(|ended| *ended < at)
    }

    /// Whether what `run` accepted goes before what `other` did at this time: it was gone, and so was
    /// whoever took over from it, unless that was `other` itself.
    fn goes_before(&self, run: u32, (other, at): (u32, Time), app: usize) -> bool {
        let mut holder = run;
        while holder != other {
            if !self.was_over(holder, at) {
                return false;
            }
            match self.heir(holder, app) {
                Some(heir) if heir != holder => holder = heir,
                _ => break,
            }
        }
        true
    }

    /// A run hands over what waits for an app, its own and what it took over itself: from now on that keeps
    /// its order only among itself. What the server has read already may come again with it.
    pub(crate) fn hands_over(&mut self, run: u32, app: usize) {
        self.hand_overs += 1;
        let may_be_held = |it: &Message| it.run == run || self.is_over(it.run, app);
        let goes = |it: &Message| it.app == app && it.handed_over == 0 && may_be_held(it);
        let goes: Vec<_> = self.messages.iter().map(goes).collect();
        for (message, _) in self.messages.iter_mut().zip(goes).filter(|(_, goes)| *goes) {
            message.handed_over = self.hand_overs;
        }
    }

    /// Whether a message that is read for the first time comes too late: after a later one of the same
    /// run, or of one that began to send when this message's was gone. Two that live keep no order.
    pub(super) fn overtakes(&mut self, app: usize, contact: usize, number: usize) -> bool {
        let (run, batch) = self.messages[number].source();
        let before = |last: usize| {
            let Message { run: other, at, handed_over, .. } = self.messages[last];
            handed_over == batch && self.goes_before(run, (other, at), app)
        };
        let mut last_read = self.pairs[app][contact].last_read.iter();
        let overtaken = last_read.any(|last| *last > number && before(*last));
        let (messages, Pair { last_read, .. }) = (&self.messages, &mut self.pairs[app][contact]);
        match last_read.iter_mut().find(|last| messages[**last].source() == (run, batch)) {
            Some(last) => *last = (*last).max(number),
            None => last_read.push(number),
        }
        // What a killed process was not told of as stored may come late.
        let certain = !self.shared || self.messages[number].promised;
        overtaken && certain && !(self.vanished && self.ended.contains_key(&run))
    }
}

/// A run gives the app something of a queue: it must be its own.
pub(crate) fn acts(ctx: &mut Ctx, run: u32, app: usize, what: &str) {
    let queue = ctx.oracle.queues.get(&(run, app));
    if queue.is_some_and(|queue| ctx.oracle.claimed.contains_key(queue)) {
        ctx.violated(|| format!("run {run} goes on to {what} for app {app}, taken over from"));
    }
}

/// A delivery that was `before` with another run, and goes to the app `beside` one with another.
pub(super) fn delivered(
    ctx: &mut Ctx,
    app: usize,
    at: (usize, usize),
    (before, beside): (u32, Option<u32>),
    (turn, replayed): (u64, bool),
) {
    let run = ctx.oracle.pairs[app][at.0].inbound[at.1].delivered;
    let lives = |other: &u32| *other != run && !ctx.oracle.is_over(*other, app);
    let (twice, beside) = (before != 0 && lives(&before), beside.filter(lives));
    if twice {
        ctx.violated(|| format!("stanza {at:?} was delivered by run {before} too, which lives"));
    }
    if let Some(other) = beside.filter(|_| !replayed) {
        ctx.violated(|| format!("stanza {at:?} was delivered beside one of run {other}"));
    }
    // What nobody took over in half a minute is not waited for any more.
    let received = ctx.oracle.pairs[app][at.0].inbound[at.1].received;
    let late = ctx.oracle.ended.get(&received).is_some_and(|ended| ended + 30 * SEC < ctx.now);
    let vanished = ctx.oracle.vanished || late;
    let pair = &mut ctx.oracle.pairs[app][at.0];
    if before == 0 && !replayed {
        let overtaken = turn < pair.last_turn && !vanished;
        pair.last_turn = pair.last_turn.max(turn);
        if overtaken {
            ctx.violated(|| format!("stanza {at:?} was delivered out of order"));
        }
    }
}

/// A message came again on a connection, and the one on which it came before stands. One of the two
/// processes has to be gone: what it wrote last may arrive late.
pub(super) fn sent_beside(ctx: &mut Ctx, app: usize, call: u32, (conn, other): (u32, u32)) {
    let run_of = |conn: u32| ctx.oracle.runs.get(&conn).copied();
    let (Some(late), Some(run)) = (run_of(conn), run_of(other)) else { return };
    if !ctx.oracle.is_over(run, app) && !ctx.oracle.is_over(late, app) {
        ctx.violated(|| format!("m{call} was sent by two processes, and run {run} lives"));
    }
}
