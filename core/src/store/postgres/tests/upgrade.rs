//! Databases as each older version made and filled them, opened by this one.

use super::*;
use crate::store::OwnPresence;

const APP: &str = "bot.example.com";
/// The process that wrote the rows: its number begins the ids of its deliveries.
const NUMBER: u64 = 7;
const FIRST: u64 = NUMBER << 40;

/// Makes a database of an older version in `place`, with its rows in `queue` and what is its own.
fn make(place: &Address, tables: &str, queue: &str, own: &str) {
    let rows = include_str!("versions/rows.sql").replace("QUEUE", queue);
    let sql = format!("CREATE SCHEMA {}; {tables}; {rows}; {own}", place.schema);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut link = Link::new(Arc::new(place.clone()));
    runtime.block_on(async { link.client().await.unwrap().batch_execute(&sql).await }).unwrap();
}

fn check_contacts(place: &Address) {
    let state = |subscription, available, told: Option<(bool, Show, &str)>| {
        let told = told.map(|(unavailable, show, status)| {
            Box::new(OwnPresence { unavailable, show, status: status.into() })
        });
        ContactState { subscription, available, told }
    };
    let expected = [
        ("asked@example.com", state(Subscription::NonePendingOut, None, None)),
        (
            "friend@example.com",
            state(
                Subscription::Both,
                Some(Show::DoNotDisturb),
                Some((false, Show::Away, "caf\u{e9}")),
            ),
        ),
        (
            "nul\0@example.com",
            state(Subscription::NonePendingIn, None, Some((true, Show::Normal, ""))),
        ),
    ];
    let expected = expected.map(|(contact, state)| (key("bot@bot.example.com", contact), state));
    assert_eq!(contents(&open(place)), expected.into());
}

/// What waited is taken over, in order, and can be worked with as if this version had stored it.
fn check_what_waited(service: &Service) {
    let mut legacy = None;
    until("what was left", || {
        legacy = service.next_legacy().unwrap();
        legacy.is_some()
    });
    let legacy = legacy.unwrap();
    let row = |first, head: &'static str, tail: &'static str| OutboxRow {
        first,
        expires: Duration::from_millis(9_000_000_000_000),
        heads: vec![head.into()],
        tail: tail.into(),
    };
    assert_eq!(legacy.messages, [row(5, "<b/>", ""), row(6, "<c", "/>")]);
    let ids: Vec<_> = legacy.deliveries.iter().map(|it| it.id).collect();
    assert_eq!(ids, [FIRST, FIRST + 1]);
    assert_eq!(&*legacy.deliveries[0].sender, "c@example.com");
    service.keep(legacy.changes, Durability::Now).unwrap();
    assert!(service.next_legacy().unwrap().is_none(), "it is taken over once");
    let next = keep(service, "c@example.com", "3");
    assert!(next.id > FIRST + 1 && !next.place.behind, "{next:?}");
    let dead = service.delivery_dead(FIRST, Duration::from_secs(9), "late");
    service.keep(vec![dead, service.delivery_done(FIRST + 1)], Durability::Now).unwrap();
}

fn check_dead_letters(service: &Service) {
    let letters = service.dead_letters().unwrap();
    let seen: Vec<_> = letters.iter().map(|it| (it.row.id, &*it.reason)).collect();
    assert_eq!(seen, [(FIRST - 1, "no answer"), (FIRST, "late")]);
    assert_eq!(letters[0].at, Duration::from_millis(1_728_000_000_123));
    let replayed = service.replay_dead_letters(&[FIRST - 1].into()).unwrap();
    assert_eq!(replayed.iter().map(|it| it.id).collect::<Vec<_>>(), [FIRST - 1]);
    assert_eq!(service.dead_letters().unwrap().len(), 1);
}

fn check(tables: &str, queue: &str, own: &str) {
    let Some(place) = place() else { return };
    make(&place, tables, queue, own);
    check_contacts(&place);
    let service = service(&place, Quotas::default().with(Resource::InvitationsSent, 3));
    service.restore_deliveries().unwrap();
    assert_eq!(service.usage()[Resource::InvitationsSent as usize].used, 2);
    check_what_waited(&service);
    check_dead_letters(&service);
    // The others of this process, beside the one that is there.
    let store = open(&place);
    let rows = run(&store, "SELECT queue FROM inbox UNION ALL SELECT queue FROM outbox");
    let queues: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(queues, [&**service.queue(); 2], "the new delivery and the one that was replayed");
    let rows = run(&store, "SELECT id FROM member");
    let numbers: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    assert!(matches!(numbers[..], [number] if number.cast_unsigned() > NUMBER), "{numbers:?}");
    let version = run(&store, "SELECT max(version) FROM migration")[0].get::<_, i32>(0);
    assert_eq!(usize::try_from(version).unwrap(), schema::MIGRATIONS.len());
}

/// The process that wrote the rows, killed long ago.
const MEMBER: &str = "SELECT setval('member_id_seq', 6);
    INSERT INTO member (queue, beat, up) VALUES ('bot.example.com', '2024-11-20', true)";

#[test]
fn version_1_of_one_process_alone() {
    let runs = "INSERT INTO count VALUES ('bot.example.com', 'runs', 0, 7)";
    check(include_str!("versions/1-alone.sql"), APP, runs);
}

#[test]
fn version_1_of_several_processes() {
    check(include_str!("versions/1.sql"), &format!("{APP}/{NUMBER}"), MEMBER);
}

#[test]
fn version_2() {
    let own = format!("{MEMBER}; UPDATE inbox SET lane = 77; UPDATE dead_letter SET lane = 78");
    check(include_str!("versions/2.sql"), &format!("{APP}/{NUMBER}"), &own);
}

#[test]
fn version_3() {
    let own = format!("{MEMBER}; UPDATE inbox SET lane = 77; UPDATE dead_letter SET lane = 78");
    check(include_str!("versions/3.sql"), &format!("{APP}/{NUMBER}"), &own);
}
