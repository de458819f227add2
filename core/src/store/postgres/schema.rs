//! The tables, and how those of an older version become these.

use std::sync::Arc;

use tokio_postgres::Client;

use super::address::Address;
use super::link::{Failure, explain};
use crate::error::{Error, ErrorKind, Result};

/// Each takes the schema one version further. What has been released is never edited. Addresses are
/// kept as the bytes they are: a text of PostgreSQL holds no U+0000. Times are milliseconds since the
/// Unix epoch.
pub(super) const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE contact (
        own bytea NOT NULL,
        contact bytea NOT NULL,
        subscription smallint NOT NULL,
        show smallint,
        told_unavailable boolean,
        told_show smallint,
        told_status bytea,
        PRIMARY KEY (own, contact)
    );
    CREATE TABLE outbox (
        queue text COLLATE \"C\" NOT NULL,
        first bigint NOT NULL,
        last bigint NOT NULL,
        expires bigint NOT NULL,
        lengths bytea NOT NULL,
        heads bytea NOT NULL,
        tail bytea NOT NULL,
        PRIMARY KEY (queue, first)
    );
    CREATE TABLE outbox_done (
        queue text COLLATE \"C\" NOT NULL PRIMARY KEY,
        up_to bigint NOT NULL
    );
    CREATE TABLE inbox (
        queue text COLLATE \"C\" NOT NULL,
        id bigint NOT NULL,
        path text NOT NULL,
        stanza bytea NOT NULL,
        PRIMARY KEY (queue, id)
    );
    CREATE TABLE dead_letter (
        queue text COLLATE \"C\" NOT NULL,
        id bigint NOT NULL,
        path text NOT NULL,
        stanza bytea NOT NULL,
        given_up bigint NOT NULL,
        reason text NOT NULL,
        PRIMARY KEY (queue, id)
    );
    CREATE TABLE count (
        queue text COLLATE \"C\" NOT NULL,
        name text COLLATE \"C\" NOT NULL,
        day bigint NOT NULL,
        value bigint NOT NULL,
        PRIMARY KEY (queue, name)
    );
    -- The processes that serve an app together, as long as they live. What waits for one of them
    -- has the queue QUEUE/ID.
    CREATE TABLE member (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        queue text COLLATE \"C\" NOT NULL,
        beat timestamptz NOT NULL,
        up boolean NOT NULL,
        heir bigint
    )",
    "
    -- Whose turn a delivery takes, and where it stands among those that do, whichever process they
    -- wait for.
    ALTER TABLE inbox ADD COLUMN lane bigint, ADD COLUMN turn bigint GENERATED ALWAYS AS IDENTITY;
    ALTER TABLE dead_letter ADD COLUMN lane bigint;
    CREATE INDEX inbox_lane ON inbox (lane, queue, turn)",
    "
    -- Version 1 was for one process at first: its rows have the name of the app alone, and it numbered
    -- its runs. A member that is gone has left them, and members after it go on with its numbers, so that
    -- no delivery gets an id that there is.
    ALTER TABLE member ADD COLUMN IF NOT EXISTS heir bigint;
    SELECT setval(pg_get_serial_sequence('member', 'id'), greatest(max(value), nextval(pg_get_serial_sequence('member', 'id'))))
        FROM count WHERE name = 'runs' HAVING count(*) > 0;
    INSERT INTO member (queue, beat, up) SELECT queue, '-infinity', false
        FROM (SELECT queue FROM inbox UNION SELECT queue FROM outbox UNION SELECT queue FROM outbox_done) AS alone
        WHERE strpos(queue, '/') = 0;
    UPDATE inbox SET queue = queue || '/' || (SELECT max(id) FROM member WHERE member.queue = inbox.queue)
        WHERE strpos(queue, '/') = 0;
    UPDATE outbox SET queue = queue || '/' || (SELECT max(id) FROM member WHERE member.queue = outbox.queue)
        WHERE strpos(queue, '/') = 0;
    UPDATE outbox_done SET queue = queue || '/' || (SELECT max(id) FROM member WHERE member.queue = outbox_done.queue)
        WHERE strpos(queue, '/') = 0",
    "
    -- When a delivery came, or 0.
    ALTER TABLE inbox ADD COLUMN came bigint NOT NULL DEFAULT 0",
];

/// Held while the schema is looked at and changed, so that of two processes one waits ("axmp").
const LOCK: i64 = 0x6178_6d70;

/// What every connection begins with. Statements go by their index, however small a table was when the
/// server planned them, and none is worth being compiled. A transaction that waited for a row sees what
/// became of it. The server notices within half a minute that this machine is gone, and lets go of what
/// the connection held.
pub(super) fn session(schema: &str) -> String {
    format!(
        "SET search_path TO {schema}; SET client_min_messages TO warning; SET tcp_keepalives_idle TO 10; \
         SET tcp_keepalives_interval TO 5; SET tcp_keepalives_count TO 3; SET bytea_output TO hex; SET enable_seqscan TO off; \
         SET jit TO off; SET default_transaction_isolation TO 'read committed'"
    )
}

/// Brings the schema to the last of `migrations`.
pub(super) async fn migrate(
    client: &mut Client,
    address: &Address,
    migrations: &[&str],
) -> Result<()> {
    let found = run(client, &address.schema, migrations)
        .await
        .map_err(|error| explain(address, &Arc::new(Failure::from(error))))?;
    let known = migrations.len();
    if found > known {
        let text = format!(
            "the state store {address} has schema version {found}, this program knows {known}: a newer version \
             made it; run that one, or name another database"
        );
        return Err(Error::new(ErrorKind::Store, text));
    }
    Ok(())
}

async fn run(
    client: &mut Client,
    schema: &str,
    migrations: &[&str],
) -> Result<usize, tokio_postgres::Error> {
    let change = client.transaction().await?;
    change.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    let table = format!("{schema}.migration");
    let made = change.query_one("SELECT to_regclass($1::text) IS NOT NULL", &[&table]).await?;
    if !made.get::<_, bool>(0) {
        let sql = format!(
            "CREATE SCHEMA IF NOT EXISTS {schema}; CREATE TABLE {table} (version integer PRIMARY KEY, \
             applied timestamptz NOT NULL DEFAULT now())"
        );
        change.batch_execute(&sql).await?;
    }
    let sql = format!("SELECT coalesce(max(version), 0) FROM {table}");
    let found: i32 = change.query_one(&sql, &[]).await?.get(0);
    for (version, sql) in (1_i32..).zip(migrations).skip(usize::try_from(found).unwrap_or(0)) {
        change.batch_execute(sql).await?;
        let sql = format!("INSERT INTO {table} (version) VALUES ($1)");
        change.execute(&sql, &[&version]).await?;
    }
    change.commit().await?;
    Ok(usize::try_from(found).unwrap_or(0))
}
