//! What an app sends: checked in App Engine's order, written as stanzas.
//!
//! Nothing here takes a lock for a message: an app that sends from many threads meets only atomic
//! counters.

use bytes::Bytes;

use super::Service;
use super::address::DEFAULT_RESOURCE;
use super::presence::{OwnPresence, Show};
use super::quota::Resource;
use super::roster::{Direction, Subscription, SubscriptionVerb};
use crate::error::{Error, ErrorKind, Result};
use crate::jid::Jid;
use crate::stanza::StanzaBuilder;
use crate::store::{Change, ContactKey, Durability};
use crate::xml::writer::{escape_attr, escape_text, is_xml_text};
use crate::xml::{Limits, fragment};

/// The message types of App Engine's API: RFC 6121's five, and none.
const MESSAGE_TYPES: [&str; 6] = ["", "chat", "error", "groupchat", "headline", "normal"];
/// Below this size a body is copied behind each head, above it is shared: a stanza in one piece is
/// cheaper to write, but a thousand copies of a large body are not, nor are a hundred thousand of a small one.
const SHARED_BODY_BYTES: usize = 1024;

/// A call of `send_message`.
#[derive(Debug, Clone, Copy)]
pub struct MessageCall<'a> {
    /// To whom, in the order of the answer.
    pub jids: &'a [&'a str],
    /// The text, or with `raw_xml` the children of the message.
    pub body: &'a str,
    /// From whom; the default sender if `None` or empty.
    pub from: Option<&'a str>,
    /// One of RFC 6121's types, or empty for a message without one.
    pub type_: &'a str,
    /// Whether `body` is XML.
    pub raw_xml: bool,
}

/// A call of `send_presence`.
#[derive(Debug, Clone, Copy)]
pub struct PresenceCall<'a> {
    /// To whom.
    pub jid: &'a str,
    /// Empty for available, `unavailable` or `probe`.
    pub type_: &'a str,
    /// Empty, `away`, `chat`, `dnd` or `xa`.
    pub show: &'a str,
    /// A text for people.
    pub status: Option<&'a str>,
    /// From whom; the default sender if `None` or empty.
    pub from: Option<&'a str>,
}

/// What became of one recipient, with App Engine's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Status {
    /// Accepted.
    NoError = 0,
    /// The recipient is no address; nothing was sent to it.
    InvalidJid = 1,
    /// The server could not be reached.
    OtherError = 2,
}

/// The answer to a [`MessageCall`]: one status for each recipient, and what is to be written.
#[derive(Debug, Clone, Default)]
pub struct Sending {
    /// In the order of the call. A stanza that cannot be written turns its recipient's status into
    /// [`Status::OtherError`].
    pub statuses: Vec<Status>,
    /// The stanzas, in the order of the recipients that are addresses.
    pub stanzas: Vec<Outgoing>,
}

impl Sending {
    /// Notes that `stanzas[index]` was not written.
    pub fn fail(&mut self, index: usize) {
        if let Some(outgoing) = self.stanzas.get(index) {
            self.statuses[outgoing.recipient] = Status::OtherError;
        }
    }
}

/// One stanza, to be written as `head` followed by `tail`. Stanzas of one call share their memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Whose stanza it is: an index into the call's recipients.
    pub recipient: usize,
    /// The first bytes, which differ between recipients.
    pub head: Bytes,
    /// The rest, which does not; empty where the stanza is in one piece.
    pub tail: Bytes,
}

impl Outgoing {
    /// A stanza in one piece that is nobody's but its own call's.
    pub fn whole(stanza: Bytes) -> Self {
        Self { recipient: 0, head: stanza, tail: Bytes::new() }
    }

