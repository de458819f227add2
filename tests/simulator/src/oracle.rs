//! What has to be true, kept apart from the product: every message, delivery, iq and quota on its own.

mod several;

use std::collections::BTreeMap;

use appxmpp::store::QueueName;

use crate::app::Usage;
use crate::ctx::{Ctx, Time};

/// One message of the app to one contact, in the order in which the app gave them.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) call: u32,
    pub(crate) app: usize,
    pub(crate) contact: usize,
    id: String,
    hash: u64,
    /// The app was told that it is sent.
    pub(crate) promised: bool,
    /// The app was told that it is not.
    pub(crate) denied: bool,
    pub(crate) durable: bool,
    pub(crate) poison: bool,
    /// The wall clock when it was accepted.
    utc: Time,
    /// On which connection it was written, of an app without an outbox.
    pub(crate) written_on: Option<u32>,
    /// On which connections the server has read it.
    read_on: Vec<u32>,
    /// The run of the process that accepted it, and when.
    run: u32,
    at: Time,
    /// With which of the hand-overs it went first.
    handed_over: u32,
}

impl Message {
    /// What keeps its order: what one run accepted, and of that each hand-over for itself.
    fn source(&self) -> (u32, u32) {
        (self.run, self.handed_over)
    }
}

/// One stanza of a contact for an app, in the order in which the contact sent them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inbound {
    pub(crate) kind: Kind,
    /// The run of the process that got it, counted from 1.
    pub(crate) received: u32,
    /// On which connection.
    pub(crate) conn: u32,
    /// It is on the disk.
    pub(crate) stored: bool,
    delivery: Option<u64>,
    /// The run that last gave it to the app, and whether the app was done with it.
    delivered: u32,
    pub(crate) handled: bool,
    /// The run in which its sender was told that it cannot be delivered.
    pub(crate) refused: u32,
    pub(crate) dead: bool,
    /// Nobody need do anything about it any more: its run was ended politely without it, or the
    /// answer could not be written in time.
    pub(crate) excused: bool,
    /// It was a dead letter and is delivered again, after what came later.
    replayed: bool,
    /// The message that answers it.
    pub(crate) answer: Option<usize>,
    answers: u32,
}

impl Inbound {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, ..Self::default() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Kind {
    #[default]
    Message,
    /// Delivered like a message; nobody is told when there is no room for it.
    Presence,
    Iq,
}

/// Between one app and one contact.
#[derive(Debug, Default)]
pub(crate) struct Pair {
    pub(crate) inbound: Vec<Inbound>,
    /// The last one given to the app in the running process.
    last_delivered: Option<usize>,
    /// Of processes that share a database: the last turn that was given to the app for the first time.
    last_turn: u64,
    /// One is with the app now, in this run.
    with_app: Option<u32>,
    /// The messages that were read last for the first time, one for each run that accepted some.
    last_read: Vec<usize>,
    /// The message read last on each connection.
    last_on: Vec<(u32, usize)>,
    /// The app once told the contact that it is not there.
    told_otherwise: bool,
    /// The app was told of presence or an invitation that it cannot be sent; it need not say it again.
    pub(crate) said_in_vain: bool,
    /// A full outbox had no room for what was said to the contact, and there was no stream.
    pub(crate) unheard: bool,
    /// The database did not take a change of the subscriptions: what a process knows another does not.
    pub(crate) disputed: bool,
    /// The contact's request for a subscription, if it said nothing about subscriptions since.
    pub(crate) request: Option<usize>,
}

#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) messages: Vec<Message>,
    /// Where the messages of each call begin.
    calls: Vec<usize>,
    pub(crate) pairs: Vec<Vec<Pair>>,
    pub(crate) usage: Vec<Usage>,
    /// What outboxes gave up because its time was over, and because the server did not bear it.
    pub(crate) expired: u64,
    pub(crate) poisonous: u64,
    /// What processes may have given up in their last moment, at most.
    pub(crate) perhaps_given_up: u64,
    pub(crate) dups: u64,
    /// When each run of a process ended; what they do at the same moment has no order.
    ended: BTreeMap<u32, Time>,
    /// Whose rows in the database are those of a run's app.
    queues: BTreeMap<(u32, usize), QueueName>,
    /// Queues that somebody took over, and whose they are now.
    claimed: BTreeMap<QueueName, QueueName>,
    /// Which run is at the other end of a connection.
    runs: BTreeMap<u32, u32>,
    hand_overs: u32,
    /// Processes share a database.
    shared: bool,
    /// A machine vanished with its process: of order nothing is promised then.
    pub(crate) vanished: bool,
}

