use std::cell::Cell;

use super::*;
use crate::store::contract::{contents, key};
use crate::store::{Count, InboxRow, OutboxRow};

/// A folder of the test's own, removed at its end.
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("appxmpp-store-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(super) fn file(&self) -> PathBuf {
        self.0.join("state.db")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn put(i: u32) -> Change {
    Change::Subscription(key("app@d", &format!("c{i}@example.com")), Subscription::Both)
}

/// The text of a refusal, after checking that it names the file.
fn refusal(path: &Path, result: Result<impl Sized>) -> String {
    let Err(error) = result else { panic!("{path:?} was taken") };
    assert_eq!(error.kind(), ErrorKind::Store);
    let text = error.to_string();
    assert!(text.contains(path.to_str().unwrap()), "{text}");
    text
}

#[test]
fn keeps_the_contract() {
    let folder = Folder::new("contract");
    let made = Cell::new(0);
    crate::store::contract::check(|| {
        made.set(made.get() + 1);
        let path = folder.0.join(format!("{}.db", made.get()));
        Box::new(move || Box::new(SqliteStore::open(&path).unwrap()))
    });
}

#[test]
#[cfg(unix)]
fn only_its_owner_can_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("private");
    let store = SqliteStore::open(folder.file()).unwrap();
    store.apply(vec![put(1)], Durability::Now).unwrap();
    for file in std::fs::read_dir(&folder.0).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?} has mode {mode:o}", file.path());
    }
}

#[test]
fn what_is_no_database_is_refused() {
    let folder = Folder::new("nonsense");
    std::fs::write(folder.file(), "Dear diary, today I met a bot.\n".repeat(100)).unwrap();
    let text = refusal(&folder.file(), SqliteStore::open(folder.file()));
    assert!(text.contains("not a state store"), "{text}");
}

#[test]
fn another_programs_database_is_left_alone() {
    let folder = Folder::new("foreign");
    let other = Connection::open(folder.file()).unwrap();
    other.execute_batch("CREATE TABLE contact (mine TEXT)").unwrap();
    let before = std::fs::read(folder.file()).unwrap();
    let text = refusal(&folder.file(), SqliteStore::open(folder.file()));
    assert!(text.contains("another program"), "{text}");
    assert_eq!(std::fs::read(folder.file()).unwrap(), before);
}

#[test]
fn a_newer_schema_is_refused() {
    let folder = Folder::new("newer");
    drop(SqliteStore::open(folder.file()).unwrap());
    let connection = Connection::open(folder.file()).unwrap();
    connection.execute("INSERT INTO migration (version) VALUES (99)", []).unwrap();
    drop(connection);
    let text = refusal(&folder.file(), SqliteStore::open(folder.file()));
    assert!(text.contains("version 99") && text.contains("newer"), "{text}");
}

#[test]
fn an_older_schema_is_brought_up_to_date_and_keeps_its_rows() {
    let folder = Folder::new("older");
    let store = SqliteStore::open(folder.file()).unwrap();
    store.apply(vec![put(1)], Durability::Now).unwrap();
    drop(store);
    let mut connection = connect(&folder.file()).unwrap();
    let next = [MIGRATIONS, &["ALTER TABLE contact ADD COLUMN note TEXT"]].concat();
    for _ in 0..2 {
        assert_eq!(run_migrations(&mut connection, &next).unwrap(), next.len());
    }
    let rows: u32 = connection
        .query_row("SELECT count(*) FROM contact WHERE note IS NULL", [], |row| row.get(0))
        .unwrap();
    assert_eq!(rows, 1);
}

#[test]
fn a_store_of_version_1_opens_with_its_contacts_and_takes_what_is_new() {
    let folder = Folder::new("version-1");
    std::fs::write(folder.file(), include_bytes!("version-1.db")).unwrap();
    let store = SqliteStore::open(folder.file()).unwrap();
    let state = |subscription, available| ContactState { subscription, available, told: None };
    let of = |i| key("app@d", &format!("c{i}@example.com"));
    let expected = [
        (of(0), state(Subscription::from_number(1).unwrap(), None)),
        (of(1), state(Subscription::from_number(2).unwrap(), Show::from_number(0))),
        (of(2), state(Subscription::from_number(3).unwrap(), Show::from_number(3))),
    ];
    assert_eq!(contents(&store), expected.into_iter().collect());
    let count = Count { name: "opened".into(), day: 0, value: 7 };
    store.apply(vec![Change::Count("d".into(), count.clone())], Durability::Now).unwrap();
    drop(store);
    let mut rows = Vec::new();
    let store = SqliteStore::open(folder.file()).unwrap();
    store.load_queue("d", &mut |row| rows.push(row)).unwrap();
    assert_eq!(rows, [Row::Count(count)]);
}

