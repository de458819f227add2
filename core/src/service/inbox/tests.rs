use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::service::{InboundServices, ServiceConfig};
use crate::stanza::Condition;
use crate::store::Place;
use crate::store::{MemoryStore, Store};

const S: Duration = Duration::from_secs(1);

fn stanza(xml: &str, scope: &Scope) -> Stanza {
    Stanza::parse(Bytes::copy_from_slice(xml.as_bytes()), scope, &Limits::default()).unwrap()
}

fn message(from: &str, body: &str) -> Stanza {
    let xml =
        format!("<message from='{from}' to='shop@bot.example.com'><body>{body}</body></message>");
    stanza(&xml, &Scope::stream(ns::COMPONENT))
}

fn delivery(id: u64, sender: &str) -> Delivery {
    Delivery {
        id,
        path: "/_ah/xmpp/message/chat/",
        fields: Vec::new(),
        service: route::InboundService::Message,
        sender: sender.into(),
        stanza: message(sender, "hi"),
        place: Place::default(),
        came: Duration::ZERO,
    }
}

fn inbox() -> Inbox {
    Inbox::new(LaneLimits::default(), Retry::default())
}

fn answer(status: u16) -> Attempt {
    Attempt::Answered { status, retry_after: None }
}

/// Claims one and finishes it.
fn attempt(inbox: &mut Inbox, now: Duration, how: Attempt) -> Option<(u64, Verdict)> {
    let (ticket, delivery) = inbox.claim(now, 1).pop()?;
    let id = delivery.id;
    Some((id, inbox.finish(now, ticket, delivery, how)))
}

#[test]
fn only_what_another_attempt_can_help_is_tried_again() {
    for status in [200, 204, 301, 400, 404, 429, 500, 501, 505] {
        let mut inbox = inbox();
        inbox.push(S, delivery(1, "a@b")).unwrap();
        assert_eq!(attempt(&mut inbox, S, answer(status)), Some((1, Verdict::Done)), "{status}");
        assert!(inbox.is_empty());
    }
    for how in [Attempt::Unanswered, answer(502), answer(503), answer(504)] {
        let mut inbox = inbox();
        inbox.push(S, delivery(1, "a@b")).unwrap();
        assert_eq!(attempt(&mut inbox, S, how), Some((1, Verdict::RetryAt(2 * S))));
        assert_eq!(inbox.poll_timeout(), Some(2 * S));
        assert_eq!((inbox.has_ready(S), inbox.has_ready(2 * S)), (false, true));
    }
}

#[test]
fn what_is_drained_is_all_that_nobody_attempts() {
    let mut inbox = inbox();
    for (id, sender) in [(1, "a@b"), (2, "a@b"), (3, "c@d"), (4, "c@d"), (5, "e@f")] {
        inbox.push(S, delivery(id, sender)).unwrap();
    }
    assert_eq!(attempt(&mut inbox, S, Attempt::Unanswered), Some((1, Verdict::RetryAt(2 * S))));
    let (ticket, under_way) = inbox.claim(S, 1).pop().unwrap();
    let drained: Vec<_> = inbox.drain().iter().map(|it| it.id).collect();
    assert_eq!((drained[0], drained.len(), under_way.id), (1, 4, 3));
    assert_eq!((inbox.len(), inbox.poll_timeout()), (1, None));
    assert_eq!(inbox.finish(S, ticket, under_way, answer(200)), Verdict::Done);
    assert!(inbox.is_empty());
    assert_eq!(inbox.since(1), None);
}

