use std::collections::BTreeMap;

use super::*;
use crate::store::contract;

const SECOND: Duration = Duration::from_secs(1);
/// Contacts are asked after connecting, and not again.
const ONCE: Pace =
    Pace { probes_per_second: 1000, patience: Duration::from_secs(30), refresh: None };

/// A service with a contact in each of these states, as after a restart.
fn with_contacts(states: &[(&str, Subscription)], pace: Pace) -> (Arc<MemoryStore>, Service) {
    let disk = Arc::new(MemoryStore::new());
    let change = |(name, state): &(&str, Subscription)| {
        Change::Subscription(contract::key(APP, &format!("{name}@e.example")), *state)
    };
    disk.apply(states.iter().map(change).collect(), Durability::Now).unwrap();
    let service = Service::new(ServiceConfig { pace, ..config() }, Box::new(Arc::clone(&disk)));
    (disk, service.unwrap())
}

/// Lets time pass until nothing more is to be done, and returns what was written when.
fn run(service: &Service, mut now: Duration, room: usize) -> Vec<(Duration, Vec<String>)> {
    let mut steps = Vec::new();
    while let Some(at) = service.poll_timeout() {
        now = now.max(at);
        let sends = service.handle_timeout(now, room);
        assert!(sends.len() <= room);
        steps.push((now, texts(&sends)));
        assert!(steps.len() < 100_000, "no end");
    }
    steps
}

fn all(steps: &[(Duration, Vec<String>)]) -> Vec<&str> {
    let mut all: Vec<&str> = steps.iter().flat_map(|step| &step.1).map(String::as_str).collect();
    all.sort_unstable();
    all
}

#[test]
fn subscribers_are_told_and_subscriptions_are_asked() {
    let states = [
        ("out", Subscription::NonePendingOut),
        ("to", Subscription::To),
        ("from", Subscription::From),
        ("both", Subscription::Both),
    ];
    let (_, service) = with_contacts(&states, ONCE);
    assert_eq!(service.poll_timeout(), None);
    service.handle_ready(SECOND);
    let expected = [
        format!("<presence from=\"{APP}\" to=\"both@e.example\" type=\"probe\"/>"),
        format!("<presence from=\"{APP}\" to=\"out@e.example\" type=\"subscribe\"/>"),
        format!("<presence from=\"{APP}\" to=\"to@e.example\" type=\"probe\"/>"),
        format!("<presence from=\"{APP}/bot\" to=\"both@e.example\"/>"),
        format!("<presence from=\"{APP}/bot\" to=\"from@e.example\"/>"),
    ];
    assert_eq!(all(&run(&service, SECOND, 100)), expected);
}

#[test]
fn all_are_told_before_the_first_is_asked() {
    let names: Vec<_> = (0..30).map(|number| format!("c{number}")).collect();
    let states: Vec<_> = names.iter().map(|name| (name.as_str(), Subscription::Both)).collect();
    let (_, service) = with_contacts(&states, ONCE);
    service.handle_ready(SECOND);
    let steps = run(&service, SECOND, 7);
    let kinds: Vec<_> =
        steps.iter().flat_map(|step| &step.1).map(|it| it.contains("probe")).collect();
    assert_eq!(kinds.len(), 60);
    assert!(kinds.is_sorted(), "{kinds:?}");
}

#[test]
fn a_contact_that_was_told_something_else_is_told_it_again() {
    let states = [("a", Subscription::From), ("b", Subscription::From)];
    let (_, service) = with_contacts(&states, ONCE);
    let call =
        PresenceCall { jid: "a@e.example", type_: "", show: "away", status: None, from: None };
    service.send_presence(&call).unwrap();
    service
        .send_presence(&PresenceCall { jid: "b@e.example", type_: "unavailable", show: "", ..call })
        .unwrap();
    service.handle_ready(SECOND);
    let expected = [
        format!("<presence from=\"{APP}/bot\" to=\"a@e.example\"><show>away</show></presence>"),
        format!("<presence from=\"{APP}/bot\" to=\"b@e.example\" type=\"unavailable\"/>"),
    ];
    assert_eq!(all(&run(&service, SECOND, 100)), expected);
    // Whoever was told that the app is gone need not be told again.
    service.handle_closing();
    let expected =
        [format!("<presence from=\"{APP}/bot\" to=\"a@e.example\" type=\"unavailable\"/>")];
    assert_eq!(all(&run(&service, SECOND, 100)), expected);
}

fn many(count: usize) -> Vec<(String, Subscription)> {
    (0..count).map(|i| (format!("c{i}"), Subscription::Both)).collect()
}

fn borrowed(states: &[(String, Subscription)]) -> Vec<(&str, Subscription)> {
    states.iter().map(|(name, state)| (name.as_str(), *state)).collect()
}

