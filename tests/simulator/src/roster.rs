//! Subscriptions by the prose of RFC 6121 section 3, as three facts: written apart from the product's
//! table, to be compared with it.

use appxmpp::service::roster::Subscription;

/// The subscriptions between a user and a contact, seen from the user's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Relation {
    /// The user sees the contact's presence.
    pub(crate) to: bool,
    /// The user asked to.
    pub(crate) asked: bool,
    /// The contact sees the user's presence.
    pub(crate) from: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Subscribe,
    Subscribed,
    Unsubscribe,
    Unsubscribed,
}

impl Verb {
    pub(crate) const ALL: [Self; 4] =
        [Self::Subscribe, Self::Subscribed, Self::Unsubscribe, Self::Unsubscribed];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Subscribed => "subscribed",
            Self::Unsubscribe => "unsubscribe",
            Self::Unsubscribed => "unsubscribed",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.as_str() == text)
    }
}

impl Relation {
    /// The user asks (3.1.1).
    pub(crate) fn ask(&mut self) {
        self.asked |= !self.to;
    }

    /// The contact says something (3.1.3, 3.1.6, 3.2.3, 3.3.3), a request not being granted here.
    pub(crate) fn hear(&mut self, verb: Verb) {
        match verb {
            Verb::Subscribe => {}
            Verb::Subscribed if self.asked => (self.asked, self.to) = (false, true),
            Verb::Subscribed => {}
            Verb::Unsubscribe => self.from = false,
            Verb::Unsubscribed => (self.asked, self.to) = (false, false),
        }
    }

    /// The app hears it: it grants every request and returns it, and confirms every cancellation.
    /// Gives what it says.
    pub(crate) fn app_hears(&mut self, verb: Verb) -> &'static [Verb] {
        self.hear(verb);
        match verb {
            Verb::Subscribe => {
                self.from = true;
                if self.to {
                    return &[Verb::Subscribed];
                }
                self.asked = true;
                &[Verb::Subscribed, Verb::Subscribe]
            }
            Verb::Unsubscribe => &[Verb::Unsubscribed],
            Verb::Subscribed | Verb::Unsubscribed => &[],
        }
    }

    /// The name that the product has for it.
    pub(crate) fn name(self) -> Subscription {
        match (self.to, self.asked, self.from) {
            (false, false, false) => Subscription::None,
            (false, true, false) => Subscription::NonePendingOut,
            (true, _, false) => Subscription::To,
            (false, false, true) => Subscription::From,
            (false, true, true) => Subscription::FromPendingOut,
            (true, _, true) => Subscription::Both,
        }
    }

    pub(crate) fn of(name: Subscription) -> Self {
        let all = [false, true].into_iter().flat_map(|to| {
            [false, true].into_iter().flat_map(move |asked| {
                [false, true].into_iter().map(move |from| Self { to, asked, from })
            })
        });
        all.into_iter().find(|relation| relation.name() == name).unwrap_or_default()
    }
}
