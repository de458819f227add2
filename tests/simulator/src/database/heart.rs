//! A member's life, as `core/src/store/postgres/heart.rs` has it.

use appxmpp::store::{BEAT, Count, Listener, Member, News, QueueName, may_act, takes_over};

use super::{MemberRow, Notice, Tables};
use crate::ctx::{NEVER, SEC, Time, duration, time};

pub(super) struct Heart {
    pub(super) member: Member,
    app: String,
    listener: Box<dyn Listener>,
    /// When it was last there for sure.
    beaten: Time,
    pub(super) evicted: bool,
    held: bool,
    missed: bool,
    pub(super) up: bool,
    /// Since when it has a connection.
    since: Option<Time>,
    next: Time,
}

impl Heart {
    pub(super) fn join(tables: &mut Tables, app: &str, listener: Box<dyn Listener>) -> Self {
        tables.last_member += 1;
        let (number, now) = (tables.last_member, tables.now);
        tables.members.insert(number, MemberRow::new(app, now));
        tables.notices.insert(number, Default::default());
        Self {
            member: Member { queue: format!("{app}/{number}").into(), number },
            app: app.to_owned(),
            listener,
            beaten: now,
            evicted: false,
            held: true,
            missed: false,
            up: false,
            since: Some(now),
            next: now,
        }
    }

    pub(super) fn holds(&self, now: Time) -> bool {
        !self.evicted && may_act(duration(self.beaten), duration(now))
    }

    /// The connection is gone; what it held is let go of at `until`.
    pub(super) fn cut(&mut self, tables: &mut Tables, until: Time) {
        if self.since.take().is_some() {
            self.missed = true;
            tables.notices.remove(&self.member.number);
            if let Some(row) = tables.members.get_mut(&self.member.number) {
                row.held_until = row.held_until.min(until);
            }
        }
    }

    pub(super) fn next_timeout(&self, tables: &Tables) -> Time {
        if self.evicted {
            return NEVER;
        }
        let notice = tables.notices.get(&self.member.number).and_then(|it| it.front());
        notice.map_or(NEVER, |(at, _)| *at).min(self.next)
    }

    /// Beats, and hears what others say; says whether there was anything.
    pub(super) fn drive(&mut self, tables: &mut Tables, reachable: bool) -> bool {
        let mut moved = false;
        while !self.evicted
            && let Some(notice) = tables.due_notice(self.member.number)
        {
            self.hear(tables, notice);
            moved = true;
        }
        if self.evicted || self.next > tables.now {
            return moved;
        }
        self.next = tables.now + time(BEAT) + tables.delay();
        if reachable {
            self.beat(tables);
        }
        let holds = self.holds(tables.now);
        if !self.evicted && std::mem::replace(&mut self.held, holds) != holds {
            self.listener.take(News::Holds(holds));
        }
        true
    }

    fn beat(&mut self, tables: &mut Tables) {
        let (now, number) = (tables.now, self.member.number);
        let since = *self.since.get_or_insert_with(|| {
            self.missed = true;
            tables.notices.insert(number, Default::default());
            if let Some(row) = tables.members.get_mut(&number).filter(|it| it.held_until <= now) {
                row.held_until = NEVER;
            }
            now
        });
        let Some(row) = tables.members.get_mut(&number).filter(|it| it.heir.is_none()) else {
            self.evicted = true;
            return self.listener.take(News::Evicted);
        };
        (row.beat, row.up) = (Some(now), self.up);
        self.beaten = now;
        if std::mem::take(&mut self.missed) {
            let all = tables.contacts.iter().map(|(key, state)| (key.clone(), state.clone()));
            self.listener.take(News::Contacts(all.collect()));
        }
        self.look_around(tables, since);
        let counts = self.listener.counts();
        if !counts.is_empty() {
            self.listener.take(News::Counts(tables.add(&self.app, counts)));
        }
    }

    fn look_around(&mut self, tables: &mut Tables, since: Time) {
        let (now, number, up_since) = (tables.now, self.member.number, tables.up_since);
        let others = tables.others(&self.app, number);
        let others: Vec<_> = others
            .map(|(id, it)| (id, it.up, it.is_fresh(now), it.is_gone(now, since, up_since)))
            .collect();
        let up = others.iter().filter(|(_, up, _, gone)| *up && !gone).count();
        self.listener.take(News::Others(up));
        let at_work = others.iter().filter(|(_, up, fresh, gone)| *up && *fresh && !gone).count();
        if !takes_over(self.up, at_work) {
            return;
        }
        for (id, ..) in others.into_iter().filter(|(.., gone)| *gone) {
            if tables.claim(id, number) {
                let queue: QueueName = format!("{}/{id}", self.app).into();
                tables.claimed.insert(queue.clone(), self.member.queue.clone());
                self.listener.take(News::Left(queue));
            }
        }
    }

    fn hear(&self, tables: &Tables, notice: Notice) {
        let news = match notice {
            Notice::Heard(member, key, _, number) if member == self.member.number => {
                News::Told(key, number)
            }
            Notice::Heard(_, key, heard, _) => News::Heard(key, heard),
            Notice::Contact(key) => {
                let state = tables.contacts.get(&key).cloned().unwrap_or_default();
                News::Contact(key, state)
            }
        };
        self.listener.take(news);
    }

    /// It leaves in order: of one with nothing left nothing is kept.
    pub(super) fn leave(&self, tables: &mut Tables) {
        let number = self.member.number;
        tables.notices.remove(&number);
        let Some(row) = tables.members.get_mut(&number) else { return };
        (row.beat, row.up, row.held_until) = (None, false, 0);
        let row = &tables.members[&number];
        if tables.waiting(number, row) == (false, false) {
            tables.members.remove(&number);
        }
    }
}

/// So long a machine that is gone may seem to be there.
pub(super) const UNNOTICED: Time = 20 * SEC;

impl Tables {
    fn due_notice(&mut self, number: u64) -> Option<Notice> {
        let now = self.now;
        let queue = self.notices.get_mut(&number)?;
        let is_due = queue.front().is_some_and(|(at, _)| *at <= now);
        is_due.then(|| queue.pop_front()).flatten().map(|(_, notice)| notice)
    }

    /// Makes a member that is gone `number`'s to take over, if it is nobody else's who is there.
    fn claim(&mut self, id: u64, number: u64) -> bool {
        let is_heir = |heir: u64| self.members.get(&heir).is_some_and(|it| it.heir.is_none());
        let heir = self.members.get(&id).and_then(|it| it.heir);
        let free = heir.is_none_or(|heir| heir == number || !is_heir(heir));
        match self.members.get_mut(&id) {
            Some(row) if free => row.heir = Some(number),
            _ => return false,
        }
        true
    }

    /// Adds what was counted, and gives the sums.
    fn add(&mut self, app: &str, more: Vec<Count>) -> Vec<Count> {
        let counts = self.counts.entry(app.to_owned()).or_default();
        let add = |more: Count| {
            let sum = counts
                .entry(more.name.clone())
                .or_insert_with(|| Count { value: 0, ..more.clone() });
            if sum.day == more.day {
                sum.value += more.value;
            } else if sum.day < more.day {
                *sum = more;
            }
            sum.clone()
        };
        more.into_iter().map(add).collect()
    }
}
