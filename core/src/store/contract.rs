//! What every store must do, written once and run over each of them.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

mod queue;

use super::{Change, ContactKey, ContactState, Durability, Store};
use crate::service::presence::{OwnPresence, Show};
use crate::service::roster::{STATES, Subscription};

/// Opens the same store again, as a restarted process would.
pub(crate) type Open = Box<dyn Fn() -> Box<dyn Store>>;

/// Checks a kind of store; `fresh` makes an empty one and gives the way to open it.
pub(crate) fn check(fresh: impl Fn() -> Open) {
    an_empty_store_loads_nothing(&fresh());
    every_state_survives_a_restart(&fresh());
    the_last_change_counts(&fresh());
    presence_of_a_stranger_is_not_kept(&fresh());
    what_a_contact_was_told_is_kept(&fresh());
    soon_is_written_after_sync(&fresh());
    a_load_sees_what_was_applied_before_it(&fresh());
    addresses_are_compared_byte_for_byte(&fresh());
    many_threads_lose_nothing(&fresh());
    any_changes_leave_what_a_map_would_hold(&fresh);
    queue::check(&fresh);
}

pub(crate) fn key(own: &str, contact: &str) -> ContactKey {
    ContactKey { own: own.into(), contact: contact.into() }
}

fn subscribed(key: &ContactKey, subscription: Subscription) -> Change {
    Change::Subscription(key.clone(), subscription)
}

fn present(key: &ContactKey, show: Option<Show>) -> Change {
    Change::Presence(key.clone(), show)
}

pub(crate) fn contents(store: &dyn Store) -> BTreeMap<ContactKey, ContactState> {
    let mut all = BTreeMap::new();
    store
        .load(&mut |key, state| assert!(all.insert(key, state).is_none(), "a contact came twice"))
        .unwrap();
    all
}

fn an_empty_store_loads_nothing(open: &Open) {
    assert!(contents(&*open()).is_empty());
    open().sync().unwrap();
}

fn every_state_survives_a_restart(open: &Open) {
    let shows: Vec<_> = [None].into_iter().chain(Show::ALL.map(Some)).collect();
    let mut expected = BTreeMap::new();
    let mut changes = Vec::new();
    for subscription in STATES.into_iter().filter(|state| *state != Subscription::None) {
        for available in &shows {
            let key = key("app@bot.example", &format!("c{}@example.com", expected.len()));
            changes.push(subscribed(&key, subscription));
            changes.push(present(&key, *available));
            let state = ContactState { subscription, available: *available, told: None };
            expected.insert(key, state);
        }
    }
    open().apply(changes, Durability::Now).unwrap();
    assert_eq!(contents(&*open()), expected);
}

fn the_last_change_counts(open: &Open) {
    let store = open();
    let (a, b) = (key("app@d", "a@e"), key("other@d", "a@e"));
    let first = vec![
        subscribed(&a, Subscription::To),
        present(&a, Some(Show::Away)),
        subscribed(&b, Subscription::From),
    ];
    store.apply(first, Durability::Now).unwrap();
    store.apply(vec![subscribed(&a, Subscription::Both)], Durability::Now).unwrap();
    let removed = vec![subscribed(&b, Subscription::None), subscribed(&b, Subscription::None)];
    store.apply(removed, Durability::Now).unwrap();
    drop(store);
    let available = Some(Show::Away);
    let state = ContactState { subscription: Subscription::Both, available, told: None };
    assert_eq!(contents(&*open()), [(a, state)].into_iter().collect());
}

fn presence_of_a_stranger_is_not_kept(open: &Open) {
    let store = open();
    let key = key("app@d", "a@e");
    store.apply(vec![present(&key, Some(Show::Normal))], Durability::Now).unwrap();
    assert!(contents(&*store).is_empty());
    let again = vec![subscribed(&key, Subscription::To), subscribed(&key, Subscription::None)];
    store.apply(again, Durability::Now).unwrap();
    assert!(contents(&*store).is_empty());
}

