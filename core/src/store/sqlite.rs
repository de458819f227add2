//! A store in one SQLite file: WAL, one writer thread, group commit.

mod log;
mod queue;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior, ffi, params};

use super::{Change, ContactKey, ContactState, DeadLetter, Done, Durability, Row, Store};
use crate::error::{Error, ErrorKind, Result};
use crate::service::presence::{OwnPresence, Show};
use crate::service::roster::Subscription;
use log::Log;
use writer::{Call, Fault, Unreported, Writer};

/// Marks a file as ours ("axmp"), so that no other program's database is written into.
const APPLICATION_ID: i32 = 0x6178_6d70;
/// How long a call waits for another process that is writing.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How many calls may wait for the writer; more of them wait in [`Store::apply`].
const QUEUE: usize = 1024;

/// Each takes the schema one version further. What has been released is never edited.
const MIGRATIONS: &[&str] = &[
    "CREATE TABLE contact (
        own TEXT NOT NULL,
        contact TEXT NOT NULL,
        subscription INTEGER NOT NULL,
        show INTEGER,
        PRIMARY KEY (own, contact)
    ) STRICT, WITHOUT ROWID",
    queue::SCHEMA,
    // What the app told the contact of itself: all NULL, or none.
    "ALTER TABLE contact ADD COLUMN told_unavailable INTEGER;
    ALTER TABLE contact ADD COLUMN told_show INTEGER;
    ALTER TABLE contact ADD COLUMN told_status TEXT",
    queue::CAME,
];

/// Keeps contacts in a file. Dropping it writes what is left and closes the file.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    reader: Mutex<Connection>,
    calls: Option<SyncSender<Call>>,
    writer: Option<JoinHandle<()>>,
    unreported: Unreported,
}

impl SqliteStore {
    /// Opens the store in the file `path`, or makes it, readable for its owner alone. The schema
    /// of an older version is brought up to date.
    ///
    /// # Errors
    /// [`ErrorKind::Store`]: the file cannot be opened, is locked, damaged, no store, or made by
    /// a newer version.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let explain = |error| explain(&path, error);
        create_private(&path)?;
        let mut connection = connect(&path).map_err(explain)?;
        prepare(&path, &mut connection)?;
        let reader = connect(&path).map_err(explain)?;

        let (calls, queue) = sync_channel(QUEUE);
        let unreported = Unreported::default();
        let mut writer = Writer::new(path.clone(), connection, Arc::clone(&unreported));
        writer.open_log()?;
        let writer = std::thread::Builder::new()
            .name("appxmpp-store".to_owned())
            .spawn(move || writer.run(&queue))
            .map_err(|error| {
                let text =
                    "no thread could be started for the state store; raise the limit of threads";
                Error::new(ErrorKind::Store, text).with_source(error)
            })?;
        Ok(Self {
            path,
            reader: Mutex::new(reader),
            calls: Some(calls),
            writer: Some(writer),
            unreported,
        })
    }

    fn send(&self, call: Call) -> Result<()> {
        let calls = self.calls.as_ref().ok_or_else(|| self.gone())?;
        calls.send(call).map_err(|_| self.gone())
    }

    fn wait_for(&self, changes: Vec<Change>) -> Result<()> {
        self.wait(|done| Call { changes, done, gather: false })
    }

    fn wait(&self, call: impl FnOnce(Option<Done>) -> Call) -> Result<()> {
        let (done, answer) = sync_channel(1);
        let done = move |written| {
            // The waiting thread may be gone.
            let _ = done.try_send(written);
        };
        self.send(call(Some(Box::new(done))))?;
        answer.recv().map_err(|_| self.gone())?
    }

    fn gone(&self) -> Error {
        let path = self.path.display();
        let text = format!("the writer of the state store {path} is gone; open it again");
        Error::new(ErrorKind::Store, text)
    }

    /// Reads with all changes applied so far.
    fn read(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<()>) -> Result<()> {
        self.wait_for(Vec::new())?;
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        read(&reader).map_err(|error| explain(&self.path, error))
    }
}

impl Store for SqliteStore {
    fn load(&self, contact: &mut dyn FnMut(ContactKey, ContactState)) -> Result<()> {
        self.read(|reader| read(reader, contact))
    }

    fn apply(&self, changes: Vec<Change>, durability: Durability) -> Result<()> {
        match durability {
            Durability::Soon => self.send(Call { changes, done: None, gather: false }),
            Durability::Now => self.wait_for(changes),
        }
    }

    fn submit(&self, changes: Vec<Change>, done: Done) {
        let call = Call { changes, done: Some(done), gather: false };
        let refused = match &self.calls {
            Some(calls) => calls.send(call).err().map(|refused| refused.0),
            None => Some(call),
        };
        if let Some(Call { done: Some(done), .. }) = refused {
            done(Err(self.gone()));
        }
    }

