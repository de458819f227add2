//! The service of an app with an ordinary account: subscriptions are its server's business (RFC 6121
//! §3), and so is telling contacts the app's presence and asking for theirs.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;

use super::Service;
use super::roster::{Subscription, SubscriptionVerb};

impl Service {
    /// The account has logged in. Unless the session is the one that was `resumed`, its server tells
    /// the presence of all contacts anew; who is not heard of soon is gone.
    pub fn handle_session(&self, now: Duration, resumed: bool) {
        if !resumed {
            self.book().begin_epoch();
        }
        self.rounds().begin_session(now, resumed);
    }

    /// What the account's server says of its roster: all of it if it is `complete`, otherwise what has
    /// changed. Contacts are bare and prepared.
    pub fn handle_roster(&self, contacts: &[(String, Subscription)], complete: bool) {
        let own = self.addresses.default_sender().bare();
        let mut named = HashSet::new();
        let mut book = self.book();
        for (contact, subscription) in contacts {
            book.set_subscription(own, contact, *subscription);
            named.insert(contact.as_str());
        }
        if !complete {
            return;
        }
        let (mut gone, mut cursor) = (Vec::new(), 0);
        while let Some((entry, next)) = book.walk(cursor) {
            cursor = next;
            if entry.subscription != Subscription::None && !named.contains(entry.contact) {
                gone.push(Box::<str>::from(entry.contact));
            }
        }
        for contact in gone {
            book.set_subscription(own, &contact, Subscription::None);
        }
    }

    /// App Engine's policy, where a server keeps the state: a request is accepted and returned. What
    /// else there is to say the server says.
    pub(super) fn accept(&self, contact: &str, verb: SubscriptionVerb, sends: &mut Vec<Bytes>) {
        let own = self.addresses.default_sender().bare();
        match verb {
            SubscriptionVerb::Subscribe => {
                sends.push(self.subscription(own, contact, SubscriptionVerb::Subscribed));
                if !self.book().subscription(own, contact).app_is_subscribed() {
                    sends.push(self.subscription(own, contact, SubscriptionVerb::Subscribe));
                }
                self.counters.subscriptions_accepted.add(1);
            }
            SubscriptionVerb::Unsubscribed => {
                self.book().set_unavailable(own, contact, None);
            }
            SubscriptionVerb::Subscribed | SubscriptionVerb::Unsubscribe => {}
        }
    }
}