pub(crate) use several::acts;

/// FNV-1a, to compare what was given with what arrived.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

pub(crate) fn attribute<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let tag = &xml[..xml.find('>')?];
    tag.match_indices(name).find_map(|(at, _)| {
        let value = tag[at + name.len()..].strip_prefix('=')?;
        let quote = value.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
        tag[..at].ends_with(' ').then(|| value[1..].split(quote).next()).flatten()
    })
}

impl Oracle {
    pub(crate) fn begin(&mut self, apps: usize, contacts: usize, shared: bool) {
        self.shared = shared;
        self.usage = vec![Usage::default(); apps];
        self.pairs = (0..apps).map(|_| (0..contacts).map(|_| Pair::default()).collect()).collect();
    }

    pub(crate) fn next_call(&mut self) -> u32 {
        self.calls.push(self.messages.len());
        self.calls.len() as u32 - 1
    }

    /// Whether a running process took the contact's request, and nothing since kept it from storing, and
    /// sending for as long as it takes, what it answered.
    pub(crate) fn request_was_taken(&self, app: usize, contact: usize) -> bool {
        let pair = &self.pairs[app][contact];
        let run = pair.request.map_or(0, |request| pair.inbound[request].received);
        let taken = run != 0 && !self.ended.contains_key(&run);
        taken && self.expired + self.perhaps_given_up == 0
    }

    /// The app told a contact of its presence.
    pub(crate) fn presence(ctx: &mut Ctx, app: usize, contact: usize, unavailable: bool) {
        ctx.oracle.pairs[app][contact].told_otherwise |= unavailable;
    }

    pub(crate) fn told_otherwise(&self, app: usize, contact: usize) -> bool {
        let Pair { told_otherwise, unheard, .. } = self.pairs[app][contact];
        told_otherwise || unheard
    }

    /// The product made this stanza for a call; returns the message's number.
    pub(crate) fn made(
        &mut self,
        (app, contact): (usize, usize),
        call: u32,
        xml: &[u8],
        utc: Time,
        (durable, poison): (bool, bool),
        (run, at): (u32, Time),
    ) -> usize {
        let text = String::from_utf8_lossy(xml);
        self.messages.push(Message {
            call,
            app,
            contact,
            id: attribute(&text, "id").unwrap_or_default().to_owned(),
            hash: hash(xml),
            promised: false,
            denied: false,
            durable,
            poison,
            utc,
            written_on: None,
            read_on: Vec::new(),
            run,
            at,
            handed_over: 0,
        });
        self.messages.len() - 1
    }
}

/// The server has read a message of the app, and has other connections of it that `stand`.
pub(crate) fn read(
    ctx: &mut Ctx,
    (conn, standing): (u32, &[u32]),
    app: usize,
    contact: usize,
    call: u32,
    xml: &[u8],
) {
    let oracle = &mut ctx.oracle;
    let start = oracle.calls.get(call as usize).copied().unwrap_or(usize::MAX);
    let of_call = oracle.messages.iter().enumerate().skip(start);
    let found = of_call
        .take_while(|(_, message)| message.call == call)
        .find(|(_, message)| (message.app, message.contact) == (app, contact));
    let Some((number, _)) = found else {
        return ctx.violated(|| format!("m{call} reached contact {contact}, who is no recipient"));
    };
    let message = &mut oracle.messages[number];
    let text = String::from_utf8_lossy(xml);
    let (same_id, same) = (attribute(&text, "id") == Some(&message.id), hash(xml) == message.hash);
    let again = !message.read_on.is_empty();
    let twice_here = message.read_on.contains(&conn);
    let other = message.read_on.iter().find(|on| standing.contains(on)).copied();
    let (durable, denied) = (message.durable, message.denied);
    message.read_on.push(conn);
    let source = message.source();
    let pair = &mut oracle.pairs[app][contact];
    let on = pair.last_on.iter_mut().find(|(on, _)| *on == conn);
    let overtaken_here = match on {
        // What another process accepted, or was handed over, may come behind all.
        Some((_, last)) if oracle.messages[*last].source() != source => {
            *last = number;
            false
        }
        Some((_, last)) => number <= std::mem::replace(last, number),
        None => {
            pair.last_on.push((conn, number));
            false
        }
    };
    let overtaken = !again && oracle.overtakes(app, contact, number);
    oracle.dups += u64::from(again);
    if !same_id {
        ctx.violated(|| format!("m{call} to contact {contact} came again with another id"));
    }
    if !same {
        ctx.violated(|| format!("m{call} to contact {contact} is not what the app gave"));
    }
    if again && (!durable || twice_here) {
        ctx.violated(|| format!("m{call} to contact {contact} was sent twice without a cut"));
    }
    if let Some(other) = other {
        several::sent_beside(ctx, app, call, (conn, other));
    }
    if overtaken || overtaken_here {
        ctx.violated(|| format!("m{call} to contact {contact} is out of order"));
    }
    if denied && durable {
        ctx.violated(|| format!("m{call} to contact {contact} was sent though it was refused"));
    }
}

