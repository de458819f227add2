//! Changes as statements, and rows as what they stand for.

use std::time::Duration;

use bytes::Bytes;
use tokio_postgres::Row as SqlRow;

use super::link::Op;
use super::news::Notice;
use crate::service::presence::{OwnPresence, Show};
use crate::service::roster::Subscription;
use crate::store::packed::{self, milliseconds};
use crate::store::{
    Behind, Change, ContactKey, ContactState, Count, DeadLetter, InboxRow, OutboxRow, Place, Row,
    Turn,
};

macro_rules! op {
    ($sql:expr $(, $value:expr)* $(,)?) => {
        $crate::store::postgres::link::Op { sql: $sql, values: vec![$(Box::new($value) as $crate::store::postgres::link::Value),*] }
    };
}

pub(super) use op;

/// Fails if others take over from a member, or have; and they do not before the transaction has ended.
/// What it stored otherwise, nobody would come for.
pub(super) fn fence(member: u64) -> Op {
    op!(
        "SELECT 1 / count(*) FROM (SELECT FROM member WHERE id = $1 AND heir IS NULL FOR SHARE) AS mine",
        member.cast_signed()
    )
}

/// The queue into which a change puts something, or of which it makes something another one's.
pub(super) fn queue_of(change: &Change) -> Option<&str> {
    match change {
        Change::OutboxPut(queue, _)
        | Change::InboxPut(queue, _)
        | Change::Replay(queue, _)
        | Change::Inherit(queue, _)
        | Change::Bequeath(queue, ..) => Some(queue),
        _ => None,
    }
}

/// Whether a statement gives a row for each change.
pub(super) fn gives_a_row(op: &Op) -> bool {
    op.sql == INBOX_PUT
}

/// What a process of several keeps for the app as a whole: its queue without the process.
pub(super) fn home(queue: &str) -> &str {
    queue.split_once('/').map_or(queue, |(home, _)| home)
}

fn own(key: &ContactKey) -> Vec<u8> {
    key.own.as_bytes().to_vec()
}

fn other(key: &ContactKey) -> Vec<u8> {
    key.contact.as_bytes().to_vec()
}

/// PostgreSQL's text holds no U+0000.
fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn small(show: Show) -> i16 {
    i16::from(show as u8)
}

/// The statements for the changes of a group, in their order; messages at the end.
pub(super) fn ops<'a>(changes: impl Iterator<Item = &'a Change>) -> Vec<Op> {
    let mut ops = Vec::new();
    let mut puts = Vec::new();
    for change in changes {
        match change {
            Change::OutboxPut(queue, row) => puts.push((queue, row)),
            change => push(&mut ops, change),
        }
    }
    ops.extend(packed::pack(puts).into_iter().map(|(queue, row)| {
        op!(
            "INSERT INTO outbox (queue, first, last, expires, lengths, heads, tail) VALUES ($1, $2, $3, $4, $5, $6, $7)
            ON CONFLICT (queue, first) DO UPDATE SET last = excluded.last, expires = excluded.expires,
            lengths = excluded.lengths, heads = excluded.heads, tail = excluded.tail",
            queue.to_string(),
            row.first.cast_signed(),
            row.last.cast_signed(),
            milliseconds(row.expires),
            row.lengths,
            row.heads,
            row.tail.to_vec(),
        )
    }));
    ops
}

/// Its row says where the delivery stands, and whether another process has one of the same lane.
const INBOX_PUT: &str =
    "INSERT INTO inbox (queue, id, path, stanza, lane, came) VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (queue, id) DO UPDATE SET path = excluded.path, stanza = excluded.stanza
    RETURNING turn, EXISTS (SELECT FROM inbox AS other WHERE other.lane = $5 AND other.queue < $1)
        OR EXISTS (SELECT FROM inbox AS other WHERE other.lane = $5 AND other.queue > $1)";
const INBOX_DONE: &str = "DELETE FROM inbox WHERE queue = $1 AND id = $2";
const BURY: &str = "WITH gone AS (DELETE FROM inbox WHERE queue = $1 AND id = $2 RETURNING id, path, stanza, lane)
    INSERT INTO dead_letter (queue, id, path, stanza, given_up, reason, lane) SELECT $5, id, path, stanza, $3, $4, lane FROM gone
    ON CONFLICT (queue, id) DO UPDATE SET given_up = excluded.given_up, reason = excluded.reason";