fn what_a_contact_was_told_is_kept(open: &Open) {
    let store = open();
    let [friend, former, changed] = ["a@e", "b@e", "c@e"].map(|contact| key("app@d", contact));
    let told = |key: &ContactKey, show, unavailable, status: &str| {
        let told = OwnPresence { unavailable, show, status: status.into() };
        Change::Told(key.clone(), Some(Box::new(told)))
    };
    let changes = vec![
        told(&friend, Show::Away, false, "before they were friends"),
        subscribed(&friend, Subscription::From),
        subscribed(&former, Subscription::From),
        subscribed(&changed, Subscription::From),
        told(&friend, Show::DoNotDisturb, false, "caf\u{e9} 'quoted'"),
        told(&former, Show::Normal, true, ""),
        told(&changed, Show::Chat, true, "x"),
        subscribed(&former, Subscription::None),
        subscribed(&former, Subscription::To),
        Change::Told(changed.clone(), None),
        subscribed(&friend, Subscription::Both),
    ];
    store.apply(changes, Durability::Now).unwrap();
    drop(store);
    let all = contents(&*open());
    let expected = OwnPresence {
        unavailable: false,
        show: Show::DoNotDisturb,
        status: "caf\u{e9} 'quoted'".into(),
    };
    assert_eq!(all[&friend].told.as_deref(), Some(&expected));
    assert_eq!((&all[&former].told, &all[&changed].told), (&None, &None));
}

fn soon_is_written_after_sync(open: &Open) {
    let store = open();
    for i in 0..3000 {
        let change = subscribed(&key("app@d", &format!("c{i}@e")), Subscription::To);
        store.apply(vec![change], Durability::Soon).unwrap();
    }
    store.sync().unwrap();
    // Opened beside it, as after a crash: nothing is closed first.
    assert_eq!(contents(&*open()).len(), 3000);
}

fn a_load_sees_what_was_applied_before_it(open: &Open) {
    let store = open();
    store.apply(vec![subscribed(&key("a@d", "b@e"), Subscription::To)], Durability::Soon).unwrap();
    assert_eq!(contents(&*store).len(), 1);
}

fn addresses_are_compared_byte_for_byte(open: &Open) {
    let store = open();
    let names =
        ["a@e", "A@e", "a@e ", "\u{e9}@e", "e\u{301}@e", "", "a\u{0}b", "'; DROP TABLE contact"];
    for name in names {
        let change = subscribed(&key("app@d", name), Subscription::To);
        store.apply(vec![change], Durability::Now).unwrap();
    }
    drop(store);
    let all = contents(&*open());
    assert_eq!(all.len(), names.len());
    assert!(names.iter().all(|name| all.contains_key(&key("app@d", name))));
}

fn many_threads_lose_nothing(open: &Open) {
    let store = open();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for i in 0..50 {
                    let change =
                        subscribed(&key("app@d", &format!("c{thread}-{i}@e")), Subscription::To);
                    store.apply(vec![change], Durability::Now).unwrap();
                }
            });
        }
    });
    drop(store);
    assert_eq!(contents(&*open()).len(), 200);
}

fn any_changes_leave_what_a_map_would_hold(fresh: &impl Fn() -> Open) {
    let change =
        (0..6_u8, 0..9_usize, proptest::option::of(0..5_usize), any::<bool>(), any::<bool>());
    let config = Config { cases: 24, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&proptest::collection::vec(change, 0..60), |changes| {
            let open = fresh();
            let store = open();
            let mut expected: BTreeMap<ContactKey, ContactState> = BTreeMap::new();
            for (name, subscription, show, is_presence, now) in changes {
                let key = key("app@d", &format!("{name}@e"));
                let (subscription, show) = (STATES[subscription], show.map(|i| Show::ALL[i]));
                let change = if is_presence {
                    if let Some(state) = expected.get_mut(&key) {
                        state.available = show;
                    }
                    present(&key, show)
                } else if subscription == Subscription::None {
                    expected.remove(&key);
                    subscribed(&key, subscription)
                } else {
                    expected.entry(key.clone()).or_default().subscription = subscription;
                    subscribed(&key, subscription)
                };
                let durability = if now { Durability::Now } else { Durability::Soon };
                store.apply(vec![change], durability).unwrap();
            }
            prop_assert_eq!(&contents(&*store), &expected);
            // A store that is closed has written everything.
            drop(store);
            prop_assert_eq!(&contents(&*open()), &expected);
            Ok(())
        })
        .unwrap();
}
