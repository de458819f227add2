//! A member's life: it says every second that it is there, hears what the others say, and notices who
//! of them is gone.
//!
//! A member is gone when its connection has let go of its lock and it has said nothing for four
//! seconds. A process that stands still keeps its lock, and one that loses its connection has that
//! time to come back, as has everybody after the database itself was away. One that does not manage
//! stops acting after three ([`may_act`]), before others act in its place.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_postgres::{Notification, Row};

use super::link::{Failure, Link, Op, explain};
use super::news::Notice;
use super::sql::{self, op};
use crate::error::Result;
use crate::store::{BEAT, Count, Fellow, Listener, Member, News, may_act, takes_over};

/// What a member's owner and its heart both know.
#[derive(Debug)]
pub(super) struct Pulse {
    pub(super) member: Member,
    /// Whether it has a stream, as its owner says.
    pub(super) up: AtomicBool,
    /// When it last was there for sure, in milliseconds since `origin`.
    beaten: AtomicU64,
    origin: Instant,
    /// It was taken for gone.
    evicted: AtomicBool,
}

impl Pulse {
    fn new(app: &str, number: u64) -> Self {
        let member = Member { queue: format!("{app}/{number}").into(), number };
        Self {
            member,
            up: AtomicBool::new(false),
            beaten: AtomicU64::new(0),
            origin: Instant::now(),
            evicted: AtomicBool::new(false),
        }
    }

    pub(super) fn holds(&self) -> bool {
        let beaten = Duration::from_millis(self.beaten.load(Ordering::Acquire));
        !self.evicted.load(Ordering::Acquire) && may_act(beaten, self.origin.elapsed())
    }

    fn beat_at(&self, time: Instant) {
        let since = time.saturating_duration_since(self.origin).as_millis();
        self.beaten.store(u64::try_from(since).unwrap_or(u64::MAX), Ordering::Release);
    }
}

/// The members of a store.
pub(super) type Pulses = Arc<Mutex<Vec<Arc<Pulse>>>>;

pub(super) struct Heart {
    link: Link,
    notices: UnboundedReceiver<Notification>,
    listener: Box<dyn Listener>,
    app: String,
    pulse: Arc<Pulse>,
    held: bool,
    /// News may have been missed.
    missed: bool,
}

impl Heart {
    /// A member of those who serve `app`, that hears news from now on.
    pub(super) async fn join(
        mut link: Link,
        app: String,
        listener: Box<dyn Listener>,
    ) -> Result<Self> {
        let notices = link.hand_on_notices();
        let address = Arc::clone(&link.address);
        let entered = enter(&mut link, &app).await;
        let pulse = entered.map_err(|failure| explain(&address, &Arc::new(failure)))?;
        let pulse = Arc::new(pulse);
        Ok(Self { link, notices, listener, app, pulse, held: true, missed: false })
    }

