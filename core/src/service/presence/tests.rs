use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const OWN: &str = "app@bot.example";

fn book() -> PresenceBook {
    PresenceBook::new(100)
}

fn key(contact: &str) -> ContactKey {
    ContactKey { own: OWN.into(), contact: contact.into() }
}

#[test]
fn the_resource_of_highest_priority_speaks_for_the_contact() {
    let mut book = book();
    assert_eq!(book.available(OWN, "a@e"), None);
    assert!(book.set_available(OWN, "a@e", "phone", 1, Show::Away));
    assert!(book.set_available(OWN, "a@e", "desk", 5, Show::Chat));
    assert!(!book.set_available(OWN, "a@e", "tv", -3, Show::DoNotDisturb));
    assert_eq!(book.available(OWN, "a@e"), Some(Show::Chat));
    assert!(book.set_unavailable(OWN, "a@e", Some("desk")));
    assert_eq!(book.available(OWN, "a@e"), Some(Show::Away));
    assert!(book.set_unavailable(OWN, "a@e", Some("phone")));
    assert_eq!(book.available(OWN, "a@e"), Some(Show::DoNotDisturb));
    assert!(book.set_unavailable(OWN, "a@e", Some("tv")));
    assert_eq!(book.available(OWN, "a@e"), None);
    assert!(book.is_empty());
}

#[test]
fn of_equal_priorities_the_later_one_speaks() {
    let mut book = book();
    book.set_available(OWN, "a@e", "one", 0, Show::Normal);
    book.set_available(OWN, "a@e", "two", 0, Show::Away);
    assert_eq!(book.available(OWN, "a@e"), Some(Show::Away));
    book.set_available(OWN, "a@e", "one", 0, Show::Chat);
    assert_eq!(book.available(OWN, "a@e"), Some(Show::Chat));
}

#[test]
fn the_bare_address_takes_all_resources_away() {
    let mut book = book();
    book.set_available(OWN, "a@e", "one", 0, Show::Normal);
    book.set_available(OWN, "a@e", "two", 0, Show::Away);
    assert!(book.set_unavailable(OWN, "a@e", None));
    assert_eq!(book.available(OWN, "a@e"), None);
}

#[test]
fn each_of_the_apps_addresses_has_a_book_of_its_own() {
    let mut book = book();
    book.set_available("one@bot.example", "a@e", "r", 0, Show::Normal);
    assert_eq!(book.available("one@bot.example", "a@e"), Some(Show::Normal));
    assert_eq!(book.available("two@bot.example", "a@e"), None);
}

#[test]
fn what_a_store_kept_counts_until_the_contact_is_heard() {
    let mut book = book();
    let available = Some(Show::Away);
    let state = ContactState { subscription: Subscription::Both, available, told: None };
    book.restore(&key("a@e"), state);
    book.begin_epoch();
    assert_eq!(book.available(OWN, "a@e"), Some(Show::Away));
    // One resource went; whether it was the only one is not known before the contact is asked.
    book.set_unavailable(OWN, "a@e", Some("q"));
    assert_eq!(book.available(OWN, "a@e"), Some(Show::Away));
    book.set_available(OWN, "a@e", "r", 0, Show::Chat);
    assert_eq!(book.available(OWN, "a@e"), Some(Show::Chat));
    book.set_unavailable(OWN, "a@e", Some("r"));
    assert_eq!(book.available(OWN, "a@e"), None);
    assert_eq!(book.subscription(OWN, "a@e"), Subscription::Both);
}

#[test]
fn an_answer_voids_what_was_known_before_the_question() {
    let mut book = book();
    book.set_available(OWN, "a@e", "gone", 9, Show::Chat);
    book.set_available(OWN, "a@e", "here", 0, Show::Away);
    book.set_available(OWN, "b@e", "gone", 0, Show::Chat);
    book.begin_epoch();
    // Not asked yet: what it says comes on top.
    book.set_available(OWN, "a@e", "here", 0, Show::ExtendedAway);
    assert_eq!(book.available(OWN, "a@e"), Some(Show::Chat));
    book.ask(OWN, "a@e");
    book.ask(OWN, "b@e");
    assert_eq!(book.available(OWN, "a@e"), Some(Show::Chat));
    book.set_available(OWN, "a@e", "here", 0, Show::Away);
    book.set_available(OWN, "a@e", "new", -1, Show::Normal);
    assert_eq!(book.available(OWN, "a@e"), Some(Show::Away));
    book.set_unavailable(OWN, "a@e", Some("here"));
    assert_eq!(book.available(OWN, "a@e"), Some(Show::Normal));
    book.set_unavailable(OWN, "b@e", Some("other"));
    assert_eq!(book.available(OWN, "b@e"), None);
}

