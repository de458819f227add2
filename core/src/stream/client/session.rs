//! The session on a proven account: resource binding (RFC 6120 §7), the roster (RFC 6121 §2), and the
//! stanzas in both directions.

use std::time::Duration;

use bytes::Bytes;

use super::{ClientEvent, ClientStream, Closed, EARLY_STANZAS, State, StreamError};
use crate::jid::{Jid, WireJid};
use crate::ns;
use crate::stanza::{Stanza, StanzaBuilder, StanzaKind};
use crate::stream::negotiation::{RosterItem, roster_items};
use crate::stream::probe::Prober;
use crate::xml::{Element, Scope};

impl ClientStream {
    pub(super) fn bind(&mut self, offered: bool) {
        if !offered {
            return self.unsupported("the server offers no resource binding");
        }
        let mut bind = Element::new("bind", ns::BIND);
        if let Some(resource) = self.config.jid.resourcepart() {
            bind.push(Element::new("resource", ns::BIND).with_text(resource));
        }
        let id = self.id("bind");
        let scope = Scope::stream(ns::CLIENT);
        let iq = StanzaBuilder::iq().id(&id).type_("set").element(&bind, &scope).finish();
        self.wire.write(iq.as_bytes());
        self.state = State::Bind;
    }

    fn bound(&mut self, stanza: &Stanza) {
        let element = stanza.element().ok();
        let bind = element.as_ref().and_then(|iq| iq.child("bind", ns::BIND));
        let jid = bind.and_then(|bind| bind.child("jid", ns::BIND)).map(Element::text);
        match jid.and_then(|jid| Jid::parse(&jid).ok()) {
            Some(jid) if stanza.type_() == Some("result") && jid.resourcepart().is_some() => {
                self.bare = WireJid::new(jid.bare());
                self.jid = jid;
                if !self.offers_sm {
                    return self.ready(false);
                }
                self.state = State::Enable;
                self.wire.write(format!("<enable xmlns='{}' resume='true'/>", ns::SM).as_bytes());
            }
            _ => {
                let children = element.as_ref().and_then(|iq| iq.child("error", ns::CLIENT));
                let condition = children.and_then(|error| {
                    error.children().find(|child| child.ns() == ns::STANZA_ERRORS)
                });
                let condition = condition.map_or("undefined-condition", Element::name).to_owned();
                let text = "the server bound no resource for the account";
                self.end(Closed::PeerError(StreamError::new(condition).with_text(text)));
            }
        }
    }

    pub(super) fn ready(&mut self, resumed: bool) {
        self.state = State::Ready;
        let asked = self.counters.is_some() || self.config.barrier_by_ping;
        let barrier = asked.then_some(self.config.barrier);
        self.prober = Prober::new(self.now, self.config.keepalive.clone(), barrier);
        self.pending.push_back(ClientEvent::Ready { jid: self.jid.clone(), resumed });
        if resumed {
            return;
        }
        let query = Element::new("query", ns::ROSTER);
        let scope = Scope::stream(ns::CLIENT);
        let id = self.id("roster");
        let roster = StanzaBuilder::iq().id(&id).type_("get").element(&query, &scope).finish();
        self.put(self.now, roster.as_bytes());
        self.put(self.now, b"<presence/>");
        for stanza in std::mem::take(&mut self.early) {
            self.hand_on(stanza);
        }
    }

    pub(super) fn put(&mut self, now: Duration, stanza: &[u8]) -> u64 {
        self.wire.write(stanza);
        self.prober.sent(now);
        self.sent += 1;
        match &mut self.counters {
            Some(counters) => counters.sent(Bytes::copy_from_slice(stanza)),
            None => self.sent,
        }
    }

    pub(super) fn stanza(&mut self, stanza: Stanza) {
        match self.state {
            // The server cannot be told of it any more, so it keeps it for the next session.
            State::Closing if self.counters.is_some() => self.stats.ignored += 1,
            State::Ready | State::Closing => {
                self.took();
                self.hand_on(stanza);
            }
            // The server has routed to this address since it bound it, and does not count this.
            State::Enable => self.too_early(stanza),
            State::Bind if self.is_answer(&stanza, "bind") => self.bound(&stanza),
            _ => self.stats.ignored += 1,
        }
    }

    fn hand_on(&mut self, stanza: Stanza) {
        if !self.own_iq(&stanza) {
            self.pending.push_back(ClientEvent::Stanza(stanza));
        }
    }

    fn too_early(&mut self, stanza: Stanza) {
        if self.early.len() < EARLY_STANZAS {
            return self.early.push(stanza);
        }
        let text = "too many stanzas came before stream management was enabled";
        self.violation(StreamError::new("policy-violation").with_text(text));
    }

    /// Takes the iqs that are this stream's own business.
    fn own_iq(&mut self, stanza: &Stanza) -> bool {
        if stanza.kind() != StanzaKind::Iq {
            return false;
        }
        if self.is_answer(stanza, "roster") {
            let items = roster_query(stanza).unwrap_or_default();
            self.pending.push_back(ClientEvent::Roster { items, complete: true });
            return true;
        }
        if self.is_answer(stanza, "ping") {
            // With stream management no ping is sent.
            let read = self.prober.answered(self.asked);
            self.pending.extend(read.map(ClientEvent::Acked));
            return true;
        }
        let push = (stanza.type_() == Some("set")).then(|| roster_query(stanza)).flatten();
        let Some(items) = push else { return false };
        if !self.is_own_server(stanza, false) {
            // Anybody can send one; only the server's counts (RFC 6121 §2.1.6).
            self.stats.ignored += 1;
            return true;
        }
        let id = stanza.id().unwrap_or_default();
        let result = StanzaBuilder::iq().id(id).type_("result").finish();
        self.put(self.now, result.as_bytes());
        self.pending.push_back(ClientEvent::Roster { items, complete: false });
        true
    }

    fn is_answer(&self, stanza: &Stanza, what: &str) -> bool {
        stanza.kind() == StanzaKind::Iq
            && matches!(stanza.type_(), Some("result" | "error"))
            && stanza.id().and_then(|id| id.strip_prefix(&self.config.id_prefix)) == Some(what)
            && self.is_own_server(stanza, true)
    }

    /// Whether the account's own server wrote it, in the account's name or, where that is enough, in
    /// its own.
    fn is_own_server(&self, stanza: &Stanza, domain: bool) -> bool {
        stanza.from().is_none_or(|from| {
            *from == self.bare || domain && *from == WireJid::new(self.config.jid.domainpart())
        })
    }

    pub(super) fn id(&self, what: &str) -> String {
        format!("{}{what}", self.config.id_prefix)
    }
}

fn roster_query(stanza: &Stanza) -> Option<Vec<RosterItem>> {
    stanza.element().ok()?.child("query", ns::ROSTER).map(roster_items)
}