/// The process got a stanza from its stream.
pub(crate) fn received(ctx: &mut Ctx, app: usize, at: (usize, usize), run: u32, conn: u32) {
    let Some(inbound) = ctx.oracle.pairs[app][at.0].inbound.get_mut(at.1) else {
        return ctx.violated(|| format!("a stanza {at:?} arrived that nobody sent"));
    };
    if inbound.received != 0 {
        return ctx.violated(|| format!("stanza {at:?} arrived twice"));
    }
    (inbound.received, inbound.conn) = (run, conn);
}

/// The app gets a delivery; `again` says that it is another attempt.
pub(crate) fn delivered(
    ctx: &mut Ctx,
    (app, domain): (usize, usize),
    at: (usize, usize),
    (id, turn): (u64, u64),
    run: u32,
    again: bool,
) {
    if app != domain {
        return ctx
            .violated(|| format!("stanza {at:?} for app {domain} was delivered to app {app}"));
    }
    let pair = &mut ctx.oracle.pairs[app][at.0];
    let Some(inbound) = pair.inbound.get_mut(at.1) else {
        return ctx.violated(|| format!("a stanza {at:?} was delivered that nobody sent"));
    };
    let known = inbound.delivery.replace(id);
    let before = std::mem::replace(&mut inbound.delivered, run);
    // The run that got it may have died before it was told that the disk has it.
    inbound.stored |= before == 0 && inbound.received != run;
    let (stored, gone) = (inbound.stored, inbound.refused == run);
    // It is not done, so the answer was not stored either, and another will be made.
    let answer = inbound.answer.take().map(|answer| &mut ctx.oracle.messages[answer]);
    let answered = answer.is_some_and(|answer| {
        answer.denied = true;
        answer.promised
    });
    let replayed = inbound.replayed;
    let overtaken = !again && !replayed && pair.last_delivered.is_some_and(|last| last >= at.1);
    let beside = pair.with_app;
    // What could not be stored waits for nobody.
    if turn > 0 || !ctx.oracle.shared {
        ctx.oracle.pairs[app][at.0].with_app = Some(run);
    }
    if turn > 0 {
        several::delivered(ctx, app, at, (before, beside), (turn, replayed));
    } else if overtaken && !ctx.oracle.shared {
        ctx.violated(|| format!("stanza {at:?} was delivered out of order"));
    }
    let pair = &mut ctx.oracle.pairs[app][at.0];
    if !again && !replayed {
        pair.last_delivered = Some(at.1);
    }
    if answered {
        ctx.violated(|| format!("stanza {at:?} was delivered again though its answer is stored"));
    }
    if known.is_some_and(|known| known != id) {
        ctx.violated(|| format!("stanza {at:?} was delivered again with another id"));
    }
    if before == run && !again && !replayed {
        ctx.violated(|| format!("stanza {at:?} was delivered twice without a crash"));
    }
    if before != 0 && before != run && !stored {
        ctx.violated(|| format!("stanza {at:?} came back though it was never stored"));
    }
    if beside == Some(run) {
        ctx.violated(|| format!("stanza {at:?} was delivered beside another of its sender"));
    }
    if gone {
        ctx.violated(|| format!("stanza {at:?} was delivered though its sender was refused"));
    }
}