    /// How many bytes will be written.
    pub fn len(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    /// Never: a stanza has bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The stanza in one piece; free unless it is in two.
    pub fn to_bytes(&self) -> Bytes {
        if self.tail.is_empty() {
            return self.head.clone();
        }
        [&self.head[..], &self.tail[..]].concat().into()
    }
}

impl Service {
    /// Makes the messages of one call.
    ///
    /// # Errors
    /// In App Engine's order: [`ErrorKind::NoBody`], [`ErrorKind::InvalidJid`] for no recipients or
    /// an empty one, [`ErrorKind::InvalidType`], [`ErrorKind::RequestTooLarge`] for a call over
    /// 1 MiB, [`ErrorKind::InvalidJid`] or [`ErrorKind::InvalidSender`] for the sender,
    /// [`ErrorKind::TooLarge`] for a body over 100 KB, [`ErrorKind::InvalidXml`] for XML that is
    /// not well-formed or text that XML cannot carry, [`ErrorKind::OverQuota`]. Nothing is sent then. A recipient that is no
    /// address is no error but a [`Status`].
    pub fn send_message(&self, call: &MessageCall<'_>) -> Result<Sending> {
        self.counters.api_calls.add(1);
        self.check_message(call)?;
        let from = self.addresses.sender(call.from)?;
        let mut tail = String::with_capacity(call.body.len() + call.body.len() / 8 + 32);
        self.write_body(call, &mut tail)?;
        let sending = self.address_message(call, &from, &tail);
        let sent = sending.stanzas.len();
        self.meters.take(&[
            (Resource::ApiCalls, 1),
            (Resource::DataSent, sent * call.body.len()),
            (Resource::RecipientsMessaged, sent),
        ])?;
        self.counters.recipients_messaged.add(sent);
        self.counters.recipients_refused.add(call.jids.len() - sent);
        self.counters.data_sent_bytes.add(sent * call.body.len());
        Ok(sending)
    }

    fn check_message(&self, call: &MessageCall<'_>) -> Result<()> {
        if call.body.is_empty() {
            let text = "the message has no body; give it some text";
            return Err(Error::new(ErrorKind::NoBody, text));
        }
        if call.jids.is_empty() || call.jids.iter().any(|jid| jid.is_empty()) {
            return Err(no_recipient());
        }
        if !MESSAGE_TYPES.contains(&call.type_) {
            return Err(Error::new(
                ErrorKind::InvalidType,
                format!(
                    "{:?} is not a message type; use chat, error, groupchat, headline, normal or none",
                    call.type_
                ),
            ));
        }
        let recipients: usize = call.jids.iter().map(|jid| jid.len()).sum();
        self.check_call_size(call.body.len() + recipients + call.from.map_or(0, str::len))
    }

    fn check_call_size(&self, bytes: usize) -> Result<()> {
        let limit = self.limits.call_bytes;
        if bytes <= limit {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::RequestTooLarge,
            format!(
                "the call has {bytes} bytes and {limit} are allowed; send to fewer recipients at a time"
            ),
        ))
    }