#[test]
fn pauses_double_up_to_the_longest_until_the_deadline() {
    let mut inbox = inbox();
    inbox.push(Duration::ZERO, delivery(1, "a@b")).unwrap();
    let (mut now, mut pauses) = (Duration::ZERO, Vec::new());
    let end = loop {
        match attempt(&mut inbox, now, Attempt::Unanswered).unwrap() {
            (1, Verdict::RetryAt(at)) => {
                assert!(inbox.claim(at - Duration::from_millis(1), 9).is_empty());
                pauses.push((at - now).as_secs());
                now = at;
            }
            (1, verdict) => break verdict,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(end, Verdict::Dead);
    assert_eq!(pauses[..7], [1, 2, 4, 8, 16, 32, 60]);
    assert!(pauses[7..].iter().all(|pause| *pause == 60));
    assert!((600..660).contains(&now.as_secs()), "{now:?}");
    assert!(inbox.is_empty() && inbox.poll_timeout().is_none());
}

#[test]
fn the_app_may_say_when_within_reason() {
    let mut inbox = inbox();
    for (asked, pause) in [(7, 7), (7200, 60)] {
        inbox.push(S, delivery(asked, "a@b")).unwrap();
        let how = Attempt::Answered { status: 503, retry_after: Some(asked as u32 * S) };
        let at = S + pause * S;
        assert_eq!(attempt(&mut inbox, S, how), Some((asked, Verdict::RetryAt(at))));
        assert_eq!(attempt(&mut inbox, at, answer(200)), Some((asked, Verdict::Done)));
    }
}

#[test]
fn a_sender_s_next_waits_and_others_do_not() {
    let mut inbox = inbox();
    inbox.push(S, delivery(1, "a@b")).unwrap();
    inbox.push(S, delivery(2, "a@b")).unwrap();
    inbox.push(S, delivery(3, "c@d")).unwrap();
    assert_eq!(attempt(&mut inbox, S, answer(503)), Some((1, Verdict::RetryAt(2 * S))));
    assert_eq!(attempt(&mut inbox, S, answer(200)), Some((3, Verdict::Done)));
    assert_eq!(attempt(&mut inbox, S, answer(200)), None);
    assert_eq!(attempt(&mut inbox, 2 * S, answer(200)), Some((1, Verdict::Done)));
    assert_eq!(attempt(&mut inbox, 2 * S, answer(200)), Some((2, Verdict::Done)));
}

#[test]
fn after_the_deadline_there_is_still_one_attempt_for_each() {
    let mut inbox = inbox();
    inbox.push(S, delivery(1, "a@b")).unwrap();
    inbox.push(S, delivery(2, "a@b")).unwrap();
    let late = 700 * S;
    assert_eq!(attempt(&mut inbox, late, answer(502)), Some((1, Verdict::Dead)));
    assert_eq!(attempt(&mut inbox, late, answer(200)), Some((2, Verdict::Done)));
}

fn service(disk: &Arc<MemoryStore>) -> Service {
    let config = ServiceConfig::new("shop", "bot.example.com").unwrap();
    Service::new(config, Box::new(Arc::clone(disk))).unwrap()
}

fn receive(service: &Service, stanza: Stanza) -> Delivery {
    let delivery = service.handle_stanza(S, stanza).delivery.unwrap();
    service.keep(vec![service.keep_delivery(&delivery)], Durability::Now).unwrap();
    delivery
}

#[test]
fn what_was_not_handled_comes_again_after_a_restart_with_its_id() {
    let disk = Arc::new(MemoryStore::new());
    let first = service(&disk);
    assert!(first.restore_deliveries().unwrap().is_empty());
    let kept: Vec<_> = ["1", "2", "3"].map(|body| receive(&first, message("a@b/c", body))).into();
    first.forget_delivery(kept[1].id);

    let second = service(&disk);
    let again = second.restore_deliveries().unwrap();
    let seen = |delivery: &Delivery| (delivery.id, delivery.fields.clone(), delivery.path);
    assert_eq!(again.iter().map(seen).collect::<Vec<_>>(), [seen(&kept[0]), seen(&kept[2])]);
    let new = receive(&second, message("a@b/c", "4"));
    assert!(kept.iter().all(|old| old.id != new.id), "an id was used twice");
}

#[test]
fn a_stanza_is_kept_with_the_namespaces_of_its_stream() {
    let disk = Arc::new(MemoryStore::new());
    let first = service(&disk);
    let scope = Scope::new([("", ns::COMPONENT), ("stream", ns::STREAM), ("x", "urn:example:x")]);
    let xml =
        "<message from='a@b' to='shop@bot.example.com'><body>hi</body><x:y x:z='1'/></message>";
    receive(&first, stanza(xml, &scope));
    let again = service(&disk).restore_deliveries().unwrap().remove(0);
    assert_eq!(again.field("body"), Some("hi"));
    let element = again.stanza.element().unwrap();
    assert!(element.child("y", "urn:example:x").is_some());
}

#[test]
fn a_restart_gives_a_delivery_no_more_time_and_another_try_does() {
    const ARRIVAL: Duration = Duration::from_secs(1_780_000_000);
    let kept = Delivery { came: ARRIVAL, ..delivery(1, "a@b") };
    let restored = |came, after| {
        let mut inbox = inbox();
        inbox.restore(S, ARRIVAL + after, Delivery { came, ..kept.clone() });
        inbox
    };
    // Restarted after nine minutes, and once more: the ten minutes are those since it came.
    let nine = Duration::from_secs(540);
    let mut inbox = restored(ARRIVAL, nine);
    assert!(matches!(attempt(&mut inbox, S, Attempt::Unanswered), Some((1, Verdict::RetryAt(_)))));
    let over = 62 * S;
    assert_eq!(attempt(&mut inbox, over, Attempt::Unanswered), Some((1, Verdict::Dead)));
    let mut inbox = restored(ARRIVAL, 2 * nine);
    assert_eq!(attempt(&mut inbox, S, Attempt::Unanswered), Some((1, Verdict::Dead)));
    // A clock that was set back, and what has no time, take none away.
    for (came, utc) in [(ARRIVAL + nine, Duration::ZERO), (Duration::ZERO, 2 * nine)] {
        let mut inbox = restored(came, utc);
        let tried = attempt(&mut inbox, S, Attempt::Unanswered);
        assert!(matches!(tried, Some((1, Verdict::RetryAt(_)))), "{tried:?}");
    }
}

#[test]
fn when_a_delivery_came_is_kept_until_it_is_given_up() {
    let disk = Arc::new(MemoryStore::new());
    let first = service(&disk);
    first.restore_deliveries().unwrap();
    let xml = "<message from='a@b' to='shop@bot.example.com'><body>hi</body></message>";
    let arrival = Duration::from_secs(1_780_000_000);
    let stanza = stanza(xml, &Scope::stream(ns::COMPONENT));
    let delivery = first.handle_stanza(arrival, stanza).delivery.unwrap();
    first.keep(vec![first.keep_delivery(&delivery)], Durability::Now).unwrap();
    let second = service(&disk);
    assert_eq!(second.restore_deliveries().unwrap()[0].came, arrival);
    let dead = second.delivery_dead(delivery.id, arrival, "timeout");
    second.keep(vec![dead], Durability::Now).unwrap();
    let replayed = second.replay_dead_letters(&[delivery.id].into()).unwrap();
    assert_eq!(replayed[0].came, Duration::ZERO, "it is tried as long as a new one");
}

#[test]
fn dead_letters_are_listed_replayed_and_purged() {
    let disk = Arc::new(MemoryStore::new());
    let first = service(&disk);
    let kept: Vec<_> = ["1", "2"].map(|body| receive(&first, message("a@b/c", body))).into();
    for delivery in &kept {
        first.settle_delivery(first.delivery_dead(delivery.id, 5 * S, "no answer in time"));
        let error = first.refuse(delivery, Condition::RecipientUnavailable).unwrap();
        let error = stanza(std::str::from_utf8(&error).unwrap(), &Scope::stream(ns::COMPONENT));
        let error = error.error().unwrap();
        assert_eq!(error.condition.as_str(), "recipient-unavailable");
        assert_eq!(error.type_.as_str(), "wait");
    }
    let second = service(&disk);
    assert!(second.restore_deliveries().unwrap().is_empty());
    let letters = second.dead_letters().unwrap();
    assert_eq!(letters.iter().map(|it| it.row.id).collect::<Vec<_>>(), [kept[0].id, kept[1].id]);
    assert_eq!((letters[0].at, &*letters[0].reason), (5 * S, "no answer in time"));

    let wanted = |id| HashSet::from([id, 12345]);
    let again = second.replay_dead_letters(&wanted(kept[1].id)).unwrap();
    assert_eq!((again.len(), again[0].id, again[0].field("body")), (1, kept[1].id, Some("2")));
    assert!(second.replay_dead_letters(&wanted(kept[1].id)).unwrap().is_empty());
    let first = kept[0].id;
    assert_eq!(second.purge_dead_letters(&wanted(first)).unwrap(), [first]);
    assert!(second.dead_letters().unwrap().is_empty());
    assert_eq!(service(&disk).restore_deliveries().unwrap().len(), 1);
}

#[test]
fn what_the_app_no_longer_asks_for_is_forgotten() {
    let disk = Arc::new(MemoryStore::new());
    receive(&service(&disk), message("a@b/c", "1"));
    let mut config = ServiceConfig::new("shop", "bot.example.com").unwrap();
    config.inbound = InboundServices::NONE;
    let second = Service::new(config, Box::new(Arc::clone(&disk))).unwrap();
    assert!(second.restore_deliveries().unwrap().is_empty());
    let mut rows = 0;
    let inbox = |row: crate::store::Row| matches!(row, crate::store::Row::Inbox(_));
    disk.load_queue("bot.example.com", &mut |row| rows += usize::from(inbox(row))).unwrap();
    assert_eq!(rows, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_delivery_ends_once_and_in_order(
        senders in proptest::collection::vec(0..4_u8, 1..30),
        outcomes in proptest::collection::vec((0..6_usize, 0..400_u32), 0..200),
    ) {
        let mut inbox = inbox();
        for (id, sender) in (0..).zip(&senders) {
            inbox.push(Duration::ZERO, delivery(id, &format!("{sender}@b"))).unwrap();
        }
        let mut ended: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        let mut under_way = Vec::new();
        let mut now = Duration::ZERO;
        let all = [200, 500, 502, 503, 504, 404];
        for (outcome, seconds) in outcomes.into_iter().chain(std::iter::repeat_n((0, 60), 2000)) {
            now += seconds * S;
            under_way.extend(inbox.claim(now, 2));
            if under_way.is_empty() {
                if inbox.is_empty() { break }
                continue;
            }
            let (ticket, delivery) = under_way.remove(0);
            let (id, sender) = (delivery.id, delivery.sender.clone());
            if !matches!(inbox.finish(now, ticket, delivery, answer(all[outcome])), Verdict::RetryAt(_)) {
                ended.entry(sender).or_default().push(id);
            }
        }
        prop_assert!(inbox.is_empty());
        prop_assert_eq!(ended.values().map(Vec::len).sum::<usize>(), senders.len());
        prop_assert!(ended.values().all(|ids| ids.is_sorted()));
    }
}
