//! What arrives: the roster and the presence book are kept, then the stanza goes where
//! [`route`](super::route) says.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::Service;
use super::roster::{Announce, SubscriptionVerb, react};
use super::route::{self, Delivery, DropReason, InboundService, PresenceDetails, Routed, Rules};
use crate::stanza::{Condition, PresenceType, Stanza, StanzaError, StanzaKind};
use crate::store::{Change, ContactKey, Durability, Heard, Place};

/// What an inbound stanza leads to.
#[derive(Debug, Default)]
pub struct Inbound {
    /// Stanzas to be written, in this order.
    pub sends: Vec<Bytes>,
    /// Whether `sends` answer for a subscription, and must not get lost: the other side waits for
    /// them, and will not ask twice.
    pub lasting: bool,
    /// What the app gets to see.
    pub delivery: Option<Delivery>,
    /// The stanza, and why the app does not see it, where it does not and nobody was answered.
    pub dropped: Option<(DropReason, Stanza)>,
}

impl Service {
    /// Takes a stanza that arrived, except for the answer to an iq that somebody here waits for.
    /// `utc` is the time since the Unix epoch, for those who ask for it.
    pub fn handle_stanza(&self, utc: Duration, stanza: Stanza) -> Inbound {
        self.set_utc(utc);
        let mut inbound = Inbound::default();
        let details = PresenceDetails::of(&stanza);
        if stanza.kind() == StanzaKind::Presence {
            self.note_presence(&stanza, &details, &mut inbound);
        }
        let rules = Rules {
            addresses: &self.addresses,
            inbound: self.inbound,
            limits: self.limits,
            form: self.form,
            bodiless_messages: self.bodiless_messages,
            utc,
        };
        match route::route(&stanza, &details, &rules) {
            Routed::Deliver { path, fields, service } => {
                let id = self.deliveries.fetch_add(1, Ordering::Relaxed);
                let sender = stanza.from().map(|from| from.bare_key()).unwrap_or_default();
                self.counters.delivered.add(1);
                let (stanza, place) = (stanza.detached(), Place::default());
                let came = utc;
                inbound.delivery =
                    Some(Delivery { id, path, fields, service, sender, stanza, place, came });
            }
            Routed::Answer(answer) => {
                self.counters.answered.add(1);
                inbound.sends.push(answer.into());
            }
            Routed::Drop(reason) => {
                self.counters.dropped.add(1);
                inbound.dropped = Some((reason, stanza));
            }
        }
        inbound
    }

    /// The answer to the sender of a delivery for which there was no room, or which the app could
    /// not take in time. Only a message is answered: to presence nobody expects an answer, and an
    /// error must not be answered with an error.
    pub fn refuse(&self, delivery: &Delivery, condition: Condition) -> Option<Bytes> {
        if delivery.service != InboundService::Message {
            return None;
        }
        delivery.stanza.error_reply(&StanzaError::new(condition)).map(Bytes::from)
    }

    fn note_presence(&self, stanza: &Stanza, details: &PresenceDetails, inbound: &mut Inbound) {
        let (Some(from), Some(to)) = (stanza.from(), stanza.to()) else { return };
        let Some(type_) = stanza.presence_type() else { return };
        if !self.addresses.is_own(to) || self.addresses.is_account() && self.addresses.is_own(from)
        {
            return;
        }
        let (own, contact) = (to.bare_key(), from.bare_key());
        if let Some(verb) = route::verb(type_) {
            if self.addresses.is_account() {
                self.accept(&contact, verb, &mut inbound.sends);
            } else {
                self.note_subscription(&own, &contact, verb, &mut inbound.sends);
            }
            inbound.lasting = !inbound.sends.is_empty();
            return;
        }
        match type_ {
            PresenceType::Available => {
                let resource = from.resourcepart().unwrap_or_default();
                let (priority, show) = (details.priority, details.show);
                let resource = resource.into();
                self.note(&own, &contact, Heard::Available { resource, priority, show });
            }
            PresenceType::Probe => {
                let told = self.book().get(&own, &contact).and_then(|entry| entry.told.cloned());
                inbound.sends.push(self.own_presence(&own, from.as_str(), told.as_ref()));
                self.counters.answered.add(1);
            }
            // Unavailable, or an error: whoever is asked has no presence to give.
            _ => {
                let resource = from.resourcepart().map(Box::from);
                self.note(&own, &contact, Heard::Unavailable(resource));
            }
        }
    }

    fn note_subscription(
        &self,
        own: &str,
        contact: &str,
        verb: SubscriptionVerb,
        sends: &mut Vec<Bytes>,
    ) {
        // A request that is not answered is repeated; everything else a contact says only once.
        let must_survive = verb == SubscriptionVerb::Subscribe;
        let changed = self.change_subscription(own, contact, must_survive, |state| {
            let reaction = react(state, verb);
            (reaction.state, reaction)
        });
        // Without the store's word nothing is promised: the contact's server will ask again.
        let Ok(reaction) = changed else { return };
        for &verb in reaction.says {
            sends.push(self.subscription(own, contact, verb));
        }
        let told = self.book().get(own, contact).and_then(|entry| entry.told.cloned());
        match reaction.then {
            Announce::Nothing => {}
            Announce::Current => sends.push(self.own_presence(own, contact, told.as_ref())),
            Announce::Unavailable => sends.push(self.gone(own, contact)),
        }
        if verb == SubscriptionVerb::Subscribe {
            self.counters.subscriptions_accepted.add(1);
        }
        // Whoever cancels the app's subscription sends no presence any more.
        if verb == SubscriptionVerb::Unsubscribed {
            self.note(own, contact, Heard::Unavailable(None));
        }
    }

    fn note(&self, own: &str, contact: &str, heard: Heard) {
        if self.hear(own, contact, heard) {
            self.keep_presence(own, contact);
        }
    }

    /// Writes a contact's presence down, soon: it is asked for again after a restart in any case.
    pub(super) fn keep_presence(&self, own: &str, contact: &str) {
        let (subscription, available) = {
            let book = self.book();
            (book.subscription(own, contact), book.available(own, contact))
        };
        if subscription.app_is_subscribed() && !self.addresses.is_account() {
            let key = ContactKey { own: own.into(), contact: contact.into() };
            // A fault is logged and counted; the book knows better than the store meanwhile.
            let _ = self.keep(vec![Change::Presence(key, available)], Durability::Soon);
        }
    }
}