    /// The inside of the message and its end tag, once for all recipients.
    fn write_body(&self, call: &MessageCall<'_>, out: &mut String) -> Result<()> {
        let (bytes, limit) = (call.body.len(), self.limits.body_bytes);
        if bytes > limit {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!(
                    "the body has {bytes} bytes and {limit} are allowed; shorten it or split it"
                ),
            ));
        }
        if call.raw_xml {
            fragment::check(call.body, self.addresses.namespace(), &Limits::default())?;
            out.push_str(call.body);
        } else {
            if !is_xml_text(call.body) {
                let text = "the body holds a character that XML cannot carry (XML 1.0 section 2.2, such as \
                            U+0000); remove it";
                return Err(Error::new(ErrorKind::InvalidXml, text));
            }
            out.push_str("<body>");
            escape_text(out, call.body);
            out.push_str("</body>");
        }
        out.push_str("</message>");
        Ok(())
    }

    fn address_message(&self, call: &MessageCall<'_>, from: &Jid, tail: &str) -> Sending {
        let mut fixed = String::with_capacity(64);
        fixed.push_str("<message");
        if let Some(from) = self.addresses.stamped(from.as_str()) {
            fixed.push_str(" from=\"");
            escape_attr(&mut fixed, from);
            fixed.push('"');
        }
        if !call.type_.is_empty() {
            fixed.push_str(" type=\"");
            fixed.push_str(call.type_);
            fixed.push('"');
        }
        fixed.push_str(" to=\"");

        let copies = tail.len().saturating_mul(call.jids.len());
        let shared = call.jids.len() > 1
            && (tail.len() > SHARED_BODY_BYTES || copies > self.limits.call_bytes);
        let per_stanza = fixed.len() + 96 + if shared { 0 } else { tail.len() };
        let mut out = String::with_capacity(per_stanza * call.jids.len());
        let mut ends = Vec::with_capacity(call.jids.len());
        let mut statuses = Vec::with_capacity(call.jids.len());
        for (index, jid) in call.jids.iter().enumerate() {
            let Ok(to) = self.addresses.recipient(jid) else {
                statuses.push(Status::InvalidJid);
                continue;
            };
            statuses.push(Status::NoError);
            out.push_str(&fixed);
            escape_attr(&mut out, to.as_str());
            out.push_str("\" id=\"");
            self.ids.write_next(&mut out);
            out.push_str("\">");
            if !shared {
                out.push_str(tail);
            }
            ends.push((index, out.len()));
        }
        let heads = Bytes::from(out);
        let tail = if shared { Bytes::copy_from_slice(tail.as_bytes()) } else { Bytes::new() };
        let mut start = 0;
        let stanzas = ends.into_iter().map(|(recipient, end)| {
            let head = heads.slice(std::mem::replace(&mut start, end)..end);
            Outgoing { recipient, head, tail: tail.clone() }
        });
        let stanzas = stanzas.collect();
        Sending { statuses, stanzas }
    }

    /// Makes the presence of one call, and remembers it as what the contact was told: in the store
    /// too, soon, before any change that is applied after this call.
    ///
    /// # Errors
    /// In App Engine's order: [`ErrorKind::InvalidJid`] for no recipient, [`ErrorKind::InvalidType`],
    /// [`ErrorKind::InvalidShow`], [`ErrorKind::InvalidStatus`] for one over 1024 characters or that
    /// XML cannot carry, then the sender as in [`Service::send_message`] and the recipient, then
    /// [`ErrorKind::OverQuota`].
    pub fn send_presence(&self, call: &PresenceCall<'_>) -> Result<Bytes> {
        self.counters.api_calls.add(1);
        let status = call.status.unwrap_or_default();
        let show = self.check_presence(call, status)?;
        let from = self.addresses.sender(call.from)?;
        let to = self.addresses.recipient(call.jid)?;
        self.meters.take(&[(Resource::ApiCalls, 1)])?;
        if call.type_ != "probe" {
            let unavailable = call.type_ == "unavailable";
            let told = OwnPresence { unavailable, show, status: status.into() };
            self.note_told(from.bare(), to.bare(), told);
        }
        self.counters.presence_sent.add(1);
        Ok(self.presence(from.as_str(), to.as_str(), call.type_, show, status))
    }

    fn note_told(&self, own: &str, contact: &str, told: OwnPresence) {
        let mut book = self.book();
        let changed = book.set_told(own, contact, told);
        let kept = changed && book.subscription(own, contact) != Subscription::None;
        let told = book.get(own, contact).and_then(|entry| entry.told.cloned()).map(Box::new);
        drop(book);
        if kept && !self.addresses.is_account() {
            let key = ContactKey { own: own.into(), contact: contact.into() };
            // A fault is logged and counted; the contact is told all the same.
            let _ = self.keep(vec![Change::Told(key, told)], Durability::Soon);
        }
    }

    fn check_presence(&self, call: &PresenceCall<'_>, status: &str) -> Result<Show> {
        if call.jid.is_empty() {
            return Err(no_recipient());
        }
        if !["", "unavailable", "probe"].contains(&call.type_) {
            return Err(Error::new(
                ErrorKind::InvalidType,
                format!(
                    "{:?} is not a presence type; use unavailable, probe or none (subscriptions are \
                     asked for by an invitation)",
                    call.type_
                ),
            ));
        }
        let Some(show) = Show::parse(call.show) else {
            return Err(Error::new(
                ErrorKind::InvalidShow,
                format!("{:?} is not a show value; use away, chat, dnd, xa or none", call.show),
            ));
        };
        let (chars, limit) = (status.chars().count(), self.limits.status_chars);
        if chars > limit {
            return Err(Error::new(
                ErrorKind::InvalidStatus,
                format!("the status has {chars} characters and {limit} are allowed; shorten it"),
            ));
        }
        if !is_xml_text(status) {
            let text = "the status holds a character that XML cannot carry (XML 1.0 section 2.2, such as \
                        U+0000); remove it";
            return Err(Error::new(ErrorKind::InvalidStatus, text));
        }
        self.check_call_size(call.jid.len() + status.len() + call.from.map_or(0, str::len))?;
        Ok(show)
    }

    /// Asks a contact for a subscription. Asking again is allowed and says it again.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidJid`], [`ErrorKind::InvalidSender`] or [`ErrorKind::OverQuota`];
    /// [`ErrorKind::Store`] if the
    /// request could not be noted, which would lose the contact's consent.
    pub fn send_invite(&self, jid: &str, from: Option<&str>) -> Result<Bytes> {
        self.counters.api_calls.add(1);
        if jid.is_empty() {
            return Err(no_recipient());
        }
        let from = self.addresses.sender(from)?;
        let to = self.addresses.recipient(jid)?;
        self.meters.take(&[(Resource::ApiCalls, 1), (Resource::InvitationsSent, 1)])?;
        let verb = SubscriptionVerb::Subscribe;
        // Of an account's requests its server keeps note.
        if !self.addresses.is_account() {
            self.change_subscription(from.bare(), to.bare(), true, |state| {
                (state.on(Direction::Outbound, verb).state, ())
            })?;
        }
        self.counters.invitations_sent.add(1);
        Ok(self.subscription(from.bare(), to.bare(), verb))
    }

    /// One presence stanza.
    pub(super) fn presence(
        &self,
        from: &str,
        to: &str,
        type_: &str,
        show: Show,
        status: &str,
    ) -> Bytes {
        let mut builder = self.presence_builder(from, to);
        if !type_.is_empty() {
            builder = builder.type_(type_);
        }
        if show != Show::Normal {
            builder = builder.child_text("show", show.as_str());
        }
        if !status.is_empty() {
            builder = builder.child_text("status", status);
        }
        builder.finish().into()
    }

    /// One subscription stanza, from bare address to bare address (RFC 6121 §3.1.1).
    pub(super) fn subscription(&self, own: &str, contact: &str, verb: SubscriptionVerb) -> Bytes {
        self.bare_presence(own, contact, verb.as_str())
    }

    /// One presence stanza of a type that bare addresses exchange: subscriptions and probes.
    pub(super) fn bare_presence(&self, own: &str, contact: &str, type_: &str) -> Bytes {
        self.presence_builder(own, contact).type_(type_).finish().into()
    }

    fn presence_builder(&self, from: &str, to: &str) -> StanzaBuilder {
        let mut builder = StanzaBuilder::presence();
        if let Some(from) = self.addresses.stamped(from) {
            builder = builder.from(from);
        }
        builder.to(to).id(&self.ids.next())
    }

    /// The app's presence for a contact: available, unless it told the contact something else.
    pub(super) fn own_presence(&self, own: &str, to: &str, told: Option<&OwnPresence>) -> Bytes {
        let from = with_default_resource(own);
        match told {
            None => self.presence(&from, to, "", Show::Normal, ""),
            Some(told) => {
                let type_ = if told.unavailable { "unavailable" } else { "" };
                self.presence(&from, to, type_, told.show, &told.status)
            }
        }
    }

    /// Tells a contact that one of the app's addresses is gone.
    pub(super) fn gone(&self, own: &str, to: &str) -> Bytes {
        self.presence(&with_default_resource(own), to, "unavailable", Show::Normal, "")
    }
}

fn with_default_resource(own: &str) -> String {
    [own, "/", DEFAULT_RESOURCE].concat()
}

fn no_recipient() -> Error {
    let text = "a recipient is missing or empty; give addresses like user@example.com";
    Error::new(ErrorKind::InvalidJid, text)
}