    fn load_queue(&self, name: &str, row: &mut dyn FnMut(Row)) -> Result<()> {
        // Before the table: what another process moves there meanwhile is found twice, not never.
        let log = Log::peek(&Log::path_of(&self.path));
        self.wait(|done| Call { changes: Vec::new(), done, gather: true })?;
        let log = log.map_err(|error| explain(&self.path, error))?;
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let read = queue::read(&reader, name, log, row);
        read.map_err(|error| explain(&self.path, error))
    }

    fn dead_letters(&self, name: &str, letter: &mut dyn FnMut(DeadLetter)) -> Result<()> {
        self.read(|reader| queue::read_dead(reader, name, letter))
    }

    fn sync(&self) -> Result<()> {
        let written = self.wait_for(Vec::new());
        let earlier = self.unreported.lock().unwrap_or_else(PoisonError::into_inner).take();
        earlier.map_or(written, Err)
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.calls = None;
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has nothing left to say here.
            let _ = writer.join();
        }
    }
}

fn write(transaction: &Transaction<'_>, change: &Change) -> rusqlite::Result<()> {
    match change {
        Change::Subscription(key, Subscription::None) => {
            let sql = "DELETE FROM contact WHERE own = ?1 AND contact = ?2";
            transaction.prepare_cached(sql)?.execute(params![key.own, key.contact])
        }
        Change::Subscription(key, subscription) => {
            let sql = "INSERT INTO contact (own, contact, subscription) VALUES (?1, ?2, ?3)
                ON CONFLICT DO UPDATE SET subscription = excluded.subscription";
            let values = params![key.own, key.contact, *subscription as u8];
            transaction.prepare_cached(sql)?.execute(values)
        }
        Change::Presence(key, available) => {
            let sql = "UPDATE contact SET show = ?3 WHERE own = ?1 AND contact = ?2";
            let show = available.map(|show| show as u8);
            transaction.prepare_cached(sql)?.execute(params![key.own, key.contact, show])
        }
        Change::Told(key, told) => {
            let sql = "UPDATE contact SET told_unavailable = ?3, told_show = ?4, told_status = ?5
                WHERE own = ?1 AND contact = ?2";
            let told = told.as_deref();
            let values = params![
                key.own,
                key.contact,
                told.map(|told| told.unavailable),
                told.map(|told| told.show as u8),
                told.map(|told| &*told.status),
            ];
            transaction.prepare_cached(sql)?.execute(values)
        }
        waiting => return queue::write(transaction, waiting),
    }
    .map(drop)
}

fn read(
    reader: &Connection,
    contact: &mut dyn FnMut(ContactKey, ContactState),
) -> rusqlite::Result<()> {
    let sql = "SELECT own, contact, subscription, show, told_unavailable, told_show, told_status
        FROM contact";
    let mut select = reader.prepare(sql)?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let text =
            |column| row.get_ref(column)?.as_str().map(Box::from).map_err(rusqlite::Error::from);
        let key = ContactKey { own: text(0)?, contact: text(1)? };
        let show: Option<i64> = row.get(3)?;
        // A number that a newer schema would mean: as good as nothing known.
        let subscription = Subscription::from_number(row.get(2)?).unwrap_or_default();
        let available = show.map(|show| Show::from_number(show).unwrap_or_default());
        contact(key, ContactState { subscription, available, told: told(row)? });
    }
    Ok(())
}

fn told(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<Box<OwnPresence>>> {
    let Some(unavailable) = row.get(4)? else { return Ok(None) };
    let show: Option<i64> = row.get(5)?;
    let show = show.and_then(Show::from_number).unwrap_or_default();
    let status: Option<Box<str>> = row.get(6)?;
    Ok(Some(Box::new(OwnPresence { unavailable, show, status: status.unwrap_or_default() })))
}

/// Contacts are private: SQLite would make the file readable for everybody.
fn create_private(path: &Path) -> Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => {
            let text = format!(
                "the state store {} cannot be made ({error}); make its folder, or check who may write there",
                path.display()
            );
            Err(Error::new(ErrorKind::Store, text).with_source(error))
        }
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // FULL: a commit that was reported survives a power cut.
    connection.pragma_update(None, "synchronous", "FULL")?;
    // Pages that are written again and again are copied into the file once in a while only.
    connection.pragma_update(None, "wal_autocheckpoint", 4000)?;
    Ok(connection)
}

