//! The database that several processes share: its tables, and what the statements of
//! `core/src/store/postgres/` do to them. A transaction happens in one moment.

mod client;
mod heart;
mod shared;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use appxmpp::service::roster::Subscription;
use appxmpp::store::{
    Behind, Change, ContactKey, ContactState, Count, DeadLetter, Fellow, Heard, InboxRow,
    OutboxRow, Place, QueueName, Row, Turn,
};

use crate::ctx::{MS, NEVER, SEC, Time};
use crate::rng::Rng;

pub(crate) use client::{Client, UNKNOWN};

/// A member that is silent for so long, and whose connection is gone, is gone.
const GONE: Time = 4 * SEC;
/// A beat that is so young says that its member is there now.
const FRESH: Time = 2 * SEC;

#[derive(Default)]
struct Queue {
    outbox: BTreeMap<u64, OutboxRow>,
    done: u64,
    /// With their turns.
    inbox: BTreeMap<u64, (InboxRow, u64)>,
}

struct MemberRow {
    app: String,
    /// When it last said that it is there; `None` if it left in order.
    beat: Option<Time>,
    up: bool,
    heir: Option<u64>,
    /// Until when its connection holds its place.
    held_until: Time,
}

/// What all listeners are told.
#[derive(Debug, Clone)]
enum Notice {
    Heard(u64, ContactKey, Heard, u64),
    Contact(ContactKey),
}

struct Tables {
    now: Time,
    rng: Rng,
    latency: Time,
    up_since: Time,
    down_until: Time,
    contacts: BTreeMap<ContactKey, ContactState>,
    queues: BTreeMap<QueueName, Queue>,
    dead: BTreeMap<String, BTreeMap<u64, DeadLetter>>,
    counts: BTreeMap<String, BTreeMap<Box<str>, Count>>,
    members: BTreeMap<u64, MemberRow>,
    last_member: u64,
    last_turn: u64,
    /// What is on its way to each member that listens.
    notices: BTreeMap<u64, VecDeque<(Time, Notice)>>,
    /// Queues that somebody took over, and whose they are now, for the checks.
    claimed: BTreeMap<QueueName, QueueName>,
    faulty: bool,
    faults: u64,
}

/// What a process of several keeps for the app as a whole: its queue without the process.
fn home(queue: &str) -> &str {
    queue.split_once('/').map_or(queue, |(home, _)| home)
}

/// What all processes share.
pub(crate) struct Database(Mutex<Tables>);

impl Database {
    pub(crate) fn new(seed: u64, now: Time, latency: Time) -> Self {
        Self(Mutex::new(Tables {
            now,
            rng: Rng::new(seed),
            latency,
            up_since: 0,
            down_until: 0,
            contacts: BTreeMap::new(),
            queues: BTreeMap::new(),
            dead: BTreeMap::new(),
            counts: BTreeMap::new(),
            members: BTreeMap::new(),
            last_member: 0,
            last_turn: 0,
            notices: BTreeMap::new(),
            claimed: BTreeMap::new(),
            faulty: false,
            faults: 0,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tick(&self, now: Time) {
        self.lock().now = now;
    }

    pub(crate) fn set_faulty(&self, faulty: bool) {
        self.lock().faulty = faulty;
    }

    /// It goes down, and every connection to it with it.
    pub(crate) fn restart(&self, until: Time) {
        let mut tables = self.lock();
        tables.down_until = until;
        tables.up_since = until;
        tables.notices.clear();
        tables.members.values_mut().for_each(|member| member.held_until = 0);
    }

    pub(crate) fn is_up(&self) -> bool {
        let tables = self.lock();
        tables.down_until <= tables.now
    }

    /// The queues that somebody took over.
    pub(crate) fn claimed(&self, all: &mut BTreeMap<QueueName, QueueName>) {
        let tables = self.lock();
        if tables.claimed != *all {
            all.clone_from(&tables.claimed);
        }
    }

    /// How many deliveries and rows of messages wait.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let tables = self.lock();
        let queues = tables.queues.values().map(|it| (it.inbox.len(), it.outbox.len()));
        queues.fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1))
    }

    /// What waits for whom, to be told.
    pub(crate) fn describe(&self) -> String {
        let tables = self.lock();
        let queues = tables.queues.iter().filter(|(_, it)| it.inbox.len() + it.outbox.len() > 0);
        let queue = |(name, it): (&QueueName, &Queue)| {
            format!("{name} has {} to deliver and {} to send", it.inbox.len(), it.outbox.len())
        };
        queues.map(queue).collect::<Vec<_>>().join(", ")
    }
}

impl Tables {
    /// Whether a queue in which something is put is that of a member which nobody took over from.
    fn is_mine(&self, change: &Change) -> bool {
        let (Change::OutboxPut(queue, _)
        | Change::InboxPut(queue, _)
        | Change::Replay(queue, _)
        | Change::Inherit(queue, _)
        | Change::Bequeath(queue, ..)) = change
        else {
            return true;
        };
        let mut members = self.members.iter();
        members.any(|(id, it)| it.heir.is_none() && **queue == *format!("{}/{id}", it.app))
    }

