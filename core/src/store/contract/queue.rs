//! What every store must do with what waits.

use std::sync::mpsc::channel;
use std::time::Duration;

use bytes::Bytes;

use super::Open;
use crate::store::{
    Change, Count, DeadLetter, Durability, InboxRow, OutboxRow, QueueName, Row, Store,
};

pub(super) fn check(fresh: &impl Fn() -> Open) {
    messages_wait_in_order_until_they_are_done(&fresh());
    a_call_is_kept_whole_until_its_last_message_is_done(&fresh());
    what_was_submitted_is_told_when_it_is_kept(&fresh());
    deliveries_wait_until_they_are_done(&fresh());
    dead_letters_are_listed_replayed_and_purged(&fresh());
    numbers_are_replaced(&fresh());
    queues_do_not_mix(&fresh());
    what_waits_can_be_another_queue_s(&fresh());
}

fn queue() -> QueueName {
    "bot.example.com".into()
}

fn outbox(first: u64, heads: &[&str], tail: &str) -> OutboxRow {
    OutboxRow {
        first,
        expires: Duration::from_millis(1_790_000_000_123),
        heads: heads.iter().map(|head| Bytes::copy_from_slice(head.as_bytes())).collect(),
        tail: Bytes::copy_from_slice(tail.as_bytes()),
    }
}

/// When the deliveries came.
const CAME: Duration = Duration::from_millis(1_780_000_000_123);

fn inbox(id: u64) -> InboxRow {
    let stanza = Bytes::from_static(b"<message from='a@b' to='bot.example.com'/>");
    InboxRow { id, path: "/_ah/xmpp/message/chat/".into(), stanza, lane: 0, came: CAME }
}

/// The rows of a queue. A store may keep messages that follow each other as one row: they are taken
/// apart here, each on its own.
fn rows(store: &dyn Store, queue: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    store
        .load_queue(queue, &mut |row| match row {
            Row::Outbox(row) => rows.extend(apart(&row).into_iter().map(Row::Outbox)),
            Row::Turn(..) => {}
            row => rows.push(row),
        })
        .unwrap();
    rows
}

fn apart(row: &OutboxRow) -> Vec<OutboxRow> {
    let one = |(first, head): (u64, &Bytes)| OutboxRow {
        first,
        expires: row.expires,
        heads: vec![head.clone()],
        tail: row.tail.clone(),
    };
    (row.first..).zip(&row.heads).map(one).collect()
}

fn dead(store: &dyn Store) -> Vec<DeadLetter> {
    let mut letters = Vec::new();
    store.dead_letters(&queue(), &mut |letter| letters.push(letter)).unwrap();
    letters
}

fn apply(store: &dyn Store, change: Change) {
    store.apply(vec![change], Durability::Now).unwrap();
}

fn messages_wait_in_order_until_they_are_done(open: &Open) {
    let store = open();
    let all: Vec<_> =
        (1..=300).map(|i| outbox(i, &[&format!("<message id='{i}'/>")], "")).collect();
    for row in all.iter().rev() {
        store.apply(vec![Change::OutboxPut(queue(), row.clone())], Durability::Soon).unwrap();
    }
    apply(&*store, Change::OutboxDone(queue(), 299));
    apply(&*store, Change::OutboxDone(queue(), 5));
    drop(store);
    let kept = rows(&*open(), &queue());
    let (done, waiting) = kept.split_last().unwrap();
    assert_eq!(*done, Row::OutboxDone(299));
    let after = |row: &&Row| matches!(row, Row::Outbox(row) if row.first > 299);
    let waiting: Vec<_> = waiting.iter().filter(after).collect();
    assert_eq!(waiting, [&Row::Outbox(all[299].clone())]);
    apply(&*open(), Change::OutboxDone(queue(), 300));
    assert_eq!(rows(&*open(), &queue()), [Row::OutboxDone(300)]);
}

fn a_call_is_kept_whole_until_its_last_message_is_done(open: &Open) {
    let store = open();
    let call =
        outbox(7, &["<message to='a'>", "<message to='\u{e9}\u{0}b'>", ""], "<body/></message>");
    apply(&*store, Change::OutboxPut(queue(), call.clone()));
    apply(&*store, Change::OutboxPut(queue(), call.clone()));
    apply(&*store, Change::OutboxDone(queue(), 8));
    let mut expected: Vec<_> = apart(&call).into_iter().map(Row::Outbox).collect();
    expected.push(Row::OutboxDone(8));
    assert_eq!(rows(&*store, &queue()), expected);
    apply(&*store, Change::OutboxDone(queue(), 9));
    assert_eq!(rows(&*store, &queue()), [Row::OutboxDone(9)]);
}

