//! The users of the development server, and what their server does for them: no socket, no clock.

use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind, Result};
use crate::jid::{Jid, WireJid};
use crate::ns;
use crate::stanza::{
    Condition, IqType, PresenceType, Stanza, StanzaBuilder, StanzaError, StanzaKind,
};
use crate::xml::writer::is_xml_text;
use crate::xml::{Element, Limits, Scope};

/// A user's presence.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Presence {
    /// Whether the user is there at all.
    pub available: bool,
    /// Empty, `away`, `chat`, `dnd` or `xa`; other values are sent as they are.
    pub show: String,
    /// A text for people.
    pub status: String,
}

impl Presence {
    /// Available with this show (which may be empty).
    pub fn available(show: &str) -> Self {
        Self { available: true, show: show.to_owned(), status: String::new() }
    }

    fn write(&self, from: &str, to: &str) -> String {
        let builder = StanzaBuilder::presence().from(from).to(to);
        let mut builder = if self.available { builder } else { builder.type_("unavailable") };
        if !self.show.is_empty() {
            builder = builder.child_text("show", &self.show);
        }
        if !self.status.is_empty() {
            builder = builder.child_text("status", &self.status);
        }
        builder.finish()
    }
}

/// The four subscription stanzas of RFC 6121 §3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SubscriptionKind {
    /// Asks for the other's presence.
    Subscribe,
    /// Grants the own presence.
    Subscribed,
    /// Gives up the other's presence.
    Unsubscribe,
    /// Refuses or withdraws the own presence.
    Unsubscribed,
}

impl SubscriptionKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Subscribed => "subscribed",
            Self::Unsubscribe => "unsubscribe",
            Self::Unsubscribed => "unsubscribed",
        }
    }
}

/// A user's subscriptions with one address of the component.
#[derive(Debug, Clone, Copy, Default)]
struct Contact {
    /// The user gets the contact's presence.
    to: bool,
    /// The contact gets the user's.
    from: bool,
    asked: bool,
}

struct User {
    full: String,
    presence: Presence,
    accepts: bool,
    contacts: BTreeMap<String, Contact>,
}

/// What follows from a stanza of the component's.
#[derive(Debug, Default)]
pub(super) struct Routed {
    /// Which user sees it.
    pub(super) user: Option<String>,
    /// What goes back to the component.
    pub(super) back: Vec<String>,
}

impl Routed {
    fn back(stanza: Option<String>) -> Self {
        Self { user: None, back: stanza.into_iter().collect() }
    }
}

pub(super) struct World {
    domain: String,
    users: BTreeMap<String, User>,
}

impl World {
    pub(super) fn new(domain: String) -> Self {
        Self { domain, users: BTreeMap::new() }
    }

    pub(super) fn add_user(&mut self, jid: &str, accepts: bool) -> Result<()> {
        let jid = Jid::parse(jid)?;
        if jid.localpart().is_none() || jid.domainpart() == self.domain {
            let text = format!("{jid} cannot be a user; write user@another.domain");
            return Err(Error::new(ErrorKind::InvalidJid, text));
        }
        let resource = jid.resourcepart().unwrap_or("dev");
        let user = User {
            full: jid.with_resource(resource)?.as_str().to_owned(),
            presence: Presence::available(""),
            accepts,
            contacts: BTreeMap::new(),
        };
        self.users.insert(jid.to_bare().as_str().to_owned(), user);
        Ok(())
    }

    pub(super) fn full(&self, jid: &str) -> Option<String> {
        let bare = Jid::parse(jid).ok()?.to_bare();
        self.users.get(bare.as_str()).map(|user| user.full.clone())
    }

    pub(super) fn message(
        &mut self,
        user: &str,
        to: &str,
        body: &str,
        type_: &str,
    ) -> Result<Vec<String>> {
        if !is_xml_text(body) {
            let text = "the text holds a character that XML cannot carry; remove it";
            return Err(Error::new(ErrorKind::InvalidXml, text));
        }
        let to = self.component_address(to)?;
        let builder = StanzaBuilder::message().from(&self.user(user)?.1.full).to(to.as_str());
        let builder = if type_.is_empty() { builder } else { builder.type_(type_) };
        Ok(vec![builder.body(body).finish()])
    }

