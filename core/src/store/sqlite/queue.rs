//! The tables of what waits.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use rusqlite::{Connection, Row as SqlRow, Transaction, params};

use super::log::Contents;
use crate::store::packed::{self, milliseconds};
use crate::store::{Change, Count, DeadLetter, InboxRow, OutboxRow, QueueName, Row};

/// Schema version 2. Times are milliseconds since the Unix epoch; `lengths` are those of the heads,
/// four bytes each, the lowest first.
pub(super) const SCHEMA: &str = "
    CREATE TABLE outbox (
        queue TEXT NOT NULL,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        expires INTEGER NOT NULL,
        lengths BLOB NOT NULL,
        heads BLOB NOT NULL,
        tail BLOB NOT NULL,
        PRIMARY KEY (queue, first)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE outbox_done (
        queue TEXT NOT NULL PRIMARY KEY,
        up_to INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE inbox (
        queue TEXT NOT NULL,
        id INTEGER NOT NULL,
        path TEXT NOT NULL,
        stanza BLOB NOT NULL,
        PRIMARY KEY (queue, id)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE dead_letter (
        queue TEXT NOT NULL,
        id INTEGER NOT NULL,
        path TEXT NOT NULL,
        stanza BLOB NOT NULL,
        given_up INTEGER NOT NULL,
        reason TEXT NOT NULL,
        PRIMARY KEY (queue, id)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE count (
        queue TEXT NOT NULL,
        name TEXT NOT NULL,
        day INTEGER NOT NULL,
        value INTEGER NOT NULL,
        PRIMARY KEY (queue, name)
    ) STRICT, WITHOUT ROWID";

/// Schema version 4. When a delivery came, or 0.
pub(super) const CAME: &str = "ALTER TABLE inbox ADD COLUMN came INTEGER NOT NULL DEFAULT 0";

const BURY: &str = "INSERT OR REPLACE INTO dead_letter (queue, id, path, stanza, given_up, reason)
    SELECT queue, id, path, stanza, ?3, ?4 FROM inbox WHERE queue = ?1 AND id = ?2";
const REPLAY: &str = "INSERT OR REPLACE INTO inbox (queue, id, path, stanza)
    SELECT queue, id, path, stanza FROM dead_letter WHERE queue = ?1 AND id = ?2";
const PUT: &str =
    "INSERT OR REPLACE INTO inbox (queue, id, path, stanza, came) VALUES (?1, ?2, ?3, ?4, ?5)";
const FORGET: &str = "DELETE FROM inbox WHERE queue = ?1 AND id = ?2";
const INHERIT: &str = "UPDATE inbox SET queue = ?1 WHERE queue = ?2";
const PURGE: &str = "DELETE FROM dead_letter WHERE queue = ?1 AND id = ?2";

pub(super) fn write(transaction: &Transaction<'_>, change: &Change) -> rusqlite::Result<()> {
    let sql = |sql| transaction.prepare_cached(sql);
    match change {
        Change::OutboxDone(queue, up_to) => return set_done(transaction, queue, *up_to),
        Change::InboxPut(queue, row) => {
            let came = milliseconds(row.came);
            sql(PUT)?.execute(params![
                &**queue,
                row.id.cast_signed(),
                row.path,
                &row.stanza[..],
                came
            ])?
        }
        Change::InboxDone(queue, id) => {
            sql(FORGET)?.execute(params![&**queue, id.cast_signed()])?
        }
        Change::Bury(queue, id, at, reason) => {
            let id = id.cast_signed();
            sql(BURY)?.execute(params![&**queue, id, milliseconds(*at), reason])?;
            sql(FORGET)?.execute(params![&**queue, id])?
        }
        Change::Replay(queue, id) => {
            sql(REPLAY)?.execute(params![&**queue, id.cast_signed()])?;
            sql(PURGE)?.execute(params![&**queue, id.cast_signed()])?
        }
        Change::Purge(queue, id) => sql(PURGE)?.execute(params![&**queue, id.cast_signed()])?,
        Change::Inherit(queue, from) => sql(INHERIT)?.execute(params![&**queue, &**from])?,
        Change::Count(queue, count) => {
            let (day, value) = (count.day.cast_signed(), count.value.cast_signed());
            sql("INSERT OR REPLACE INTO count (queue, name, day, value) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![&**queue, count.name, day, value])?
        }
        Change::Subscription(..)
        | Change::Presence(..)
        | Change::Told(..)
        | Change::OutboxPut(..)
        | Change::Bequeath(..) => 0,
    };
    Ok(())
}

pub(super) fn set_done(
    transaction: &Transaction<'_>,
    queue: &str,
    up_to: u64,
) -> rusqlite::Result<()> {
    let up_to = up_to.cast_signed();
    let sql = "DELETE FROM outbox WHERE queue = ?1 AND first <= ?2 AND last <= ?2";
    transaction.prepare_cached(sql)?.execute(params![queue, up_to])?;
    let sql = "INSERT INTO outbox_done (queue, up_to) VALUES (?1, ?2)
        ON CONFLICT DO UPDATE SET up_to = max(up_to, excluded.up_to)";
    transaction.prepare_cached(sql)?.execute(params![queue, up_to]).map(drop)
}

/// The last number of each queue's messages.
pub(super) fn last_numbers(connection: &Connection) -> rusqlite::Result<BTreeMap<QueueName, u64>> {
    let mut select = connection.prepare("SELECT queue, max(last) FROM outbox GROUP BY queue")?;
    let mut numbers = BTreeMap::new();
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        numbers.insert(row.get_ref(0)?.as_str()?.into(), number(row, 1)?);
    }
    Ok(numbers)
}

/// Puts the messages of a whole group.
pub(super) fn put_all(
    transaction: &Transaction<'_>,
    puts: &[(&QueueName, &OutboxRow)],
) -> rusqlite::Result<()> {
    let mut put = transaction.prepare_cached(
        "INSERT OR REPLACE INTO outbox (queue, first, last, expires, lengths, heads, tail)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    packed::pack(puts.to_vec()).into_iter().try_for_each(|(queue, row)| {
        let (first, last) = (row.first.cast_signed(), row.last.cast_signed());
        let expires = milliseconds(row.expires);
        let tail = &row.tail[..];
        put.execute(params![&**queue, first, last, expires, row.lengths, row.heads, tail]).map(drop)
    })
}

pub(super) fn read(
    reader: &Connection,
    queue: &str,
    log: Contents,
    each: &mut dyn FnMut(Row),
) -> rusqlite::Result<()> {
    let mut done = log.done.get(queue).copied().unwrap_or_default();
    for_each(reader, "SELECT up_to FROM outbox_done WHERE queue = ?1", queue, |row| {
        done = number(row, 0)?.max(done);
        Ok(())
    })?;
    let mut outbox = log.rows;
    outbox.retain(|(name, row)| **name == *queue && row.last() > done);
    let mut outbox: BTreeMap<u64, _> =
        outbox.into_iter().map(|(_, row)| (row.first, row)).collect();
    let sql =
        "SELECT first, expires, lengths, heads, tail FROM outbox WHERE queue = ?1 ORDER BY first";
    for_each(reader, sql, queue, |row| {
        let lengths = row.get_ref(2)?.as_blob()?;
        let heads = Bytes::copy_from_slice(row.get_ref(3)?.as_blob()?);
        let row = OutboxRow {
            first: number(row, 0)?,
            expires: time(row, 1)?,
            heads: packed::unpack(heads, lengths),
            tail: Bytes::copy_from_slice(row.get_ref(4)?.as_blob()?),
        };
        outbox.insert(row.first, row);
        Ok(())
    })?;
    apart(outbox.into_values(), |row| each(Row::Outbox(row)));
    if done > 0 {
        each(Row::OutboxDone(done));
    }
    let sql = "SELECT id, path, stanza, came FROM inbox WHERE queue = ?1 ORDER BY id";
    for_each(reader, sql, queue, |row| {
        each(Row::Inbox(InboxRow { came: time(row, 3)?, ..inbox(row)? }));
        Ok(())
    })?;
    for_each(reader, "SELECT name, day, value FROM count WHERE queue = ?1", queue, |row| {
        each(Row::Count(Count { name: row.get(0)?, day: number(row, 1)?, value: number(row, 2)? }));
        Ok(())
    })
}

/// Hands over rows that are in order; what is in two of them, once.
fn apart(rows: impl Iterator<Item = OutboxRow>, mut each: impl FnMut(OutboxRow)) {
    let mut last = None;
    for mut row in rows {
        if let Some(last) = last.filter(|last| row.first <= *last) {
            let known = (last - row.first + 1).min(row.heads.len() as u64);
            row.heads.drain(..known as usize);
            row.first += known;
        }
        if !row.heads.is_empty() {
            last = Some(row.last());
            each(row);
        }
    }
}

pub(super) fn read_dead(
    reader: &Connection,
    queue: &str,
    each: &mut dyn FnMut(DeadLetter),
) -> rusqlite::Result<()> {
    let sql =
        "SELECT id, path, stanza, given_up, reason FROM dead_letter WHERE queue = ?1 ORDER BY id";
    for_each(reader, sql, queue, |row| {
        each(DeadLetter { row: inbox(row)?, at: time(row, 3)?, reason: row.get(4)? });
        Ok(())
    })
}

fn for_each(
    reader: &Connection,
    sql: &str,
    queue: &str,
    mut each: impl FnMut(&SqlRow<'_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let mut select = reader.prepare(sql)?;
    let mut rows = select.query([queue])?;
    while let Some(row) = rows.next()? {
        each(row)?;
    }
    Ok(())
}

fn inbox(row: &SqlRow<'_>) -> rusqlite::Result<InboxRow> {
    let stanza = Bytes::copy_from_slice(row.get_ref(2)?.as_blob()?);
    Ok(InboxRow { id: number(row, 0)?, path: row.get(1)?, stanza, lane: 0, came: Duration::ZERO })
}

fn number(row: &SqlRow<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.cast_unsigned())
}

fn time(row: &SqlRow<'_>, column: usize) -> rusqlite::Result<Duration> {
    Ok(Duration::from_millis(row.get::<_, i64>(column)?.max(0).cast_unsigned()))
}
