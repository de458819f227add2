use super::*;
use crate::service::presence::Show;
use crate::store::contract;

const SECOND: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(10);

fn key() -> ContactKey {
    contract::key("bot@d", "c@e")
}

fn there(resource: &str, show: Show) -> Heard {
    Heard::Available { resource: resource.into(), priority: 0, show }
}

fn gone(resource: &str) -> Heard {
    Heard::Unavailable(Some(resource.into()))
}

/// With a stream.
fn hearsay() -> Hearsay {
    let mut hearsay = Hearsay::default();
    hearsay.set_up(true);
    hearsay
}

/// This process hears the contact, and the store has it at once.
fn tell(hearsay: &mut Hearsay, heard: &Heard) {
    let number = hearsay.tell(&key(), heard);
    hearsay.is_told(&key(), number);
}

fn due(hearsay: &mut Hearsay, now: Duration) -> Due {
    hearsay.take_due(now, 100, PATIENCE, |_| true)
}

fn asks(hearsay: &mut Hearsay, now: Duration) -> bool {
    !due(hearsay, now).ask.is_empty()
}

#[test]
fn what_was_told_and_is_not_back_is_later_than_what_comes() {
    let mut hearsay = hearsay();
    let (away, chat) = (there("r", Show::Away), there("r", Show::Chat));
    let first = hearsay.tell(&key(), &away);
    let second = hearsay.tell(&key(), &chat);
    let other = there("r", Show::DoNotDisturb);
    assert_eq!(hearsay.hear(&key(), &other), (vec![chat.clone()], true));
    hearsay.is_told(&key(), first);
    assert_eq!(hearsay.hear(&key(), &gone("r")), (vec![chat.clone()], true));
    let elsewhere = there("s", Show::Away);
    assert_eq!(hearsay.hear(&key(), &elsewhere), (vec![], false), "another resource");
    let all = Heard::Unavailable(None);
    assert_eq!(hearsay.hear(&key(), &all), (vec![chat], true), "all resources");
    hearsay.is_told(&key(), second);
    assert_eq!(hearsay.hear(&key(), &other), (vec![], false), "it has its place before");
}

#[test]
fn a_contact_of_whom_two_heard_different_things_at_once_is_asked() {
    let mut hearsay = hearsay();
    let number = hearsay.tell(&key(), &there("r", Show::Away));
    hearsay.hear(&key(), &there("r", Show::Away));
    hearsay.hear(&key(), &there("s", Show::Chat));
    assert!(!asks(&mut hearsay, SECOND), "nothing contradicts");
    hearsay.hear(&key(), &there("r", Show::Chat));
    assert_eq!(hearsay.poll_timeout(PATIENCE), None, "the answer may be told before this is");
    assert!(!asks(&mut hearsay, SECOND));
    assert!(hearsay.is_told(&key(), number));
    assert_eq!(hearsay.poll_timeout(PATIENCE), Some(Duration::ZERO));
    assert_eq!(due(&mut hearsay, SECOND).ask, [key()]);
    assert!(!asks(&mut hearsay, SECOND * 2), "once");
    hearsay.hear(&key(), &there("r", Show::Chat));
    assert_eq!(due(&mut hearsay, SECOND + PATIENCE), Due::default());
    assert_eq!(hearsay.poll_timeout(PATIENCE), None);
}

#[test]
fn what_is_read_after_another_process_heard_something_else_may_be_older() {
    let mut hearsay = hearsay();
    hearsay.hear(&key(), &there("r", Show::Chat));
    tell(&mut hearsay, &there("s", Show::Away));
    assert!(!asks(&mut hearsay, SECOND), "another resource");
    tell(&mut hearsay, &there("r", Show::Away));
    assert!(asks(&mut hearsay, SECOND));
    tell(&mut hearsay, &there("r", Show::ExtendedAway));
    assert!(asks(&mut hearsay, SECOND * 2), "that may still be older, too");
    tell(&mut hearsay, &there("r", Show::Chat));
    assert!(!asks(&mut hearsay, SECOND * 9), "an answer");

    hearsay.set_up(true);
    hearsay.forget();
    hearsay.hear(&key(), &there("r", Show::Away));
    (0..=RECENT).for_each(|_| hearsay.beat(1));
    assert!(hearsay.recent.is_empty());
    hearsay.tell(&key(), &there("r", Show::Chat));
    assert!(!asks(&mut hearsay, SECOND), "that was long ago");
}

#[test]
fn whoever_contradicts_itself_all_the_time_is_asked_less_and_less() {
    let mut hearsay = hearsay();
    let mut asked = 0;
    for step in 0..100_u64 {
        let shows = [Show::Away, Show::Chat];
        hearsay.hear(&key(), &there("r", shows[(step % 2) as usize]));
        tell(&mut hearsay, &there("r", shows[((step + 1) % 2) as usize]));
        asked += due(&mut hearsay, Duration::from_millis(step * 100)).ask.len();
    }
    assert_eq!(asked, 4, "at once, and one, two and four seconds after the one before");
}