const REPLAY: &str =
    "WITH gone AS (DELETE FROM dead_letter WHERE queue = $3 AND id = $2 RETURNING id, path, stanza, lane)
    INSERT INTO inbox (queue, id, path, stanza, lane) SELECT $1, id, path, stanza, lane FROM gone
    ON CONFLICT (queue, id) DO NOTHING";
/// A member that nobody is, and that left in order: whoever takes over from such a one takes its messages.
const BEQUEATH: &str = "WITH left_by AS (
        INSERT INTO member (queue, beat, up) SELECT $2::text, '-infinity', false
        WHERE EXISTS (SELECT FROM outbox WHERE queue = $1 AND last >= $3 AND first <= $4) RETURNING id
    ), done AS (
        INSERT INTO outbox_done (queue, up_to) SELECT $2::text || '/' || id, $3::bigint - 1 FROM left_by
    )
    UPDATE outbox SET queue = $2::text || '/' || left_by.id FROM left_by
    WHERE outbox.queue = $1 AND last >= $3 AND first <= $4";
const PURGE: &str = "DELETE FROM dead_letter WHERE queue = $1 AND id = $2";

fn push(ops: &mut Vec<Op>, change: &Change) {
    match change {
        Change::Subscription(key, Subscription::None) => ops.push(op!(
            "DELETE FROM contact WHERE own = $1 AND contact = $2",
            own(key),
            other(key)
        )),
        Change::Subscription(key, subscription) => ops.push(op!(
            "INSERT INTO contact (own, contact, subscription) VALUES ($1, $2, $3)
            ON CONFLICT (own, contact) DO UPDATE SET subscription = excluded.subscription",
            own(key),
            other(key),
            i16::from(*subscription as u8),
        )),
        Change::Presence(key, available) => ops.push(op!(
            "UPDATE contact SET show = $3 WHERE own = $1 AND contact = $2",
            own(key),
            other(key),
            available.map(small),
        )),
        Change::Told(key, told) => {
            ops.push(op!(
            "UPDATE contact SET told_unavailable = $3, told_show = $4, told_status = $5 WHERE own = $1 AND contact = $2",
            own(key),
            other(key),
            told.as_ref().map(|told| told.unavailable),
            told.as_ref().map(|told| small(told.show)),
                told.as_ref().map(|told| told.status.as_bytes().to_vec()),
            ));
            ops.extend(Notice::Contact(key.clone()).write().map(tell));
        }
        Change::OutboxDone(queue, up_to) => {
            let up_to = up_to.cast_signed();
            ops.push(op!(
                "DELETE FROM outbox WHERE queue = $1 AND first <= $2 AND last <= $2",
                queue.to_string(),
                up_to,
            ));
            ops.push(op!(
                "INSERT INTO outbox_done (queue, up_to) VALUES ($1, $2)
                ON CONFLICT (queue) DO UPDATE SET up_to = greatest(outbox_done.up_to, excluded.up_to)",
                queue.to_string(),
                up_to,
            ));
        }
        Change::InboxPut(queue, row) => ops.push(op!(
            INBOX_PUT,
            queue.to_string(),
            row.id.cast_signed(),
            row.path.to_string(),
            row.stanza.to_vec(),
            Some(row.lane.cast_signed()).filter(|lane| *lane != 0),
            milliseconds(row.came),
        )),
        Change::InboxDone(queue, id) => {
            ops.push(op!(INBOX_DONE, queue.to_string(), id.cast_signed()));
        }
        Change::Bury(queue, id, at, reason) => ops.push(op!(
            BURY,
            queue.to_string(),
            id.cast_signed(),
            milliseconds(*at),
            text(reason),
            home(queue).to_owned(),
        )),
        Change::Replay(queue, id) => {
            ops.push(op!(REPLAY, queue.to_string(), id.cast_signed(), home(queue).to_owned(),))
        }
        Change::Purge(queue, id) => {
            ops.push(op!(PURGE, home(queue).to_owned(), id.cast_signed()));
        }
        Change::Inherit(queue, from) => {
            ops.push(op!(
                "UPDATE inbox SET queue = $1 WHERE queue = $2",
                queue.to_string(),
                from.to_string()
            ));
            for forget in [
                "DELETE FROM outbox WHERE queue = $1",
                "DELETE FROM outbox_done WHERE queue = $1",
                "DELETE FROM member WHERE queue || '/' || id = $1",
            ] {
                ops.push(op!(forget, from.to_string()));
            }
        }
        Change::Bequeath(queue, first, last) => ops.push(op!(
            BEQUEATH,
            queue.to_string(),
            home(queue).to_owned(),
            first.cast_signed(),
            last.cast_signed(),
        )),
        Change::Count(queue, count) => ops.push(op!(
            "INSERT INTO count (queue, name, day, value) VALUES ($1, $2, $3, $4)
            ON CONFLICT (queue, name) DO UPDATE SET day = excluded.day, value = excluded.value",
            home(queue).to_owned(),
            count.name.to_string(),
            count.day.cast_signed(),
            count.value.cast_signed(),
        )),
        Change::OutboxPut(..) => {}
    }
}

