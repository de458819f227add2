//! What a callback's answer says to the sender.

use appxmpp::service::Charge;

use super::codes;
use crate::rest::draft::{Address, Draft};
use crate::rest::json;
use crate::rest::media::Media;
use crate::rest::path::Kind;

/// The stanza that was delivered, as far as its answer needs it.
#[derive(Debug, Clone, Copy)]
pub struct Inbound<'s> {
    /// Message, presence or iq.
    pub kind: Kind,
    /// Who sent it.
    pub from: &'s str,
    /// To whom.
    pub to: &'s str,
    /// Its id, if it had one.
    pub id: Option<&'s str>,
    /// Its type, if it had one.
    pub type_: Option<&'s str>,
    /// The id of an answer that has none of its own: the same, however often it is made.
    pub answer_id: &'s str,
    /// Whether it asked for a receipt (XEP-0184) with an id to confirm.
    pub wants_receipt: bool,
}

/// What came back from the callback.
#[derive(Debug, Clone, Copy)]
pub enum Outcome<'r> {
    /// An HTTP response.
    Answered {
        /// Its status.
        status: u16,
        /// Its `Content-Type`.
        content_type: Option<&'r str>,
        /// Its body.
        body: &'r [u8],
    },
    /// No connection, no complete response, or none in time.
    Unreachable,
}

/// A stanza to send back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The stanza.
    pub stanza: String,
    /// What of the app's quotas it uses: nothing, unless the app wrote it of its own accord.
    pub charge: Option<Charge>,
}

impl Reply {
    fn ours(stanza: String) -> Self {
        Self { stanza, charge: None }
    }
}

/// The stanza to send back, if any.
///
/// Errors and iq results are never answered. 202 and 204 answer an iq with an empty result and
/// nothing else. Otherwise a body that reads as a stanza of the same kind is the answer, whatever
/// the status; then the status decides. The faithful behaviour of `strict` makes an empty stanza of
/// the same type of an unusable 2xx, and a chat message of an error page in plain text.
pub fn reply(inbound: &Inbound<'_>, outcome: &Outcome<'_>, strict: bool) -> Option<Reply> {
    if matches!(inbound.type_, Some("error" | "result")) {
        return None;
    }
    let (status, content_type, body) = match *outcome {
        Outcome::Answered { status, content_type, body } => (status, content_type, body),
        Outcome::Unreachable => {
            return Some(Reply::ours(error(inbound, codes::UNREACHABLE, None)));
        }
    };
    if matches!(status, 202 | 204) {
        return empty_result(inbound).or_else(|| receipt_for(inbound, strict)).map(Reply::ours);
    }
    let stanza = Media::of_body(content_type, false)
        .filter(|media| strict || usable(*media, status))
        .and_then(|media| Draft::read(media, body, strict).ok())
        .filter(|draft| draft.kind == inbound.kind)
        .filter(|draft| strict || is_meant(draft, status, content_type, body));
    match stanza {
        Some(draft) => Some(from_draft(inbound, &draft, strict)),
        None if (200..300).contains(&status) => unusable(inbound, strict).map(Reply::ours),
        None => {
            let (why, text) = (codes::condition(status), codes::text(status));
            Some(Reply::ours(error(inbound, why, Some(text))))
        }
    }
}

/// An error page is not a chat message.
fn usable(media: Media, status: u16) -> bool {
    (200..300).contains(&status) || matches!(media, Media::Xml | Media::Json)
}

/// `{"ok": true}` and `{"detail": "…"}` are JSON objects, but nobody meant them as stanzas.
fn is_meant(draft: &Draft<'_>, status: u16, content_type: Option<&str>, body: &[u8]) -> bool {
    if Media::of_body(content_type, false) != Some(Media::Json) {
        return true;
    }
    let members = json::parse(body).unwrap_or_default();
    members.contains_key("kind") || draft.has_error() || (status < 400 && !members.is_empty())
}