#[test]
fn a_resource_that_does_not_answer_though_another_does_is_gone() {
    for silent in [false, true] {
        let mut hearsay = hearsay();
        let number = hearsay.tell(&key(), &there("r", Show::Away));
        hearsay.hear(&key(), &gone("r"));
        hearsay.is_told(&key(), number);
        assert!(asks(&mut hearsay, SECOND));
        if !silent {
            hearsay.hear(&key(), &there("s", Show::Chat));
        }
        let resource = (!silent).then(|| "r".into());
        assert_eq!(due(&mut hearsay, SECOND + PATIENCE).gone, [(key(), resource)]);
    }
}

#[test]
fn a_contact_that_another_process_takes_as_gone_is_asked() {
    let mut hearsay = hearsay();
    (0..UNKNOWN).for_each(|_| hearsay.beat(1));
    assert!(!hearsay.is_changed(&key(), false));
    assert!(hearsay.is_changed(&key(), true), "its stream may be as silent as the contact");
    assert!(asks(&mut hearsay, SECOND));
    assert_eq!(due(&mut hearsay, SECOND + PATIENCE), Due::default(), "it is gone, nobody is told");
    for number in 0..DOUBTS {
        hearsay.is_changed(&contract::key("bot@d", &format!("c{number}@e")), true);
    }
    assert!(!hearsay.overflowed());
    assert!(hearsay.is_changed(&key(), true));
    assert!(hearsay.overflowed(), "all are to be asked");
}

#[test]
fn a_resource_in_doubt_that_does_not_answer_is_gone() {
    for answers in [false, true] {
        let mut hearsay = hearsay();
        let number = hearsay.tell(&key(), &there("r", Show::Away));
        hearsay.hear(&key(), &gone("r"));
        hearsay.hear(&key(), &there("r", Show::Chat));
        hearsay.is_told(&key(), number);
        assert!(asks(&mut hearsay, SECOND), "what came before the question is no answer");
        assert_eq!(hearsay.poll_timeout(PATIENCE), Some(SECOND + PATIENCE));
        if answers {
            hearsay.tell(&key(), &there("r", Show::Chat));
        }
        let gone = due(&mut hearsay, SECOND + PATIENCE).gone;
        assert_eq!(gone.is_empty(), answers, "{gone:?}");
        assert_eq!(hearsay.poll_timeout(PATIENCE), None);
    }
}

#[test]
fn only_whom_the_app_may_ask_is_asked_and_only_through_a_stream() {
    let mut hearsay = hearsay();
    let number = hearsay.tell(&key(), &there("r", Show::Away));
    hearsay.hear(&key(), &gone("r"));
    hearsay.is_told(&key(), number);
    assert_eq!(hearsay.take_due(SECOND, 0, PATIENCE, |_| true), Due::default(), "no room");
    assert!(hearsay.poll_timeout(PATIENCE).is_some());
    assert_eq!(hearsay.take_due(SECOND, 9, PATIENCE, |_| false), Due::default());
    assert_eq!(hearsay.poll_timeout(PATIENCE), None);
    hearsay.set_up(false);
    hearsay.hear(&key(), &gone("r"));
    assert_eq!(hearsay.poll_timeout(PATIENCE), None);
}

#[test]
fn what_a_process_without_a_stream_says_anew_is_old() {
    let mut hearsay = hearsay();
    assert!(hearsay.is_changed(&key(), false), "nobody knows yet who has a stream");
    assert!(asks(&mut hearsay, SECOND));
    assert_eq!(
        due(&mut hearsay, SECOND + PATIENCE),
        Due::default(),
        "who is silent is as it was said"
    );
    (0..UNKNOWN).for_each(|_| hearsay.beat(1));
    assert!(!hearsay.is_changed(&key(), false), "the other one may have heard it just now");
    hearsay.beat(0);
    assert!(hearsay.is_changed(&key(), false));
    hearsay.set_up(false);
    assert!(!hearsay.is_changed(&key(), false), "there is no stream to ask through");
}

#[test]
fn what_anybody_may_say_takes_bounded_memory() {
    let mut hearsay = hearsay();
    for number in 0..2 * CONTACTS {
        let key = contract::key("bot@d", &format!("c{number}@e"));
        hearsay.hear(&key, &gone("r"));
        let told = hearsay.tell(&key, &there("r", Show::Away));
        hearsay.is_told(&key, told);
        hearsay.hear(&key, &gone("r"));
    }
    for number in 0..2 * MAX_RESOURCES {
        hearsay.tell(&key(), &there(&number.to_string(), Show::Away));
        hearsay.hear(&contract::key("bot@d", "c0@e"), &gone(&number.to_string()));
    }
    assert_eq!((hearsay.recent.len(), hearsay.doubts.len()), (CONTACTS, DOUBTS));
    assert_eq!(hearsay.recent[&contract::key("bot@d", "c0@e")].len(), MAX_RESOURCES);
    assert_eq!(hearsay.told.remove(&key()).map(|told| told.len()), Some(MAX_RESOURCES));
    assert!(hearsay.told.is_empty());
}