    pub(super) fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// Beats until it is evicted, or for ever.
    pub(super) async fn run(mut self) {
        let mut beats = interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = beats.tick() => {
                    let beaten = self.beat().await;
                    self.tell_held();
                    match beaten {
                        Ok(true) => {}
                        Ok(false) => return self.end(),
                        Err(failure) => tracing::debug!(%failure, "no beat"),
                    }
                }
                Some(notice) = self.notices.recv() => self.hear(&notice).await,
            }
        }
    }

    fn tell_held(&mut self) {
        let holds = self.pulse.holds();
        if holds != self.held {
            self.held = holds;
            if !holds {
                tracing::error!(
                    "the state store {} is out of reach: nothing is delivered or sent until it is back",
                    self.link.address
                );
            }
            self.listener.take(News::Holds(holds));
        }
    }

    fn end(&self) {
        self.pulse.evicted.store(true, Ordering::Release);
        tracing::error!(
            queue = &*self.pulse.member.queue,
            "another process took over what waited here, because this one was out of the state store's reach"
        );
        self.listener.take(News::Evicted);
    }

    /// Says that it is there; `false` if it is taken for gone.
    async fn beat(&mut self) -> Result<bool, Failure> {
        if self.link.connect().await? {
            self.missed = true;
            listen(&mut self.link).await?;
            lock(&mut self.link, self.pulse.member.number).await?;
        }
        let now = Instant::now();
        let number = self.pulse.member.number.cast_signed();
        let up = self.pulse.up.load(Ordering::Relaxed);
        let beat = op!(
            "UPDATE member SET beat = clock_timestamp(), up = $2 WHERE id = $1 AND heir IS NULL RETURNING id",
            number,
            up
        );
        if self.link.query(&beat).await?.is_empty() {
            return Ok(false);
        }
        self.pulse.beat_at(now);
        if self.missed {
            self.read_again().await?;
            self.missed = false;
        }
        self.look_around().await?;
        self.count().await?;
        Ok(true)
    }

    /// Who else is there, and who is not any more.
    async fn look_around(&mut self) -> Result<(), Failure> {
        let number = self.pulse.member.number.cast_signed();
        let others = self.link.query(&op!(OTHERS, self.app.clone(), number)).await?;
        let up = others.iter().filter(|row| row.get(1) && !row.get::<_, bool>(2)).count();
        self.listener.take(News::Others(up));
        let at_work = others.iter().filter(|row| row.get(3) && !row.get::<_, bool>(2)).count();
        if !takes_over(self.pulse.up.load(Ordering::Relaxed), at_work) {
            return Ok(());
        }
        let gone = others.iter().filter(|row| row.get(2));
        for id in gone.map(|row| row.get::<_, i64>(0)).collect::<Vec<_>>() {
            let claimed = self.link.query(&op!(CLAIM, id, number)).await?;
            if !claimed.is_empty() {
                self.listener.take(News::Left(format!("{}/{id}", self.app).into()));
            }
        }
        Ok(())
    }

    async fn count(&mut self) -> Result<(), Failure> {
        let counts = self.listener.counts();
        if counts.is_empty() {
            return Ok(());
        }
        let (mut names, mut days, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for Count { name, day, value } in counts {
            names.push(name.into_string());
            days.push(day.cast_signed());
            values.push(value.cast_signed());
        }
        let totals = self.link.query(&op!(ADD, self.app.clone(), names, days, values)).await?;
        self.listener.take(News::Counts(totals.iter().map(sql::count_of).collect()));
        Ok(())
    }

    async fn read_again(&mut self) -> Result<(), Failure> {
        let mut contacts = Vec::new();
        loop {
            let after = contacts.last().map(|(key, _)| key);
            let rows = self.link.query(&sql::contacts(after)).await?;
            let is_last = rows.len() < sql::PAGE;
            contacts.extend(rows.iter().map(sql::contact_of));
            if is_last {
                break;
            }
        }
        self.listener.take(News::Contacts(contacts));
        Ok(())
    }

    async fn hear(&mut self, notice: &Notification) {
        match Notice::read(notice.payload()) {
            Some(Notice::Heard(member, key, heard, number)) => {
                let is_own = member == self.pulse.member.number;
                let news = if is_own { News::Told(key, number) } else { News::Heard(key, heard) };
                self.listener.take(news);
            }
            Some(Notice::Contact(key)) => {
                let rows = self.link.query(&sql::contact(&key)).await;
                match rows {
                    Ok(rows) => {
                        let state = rows.first().map(sql::contact_of);
                        let state = state.map(|(_, state)| state).unwrap_or_default();
                        self.listener.take(News::Contact(key, state));
                    }
                    Err(failure) => {
                        tracing::debug!(%failure, "a contact was not read");
                        self.missed = true;
                    }
                }
            }
            _ => {}
        }
    }
}

async fn enter(link: &mut Link, app: &str) -> Result<Pulse, Failure> {
    link.connect().await?;
    listen(link).await?;
    let new = op!(
        "INSERT INTO member (queue, beat, up) VALUES ($1, clock_timestamp(), false) RETURNING id",
        app.to_owned()
    );
    let number =
        link.query(&new).await?.first().map(|row| sql::number(row, 0)).ok_or(Failure::Silent)?;
    lock(link, number).await?;
    let pulse = Pulse::new(app, number);
    pulse.beat_at(Instant::now());
    Ok(pulse)
}

async fn listen(link: &mut Link) -> Result<(), Failure> {
    let sql = format!("LISTEN {}", sql::CHANNEL);
    Ok(link.client().await?.batch_execute(&sql).await?)
}

/// Held as long as the connection lives.
async fn lock(link: &mut Link, number: u64) -> Result<Vec<Row>, Failure> {
    let sql = "SELECT pg_try_advisory_lock(hashtext(current_schema()), $1::bigint::int)";
    link.query(&Op { sql, values: vec![Box::new(number.cast_signed())] }).await
}