fn expire(book: &mut PresenceBook) -> Vec<(Box<str>, Subscription)> {
    let (mut expired, mut cursor) = (Vec::new(), Some(0));
    while let Some(at) = cursor {
        cursor = book.expire(at, 1, |key, state| expired.push((key.contact, state)));
    }
    expired.sort_by(|a, b| a.0.cmp(&b.0));
    expired
}

#[test]
fn who_was_heard_but_does_not_answer_is_gone() {
    let mut book = book();
    book.begin_epoch();
    book.set_available(OWN, "a@e", "r", 0, Show::Normal);
    book.set_available(OWN, "b@e", "r", 0, Show::Normal);
    assert_eq!(expire(&mut book), []);
    book.ask(OWN, "a@e");
    assert_eq!(expire(&mut book), [("a@e".into(), Subscription::None)]);
    assert_eq!(book.available(OWN, "b@e"), Some(Show::Normal));
}

#[test]
fn the_silent_expire_and_the_heard_stay() {
    let mut book = book();
    let available = Some(Show::Normal);
    let subscribed = || ContactState { subscription: Subscription::To, available, told: None };
    for name in ["silent@e", "heard@e", "said-no@e"] {
        book.restore(&key(name), subscribed());
    }
    book.set_available(OWN, "stranger@e", "r", 0, Show::Normal);
    book.begin_epoch();
    book.set_available(OWN, "heard@e", "r", 0, Show::Normal);
    book.set_unavailable(OWN, "said-no@e", None);

    let expired = expire(&mut book);
    let expected =
        [("silent@e".into(), Subscription::To), ("stranger@e".into(), Subscription::None)];
    assert_eq!(expired, expected);
    assert_eq!(book.available(OWN, "heard@e"), Some(Show::Normal));
    assert_eq!(book.available(OWN, "silent@e"), None);
    assert_eq!(book.len(), 3);
}

#[test]
fn strangers_are_bounded_and_contacts_are_not() {
    let mut book = PresenceBook::new(2);
    for i in 0..10 {
        book.set_available(&format!("x{i}@bot.example"), "a@e", "r", 0, Show::Normal);
    }
    assert_eq!(book.len(), 2);
    for i in 0..10 {
        let own = format!("x{i}@bot.example");
        book.set_subscription(&own, "a@e", Subscription::From);
        assert_eq!(book.subscription(&own, "a@e"), Subscription::From);
    }
    assert_eq!(book.len(), 10);
    for i in 0..10 {
        book.set_subscription(&format!("x{i}@bot.example"), "a@e", Subscription::None);
        book.set_unavailable(&format!("x{i}@bot.example"), "a@e", None);
    }
    assert!(book.is_empty());
    assert!(book.owns.numbers.is_empty());
    assert!(book.set_available(OWN, "b@e", "r", 0, Show::Normal), "room again");
}

#[test]
fn resources_of_one_contact_are_bounded() {
    let mut book = book();
    for i in 0..1000 {
        book.set_available(OWN, "a@e", &format!("r{i}"), (i % 100) as i8, Show::Normal);
    }
    let (entry, _) = book.walk(0).unwrap();
    assert_eq!(entry.contact, "a@e");
    assert_eq!(book.slots[0].resources.len(), MAX_RESOURCES);
}