/// So many contacts are read at once.
pub(super) const PAGE: usize = 10_000;

/// The contacts after this one.
pub(super) fn contacts(after: Option<&ContactKey>) -> Op {
    match after {
        None => op!(
            "SELECT own, contact, subscription, show, told_unavailable, told_show, told_status FROM contact
            ORDER BY own, contact LIMIT $1",
            PAGE as i64,
        ),
        Some(key) => op!(
            "SELECT own, contact, subscription, show, told_unavailable, told_show, told_status FROM contact
            WHERE (own, contact) > ($2, $3) ORDER BY own, contact LIMIT $1",
            PAGE as i64,
            own(key),
            other(key),
        ),
    }
}

/// One contact.
pub(super) fn contact(key: &ContactKey) -> Op {
    op!(
        "SELECT own, contact, subscription, show, told_unavailable, told_show, told_status FROM contact
        WHERE own = $1 AND contact = $2",
        own(key),
        other(key),
    )
}

/// What changes the subscriptions with a contact from one state to another, and tells so, if that is
/// what they are: a row if it was.
pub(super) fn exchange(key: &ContactKey, from: Subscription, to: Subscription) -> Option<Op> {
    const NONE: Subscription = Subscription::None;
    let number = |state: Subscription| i16::from(state as u8);
    let (own, other) = (own(key), other(key));
    // Without news the others learn of it when they next need it.
    let news = Notice::Contact(key.clone()).write().unwrap_or_default();
    Some(match (from, to) {
        (from, to) if from == to => return None,
        (NONE, to) => op!(
            "WITH done AS (INSERT INTO contact (own, contact, subscription) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING 1)
            SELECT pg_notify('appxmpp', $4) FROM done",
            own,
            other,
            number(to),
            news,
        ),
        (from, NONE) => op!(
            "WITH done AS (DELETE FROM contact WHERE own = $1 AND contact = $2 AND subscription = $3 RETURNING 1)
            SELECT pg_notify('appxmpp', $4) FROM done",
            own,
            other,
            number(from),
            news,
        ),
        (from, to) => op!(
            "WITH done AS (UPDATE contact SET subscription = $5 WHERE own = $1 AND contact = $2 AND subscription = $3 RETURNING 1)
            SELECT pg_notify('appxmpp', $4) FROM done",
            own,
            other,
            number(from),
            news,
            number(to),
        ),
    })
}

pub(super) fn contact_of(row: &SqlRow) -> (ContactKey, ContactState) {
    let text = |column| String::from_utf8_lossy(row.get::<_, &[u8]>(column)).into();
    let show = |column| {
        let number: Option<i16> = row.get(column);
        number.map(|number| Show::from_number(number.into()).unwrap_or_default())
    };
    let key = ContactKey { own: text(0), contact: text(1) };
    // A number that a newer schema would mean: as good as nothing known.
    let subscription = Subscription::from_number(row.get::<_, i16>(2).into()).unwrap_or_default();
    let told = row.get::<_, Option<bool>>(4).map(|unavailable| {
        let status = row.get::<_, Option<&[u8]>>(6).unwrap_or_default();
        let status = String::from_utf8_lossy(status).into();
        Box::new(OwnPresence { unavailable, show: show(5).unwrap_or_default(), status })
    });
    (key, ContactState { subscription, available: show(3), told })
}

type Reader = fn(&SqlRow) -> Row;