/// The other members of an app, whether they have a stream, are gone, and have a stream and are at work.
const OTHERS: &str = "
    WITH held AS (
        SELECT objid::bigint AS id FROM pg_locks
        WHERE locktype = 'advisory' AND objsubid = 2
        AND classid::bigint = (hashtext(current_schema())::bigint & 4294967295)
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    ), long AS (
        SELECT pg_postmaster_start_time() < clock_timestamp() - interval '4 s' AND backend_start < clock_timestamp() - interval '4 s' AS here
        FROM pg_stat_activity WHERE pid = pg_backend_pid()
    )
    SELECT id, up, id NOT IN (SELECT id FROM held)
        AND (beat = '-infinity' OR (beat < clock_timestamp() - interval '4 s' AND long.here)),
        up AND beat > clock_timestamp() - interval '2 s'
    FROM member, long WHERE queue = $1 AND id <> $2 ORDER BY id";

/// The other members of an app, and what waits for them.
const FELLOWS: &str = "
    WITH held AS (
        SELECT objid::bigint AS id FROM pg_locks
        WHERE locktype = 'advisory' AND objsubid = 2
        AND classid::bigint = (hashtext(current_schema())::bigint & 4294967295)
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    )
    SELECT id, id IN (SELECT id FROM held), up, beat > clock_timestamp() - interval '2 s',
        CASE WHEN beat = '-infinity' THEN 0 ELSE (extract(epoch FROM beat) * 1000000)::bigint END,
        EXISTS (SELECT FROM inbox WHERE inbox.queue = member.queue || '/' || member.id),
        EXISTS (SELECT FROM outbox WHERE outbox.queue = member.queue || '/' || member.id)
    FROM member WHERE queue = $1 AND id <> $2 ORDER BY id";

pub(super) fn fellows(app: &str, number: u64) -> Op {
    op!(FELLOWS, app.to_owned(), number.cast_signed())
}

pub(super) fn fellow_of(row: &Row) -> Fellow {
    Fellow {
        number: sql::number(row, 0),
        held: row.get(1),
        up: row.get(2),
        fresh: row.get(3),
        beat: sql::number(row, 4),
        inbox: row.get(5),
        outbox: row.get(6),
    }
}

/// Makes a member that is gone ours to take over, if it is nobody else's who is there; not while it
/// [writes](sql::fence), should it be there after all.
const CLAIM: &str = "
    UPDATE member SET heir = $2 WHERE id = (
        SELECT id FROM member WHERE id = $1
        AND (heir IS NULL OR heir = $2 OR heir NOT IN (SELECT id FROM member WHERE heir IS NULL))
        FOR NO KEY UPDATE SKIP LOCKED
    ) RETURNING id";

/// Adds what was counted, and gives the sums.
const ADD: &str = "
    INSERT INTO count (queue, name, day, value)
    SELECT $1, name, day, value FROM unnest($2::text[], $3::bigint[], $4::bigint[]) AS more (name, day, value) ORDER BY name
    ON CONFLICT (queue, name) DO UPDATE SET
        day = greatest(count.day, excluded.day),
        value = CASE WHEN count.day > excluded.day THEN count.value
            WHEN count.day = excluded.day THEN count.value + excluded.value ELSE excluded.value END
    RETURNING name, day, value";

/// Says of the members that they left in order; what waits for them is anybody's at once.
pub(super) fn farewells(pulses: &Pulses) -> Vec<Op> {
    let pulses = pulses.lock().unwrap_or_else(PoisonError::into_inner);
    let ids: Vec<i64> = pulses.iter().map(|pulse| pulse.member.number.cast_signed()).collect();
    if ids.is_empty() {
        return Vec::new();
    }
    vec![
        op!("UPDATE member SET beat = '-infinity', up = false WHERE id = ANY($1)", ids.clone()),
        // Of one with nothing left, nothing is kept.
        op!(
            "DELETE FROM member WHERE id = ANY($1) AND NOT EXISTS (SELECT FROM inbox WHERE inbox.queue = member.queue || '/' || member.id)
            AND NOT EXISTS (SELECT FROM outbox WHERE outbox.queue = member.queue || '/' || member.id)",
            ids
        ),
    ]
}