/// An attempt has ended; `done` says that it is the last.
pub(crate) fn finished(ctx: &mut Ctx, app: usize, at: (usize, usize), run: u32, done: bool) {
    let pair = &mut ctx.oracle.pairs[app][at.0];
    pair.with_app.take_if(|with| *with == run);
    pair.inbound[at.1].handled |= done;
}

/// A dead letter is to be delivered again. It may be, by whoever takes over, if this process dies of it.
pub(crate) fn replaying(ctx: &mut Ctx, app: usize, id: u64) {
    let inbound = ctx.oracle.pairs[app].iter_mut().flat_map(|pair| &mut pair.inbound);
    inbound
        .filter(|it| it.delivery == Some(id))
        .for_each(|it| (it.refused, it.replayed) = (0, true));
}

/// A dead letter is delivered again.
pub(crate) fn replayed(ctx: &mut Ctx, app: usize, at: (usize, usize)) {
    let inbound = &mut ctx.oracle.pairs[app][at.0].inbound[at.1];
    // A run that died may have buried it unseen, or had it handled and could not forget it in time.
    (inbound.dead, inbound.handled) = (false, false);
    (inbound.refused, inbound.replayed) = (0, true);
}

/// An iq of a contact was answered.
pub(crate) fn answered(ctx: &mut Ctx, app: usize, at: (usize, usize)) {
    let Some(inbound) = ctx.oracle.pairs[app][at.0].inbound.get_mut(at.1) else {
        return ctx.violated(|| format!("an answer came to {at:?}, which nobody asked"));
    };
    inbound.answers += 1;
    if inbound.kind != Kind::Iq || inbound.answers > 1 {
        ctx.violated(|| format!("iq {at:?} was answered more than once"));
    }
}

/// The process is gone.
pub(crate) fn run_ended(ctx: &mut Ctx, run: u32) {
    ctx.oracle.ended.insert(run, ctx.now);
    for pair in ctx.oracle.pairs.iter_mut().flatten() {
        pair.last_delivered = None;
        pair.with_app.take_if(|with| *with == run);
    }
}

/// Everything came to rest: nothing that was promised may be missing. `standing` are the connections
/// that never broke, for each app; what no run that is over got is still to be dealt with.
pub(crate) fn settle(ctx: &mut Ctx, standing: &[Vec<u32>]) {
    let (expiry, max_utc) = (ctx.profile.expiry, ctx.max_utc);
    let Oracle { expired, poisonous, perhaps_given_up, .. } = ctx.oracle;
    let mut given_up = expired + poisonous + perhaps_given_up;
    let mut missing = Vec::new();
    for (number, message) in ctx.oracle.messages.iter().enumerate() {
        if !message.promised || !message.read_on.is_empty() {
            continue;
        }
        let excusable = message.durable
            && (message.poison || message.utc.saturating_add(expiry) <= max_utc)
            && given_up > 0;
        let in_vain = !message.durable
            && message.written_on.is_none_or(|on| !standing[message.app].contains(&on));
        given_up -= u64::from(excusable);
        if !excusable && !in_vain {
            missing.push((number, message.call, message.contact));
        }
    }
    for (_, call, contact) in missing {
        ctx.violated(|| format!("m{call} to contact {contact} was promised and is lost"));
    }
    for (app, standing) in standing.iter().enumerate() {
        for contact in 0..ctx.oracle.pairs[app].len() {
            for number in 0..ctx.oracle.pairs[app][contact].inbound.len() {
                settle_inbound(ctx, app, (contact, number), standing);
            }
        }
    }
}

fn settle_inbound(ctx: &mut Ctx, app: usize, at: (usize, usize), standing: &[u32]) {
    let inbound = ctx.oracle.pairs[app][at.0].inbound[at.1].clone();
    let lives = !ctx.oracle.ended.contains_key(&inbound.received);
    if inbound.received == 0 || inbound.excused {
        return;
    }
    if inbound.kind == Kind::Iq {
        let certain = lives && standing.contains(&inbound.conn);
        if certain && inbound.answers != 1 {
            ctx.violated(|| format!("iq {at:?} to app {app} was never answered"));
        }
        return;
    }
    let kept = inbound.stored || lives;
    let over = inbound.handled || inbound.refused > 0 || inbound.dead;
    if kept && !over {
        ctx.violated(|| format!("stanza {at:?} for app {app} was taken and is lost"));
    }
}