    pub(super) fn raw(&mut self, user: &str, xml: &str) -> Result<Vec<String>> {
        let scope = Scope::stream(ns::COMPONENT);
        let mut element = Element::parse(xml.as_bytes(), &scope, &Limits::default())?;
        if element.ns() != ns::COMPONENT {
            let text = format!("<{}> in {:?} is no stanza", element.name(), element.ns());
            return Err(Error::new(ErrorKind::InvalidXml, text));
        }
        // A subscription is between bare addresses (RFC 6121 §3.1.2).
        let (bare, user) = self.user(user)?;
        let subscription = ["subscribe", "subscribed", "unsubscribe", "unsubscribed"];
        let bare_only = element.attr("type").is_some_and(|type_| subscription.contains(&type_));
        let from = if bare_only { bare } else { user.full.clone() };
        element.set_attr("from", from);
        let mut out = String::new();
        element.write_to(&mut out, &scope);
        Ok(vec![out])
    }

    pub(super) fn set_presence(&mut self, user: &str, presence: Presence) -> Result<Vec<String>> {
        let user = self.user(user)?.1;
        let comes = presence.available && !user.presence.available;
        user.presence = presence;
        let mut out = Vec::new();
        for (address, contact) in &user.contacts {
            if contact.from {
                out.push(user.presence.write(&user.full, address));
            }
            if comes && contact.to {
                out.push(probe(&user.full, address));
            }
        }
        Ok(out)
    }

    pub(super) fn directed(
        &mut self,
        user: &str,
        to: &str,
        presence: &Presence,
    ) -> Result<Vec<String>> {
        let to = self.component_address(to)?;
        Ok(vec![presence.write(&self.user(user)?.1.full, to.as_str())])
    }

    pub(super) fn probe(&mut self, user: &str, to: &str) -> Result<Vec<String>> {
        let to = self.component_address(to)?;
        Ok(vec![probe(&self.user(user)?.1.full, to.to_bare().as_str())])
    }

    pub(super) fn subscription(
        &mut self,
        user: &str,
        to: &str,
        kind: SubscriptionKind,
    ) -> Result<Vec<String>> {
        let to = self.component_address(to)?.to_bare().as_str().to_owned();
        let (bare, user) = self.user(user)?;
        let contact = user.contacts.entry(to.clone()).or_default();
        let withdrawn = contact.from && kind == SubscriptionKind::Unsubscribed;
        match kind {
            SubscriptionKind::Subscribe => contact.asked = true,
            SubscriptionKind::Subscribed => contact.from = true,
            SubscriptionKind::Unsubscribe => (contact.to, contact.asked) = (false, false),
            SubscriptionKind::Unsubscribed => contact.from = false,
        }
        let mut out = vec![subscription(&bare, &to, kind)];
        if kind == SubscriptionKind::Subscribed && user.presence.available {
            out.push(user.presence.write(&user.full, &to));
        }
        if withdrawn {
            out.push(Presence::default().write(&user.full, &to));
        }
        Ok(out)
    }

    /// Does with a stanza of the component's what a server does.
    pub(super) fn route(&mut self, stanza: &Stanza) -> Routed {
        let Some(to) = stanza.to() else {
            return Routed::back(error(stanza, Condition::BadRequest));
        };
        if to.domainpart() == self.domain {
            return Routed::back(Some(String::from_utf8_lossy(stanza.raw()).into_owned()));
        }
        let bare = to.bare_key();
        if !self.users.contains_key(&bare) {
            return Routed::back(self.nobody(stanza, to));
        }
        match stanza.kind() {
            StanzaKind::Iq => match stanza.iq_type() {
                Some(IqType::Get | IqType::Set) => {
                    Routed::back(error(stanza, Condition::ServiceUnavailable))
                }
                _ => Routed { user: Some(bare), back: Vec::new() },
            },
            StanzaKind::Presence => Routed { back: self.presence(stanza, &bare), user: Some(bare) },
            _ => Routed { user: Some(bare), back: Vec::new() },
        }
    }