    fn delay(&mut self) -> Time {
        1 + self.rng.below(self.latency)
    }

    fn queue(&mut self, name: &QueueName) -> &mut Queue {
        self.queues.entry(name.clone()).or_default()
    }

    fn dead(&mut self, queue: &str) -> &mut BTreeMap<u64, DeadLetter> {
        self.dead.entry(home(queue).to_owned()).or_default()
    }

    fn notify(&mut self, notice: &Notice) {
        let (now, delay) = (self.now, self.delay());
        for queue in self.notices.values_mut() {
            let at = queue.back().map_or(0, |(at, _)| *at).max(now + delay);
            queue.push_back((at, notice.clone()));
        }
    }

    /// One change; the place of a delivery that it puts.
    fn apply(&mut self, change: Change) -> Option<Place> {
        match change {
            Change::Subscription(key, subscription) => self.set(&key, subscription),
            Change::Presence(key, available) => {
                self.contacts.entry(key).and_modify(|it| it.available = available);
            }
            Change::Told(key, told) => {
                self.contacts.entry(key.clone()).and_modify(|it| it.told = told);
                self.notify(&Notice::Contact(key));
            }
            Change::OutboxPut(queue, row) => {
                self.queue(&queue).outbox.insert(row.first, row);
            }
            Change::OutboxDone(queue, up_to) => {
                let queue = self.queue(&queue);
                queue.outbox.retain(|_, row| row.last() > up_to);
                queue.done = queue.done.max(up_to);
            }
            Change::InboxPut(queue, row) => return Some(self.put(&queue, row, None)),
            Change::InboxDone(queue, id) => {
                self.queue(&queue).inbox.remove(&id);
            }
            Change::Bury(queue, id, at, reason) => {
                if let Some((row, _)) = self.queue(&queue).inbox.remove(&id) {
                    let row = InboxRow { came: Duration::ZERO, ..row };
                    self.dead(&queue).insert(id, DeadLetter { row, at, reason });
                }
            }
            Change::Replay(queue, id) => {
                if let Some(letter) = self.dead(&queue).remove(&id) {
                    self.put(&queue, letter.row, None);
                }
            }
            Change::Purge(queue, id) => {
                self.dead(&queue).remove(&id);
            }
            Change::Inherit(queue, from) => self.inherit(&queue, &from),
            Change::Bequeath(queue, first, last) => self.bequeath(&queue, first, last),
            Change::Count(queue, count) => {
                let counts = self.counts.entry(home(&queue).to_owned()).or_default();
                counts.insert(count.name.clone(), count);
            }
        }
        None
    }

    fn set(&mut self, key: &ContactKey, subscription: Subscription) {
        if subscription == Subscription::None {
            self.contacts.remove(key);
        } else {
            self.contacts.entry(key.clone()).or_default().subscription = subscription;
        }
    }

    /// A delivery keeps its turn if it is put again.
    fn put(&mut self, queue: &QueueName, row: InboxRow, turn: Option<u64>) -> Place {
        let known = self.queues.get(queue).and_then(|it| it.inbox.get(&row.id)).map(|it| it.1);
        let turn = turn.or(known).unwrap_or_else(|| {
            self.last_turn += 1;
            self.last_turn
        });
        let lane = row.lane;
        let others = self.queues.iter().filter(|(name, _)| *name != queue);
        let behind = others.flat_map(|(_, it)| it.inbox.values()).any(|(row, _)| row.lane == lane);
        self.queue(queue).inbox.insert(row.id, (row, turn));
        Place { turn, behind }
    }

    fn inherit(&mut self, queue: &QueueName, from: &QueueName) {
        let left = self.queues.remove(from).unwrap_or_default();
        for (row, turn) in left.inbox.into_values() {
            self.put(queue, row, Some(turn));
        }
        self.members.retain(|number, it| **from != *format!("{}/{number}", it.app));
    }

