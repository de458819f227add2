//! The tables of what waits.

use std::time::Duration;

use bytes::Bytes;
use rusqlite::{Connection, Row as SqlRow, Transaction, params};

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

const BURY: &str = "INSERT OR REPLACE INTO dead_letter (queue, id, path, stanza, given_up, reason)
    SELECT queue, id, path, stanza, ?3, ?4 FROM inbox WHERE queue = ?1 AND id = ?2";
const REPLAY: &str = "INSERT OR REPLACE INTO inbox (queue, id, path, stanza)
    SELECT queue, id, path, stanza FROM dead_letter WHERE queue = ?1 AND id = ?2";
const FORGET: &str = "DELETE FROM inbox WHERE queue = ?1 AND id = ?2";
const PURGE: &str = "DELETE FROM dead_letter WHERE queue = ?1 AND id = ?2";

pub(super) fn write(transaction: &Transaction<'_>, change: &Change) -> rusqlite::Result<()> {
    let sql = |sql| transaction.prepare_cached(sql);
    match change {
        Change::OutboxDone(queue, up_to) => {
            let up_to = up_to.cast_signed();
            sql("DELETE FROM outbox WHERE queue = ?1 AND first <= ?2 AND last <= ?2")?
                .execute(params![&**queue, up_to])?;
            sql("INSERT INTO outbox_done (queue, up_to) VALUES (?1, ?2)
                ON CONFLICT DO UPDATE SET up_to = max(up_to, excluded.up_to)")?
            .execute(params![&**queue, up_to])?
        }
        Change::InboxPut(queue, row) => {
            sql("INSERT OR REPLACE INTO inbox (queue, id, path, stanza) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![&**queue, row.id.cast_signed(), row.path, &row.stanza[..]])?
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
        Change::Count(queue, count) => {
            let (day, value) = (count.day.cast_signed(), count.value.cast_signed());
            sql("INSERT OR REPLACE INTO count (queue, name, day, value) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![&**queue, count.name, day, value])?
        }
        Change::Subscription(..)
        | Change::Presence(..)
        | Change::Told(..)
        | Change::OutboxPut(..) => 0,
    };
    Ok(())
}

/// Puts the rows of a whole group, those that follow each other as one: the store's work for a row is
/// many times that for a message in it.
pub(super) fn put_all(
    transaction: &Transaction<'_>,
    mut puts: Vec<(&QueueName, &OutboxRow)>,
) -> rusqlite::Result<()> {
    puts.sort_by_key(|(queue, row)| (*queue, row.first));
    let mut run = Run::default();
    for (at, (queue, row)) in puts.iter().enumerate() {
        run.add(row);
        let joins = puts.get(at + 1).is_some_and(|(next_queue, next)| {
            next_queue == queue
                && next.first == row.last() + 1
                && next.tail.is_empty()
                && row.tail.is_empty()
                && run.heads.len() < RUN_BYTES
        });
        if !joins {
            run.put(transaction, queue, row)?;
            run = Run::default();
        }
    }
    Ok(())
}

/// How large a row gets at most before another is begun.
const RUN_BYTES: usize = 64 * 1024;

/// Rows that are put as one.
#[derive(Default)]
struct Run {
    first: Option<u64>,
    expires: Duration,
    lengths: Vec<u8>,
    heads: Vec<u8>,
}

impl Run {
    fn add(&mut self, row: &OutboxRow) {
        self.first.get_or_insert(row.first);
        self.expires = self.expires.max(row.expires);
        for head in &row.heads {
            let length = u32::try_from(head.len()).unwrap_or(u32::MAX);
            self.lengths.extend(length.to_le_bytes());
            self.heads.extend_from_slice(head);
        }
    }

    fn put(
        &self,
        transaction: &Transaction<'_>,
        queue: &str,
        last: &OutboxRow,
    ) -> rusqlite::Result<()> {
        let mut put = transaction.prepare_cached(
            "INSERT OR REPLACE INTO outbox (queue, first, last, expires, lengths, heads, tail)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        let first = self.first.unwrap_or(last.first).cast_signed();
        let (expires, tail) = (milliseconds(self.expires), &last.tail[..]);
        let last = last.last().cast_signed();
        put.execute(params![queue, first, last, expires, self.lengths, self.heads, tail]).map(drop)
    }
}

pub(super) fn read(
    reader: &Connection,
    queue: &str,
    each: &mut dyn FnMut(Row),
) -> rusqlite::Result<()> {
    let sql =
        "SELECT first, expires, lengths, heads, tail FROM outbox WHERE queue = ?1 ORDER BY first";
    for_each(reader, sql, queue, |row| {
        let lengths = row.get_ref(2)?.as_blob()?;
        let heads = Bytes::copy_from_slice(row.get_ref(3)?.as_blob()?);
        each(Row::Outbox(OutboxRow {
            first: number(row, 0)?,
            expires: time(row, 1)?,
            heads: split(heads, lengths),
            tail: Bytes::copy_from_slice(row.get_ref(4)?.as_blob()?),
        }));
        Ok(())
    })?;
    for_each(reader, "SELECT up_to FROM outbox_done WHERE queue = ?1", queue, |row| {
        each(Row::OutboxDone(number(row, 0)?));
        Ok(())
    })?;
    let sql = "SELECT id, path, stanza FROM inbox WHERE queue = ?1 ORDER BY id";
    for_each(reader, sql, queue, |row| {
        each(Row::Inbox(inbox(row)?));
        Ok(())
    })?;
    for_each(reader, "SELECT name, day, value FROM count WHERE queue = ?1", queue, |row| {
        each(Row::Count(Count { name: row.get(0)?, day: number(row, 1)?, value: number(row, 2)? }));
        Ok(())
    })
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
    Ok(InboxRow { id: number(row, 0)?, path: row.get(1)?, stanza })
}

/// The heads, whose lengths are written as in [`SCHEMA`].
fn split(mut heads: Bytes, lengths: &[u8]) -> Vec<Bytes> {
    let (lengths, _) = lengths.as_chunks::<4>();
    let lengths = lengths.iter().map(|length| u32::from_le_bytes(*length) as usize);
    lengths.map(|length| heads.split_to(length.min(heads.len()))).collect()
}

fn number(row: &SqlRow<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.cast_unsigned())
}

fn time(row: &SqlRow<'_>, column: usize) -> rusqlite::Result<Duration> {
    Ok(Duration::from_millis(row.get::<_, i64>(column)?.max(0).cast_unsigned()))
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
