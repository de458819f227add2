//! Subscriptions: the state table of RFC 6121 §3 and appendix A, with the app as the user.
//!
//! App Engine kept the roster for the app and accepted every request, so the app's side has no
//! "pending in" that lasts: it exists between a request and its acceptance.

use crate::error::{Error, ErrorKind, Result};

/// The state of the subscriptions between one of the app's addresses and one contact, seen from
/// the app (RFC 6121 appendix A.1).
///
/// The numbers are what a store keeps; they are never renumbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Subscription {
    /// Neither has a subscription to the other, and nobody asked.
    #[default]
    None = 0,
    /// The app asked.
    NonePendingOut = 1,
    /// The contact asked.
    NonePendingIn = 2,
    /// Both asked.
    NonePendingOutIn = 3,
    /// The app sees the contact's presence.
    To = 4,
    /// The app sees the contact's presence; the contact asked to see the app's.
    ToPendingIn = 5,
    /// The contact sees the app's presence.
    From = 6,
    /// The contact sees the app's presence; the app asked to see the contact's.
    FromPendingOut = 7,
    /// Each sees the other's presence.
    Both = 8,
}

/// The four types of presence that change a subscription (RFC 6121 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SubscriptionVerb {
    /// Asks for a subscription.
    Subscribe,
    /// Grants one.
    Subscribed,
    /// Gives one up.
    Unsubscribe,
    /// Takes one away, or refuses it.
    Unsubscribed,
}

/// Who says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the app to the contact.
    Outbound,
    /// From the contact to the app.
    Inbound,
}

/// One cell of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// Outbound: whether it is to be sent on. Inbound: whether it tells the user anything new.
    pub passes: bool,
    /// The state afterwards.
    pub state: Subscription,
}

use Subscription as S;

/// Every state, in the order of their stored numbers.
pub const STATES: [Subscription; 9] = [
    S::None,
    S::NonePendingOut,
    S::NonePendingIn,
    S::NonePendingOutIn,
    S::To,
    S::ToPendingIn,
    S::From,
    S::FromPendingOut,
    S::Both,
];

const fn go(state: Subscription) -> Transition {
    Transition { passes: true, state }
}

const fn stay(state: Subscription) -> Transition {
    Transition { passes: false, state }
}

/// Rows: [`STATES`]. Columns: outbound subscribe, subscribed, unsubscribe, unsubscribed
/// (appendix A.2), then the same inbound (appendix A.3).
#[rustfmt::skip]
const TABLE: [[Transition; 8]; 9] = [
    // None
    [go(S::NonePendingOut),   stay(S::None),             go(S::None),           stay(S::None),
     go(S::NonePendingIn),    stay(S::None),             stay(S::None),         stay(S::None)],
    // None + Pending Out
    [go(S::NonePendingOut),   stay(S::NonePendingOut),   go(S::None),           stay(S::NonePendingOut),
     go(S::NonePendingOutIn), go(S::To),                 stay(S::NonePendingOut), go(S::None)],
    // None + Pending In
    [go(S::NonePendingOutIn), go(S::From),               go(S::NonePendingIn),  go(S::None),
     stay(S::NonePendingIn),  stay(S::NonePendingIn),    go(S::None),           stay(S::NonePendingIn)],
    // None + Pending Out+In
    [go(S::NonePendingOutIn), go(S::FromPendingOut),     go(S::NonePendingIn),  go(S::NonePendingOut),
     stay(S::NonePendingOutIn), go(S::ToPendingIn),      go(S::NonePendingOut), go(S::NonePendingIn)],
    // To
    [go(S::To),               stay(S::To),               go(S::None),           stay(S::To),
     go(S::ToPendingIn),      stay(S::To),               stay(S::To),           go(S::None)],
    // To + Pending In
    [go(S::ToPendingIn),      go(S::Both),               go(S::NonePendingIn),  go(S::To),
     stay(S::ToPendingIn),    stay(S::ToPendingIn),      go(S::To),             go(S::NonePendingIn)],
    // From
    [go(S::FromPendingOut),   stay(S::From),             go(S::From),           go(S::None),
     stay(S::From),           stay(S::From),             go(S::None),           stay(S::From)],
    // From + Pending Out
    [go(S::FromPendingOut),   stay(S::FromPendingOut),   go(S::From),           go(S::NonePendingOut),
     stay(S::FromPendingOut), go(S::Both),               go(S::NonePendingOut), go(S::From)],
    // Both
    [go(S::Both),             stay(S::Both),             go(S::From),           go(S::To),
     stay(S::Both),           stay(S::Both),             go(S::To),             go(S::From)],
];