#[test]
fn a_delivery_that_version_3_stored_is_kept_and_has_all_its_time() {
    let folder = Folder::new("version-3");
    let mut connection = Connection::open(folder.file()).unwrap();
    run_migrations(&mut connection, &MIGRATIONS[..3]).unwrap();
    let stored = "INSERT INTO inbox (queue, id, path, stanza) VALUES ('d', 7, '/p/', x'3c612f3e')";
    connection.execute(stored, []).unwrap();
    drop(connection);
    let mut rows = Vec::new();
    let store = SqliteStore::open(folder.file()).unwrap();
    store.load_queue("d", &mut |row| rows.push(row)).unwrap();
    let (stanza, came) = ("<a/>".into(), Duration::ZERO);
    assert_eq!(rows, [Row::Inbox(InboxRow { id: 7, path: "/p/".into(), stanza, lane: 0, came })]);
}

#[test]
fn a_full_disk_is_told_to_whoever_waits_for_a_message_to_be_kept() {
    let folder = Folder::new("full-outbox");
    let mut connection = connect_limited(&folder, 60);
    prepare(&folder.file(), &mut connection).unwrap();
    let mut writer = Writer::new(folder.file(), connection, Unreported::default());
    let (told, answers) = std::sync::mpsc::channel();
    let mut kept = 0_u64;
    loop {
        let row = OutboxRow {
            first: kept + 1,
            expires: Duration::MAX,
            heads: vec![vec![b'x'; 2000].into()],
            tail: bytes::Bytes::new(),
        };
        let told = told.clone();
        let done: Done = Box::new(move |written| told.send(written).unwrap());
        writer.work(vec![Call {
            changes: vec![Change::OutboxPut("d".into(), row)],
            done: Some(done),
            gather: false,
        }]);
        match answers.recv().unwrap() {
            Ok(()) => kept += 1,
            error => {
                let text = refusal(&folder.file(), error);
                assert!(text.contains("full") && text.contains("make room"), "{text}");
                break;
            }
        }
        assert!(kept < 10_000, "the disk never filled");
    }
    assert!(kept > 0);
    drop(writer);
    let mut rows = 0;
    let store = SqliteStore::open(folder.file()).unwrap();
    let mut count = |row| match row {
        Row::Outbox(row) => rows += row.heads.len() as u64,
        other => panic!("{other:?}"),
    };
    store.load_queue("d", &mut count).unwrap();
    assert_eq!(rows, kept);
}

#[test]
fn a_migration_that_fails_leaves_the_old_schema() {
    let folder = Folder::new("failing");
    drop(SqliteStore::open(folder.file()).unwrap());
    let mut connection = connect(&folder.file()).unwrap();
    let next = [MIGRATIONS, &["CREATE TABLE new (a TEXT); CREATE TABLE contact (twice TEXT)"]];
    run_migrations(&mut connection, &next.concat()).expect_err("the table exists");
    drop(connection);
    let store = SqliteStore::open(folder.file()).unwrap();
    assert!(contents(&store).is_empty());
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let folder = Folder::new("missing");
    let path = folder.0.join("no/state.db");
    let text = refusal(&path, SqliteStore::open(&path));
    assert!(text.contains("make its folder"), "{text}");
}

#[test]
fn a_folder_is_no_file() {
    let folder = Folder::new("folder");
    refusal(&folder.0, SqliteStore::open(&folder.0));
}

#[test]
fn a_damaged_file_is_told_and_not_believed() {
    let folder = Folder::new("damaged");
    let store = SqliteStore::open(folder.file()).unwrap();
    store.apply((0..5000).map(put).collect(), Durability::Now).unwrap();
    drop(store);
    let mut bytes = std::fs::read(folder.file()).unwrap();
    assert!(bytes.len() > 20 * 4096);
    for page in bytes.chunks_mut(4096).skip(4) {
        page.fill(0x5a);
    }
    std::fs::write(folder.file(), bytes).unwrap();
    let read = SqliteStore::open(folder.file()).and_then(|store| store.load(&mut |_, _| ()));
    let text = refusal(&folder.file(), read);
    assert!(text.contains("damaged") && text.contains("backup"), "{text}");
}