/// What gives the rows of a queue, and the way to read each.
pub(super) fn queue(name: &str) -> [(Op, Reader); 5] {
    let queue = || name.to_owned();
    [
        (
            op!(
                "SELECT first, expires, lengths, heads, tail FROM outbox WHERE queue = $1 ORDER BY first",
                queue()
            ),
            |row| Row::Outbox(outbox_of(row)),
        ),
        (op!("SELECT up_to FROM outbox_done WHERE queue = $1", queue()), |row| {
            Row::OutboxDone(number(row, 0))
        }),
        (
            op!(
                "SELECT id, path, stanza, lane, came FROM inbox WHERE queue = $1 ORDER BY id",
                queue()
            ),
            |row| Row::Inbox(InboxRow { came: time(row, 4), ..inbox_of(row) }),
        ),
        (op!("SELECT id, turn FROM inbox WHERE queue = $1", queue()), |row| {
            Row::Turn(number(row, 0), number(row, 1))
        }),
        (
            op!(
                "SELECT name, day, value FROM count WHERE queue = $1 ORDER BY name",
                home(name).to_owned()
            ),
            |row| Row::Count(count_of(row)),
        ),
    ]
}

pub(super) fn dead_letters(queue: &str) -> Op {
    op!(
        "SELECT id, path, stanza, lane, given_up, reason FROM dead_letter WHERE queue = $1 ORDER BY id",
        home(queue).to_owned()
    )
}

pub(super) fn dead_letter_of(row: &SqlRow) -> DeadLetter {
    DeadLetter { row: inbox_of(row), at: time(row, 4), reason: row.get::<_, &str>(5).into() }
}

fn outbox_of(row: &SqlRow) -> OutboxRow {
    let bytes = |column| Bytes::copy_from_slice(row.get::<_, &[u8]>(column));
    OutboxRow {
        first: number(row, 0),
        expires: time(row, 1),
        heads: packed::unpack(bytes(3), row.get(2)),
        tail: bytes(4),
    }
}

fn inbox_of(row: &SqlRow) -> InboxRow {
    let stanza = Bytes::copy_from_slice(row.get::<_, &[u8]>(2));
    let lane = row.get::<_, Option<i64>>(3).unwrap_or_default().cast_unsigned();
    InboxRow {
        id: number(row, 0),
        path: row.get::<_, &str>(1).into(),
        stanza,
        lane,
        came: Duration::ZERO,
    }
}

/// The place of a delivery that was put.
pub(super) fn place_of(row: &SqlRow) -> Place {
    Place { turn: number(row, 0), behind: row.get(1) }
}

/// Whether messages wait for another member.
pub(super) fn elsewhere(app: &str, member: u64) -> Op {
    op!(
        "SELECT EXISTS (SELECT FROM member WHERE queue = $1 AND id <> $2
            AND EXISTS (SELECT FROM outbox WHERE outbox.queue = member.queue || '/' || member.id))",
        app.to_owned(),
        member.cast_signed(),
    )
}

/// Those of `turns` before which another process has a delivery, and whether that one is at work.
pub(super) fn behind(queue: &str, turns: &[Turn]) -> Op {
    let column = |of: fn(&Turn) -> u64| turns.iter().map(|it| of(it).cast_signed()).collect();
    let (ids, lanes, places): (Vec<_>, Vec<_>, Vec<_>) =
        (column(|it| it.id), column(|it| it.lane), column(|it| it.turn));
    op!(
        "SELECT mine.id, coalesce(member.beat > clock_timestamp() - interval '4 s', false)
        FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS mine (id, lane, turn)
        CROSS JOIN LATERAL (
            (SELECT queue FROM inbox WHERE lane = mine.lane AND queue < $4 AND turn < mine.turn LIMIT 1)
            UNION ALL
            (SELECT queue FROM inbox WHERE lane = mine.lane AND queue > $4 AND turn < mine.turn LIMIT 1)
        ) AS other
        LEFT JOIN member ON other.queue = member.queue || '/' || member.id",
        ids,
        lanes,
        places,
        queue.to_owned(),
    )
}

pub(super) fn behind_of(row: &SqlRow) -> Behind {
    Behind { id: number(row, 0), living: row.get(1) }
}

pub(super) fn count_of(row: &SqlRow) -> Count {
    Count { name: row.get::<_, &str>(0).into(), day: number(row, 1), value: number(row, 2) }
}

pub(super) fn number(row: &SqlRow, column: usize) -> u64 {
    row.get::<_, i64>(column).cast_unsigned()
}

fn time(row: &SqlRow, column: usize) -> Duration {
    Duration::from_millis(row.get::<_, i64>(column).max(0).cast_unsigned())
}

/// The channel on which processes tell each other.
pub(super) const CHANNEL: &str = "appxmpp";

/// Tells every process on this store.
pub(super) fn tell(news: String) -> Op {
    op!("SELECT pg_notify($1, $2)", CHANNEL.to_owned(), news)
}