#[test]
fn probes_keep_their_pace_and_presence_goes_as_fast_as_there_is_room() {
    let pace = Pace { probes_per_second: 100, ..ONCE };
    let (_, service) = with_contacts(&borrowed(&many(1000)), pace);
    service.handle_ready(SECOND);
    let steps = run(&service, SECOND, 300);
    let mut probes: BTreeMap<u64, usize> = BTreeMap::new();
    let mut told_by = Duration::ZERO;
    for (at, sends) in &steps {
        let asked = sends.iter().filter(|sent| sent.contains("probe")).count();
        *probes.entry(at.as_secs()).or_default() += asked;
        if asked < sends.len() {
            told_by = *at;
        }
    }
    assert_eq!(told_by, SECOND, "presence waits for room only");
    assert_eq!(probes.values().sum::<usize>(), 1000);
    assert!(probes.values().all(|&count| count <= 106), "{probes:?}");
    assert!(probes.len() <= 12, "{probes:?}");
    assert_eq!(all(&steps).len(), 2000);
}

#[test]
fn nothing_is_made_without_room() {
    let (_, service) = with_contacts(&borrowed(&many(10)), ONCE);
    service.handle_ready(SECOND);
    assert!(service.handle_timeout(SECOND, 0).is_empty());
    assert_eq!(all(&run(&service, SECOND, 1)).len(), 20);
}

#[test]
fn silent_contacts_expire_and_the_store_is_told() {
    let pace = Pace { patience: SECOND * 30, ..ONCE };
    let states = [("silent", Subscription::Both), ("heard", Subscription::Both)];
    let (disk, service) = with_contacts(&states, pace);
    let silent = |service: &Service| available(service, "silent@e.example");
    for name in ["silent", "heard"] {
        presence_from(&service, &format!("{name}@e.example/r"), "");
    }
    service.handle_disconnected();
    service.handle_ready(SECOND);
    assert_eq!(service.handle_timeout(SECOND, 100).len(), 4);
    presence_from(&service, "heard@e.example/r", "");
    assert_eq!(service.poll_timeout(), Some(SECOND * 31));
    service.handle_timeout(SECOND * 30, 100);
    assert_eq!(silent(&service), Some(Show::Normal));
    service.handle_timeout(SECOND * 31, 100);
    assert_eq!(silent(&service), None);
    assert_eq!(available(&service, "heard@e.example"), Some(Show::Normal));
    assert_eq!(service.poll_timeout(), None);
    let kept = contract::contents(&*disk);
    assert_eq!(kept[&contract::key(APP, "silent@e.example")].available, None);
    assert_eq!(kept[&contract::key(APP, "heard@e.example")].available, Some(Show::Normal));
}

#[test]
fn a_cut_stops_the_round_and_the_next_stream_begins_anew() {
    let (_, service) = with_contacts(&borrowed(&many(10)), ONCE);
    service.handle_ready(SECOND);
    assert_eq!(service.handle_timeout(SECOND, 5).len(), 5);
    service.handle_disconnected();
    assert_eq!(service.poll_timeout(), None);
    assert!(service.handle_timeout(SECOND, 5).is_empty());
    service.handle_ready(SECOND * 2);
    assert_eq!(all(&run(&service, SECOND * 2, 7)).len(), 20);
}

#[test]
fn subscribers_are_told_of_a_polite_end() {
    let states =
        [("to", Subscription::To), ("from", Subscription::From), ("both", Subscription::Both)];
    let (_, service) = with_contacts(&states, ONCE);
    service.handle_ready(SECOND);
    service.handle_closing();
    let expected = ["both", "from"].map(|name| {
        format!("<presence from=\"{APP}/bot\" to=\"{name}@e.example\" type=\"unavailable\"/>")
    });
    assert_eq!(all(&run(&service, SECOND, 1)), expected);
}

#[test]
fn available_contacts_are_asked_again_and_those_whose_server_vanished_expire() {
    let hour = SECOND * 3600;
    let pace = Pace { refresh: Some(hour), ..ONCE };
    let states = ["here", "vanished", "away"].map(|name| (name, Subscription::Both));
    let (_, service) = with_contacts(&states, pace);
    service.handle_ready(SECOND);
    assert_eq!(service.handle_timeout(SECOND, 100).len(), 6);
    for name in ["here", "vanished"] {
        presence_from(&service, &format!("{name}@e.example/r"), "");
    }
    service.handle_timeout(SECOND * 31, 100);
    let again = SECOND * 31 + hour;
    assert_eq!(service.poll_timeout(), Some(again));
    assert!(service.handle_timeout(again, 100).is_empty());
    let asked = texts(&service.handle_timeout(again, 100));
    assert_eq!(asked.len(), 1, "one at a time at the beginning: {asked:?}");
    let mut asked: Vec<String> = asked;
    asked.extend(texts(&service.handle_timeout(again + SECOND, 100)));
    asked.sort();
    let expected = ["here", "vanished"]
        .map(|name| format!("<presence from=\"{APP}\" to=\"{name}@e.example\" type=\"probe\"/>"));
    assert_eq!(asked, expected);
    presence_from(&service, "here@e.example/r", "");
    service.handle_timeout(again + SECOND * 31, 100);
    assert_eq!(available(&service, "here@e.example"), Some(Show::Normal));
    assert_eq!(available(&service, "vanished@e.example"), None);
    assert_eq!(service.poll_timeout(), Some(again + SECOND * 31 + hour));
}