#[test]
fn what_the_app_told_is_kept_with_the_contact() {
    let mut book = book();
    let away = OwnPresence { show: Show::Away, status: "soup".into(), ..OwnPresence::default() };
    assert!(!book.set_told(OWN, "nobody@e", away.clone()));
    assert!(book.told.is_empty());
    book.set_subscription(OWN, "a@e", Subscription::From);
    assert!(book.set_told(OWN, "a@e", away.clone()));
    assert!(!book.set_told(OWN, "a@e", away.clone()), "no news");
    assert_eq!(book.get(OWN, "a@e").unwrap().told, Some(&away));
    assert!(book.set_told(OWN, "a@e", OwnPresence::default()));
    assert!(!book.set_told(OWN, "a@e", OwnPresence::default()), "no news");
    assert_eq!(book.get(OWN, "a@e").unwrap().told, None);
    assert!(book.set_told(OWN, "a@e", away));
    book.set_subscription(OWN, "a@e", Subscription::None);
    assert!(book.told.is_empty());
}

/// The layout that the memory for a million contacts rests on.
#[test]
fn a_slot_is_small() {
    assert!(size_of::<Slot>() <= 40, "{}", size_of::<Slot>());
    assert!(size_of::<Resource>() <= 16);
}

#[derive(Debug, Clone)]
enum Step {
    Available { contact: u8, resource: u8, priority: i8, show: usize },
    Unavailable { contact: u8, resource: Option<u8> },
    Subscribe { contact: u8, state: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..5_u8, 0..4_u8, -2..3_i8, 0..5_usize).prop_map(|(contact, resource, priority, show)| {
            Step::Available { contact, resource, priority, show }
        }),
        (0..5_u8, proptest::option::of(0..4_u8))
            .prop_map(|(contact, resource)| Step::Unavailable { contact, resource }),
        (0..5_u8, 0..9_usize).prop_map(|(contact, state)| Step::Subscribe { contact, state }),
    ]
}

#[derive(Default)]
struct Model {
    resources: Vec<(u8, i8, Show)>,
    subscription: Subscription,
}

impl Model {
    fn best(&self) -> Option<Show> {
        let top = self.resources.iter().map(|resource| resource.1).max()?;
        self.resources.iter().rfind(|resource| resource.1 == top).map(|resource| resource.2)
    }
}

proptest! {
    /// The book against a plain map of lists.
    #[test]
    fn the_book_says_what_a_simple_model_says(steps in proptest::collection::vec(step(), 0..80)) {
        let mut book = PresenceBook::new(1000);
        let mut model: HashMap<u8, Model> = HashMap::new();
        book.begin_epoch();
        for step in steps {
            match step {
                Step::Available { contact, resource, priority, show } => {
                    let name = format!("c{contact}@e");
                    let (resources, show) = (&mut model.entry(contact).or_default().resources, Show::ALL[show]);
                    resources.retain(|old| old.0 != resource);
                    resources.push((resource, priority, show));
                    book.set_available(OWN, &name, &resource.to_string(), priority, show);
                }
                Step::Unavailable { contact, resource } => {
                    let resources = &mut model.entry(contact).or_default().resources;
                    resources.retain(|old| resource.is_some_and(|gone| old.0 != gone));
                    let resource = resource.map(|resource| resource.to_string());
                    book.set_unavailable(OWN, &format!("c{contact}@e"), resource.as_deref());
                }
                Step::Subscribe { contact, state } => {
                    let state = super::super::roster::STATES[state];
                    model.entry(contact).or_default().subscription = state;
                    book.set_subscription(OWN, &format!("c{contact}@e"), state);
                }
            }
            for (contact, model) in &model {
                let name = format!("c{contact}@e");
                prop_assert_eq!(book.available(OWN, &name), model.best());
                prop_assert_eq!(book.subscription(OWN, &name), model.subscription);
            }
            let known = |model: &Model| {
                model.best().is_some() || model.subscription != Subscription::None
            };
            let expected = model.values().filter(|model| known(model)).count();
            let mut walked = 0;
            let mut cursor = 0;
            while let Some((_, next)) = book.walk(cursor) {
                (walked, cursor) = (walked + 1, next);
            }
            prop_assert_eq!((book.len(), walked), (expected, expected));
            let strangers = model.values().filter(|m| known(m) && m.subscription == Subscription::None);
            prop_assert_eq!(book.strangers, strangers.count());
        }
    }
}