fn from_draft(inbound: &Inbound<'_>, draft: &Draft<'_>, strict: bool) -> Reply {
    let mut type_ = draft.type_.as_deref();
    if inbound.kind == Kind::Iq {
        let failed = type_ == Some("error") || (!strict && type_.is_none() && draft.has_error());
        type_ = Some(if failed { "error" } else { "result" });
    } else if type_.is_none() && inbound.type_.is_none() && draft.has_error() {
        type_ = Some("error");
    }
    // Who is asked has to answer; what says that something failed is an answer too.
    let is_answer = inbound.kind == Kind::Iq || type_ == Some("error");
    let charge = (!is_answer).then(|| Charge::of(inbound.kind.stanza(), type_, &draft.inner));
    let to = if type_ == Some("groupchat") { bare(inbound.from) } else { inbound.from };
    let id = if is_answer { inbound.id } else { draft.id.as_deref() };
    let address = Address { to, from: inbound.to, id: id.unwrap_or(inbound.answer_id), type_ };
    if strict || !inbound.wants_receipt || type_ == Some("error") {
        return Reply { stanza: draft.write(&address), charge };
    }
    let mut draft = draft.clone();
    draft.inner.to_mut().push_str(&receipt(inbound));
    Reply { stanza: draft.write(&address), charge }
}

fn bare(jid: &str) -> &str {
    jid.split('/').next().unwrap_or(jid)
}

fn empty(inbound: &Inbound<'_>, type_: Option<&str>, id: &str, inner: String) -> String {
    let draft = Draft {
        kind: inbound.kind,
        to: None,
        from: None,
        id: None,
        type_: None,
        lang: None,
        inner: inner.into(),
        depth: None,
    };
    draft.write(&Address { to: inbound.from, from: inbound.to, id, type_ })
}

fn empty_result(inbound: &Inbound<'_>) -> Option<String> {
    (inbound.kind == Kind::Iq)
        .then(|| empty(inbound, Some("result"), inbound.id.unwrap_or_default(), String::new()))
}

/// A 2xx that holds no stanza: the callback took it, and says nothing.
fn unusable(inbound: &Inbound<'_>, strict: bool) -> Option<String> {
    if strict && inbound.kind != Kind::Iq {
        return Some(empty(inbound, inbound.type_, inbound.answer_id, String::new()));
    }
    empty_result(inbound).or_else(|| receipt_for(inbound, strict))
}

/// A receipt of its own, where there is no answer to put it in.
fn receipt_for(inbound: &Inbound<'_>, strict: bool) -> Option<String> {
    let due = inbound.kind == Kind::Message && inbound.wants_receipt && !strict;
    due.then(|| empty(inbound, inbound.type_, inbound.answer_id, receipt(inbound)))
}

/// XEP-0184 §5: the receipt names the message it confirms.
fn receipt(inbound: &Inbound<'_>) -> String {
    let mut out = String::from("<received xmlns=\"urn:xmpp:receipts\"");
    appxmpp::xml::writer::attribute(&mut out, "id", inbound.id.unwrap_or_default());
    out.push_str("/>");
    out
}

/// The stanza error that tells the sender why.
pub fn error(inbound: &Inbound<'_>, why: codes::Condition, text: Option<String>) -> String {
    let mut inner = String::from("<error");
    appxmpp::xml::writer::attribute(&mut inner, "type", why.type_);
    inner.push_str("><");
    inner.push_str(why.condition);
    inner.push_str(" xmlns=\"urn:ietf:params:xml:ns:xmpp-stanzas\"/>");
    if let Some(text) = text {
        inner.push_str("<text xmlns=\"urn:ietf:params:xml:ns:xmpp-stanzas\">");
        appxmpp::xml::writer::escape_text(&mut inner, &text);
        inner.push_str("</text>");
    }
    inner.push_str("</error>");
    empty(inbound, Some("error"), inbound.id.unwrap_or(inbound.answer_id), inner)
}

#[cfg(test)]
mod tests;
