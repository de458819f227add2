//! On the database that APPXMPP_TEST_POSTGRES names (`make test-rust` starts one), each test in a schema
//! of its own.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::service::roster::Subscription;
use crate::store::contract::{contents, key};

static SCHEMAS: AtomicU32 = AtomicU32::new(0);

/// An empty place in the database; `None`, and a word about it, where there is none.
fn place() -> Option<Address> {
    let Ok(url) = std::env::var("APPXMPP_TEST_POSTGRES") else {
        eprintln!("NOT TESTED: no PostgreSQL in APPXMPP_TEST_POSTGRES (make test-rust starts one)");
        return None;
    };
    let number = SCHEMAS.fetch_add(1, Ordering::Relaxed);
    let schema = format!("test_{}_{number}", std::process::id());
    Some(Address::parse(&url).unwrap().with_schema(&schema))
}

fn open(place: &Address) -> PostgresStore {
    PostgresStore::open_at(place.clone()).unwrap()
}

#[test]
fn keeps_the_contract() {
    if place().is_none() {
        return;
    }
    crate::store::contract::check(|| {
        let place = place().unwrap();
        Box::new(move || Box::new(open(&place)))
    });
}

fn put(i: u32) -> Change {
    Change::Subscription(key("app@d", &format!("c{i}@example.com")), Subscription::Both)
}

fn run(store: &PostgresStore, sql: &'static str) -> Vec<SqlRow> {
    store.ask(Op { sql, values: Vec::new() }).unwrap()
}

/// The text of a refusal, which does not repeat the password.
fn refusal(result: Result<impl Sized>) -> String {
    let Err(error) = result else { panic!("it was taken") };
    assert_eq!(error.kind(), ErrorKind::Store);
    let text = error.to_string();
    assert!(!text.contains("secret"), "{text}");
    text
}

#[test]
fn processes_that_open_a_new_database_at_once_wait_for_each_other() {
    let Some(place) = place() else { return };
    std::thread::scope(|scope| {
        for i in 0..8 {
            let place = &place;
            scope.spawn(move || open(place).apply(vec![put(i)], Durability::Now).unwrap());
        }
    });
    assert_eq!(contents(&open(&place)).len(), 8);
}

#[test]
fn a_newer_schema_is_refused() {
    let Some(place) = place() else { return };
    run(&open(&place), "INSERT INTO migration (version) VALUES (99)");
    let text = refusal(PostgresStore::open_at(place));
    assert!(text.contains("version 99") && text.contains("newer"), "{text}");
}

#[test]
fn connections_that_break_lose_nothing_and_nobody_notices() {
    let Some(place) = place() else { return };
    let store = open(&place);
    let killer = open(&place);
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let breaking = scope.spawn(|| {
            let mut broken = 0;
            while !over.load(Ordering::Relaxed) {
                // Whoever else is connected for longer than a moment, so that there is progress.
                let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()
                    AND query LIKE '%contact%' AND query NOT LIKE '%pg_terminate%'
                    AND clock_timestamp() - backend_start > '10 ms'";
                broken += run(&killer, sql).len();
            }
            broken
        });
        let writers: Vec<_> = (0..4)
            .map(|thread| {
                let store = &store;
                scope.spawn(move || {
                    for i in 0..200 {
                        let durability =
                            if i % 2 == 0 { Durability::Now } else { Durability::Soon };
                        store.apply(vec![put(thread * 1000 + i)], durability).unwrap();
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        store.sync().unwrap();
        over.store(true, Ordering::Relaxed);
        assert!(breaking.join().unwrap() > 0, "no connection was broken");
    });
    drop(store);
    assert_eq!(contents(&open(&place)).len(), 800);
}

#[test]
fn a_change_that_the_database_refuses_is_told_and_later_ones_work() {
    let Some(place) = place() else { return };
    let store = open(&place);
    run(&store, "ALTER TABLE contact RENAME TO elsewhere");
    store.apply(vec![put(1)], Durability::Soon).unwrap();
    assert!(refusal(store.sync()).contains("contact"));
    store.sync().unwrap();
    refusal(store.apply(vec![put(2)], Durability::Now));
    run(&store, "ALTER TABLE elsewhere RENAME TO contact");
    store.apply(vec![put(3)], Durability::Now).unwrap();
    assert_eq!(contents(&store).len(), 1);
}

#[test]
fn what_keeps_it_from_opening_is_named() {
    let Ok(url) = std::env::var("APPXMPP_TEST_POSTGRES") else { return };
    let missing = refusal(PostgresStore::open(&url.replace("///appxmpp", "///nowhere")));
    assert!(missing.contains("/nowhere") && missing.contains("createdb"), "{missing}");
    let user =
        refusal(PostgresStore::open(&url.replace("user=appxmpp", "user=nobody&password=secret")));
    assert!(user.contains("nobody@") && user.contains("correct"), "{user}");
}

#[test]
fn a_database_that_is_not_there_is_waited_for_and_then_named() {
    // Nothing listens in this folder.
    let text = refusal(PostgresStore::open("postgresql://bot:secret@/chat?host=/nonexistent"));
    assert!(text.contains("bot@/nonexistent") && text.contains("start PostgreSQL"), "{text}");
}