impl Subscription {
    /// What `verb` does in this state.
    pub fn on(self, direction: Direction, verb: SubscriptionVerb) -> Transition {
        let column = match direction {
            Direction::Outbound => verb as usize,
            Direction::Inbound => 4 + verb as usize,
        };
        TABLE[self as usize][column]
    }

    /// Whether the contact sees the app's presence.
    pub fn contact_is_subscribed(self) -> bool {
        matches!(self, Self::From | Self::FromPendingOut | Self::Both)
    }

    /// Whether the app sees the contact's presence.
    pub fn app_is_subscribed(self) -> bool {
        matches!(self, Self::To | Self::ToPendingIn | Self::Both)
    }

    /// Whether the app asked for a subscription and waits for the answer.
    pub fn app_asked(self) -> bool {
        matches!(self, Self::NonePendingOut | Self::NonePendingOutIn | Self::FromPendingOut)
    }

    /// The state that an item of a server's roster names (RFC 6121 §2.1.2): its `subscription`, and
    /// whether it has `ask='subscribe'`. Whoever asks the app is not in a roster.
    pub fn of_item(subscription: &str, asked: bool) -> Self {
        match (subscription, asked) {
            ("to", _) => Self::To,
            ("from", false) => Self::From,
            ("from", true) => Self::FromPendingOut,
            ("both", _) => Self::Both,
            ("none", true) => Self::NonePendingOut,
            _ => Self::None,
        }
    }

    /// The state with this stored number.
    pub fn from_number(number: i64) -> Option<Self> {
        STATES.get(usize::try_from(number).ok()?).copied()
    }
}

impl SubscriptionVerb {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::Subscribe, Self::Subscribed, Self::Unsubscribe, Self::Unsubscribed];

    /// The one that a presence type says.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidType`] for every other type.
    pub fn parse(type_: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|verb| verb.as_str() == type_).ok_or_else(|| {
            let text = format!(
                "{type_:?} changes no subscription; use subscribe, subscribed, unsubscribe or unsubscribed"
            );
            Error::new(ErrorKind::InvalidType, text)
        })
    }

    /// The presence type that says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Subscribed => "subscribed",
            Self::Unsubscribe => "unsubscribe",
            Self::Unsubscribed => "unsubscribed",
        }
    }
}

/// What the app's side says to a contact after an inbound verb, in order, and the state at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reaction {
    /// Presence of these types, from bare address to bare address.
    pub says: &'static [SubscriptionVerb],
    /// Whether the contact is then told the app's presence.
    pub then: Announce,
    /// The state when all of it has been said.
    pub state: Subscription,
}

/// What a contact is told of the app's own presence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announce {
    /// Nothing.
    Nothing,
    /// What it currently is (RFC 6121 §3.1.5).
    Current,
    /// That it is gone (RFC 6121 §3.3.3).
    Unavailable,
}