    /// A member that nobody is gets messages, as one that left in order.
    fn bequeath(&mut self, queue: &QueueName, first: u64, last: u64) {
        let rows = &mut self.queue(queue).outbox;
        let keys = rows.range(..=last).filter(|(_, row)| row.last() >= first);
        let keys: Vec<u64> = keys.map(|(key, _)| *key).collect();
        let outbox: BTreeMap<_, _> =
            keys.into_iter().filter_map(|key| rows.remove_entry(&key)).collect();
        if outbox.is_empty() {
            return;
        }
        self.last_member += 1;
        let app = home(queue);
        let member = MemberRow { beat: None, held_until: 0, ..MemberRow::new(app, self.now) };
        let name: QueueName = format!("{app}/{}", self.last_member).into();
        self.members.insert(self.last_member, member);
        self.queues.insert(name, Queue { outbox, done: first - 1, ..Queue::default() });
    }

    fn rows(&self, name: &str, row: &mut dyn FnMut(Row)) {
        if let Some(queue) = self.queues.get(name) {
            queue.outbox.values().cloned().for_each(|it| row(Row::Outbox(it)));
            if queue.done > 0 {
                row(Row::OutboxDone(queue.done));
            }
            queue.inbox.values().for_each(|(it, _)| row(Row::Inbox(it.clone())));
            queue.inbox.iter().for_each(|(id, (_, turn))| row(Row::Turn(*id, *turn)));
        }
        let counts = self.counts.get(home(name)).into_iter().flat_map(|it| it.values());
        counts.cloned().for_each(|it| row(Row::Count(it)));
    }

    fn others<'a>(
        &'a self,
        app: &'a str,
        number: u64,
    ) -> impl Iterator<Item = (u64, &'a MemberRow)> {
        let others = self.members.iter().filter(move |(id, it)| it.app == app && **id != number);
        others.map(|(id, it)| (*id, it))
    }

    fn waiting(&self, number: u64, it: &MemberRow) -> (bool, bool) {
        let queue = self.queues.get(&*format!("{}/{number}", it.app));
        queue.map_or((false, false), |it| (!it.inbox.is_empty(), !it.outbox.is_empty()))
    }

    fn fellows(&self, app: &str, number: u64) -> Vec<Fellow> {
        let fellow = |(number, it): (u64, &MemberRow)| {
            let (inbox, outbox) = self.waiting(number, it);
            let (held, up) = (it.held_until > self.now, it.up);
            let (beat, fresh) = (it.beat.unwrap_or(0), it.is_fresh(self.now));
            Fellow { number, held, beat, fresh, up, inbox, outbox }
        };
        self.others(app, number).map(fellow).collect()
    }

    /// Whether messages wait for another member.
    fn elsewhere(&self, app: &str, number: u64) -> bool {
        self.others(app, number).any(|(number, it)| self.waiting(number, it).1)
    }

    /// One of the deliveries before each, on either side.
    fn behind(&self, queue: &str, turns: &[Turn]) -> Vec<Behind> {
        let mut behind = Vec::new();
        for turn in turns {
            let earlier = |name: &&QueueName| {
                let mut rows = self.queues[*name].inbox.values();
                rows.any(|(row, it)| row.lane == turn.lane && *it < turn.turn)
            };
            let one = |side: fn(&str, &str) -> bool| {
                self.queues.keys().filter(|name| side(name, queue)).find(earlier)
            };
            for name in [one(|it, own| it < own), one(|it, own| it > own)].into_iter().flatten() {
                let living = self.members.iter().any(|(number, it)| {
                    let is_it = **name == *format!("{}/{number}", it.app);
                    is_it && it.beat.is_some_and(|beat| beat + GONE > self.now)
                });
                behind.push(Behind { id: turn.id, living });
            }
        }
        behind
    }
}

impl MemberRow {
    fn new(app: &str, now: Time) -> Self {
        let app = app.to_owned();
        Self { app, beat: Some(now), up: false, heir: None, held_until: NEVER }
    }

    fn is_fresh(&self, now: Time) -> bool {
        self.beat.is_some_and(|beat| beat + FRESH > now)
    }

    /// Whether it is gone, as somebody sees it whose connection is of `since`.
    fn is_gone(&self, now: Time, since: Time, up_since: Time) -> bool {
        let long = up_since + GONE < now && since + GONE < now;
        let silent = self.beat.is_none_or(|beat| beat + GONE < now && long);
        self.held_until <= now && silent
    }
}

/// The first pause before another attempt to connect.
const PAUSE: Time = 50 * MS;
