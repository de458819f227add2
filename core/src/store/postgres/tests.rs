//! On the database that APPXMPP_TEST_POSTGRES names (`make test-rust` starts one), each test in a schema
//! of its own.

#[cfg(feature = "tls")]
mod tls;
mod upgrade;

use std::sync::atomic::{AtomicU32, Ordering};

use std::time::Duration;

use super::*;
use crate::service::roster::Subscription;
use crate::service::{Delivery, Quotas, Resource, Service, ServiceConfig, Show, turns};
use crate::store::contract::{contents, key};
use crate::store::{Fellow, InboxRow, OutboxRow, Place, Placed, QueueName};

static SCHEMAS: AtomicU32 = AtomicU32::new(0);

/// An empty place in the database; `None`, and a word about it, where there is none.
pub(crate) fn place() -> Option<Address> {
    let Ok(url) = std::env::var("APPXMPP_TEST_POSTGRES") else {
        eprintln!("NOT TESTED: no PostgreSQL in APPXMPP_TEST_POSTGRES (make test-rust starts one)");
        return None;
    };
    let number = SCHEMAS.fetch_add(1, Ordering::Relaxed);
    let schema = format!("test_{}_{number}", std::process::id());
    Some(Address::parse(&url).unwrap().with_schema(&schema))
}