/// App Engine's policy: a request is accepted and returned, a cancellation is confirmed.
pub fn react(state: Subscription, verb: SubscriptionVerb) -> Reaction {
    use SubscriptionVerb::{Subscribe, Subscribed, Unsubscribe, Unsubscribed};
    let arrived = state.on(Direction::Inbound, verb).state;
    match verb {
        Subscribe => {
            // From a subscriber the request is repeated because its acceptance was lost: the
            // acceptance is repeated too (RFC 6121 §3.1.3).
            let accepted = arrived.on(Direction::Outbound, Subscribed).state;
            if accepted.app_is_subscribed() {
                return Reaction { says: &[Subscribed], then: Announce::Current, state: accepted };
            }
            let asked = accepted.on(Direction::Outbound, Subscribe).state;
            Reaction { says: &[Subscribed, Subscribe], then: Announce::Current, state: asked }
        }
        Unsubscribe => {
            // Also where nothing is known of a subscription: the contact believes in one.
            Reaction { says: &[Unsubscribed], then: Announce::Unavailable, state: arrived }
        }
        Subscribed | Unsubscribed => {
            Reaction { says: &[], then: Announce::Nothing, state: arrived }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors;
    use SubscriptionVerb as V;

    fn state(name: &str) -> Subscription {
        match name {
            "none" => S::None,
            "none+out" => S::NonePendingOut,
            "none+in" => S::NonePendingIn,
            "none+out+in" => S::NonePendingOutIn,
            "to" => S::To,
            "to+in" => S::ToPendingIn,
            "from" => S::From,
            "from+out" => S::FromPendingOut,
            "both" => S::Both,
            other => panic!("no state {other:?}"),
        }
    }

    /// One vector per cell, written from the RFC and not from the table.
    #[test]
    fn every_cell_of_rfc_6121_appendix_a() {
        let seen = std::cell::RefCell::new(std::collections::HashSet::new());
        vectors::each("roster", |case| {
            let from = state(case.str("state"));
            let direction = match case.str("direction") {
                "outbound" => Direction::Outbound,
                _ => Direction::Inbound,
            };
            let verb = V::parse(case.str("verb")).map_err(|error| error.to_string())?;
            seen.borrow_mut().insert((from, direction, verb));
            let got = from.on(direction, verb);
            let expected =
                Transition { passes: case.bool("passes"), state: state(case.str("becomes")) };
            vectors::same("transition", got, expected)
        });
        assert_eq!(seen.borrow().len(), 9 * 2 * 4);
    }

    #[test]
    fn other_types_change_no_subscription() {
        for type_ in ["", "SUBSCRIBE", "unavailable"] {
            assert_eq!(V::parse(type_).unwrap_err().kind(), ErrorKind::InvalidType);
        }
    }

    #[test]
    fn stored_numbers_name_their_state() {
        for (number, state) in (0..).zip(STATES) {
            assert_eq!(state as i64, number);
            assert_eq!(Subscription::from_number(number), Some(state));
        }
        assert_eq!(Subscription::from_number(9), None);
        assert_eq!(Subscription::from_number(-1), None);
    }

    #[test]
    fn a_request_is_accepted_and_returned() {
        let first = react(S::None, V::Subscribe);
        assert_eq!(first.says, [V::Subscribed, V::Subscribe]);
        assert_eq!((first.then, first.state), (Announce::Current, S::FromPendingOut));
        let granted = react(first.state, V::Subscribed);
        assert_eq!((granted.says, granted.state), (&[][..], S::Both));
    }

    #[test]
    fn a_repeated_request_is_accepted_again_without_asking_a_subscribed_contact() {
        let again = react(S::Both, V::Subscribe);
        assert_eq!((again.says, again.state), (&[V::Subscribed][..], S::Both));
        let invited = react(S::To, V::Subscribe);
        assert_eq!((invited.says, invited.state), (&[V::Subscribed][..], S::Both));
    }

    #[test]
    fn a_cancellation_is_confirmed() {
        let gone = react(S::Both, V::Unsubscribe);
        assert_eq!((gone.says, gone.state), (&[V::Unsubscribed][..], S::To));
        assert_eq!(gone.then, Announce::Unavailable);
        assert_eq!(react(S::None, V::Unsubscribe).says, [V::Unsubscribed]);
    }

    #[test]
    fn two_apps_that_accept_everything_come_to_rest() {
        for (mut a, mut b) in
            STATES.into_iter().flat_map(|a| STATES.into_iter().map(move |b| (a, b)))
        {
            let mut to_b = vec![V::Subscribe];
            a = a.on(Direction::Outbound, V::Subscribe).state;
            let mut to_a: Vec<V> = Vec::new();
            let mut said = 0;
            while !(to_a.is_empty() && to_b.is_empty()) {
                for verb in std::mem::take(&mut to_b) {
                    let reaction = react(b, verb);
                    b = reaction.state;
                    to_a.extend(reaction.says);
                }
                for verb in std::mem::take(&mut to_a) {
                    let reaction = react(a, verb);
                    a = reaction.state;
                    to_b.extend(reaction.says);
                }
                said += 1;
                assert!(said < 10, "no rest");
            }
            assert!(a.app_is_subscribed(), "{a:?}");
        }
    }

    #[test]
    fn no_reaction_leaves_a_request_open() {
        for state in STATES {
            let after = react(state, V::Subscribe).state;
            assert!(after.contact_is_subscribed(), "{state:?} -> {after:?}");
        }
    }
}