#[test]
fn a_full_disk_is_told_and_loses_nothing_that_was_kept() {
    let folder = Folder::new("full");
    let mut connection = connect_limited(&folder, 20);
    let unreported = Unreported::default();
    prepare(&folder.file(), &mut connection).unwrap();
    let mut writer = Writer::new(folder.file(), connection, unreported);
    let call = |from: u32| Call {
        changes: (from..from + 100).map(put).collect(),
        done: None,
        gather: false,
    };
    let mut kept = 0;
    let error = loop {
        match writer.write_tables(&[call(kept)], Vec::new()) {
            Ok(()) => kept += 100,
            Err(error) => break error,
        }
        assert!(kept < 100_000, "the disk never filled");
    };
    assert!(kept > 0);
    let text = sentence(&folder.file(), &error);
    assert!(text.contains("full") && text.contains("make room"), "{text}");
    drop(writer);
    assert_eq!(contents(&SqliteStore::open(folder.file()).unwrap()).len(), kept as usize);
}

/// SQLite's own bound on a file stands in for the disk's.
fn connect_limited(folder: &Folder, pages: u32) -> Connection {
    create_private(&folder.file()).unwrap();
    let connection = connect(&folder.file()).unwrap();
    connection.pragma_update(None, "max_page_count", pages).unwrap();
    connection
}

#[test]
fn a_locked_file_is_told_and_later_calls_work() {
    let folder = Folder::new("locked");
    create_private(&folder.file()).unwrap();
    let mut connection = connect(&folder.file()).unwrap();
    prepare(&folder.file(), &mut connection).unwrap();
    // Nobody waits five seconds in a test.
    connection.busy_timeout(Duration::ZERO).unwrap();
    let mut writer = Writer::new(folder.file(), connection, Unreported::default());
    let other = Connection::open(folder.file()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();

    let group = [Call { changes: vec![put(1)], done: None, gather: false }];
    let error = writer.write_tables(&group, Vec::new()).map_err(Arc::new);
    writer.report(group.into(), &error);
    let told = writer.unreported.lock().unwrap().take().unwrap();
    let text = refusal(&folder.file(), Err::<(), _>(told));
    assert!(text.contains("locked by another process"), "{text}");

    other.execute_batch("ROLLBACK").unwrap();
    writer
        .write_tables(&[Call { changes: vec![put(1)], done: None, gather: false }], Vec::new())
        .unwrap();
}

#[test]
fn a_fault_of_a_change_that_nobody_waited_for_shows_at_the_next_sync_once() {
    let folder = Folder::new("unreported");
    let store = SqliteStore::open(folder.file()).unwrap();
    // The table goes away under the writer.
    let other = Connection::open(folder.file()).unwrap();
    other.execute_batch("ALTER TABLE contact RENAME TO elsewhere").unwrap();
    store.apply(vec![put(1)], Durability::Soon).unwrap();
    refusal(&folder.file(), store.sync());
    store.sync().unwrap();
    refusal(&folder.file(), store.apply(vec![put(2)], Durability::Now));
    store.sync().unwrap();
    other.execute_batch("ALTER TABLE elsewhere RENAME TO contact").unwrap();
    store.apply(vec![put(3)], Durability::Now).unwrap();
    assert_eq!(contents(&store).len(), 1);
}

#[test]
fn two_processes_may_open_an_old_file_at_once() {
    let folder = Folder::new("race");
    std::thread::scope(|scope| {
        let opened: Vec<_> = (0..8_u32)
            .map(|i| {
                let path = folder.file();
                scope.spawn(move || {
                    let store = SqliteStore::open(path).unwrap();
                    store.apply(vec![put(i)], Durability::Now).unwrap();
                })
            })
            .collect();
        for thread in opened {
            thread.join().unwrap();
        }
    });
    assert_eq!(contents(&SqliteStore::open(folder.file()).unwrap()).len(), 8);
}