    fn nobody(&self, stanza: &Stanza, to: &WireJid) -> Option<String> {
        let hosts = self.users.keys().filter_map(|bare| bare.split_once('@'));
        let is_host = hosts.map(|(_, host)| host).any(|host| host == to.domainpart());
        match stanza.kind() {
            StanzaKind::Iq if is_host && to.localpart().is_none() => answer(stanza),
            // Nobody there has a presence to give (RFC 6121 §4.3.2).
            StanzaKind::Presence if is_host => match stanza.presence_type() {
                Some(PresenceType::Probe | PresenceType::Subscribe) => {
                    let from = stanza.from()?.bare_key();
                    Some(subscription(&to.bare_key(), &from, SubscriptionKind::Unsubscribed))
                }
                _ => None,
            },
            _ if is_host => error(stanza, Condition::ServiceUnavailable),
            _ => error(stanza, Condition::RemoteServerNotFound),
        }
    }

    fn presence(&mut self, stanza: &Stanza, bare: &str) -> Vec<String> {
        let (Some(from), Some(user)) = (stanza.from(), self.users.get_mut(bare)) else {
            return Vec::new();
        };
        let own = from.bare_key();
        let contact = user.contacts.entry(own.clone()).or_default();
        match stanza.presence_type() {
            Some(PresenceType::Subscribe) if contact.from || user.accepts => {
                contact.from = true;
                let mut out = vec![subscription(bare, &own, SubscriptionKind::Subscribed)];
                if user.presence.available {
                    out.push(user.presence.write(&user.full, &own));
                }
                out
            }
            Some(PresenceType::Subscribed) => {
                contact.to = contact.to || std::mem::take(&mut contact.asked);
                Vec::new()
            }
            Some(PresenceType::Unsubscribe) => {
                let had = std::mem::take(&mut contact.from);
                let farewell = had.then(|| Presence::default().write(&user.full, &own));
                farewell.into_iter().collect()
            }
            Some(PresenceType::Unsubscribed) => {
                (contact.to, contact.asked) = (false, false);
                Vec::new()
            }
            Some(PresenceType::Probe) if contact.from => {
                vec![user.presence.write(&user.full, &own)]
            }
            Some(PresenceType::Probe) => {
                vec![subscription(bare, &own, SubscriptionKind::Unsubscribed)]
            }
            _ => Vec::new(),
        }
    }

    fn user(&mut self, jid: &str) -> Result<(String, &mut User)> {
        let bare = Jid::parse(jid)?.to_bare().as_str().to_owned();
        match self.users.get_mut(&bare) {
            Some(user) => Ok((bare, user)),
            None => Err(Error::new(
                ErrorKind::InvalidJid,
                format!("no user {bare} was added to the development server"),
            )),
        }
    }

    fn component_address(&self, to: &str) -> Result<Jid> {
        let to = Jid::parse(to)?;
        if to.domainpart() == self.domain || to.domainpart().ends_with(&format!(".{}", self.domain))
        {
            return Ok(to);
        }
        let text = format!("{to} is not an address of {}; write anything@{0}", self.domain);
        Err(Error::new(ErrorKind::InvalidJid, text))
    }
}

fn probe(from: &str, to: &str) -> String {
    StanzaBuilder::presence().from(from).to(to).type_("probe").finish()
}

fn subscription(from: &str, to: &str, kind: SubscriptionKind) -> String {
    StanzaBuilder::presence().from(from).to(to).type_(kind.as_str()).finish()
}

fn error(stanza: &Stanza, condition: Condition) -> Option<String> {
    stanza.error_reply(&StanzaError::new(condition))
}

/// The answer of a host itself: it can be pinged, and says that it is a server.
fn answer(stanza: &Stanza) -> Option<String> {
    let element = stanza.element().ok()?;
    let query = element.children().next()?;
    match (query.name(), query.ns()) {
        ("ping", ns::PING) => stanza.result_reply(None),
        ("query", ns::DISCO_INFO) => {
            let identity = Element::new("identity", ns::DISCO_INFO)
                .with_attr("category", "server")
                .with_attr("type", "im");
            stanza.result_reply(Some(&Element::new("query", ns::DISCO_INFO).with_child(identity)))
        }
        _ => error(stanza, Condition::ServiceUnavailable),
    }
}