fn what_was_submitted_is_told_when_it_is_kept(open: &Open) {
    let store = open();
    let (told, answers) = channel();
    for i in 1..=500 {
        let told = told.clone();
        let row = outbox(i, &["<message/>"], "");
        let done = move |written: crate::Result<()>| told.send((i, written.is_ok())).unwrap();
        store.submit(vec![Change::OutboxPut(queue(), row)], Box::new(done));
    }
    let told: Vec<_> = answers.iter().take(500).collect();
    assert_eq!(told, (1..=500).map(|i| (i, true)).collect::<Vec<_>>());
    // Opened beside it, as after a crash.
    assert_eq!(rows(&*open(), &queue()).len(), 500);
}

fn deliveries_wait_until_they_are_done(open: &Open) {
    let store = open();
    for id in [3, 1, 2, u64::MAX >> 1] {
        apply(&*store, Change::InboxPut(queue(), inbox(id)));
    }
    apply(&*store, Change::InboxDone(queue(), 2));
    apply(&*store, Change::InboxDone(queue(), 99));
    drop(store);
    let expected = [1, 3, u64::MAX >> 1].map(|id| Row::Inbox(inbox(id)));
    assert_eq!(rows(&*open(), &queue()), expected);
}

fn dead_letters_are_listed_replayed_and_purged(open: &Open) {
    let store = open();
    let at = Duration::from_millis(1_790_000_000_456);
    for id in 1..=3 {
        apply(&*store, Change::InboxPut(queue(), inbox(id)));
        apply(&*store, Change::Bury(queue(), id, at, "503 Service Unavailable".into()));
    }
    apply(&*store, Change::Bury(queue(), 4, at, "never was".into()));
    drop(store);
    let store = open();
    // Whose time is over, and begins anew when it is delivered once more.
    let anew = |id| InboxRow { came: Duration::ZERO, ..inbox(id) };
    let letter = |id| DeadLetter { row: anew(id), at, reason: "503 Service Unavailable".into() };
    assert_eq!(dead(&*store), [letter(1), letter(2), letter(3)]);
    assert!(rows(&*store, &queue()).is_empty());

    apply(&*store, Change::Replay(queue(), 2));
    apply(&*store, Change::Replay(queue(), 2));
    apply(&*store, Change::Purge(queue(), 3));
    assert_eq!(dead(&*store), [letter(1)]);
    assert_eq!(rows(&*store, &queue()), [Row::Inbox(anew(2))]);
}

fn numbers_are_replaced(open: &Open) {
    let store = open();
    let count = |name: &str, day, value| Count { name: name.into(), day, value };
    for it in [count("api_calls", 20_000, 5), count("opened", 0, 1), count("api_calls", 20_001, 2)]
    {
        apply(&*store, Change::Count(queue(), it));
    }
    drop(store);
    let expected = [Row::Count(count("api_calls", 20_001, 2)), Row::Count(count("opened", 0, 1))];
    assert_eq!(rows(&*open(), &queue()), expected);
}

fn queues_do_not_mix(open: &Open) {
    let store = open();
    let other = || QueueName::from("other.example.com");
    apply(&*store, Change::OutboxPut(other(), outbox(1, &["<message/>"], "")));
    apply(&*store, Change::InboxPut(other(), inbox(1)));
    apply(&*store, Change::OutboxDone(queue(), 5));
    apply(&*store, Change::InboxDone(queue(), 1));
    let expected = [Row::Outbox(outbox(1, &["<message/>"], "")), Row::Inbox(inbox(1))];
    assert_eq!(rows(&*store, &other()), expected);
}

fn what_waits_can_be_another_queue_s(open: &Open) {
    let store = open();
    let (ours, theirs) =
        (QueueName::from("bot.example.com/2"), QueueName::from("bot.example.com/1"));
    for id in 1..=2 {
        apply(&*store, Change::InboxPut(theirs.clone(), inbox(id)));
    }
    apply(&*store, Change::InboxPut(ours.clone(), inbox(9)));
    apply(&*store, Change::OutboxPut(theirs.clone(), outbox(1, &["<a/>", "<b/>"], "")));
    apply(&*store, Change::OutboxDone(theirs.clone(), 1));
    let put = Change::OutboxPut(ours.clone(), outbox(7, &["<b/>"], ""));
    let done = Change::OutboxDone(theirs.clone(), 2);
    let changes = vec![put, done, Change::Inherit(ours.clone(), theirs.clone())];
    for _ in 0..2 {
        store.apply(changes.clone(), Durability::Now).unwrap();
    }
    let left = rows(&*store, &theirs).into_iter().find(|row| *row != Row::OutboxDone(2));
    assert_eq!(left, None);
    let mut expected = vec![Row::Outbox(outbox(7, &["<b/>"], ""))];
    expected.extend([1, 2, 9].map(|id| Row::Inbox(inbox(id))));
    assert_eq!(rows(&*store, &ours), expected);
}