pub(crate) fn open(place: &Address) -> PostgresStore {
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

/// A member of those who serve `app`, as a process leaves it that has just been killed.
pub(crate) fn kill_one(
    store: &PostgresStore,
    app: &str,
    rows: impl FnOnce(&QueueName) -> Vec<Change>,
) {
    let sql =
        "INSERT INTO member (queue, beat, up) VALUES ($1, clock_timestamp(), true) RETURNING id";
    let made = store.ask(Op { sql, values: vec![Box::new(app.to_owned())] }).unwrap();
    let queue = format!("{app}/{}", made[0].get::<_, i64>(0)).into();
    store.apply(rows(&queue), Durability::Now).unwrap();
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
    let killer = open(&place);
    let mut breaking = place.clone();
    breaking.config.application_name("breaks");
    let store = open(&breaking);
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let breaking = scope.spawn(|| {
            let mut broken = 0;
            while !over.load(Ordering::Relaxed) {
                // One that lives a moment, so that there is progress.
                let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                    WHERE application_name = 'breaks' AND clock_timestamp() - backend_start > '20 ms'";
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

fn service(place: &Address, quotas: Quotas) -> Service {
    let mut config = ServiceConfig::new("shop", "bot.example.com").unwrap();
    config.quotas = quotas;
    let service = Service::new(config, Box::new(open(place))).unwrap();
    service.set_utc(Duration::from_secs(20_000 * 24 * 60 * 60));
    service
}

/// Asks until the answer is true: what another process is told comes a moment later.
fn until(what: &str, mut question: impl FnMut() -> bool) {
    let since = std::time::Instant::now();
    while !question() {
        assert!(since.elapsed() < Duration::from_secs(20), "not there: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn hear(service: &Service, xml: &'static str) -> Vec<bytes::Bytes> {
    let scope = crate::xml::Scope::stream(crate::ns::COMPONENT);
    let stanza = crate::stanza::Stanza::parse(xml.into(), &scope, &crate::xml::Limits::default());
    service.handle_stanza(Duration::ZERO, stanza.unwrap()).sends
}

fn show(service: &Service) -> Option<Show> {
    service.get_presence(&["c@example.com"], Some("bot@bot.example.com")).unwrap()[0].show
}

#[test]
fn what_one_process_hears_the_others_know() {
    let Some(place) = place() else { return };
    let [a, b] = [(); 2].map(|()| service(&place, Quotas::default()));
    hear(&a, "<presence from='c@example.com' to='bot@bot.example.com' type='subscribe'/>");
    hear(&b, "<presence from='c@example.com' to='bot@bot.example.com' type='subscribed'/>");
    until("the subscription", || b.contacts() == 1);
    // Each resource may be heard by another process; all know the best.
    hear(
        &a,
        "<presence from='c@example.com/1' to='bot@bot.example.com'><show>dnd</show></presence>",
    );
    hear(
        &b,
        "<presence from='c@example.com/2' to='bot@bot.example.com'><show>away</show><priority>5</priority></presence>",
    );
    for service in [&a, &b] {
        until("the best resource", || show(service) == Some(Show::Away));
    }
    // What it heard is in the store before what another one hears later.
    b.sync().unwrap();
    hear(&a, "<presence from='c@example.com/2' to='bot@bot.example.com' type='unavailable'/>");
    for service in [&a, &b] {
        until("the one that is left", || show(service) == Some(Show::DoNotDisturb));
    }
    // One that joins later starts from what the store has.
    a.sync().unwrap();
    b.sync().unwrap();
    let c = service(&place, Quotas::default());
    assert_eq!(show(&c), Some(Show::DoNotDisturb));
    // The second acceptance is decided on what the first process knows.
    let again =
        hear(&b, "<presence from='c@example.com' to='bot@bot.example.com' type='subscribe'/>");
    assert_eq!(
        again.len(),
        hear(&a, "<presence from='c@example.com' to='bot@bot.example.com' type='subscribe'/>")
            .len()
    );
    hear(&b, "<presence from='c@example.com' to='bot@bot.example.com' type='unsubscribed'/>");
    for service in [&a, &b, &c] {
        until("the end of the subscription", || show(service).is_none());
    }
}

/// What a service wants to write now.
fn said(service: &Service, now: Duration) -> Vec<String> {
    let mut said = Vec::new();
    while service.poll_timeout().is_some_and(|at| at <= now) {
        let sends = service.handle_timeout(now, 100);
        said.extend(sends.iter().map(|it| String::from_utf8_lossy(it).into_owned()));
    }
    said
}

#[test]
fn what_two_processes_hear_at_once_is_the_same_in_all_books_and_the_contact_is_asked() {
    let Some(place) = place() else { return };
    let [a, b, c] = [(); 3].map(|()| service(&place, Quotas::default()));
    hear(&a, "<presence from='c@example.com' to='bot@bot.example.com' type='subscribe'/>");
    hear(&a, "<presence from='c@example.com' to='bot@bot.example.com' type='subscribed'/>");
    until("the subscription", || b.contacts() + c.contacts() == 2);
    let second = Duration::from_secs(1);
    for service in [&a, &b] {
        service.handle_ready(second);
        said(service, second);
    }
    let words = [
        "<presence from='c@example.com/1' to='bot@bot.example.com'><show>dnd</show></presence>",
        "<presence from='c@example.com/1' to='bot@bot.example.com'><show>away</show></presence>",
        "<presence from='c@example.com/1' to='bot@bot.example.com' type='unavailable'/>",
    ];
    for round in 2..32 {
        let [one, other] = [words[round % 3], words[(round + 1) % 3]];
        std::thread::scope(|scope| {
            scope.spawn(|| hear(&a, one));
            hear(&b, other);
        });
        // One of them, or both: whoever read it later, as far as anybody knows.
        let now = second * 30 * u32::try_from(round).unwrap();
        let mut asked = 0;
        until("the question", || {
            asked += [&a, &b].iter().map(|it| said(it, now).len()).sum::<usize>();
            asked > 0
        });
        a.sync().unwrap();
        b.sync().unwrap();
        until("one truth", || show(&a) == show(&b) && show(&b) == show(&c));
        // The contact's answer may come to any of them.
        hear(&c, "<presence from='c@example.com/1' to='bot@bot.example.com'/>");
        for service in [&a, &b, &c] {
            until("what was said last", || show(service) == Some(Show::Normal));
        }
    }
}

#[test]
fn processes_that_change_a_subscription_at_once_lose_nothing() {
    let Some(place) = place() else { return };
    let [a, b] = [(); 2].map(|()| service(&place, Quotas::default()));
    for _ in 0..20 {
        std::thread::scope(|scope| {
            let subscribe =
                "<presence from='c@example.com' to='bot@bot.example.com' type='subscribe'/>";
            let subscribed =
                "<presence from='c@example.com' to='bot@bot.example.com' type='subscribed'/>";
            hear(&a, subscribe);
            scope.spawn(|| hear(&a, subscribe));
            scope.spawn(|| hear(&b, subscribed));
        });
        let kept = contents(&open(&place));
        assert_eq!(kept.values().next().unwrap().subscription, Subscription::Both);
        for verb in [
            "<presence from='c@example.com' to='bot@bot.example.com' type='unsubscribe'/>",
            "<presence from='c@example.com' to='bot@bot.example.com' type='unsubscribed'/>",
        ] {
            hear(&b, verb);
        }
        assert!(contents(&open(&place)).is_empty());
    }
}

#[test]
fn a_quota_is_one_for_all_processes() {
    let Some(place) = place() else { return };
    let quotas = Quotas::default().with(Resource::InvitationsSent, 3);
    let [a, b] = [(); 2].map(|()| service(&place, quotas));
    a.send_invite("c@example.com", None).unwrap();
    b.send_invite("d@example.com", None).unwrap();
    let used = |service: &Service| service.usage()[Resource::InvitationsSent as usize].used;
    for service in [&a, &b] {
        until("what the other used", || used(service) == 2);
    }
    a.send_invite("e@example.com", None).unwrap();
    until("the last one", || used(&b) == 3);
    assert_eq!(b.send_invite("f@example.com", None).unwrap_err().kind(), ErrorKind::OverQuota);
    assert_eq!(used(&service(&place, quotas)), 3);
}

#[test]
fn deliveries_alone_are_left_at_a_stop_too() {
    let Some(place) = place() else { return };
    let first = service(&place, Quotas::default());
    let stanza = "<message from='c@example.com' to='bot@bot.example.com' type='chat'><body>hi</body></message>";
    let inbox = InboxRow {
        id: 77,
        path: "/_ah/xmpp/message/chat/".into(),
        stanza: stanza.into(),
        lane: 0,
        came: Duration::ZERO,
    };
    first.keep(vec![Change::InboxPut(first.queue().clone(), inbox)], Durability::Now).unwrap();
    drop(first);
    let next = service(&place, Quotas::default());
    let mut legacy = None;
    until("what was left", || {
        legacy = next.next_legacy().unwrap();
        legacy.is_some()
    });
    assert_eq!(legacy.unwrap().deliveries[0].id, 77);
}

fn row(first: u64, heads: &[&'static str]) -> OutboxRow {
    OutboxRow {
        first,
        expires: Duration::from_secs(3),
        heads: heads.iter().map(|head| (*head).into()).collect(),
        tail: bytes::Bytes::new(),
    }
}

#[test]
fn what_a_process_leaves_is_one_other_s() {
    let Some(place) = place() else { return };
    let first = service(&place, Quotas::default());
    let others = [(); 3].map(|()| service(&place, Quotas::default()));
    first.restore_deliveries().unwrap();
    let queue = || first.queue().clone();
    let stanza = "<message from='c@example.com' to='bot@bot.example.com' type='chat'><body>hi</body></message>";
    let inbox = InboxRow {
        id: 77,
        path: "/_ah/xmpp/message/chat/".into(),
        stanza: stanza.into(),
        lane: 0,
        came: Duration::ZERO,
    };
    first
        .keep(
            vec![
                Change::OutboxPut(queue(), row(1, &["<a/>", "<b/>", "<c/>"])),
                Change::OutboxDone(queue(), 1),
                Change::InboxPut(queue(), inbox),
            ],
            Durability::Now,
        )
        .unwrap();
    let number = queue().rsplit('/').next().unwrap().parse().unwrap();
    let it = |other: &Service| other.fellows().unwrap().into_iter().find(|it| it.number == number);
    for other in &others {
        assert!(other.next_legacy().unwrap().is_none(), "it is still there");
        let found = it(other).unwrap();
        let is_there = found.held && found.fresh && found.beat > 0;
        assert!(is_there && found.inbox && found.outbox && !found.up, "{found:?}");
    }
    drop(first);
    // The database notices the end of a connection a moment later.
    until("the end of its connection", || !it(&others[0]).unwrap().held);
    let left = it(&others[0]).unwrap();
    assert_eq!(left, Fellow { number, inbox: true, outbox: true, ..Fellow::default() });
    let mut taken = Vec::new();
    until("the one who takes it", || {
        taken
            .extend(others.iter().filter_map(|other| Some((other, other.next_legacy().unwrap()?))));
        !taken.is_empty()
    });
    let (heir, legacy) = taken.pop().unwrap();
    assert!(taken.is_empty());
    assert_eq!(legacy.messages, [row(2, &["<b/>", "<c/>"])]);
    assert_eq!(legacy.deliveries.iter().map(|it| it.id).collect::<Vec<_>>(), [77]);
    heir.keep(legacy.changes, Durability::Now).unwrap();
    let mut rows = Vec::new();
    open(&place).load_queue(heir.queue(), &mut |row| rows.push(row)).unwrap();
    let (row, turn) = (matches!(rows[0], Row::Inbox(InboxRow { id: 77, .. })), &rows[1..]);
    assert!(row && matches!(turn, [Row::Turn(77, 1..)]), "{rows:?}");
    assert!(others.iter().all(|other| it(other).is_none()));
    assert!(others.iter().all(Service::holds) && !others.iter().any(Service::is_evicted));
}

#[test]
fn what_a_process_cannot_send_is_taken_over_by_one_that_has_a_stream() {
    let Some(place) = place() else { return };
    let [first, second, third] = [(); 3].map(|()| service(&place, Quotas::default()));
    second.handle_ready(Duration::from_secs(1));
    until("word of the stream", || [&first, &third].iter().all(|it| it.others() == 1));
    let queue = || first.queue().clone();
    let put = |row| Change::OutboxPut(queue(), row);
    let changes = vec![
        put(row(1, &["<a/>", "<b/>"])),
        put(row(7, &["<c/>"])),
        Change::OutboxDone(queue(), 1),
        put(row(9, &["<d/>"])),
    ];
    first.keep(changes, Durability::Now).unwrap();
    let hand_over = || first.keep(vec![Change::Bequeath(queue(), 2, 7)], Durability::Now);
    hand_over().unwrap();
    // An answer that got lost has the statement made again.
    hand_over().unwrap();
    let mut legacy = None;
    until("what is handed over", || {
        legacy = second.next_legacy().unwrap();
        assert!(third.next_legacy().unwrap().is_none(), "it has no stream");
        legacy.is_some()
    });
    let legacy = legacy.unwrap();
    assert_eq!(legacy.messages, [row(2, &["<b/>"]), row(7, &["<c/>"])]);
    assert!(legacy.deliveries.is_empty());
    second.keep(legacy.changes, Durability::Now).unwrap();
    let mut rows = Vec::new();
    open(&place).load_queue(first.queue(), &mut |row| rows.push(row)).unwrap();
    assert_eq!(rows, [Row::Outbox(row(9, &["<d/>"])), Row::OutboxDone(1)]);
    assert_eq!(first.fellows().unwrap().len(), 2, "nothing is left of it");
    assert!(first.holds() && !first.is_evicted());
}

#[test]
fn a_process_that_was_taken_over_from_stores_nothing_that_nobody_would_come_for() {
    let Some(place) = place() else { return };
    let [first, second] = [(); 2].map(|()| service(&place, Quotas::default()));
    for service in [&first, &second] {
        service.restore_deliveries().unwrap();
    }
    keep(&first, "c@example.com", "1");
    let number = |service: &Service| service.queue().rsplit('/').next().unwrap().to_owned();
    let sql = "UPDATE member SET heir = $1::text::bigint WHERE id = $2::text::bigint";
    let values: Vec<link::Value> = vec![Box::new(number(&second)), Box::new(number(&first))];
    open(&place).ask(Op { sql, values }).unwrap();
    let late = first.keep_delivery(&message(&first, "c@example.com", "2"));
    let presence = Change::Presence(key("bot@bot.example.com", "c@example.com"), None);
    let text = refusal(first.keep(vec![presence, late], Durability::Now));
    assert!(text.contains("another one took over; start it again"), "{text}");
    let store = open(&place);
    assert_eq!(run(&store, "SELECT FROM inbox").len(), 1);
    until("the end", || first.is_evicted());
    // Where it stores what is nobody's queue, it is not in the way.
    first.keep(vec![put(1)], Durability::Now).unwrap();
    keep(&second, "d@example.com", "3");
}

#[test]
fn a_process_that_writes_is_not_taken_over_from_before_it_has_written() {
    let Some(place) = place() else { return };
    let service = service(&place, Quotas::default());
    let store = open(&place);
    kill_one(&store, "bot.example.com", |_| Vec::new());
    run(&store, "UPDATE member SET beat = '-infinity' WHERE up");
    // As long as this transaction lasts.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut link = Link::new(Arc::new(place.clone()));
    let begun = "BEGIN; SELECT FROM member WHERE beat = '-infinity' FOR SHARE";
    runtime.block_on(async { link.client().await.unwrap().batch_execute(begun).await }).unwrap();
    let number = service.queue().rsplit('/').next().unwrap().parse::<u64>().unwrap();
    let beat = || service_beat(&store, number);
    let before = beat();
    until("a beat, and another one that has looked around", || beat() > before + 1_500_000);
    assert!(service.next_legacy().unwrap().is_none(), "it was taken over");
    runtime.block_on(async { link.client().await.unwrap().batch_execute("COMMIT").await }).unwrap();
    until("the take-over", || service.next_legacy().unwrap().is_some());
}

/// When a member was there, in microseconds.
fn service_beat(store: &PostgresStore, number: u64) -> u64 {
    let rows = store.ask(heart::fellows("bot.example.com", 0)).unwrap();
    rows.iter().map(heart::fellow_of).find(|it| it.number == number).unwrap().beat
}

fn message(service: &Service, sender: &str, body: &str) -> Delivery {
    let scope = crate::xml::Scope::stream(crate::ns::COMPONENT);
    let xml = format!(
        "<message from='{sender}/x' to='bot@bot.example.com' type='chat'><body>{body}</body></message>"
    );
    let stanza =
        crate::stanza::Stanza::parse(xml.into(), &scope, &crate::xml::Limits::default()).unwrap();
    service.handle_stanza(Duration::ZERO, stanza).delivery.unwrap()
}

fn keep(service: &Service, sender: &str, body: &str) -> Delivery {
    let mut delivery = [message(service, sender, body)];
    let (told, answer) = channel();
    let done = move |placed| told.send(placed).unwrap();
    service.submit_placed(vec![service.keep_delivery(&delivery[0])], Box::new(done));
    turns::place(&mut delivery, &answer.recv().unwrap().unwrap());
    let [delivery] = delivery;
    delivery
}

#[test]
fn a_delivery_knows_whether_another_process_has_an_earlier_one_of_its_sender() {
    let Some(place) = place() else { return };
    let [a, b] = [(); 2].map(|()| service(&place, Quotas::default()));
    for service in [&a, &b] {
        service.restore_deliveries().unwrap();
    }
    let first = keep(&a, "c@example.com", "1");
    let second = keep(&a, "c@example.com", "2");
    assert!(!first.place.behind && !second.place.behind, "the process itself knows");
    assert!(first.place.turn > 0 && first.place.turn < second.place.turn);
    assert!(!keep(&b, "d@example.com", "1").place.behind, "of another sender");
    let third = keep(&b, "c@example.com", "3");
    assert!(third.place.behind && second.place.turn < third.place.turn);
    let fourth = keep(&a, "c@example.com", "4");
    assert!(fourth.place.behind);
    let behind = |service: &Service, delivery: &Delivery| {
        let behind = service.behind(&service.turns([delivery])).unwrap();
        behind.first().map(|it| (it.id == delivery.id, it.living))
    };
    assert_eq!(behind(&b, &third), Some((true, true)));
    for done in [&first, &second] {
        a.keep(vec![a.delivery_done(done.id)], Durability::Now).unwrap();
    }
    assert_eq!(behind(&b, &third), None);
    assert_eq!(behind(&a, &fourth), Some((true, true)), "nobody waits for a later one");
    // What is taken over keeps its turn.
    drop(a);
    let mut legacy = None;
    until("what was left", || {
        legacy = b.next_legacy().unwrap();
        legacy.is_some()
    });
    let legacy = legacy.unwrap();
    assert_eq!(legacy.deliveries[0].id, fourth.id);
    assert_eq!(legacy.deliveries[0].place, Place { turn: fourth.place.turn, behind: true });
    b.keep(legacy.changes, Durability::Now).unwrap();
    assert_eq!(behind(&b, &legacy.deliveries[0]), None, "the one before is its own");
}

#[test]
fn whoever_stores_messages_learns_whether_others_wait_for_another_process() {
    let Some(place) = place() else { return };
    let [a, b] = [(); 2].map(|()| service(&place, Quotas::default()));
    let put = |service: &Service, first: u64| {
        let row = OutboxRow {
            first,
            expires: Duration::from_secs(3),
            heads: vec!["<a/>".into()],
            tail: bytes::Bytes::new(),
        };
        let (told, answer) = channel();
        let done = move |placed: Result<Placed>| told.send(placed.unwrap().elsewhere).unwrap();
        let put = vec![Change::OutboxPut(service.queue().clone(), row)];
        service.submit_placed(put, Box::new(done));
        answer.recv().unwrap()
    };
    assert!(!put(&a, 1) && !put(&a, 2), "its own");
    assert!(put(&b, 1));
    a.keep(vec![Change::OutboxDone(a.queue().clone(), 2)], Durability::Now).unwrap();
    assert!(!put(&b, 2));
}