fn prepare(path: &Path, connection: &mut Connection) -> Result<()> {
    let explain = |error| explain(path, error);
    let (id, tables) = whose(connection).map_err(explain)?;
    if id != APPLICATION_ID && tables > 0 {
        let text = format!(
            "the file {} is a database of another program; name a file of its own for the state store",
            path.display()
        );
        return Err(Error::new(ErrorKind::Store, text));
    }
    let mode = write_ahead_log(connection).map_err(explain)?;
    if mode != "wal" {
        let text = format!(
            "the state store {} cannot use a write-ahead log here (journal mode {mode}); put it on a local disk",
            path.display()
        );
        return Err(Error::new(ErrorKind::Store, text));
    }
    migrate(path, connection)
}

/// The application id of the file and how many tables it has, at one moment: another process may be
/// making it.
fn whose(connection: &mut Connection) -> rusqlite::Result<(i32, i64)> {
    let moment = connection.transaction()?;
    let tables = moment.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))?;
    let id = moment.pragma_query_value(None, "application_id", |row| row.get(0))?;
    Ok((id, tables))
}

/// Asks for a write-ahead log and returns the journal mode there is. SQLite does not apply the busy
/// timeout to this change when several connections ask for it at once, so it is applied here.
fn write_ahead_log(connection: &Connection) -> rusqlite::Result<String> {
    let ask = || connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0));
    let pause = BUSY_TIMEOUT / 250;
    for _ in 0..250 {
        match ask() {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {
                std::thread::sleep(pause);
            }
            other => return other,
        }
    }
    ask()
}

fn migrate(path: &Path, connection: &mut Connection) -> Result<()> {
    let known = MIGRATIONS.len();
    let current = run_migrations(connection, MIGRATIONS).map_err(|error| explain(path, error))?;
    if current > known {
        let text = format!(
            "the state store {} has schema version {current}, this program knows {known}: a newer version \
             made it; run that one, or name another file",
            path.display()
        );
        return Err(Error::new(ErrorKind::Store, text));
    }
    Ok(())
}

/// Brings the schema to the last of `migrations` and returns the version found before, if that is
/// further already, or after.
fn run_migrations(connection: &mut Connection, migrations: &[&str]) -> rusqlite::Result<usize> {
    // Immediate: of two processes that open an old store, one migrates and the other waits.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS migration (
            version INTEGER PRIMARY KEY,
            applied TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
        ) STRICT",
    )?;
    let current: u32 =
        transaction
            .query_row("SELECT coalesce(max(version), 0) FROM migration", [], |row| row.get(0))?;
    for (version, sql) in (1_u32..).zip(migrations).skip(current as usize) {
        transaction.execute_batch(sql)?;
        transaction.execute("INSERT INTO migration (version) VALUES (?1)", [version])?;
    }
    transaction.commit()?;
    Ok((current as usize).max(migrations.len()))
}

fn explain(path: &Path, fault: impl Into<Fault>) -> Error {
    explain_shared(path, Arc::new(fault.into()))
}

fn explain_shared(path: &Path, fault: Arc<Fault>) -> Error {
    Error::new(ErrorKind::Store, sentence(path, &fault)).with_source(fault)
}

/// What the library's code for a fault of the operating system would be.
fn code(fault: &Fault) -> Option<ErrorCode> {
    match fault {
        Fault::Table(error) => error.sqlite_error_code(),
        Fault::Log(error) => Some(match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorCode::DiskFull,
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                ErrorCode::ReadOnly
            }
            _ => ErrorCode::SystemIoFailure,
        }),
    }
}

fn sentence(path: &Path, error: &Fault) -> String {
    use ffi::ErrorCode as Code;
    let path = path.display();
    match code(error) {
        Some(Code::DatabaseBusy | Code::DatabaseLocked) => format!(
            "the state store {path} is locked by another process; stop that one, or name another file"
        ),
        Some(Code::NotADatabase) => format!(
            "the file {path} is not a state store; name another file, or move this one away"
        ),
        Some(Code::DatabaseCorrupt) => format!(
            "the state store {path} is damaged; restore it from a backup, or move it away and start with an \
             empty one (contacts are asked again)"
        ),
        Some(Code::DiskFull) => {
            format!("the disk of the state store {path} is full; make room on it")
        }
        Some(Code::ReadOnly | Code::PermissionDenied | Code::AuthorizationForStatementDenied) => {
            format!(
                "the state store {path} may not be written; check who owns the file and its folder"
            )
        }
        Some(Code::CannotOpen) => format!(
            "the state store {path} cannot be opened; check that it is a file and who may read its folder"
        ),
        Some(Code::SystemIoFailure) => format!(
            "the disk of the state store {path} does not read or write ({error}); check the disk"
        ),
        _ => format!("the state store {path} failed ({error}); please report it"),
    }
}

#[cfg(test)]
mod tests;
