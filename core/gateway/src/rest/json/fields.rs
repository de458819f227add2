//! The schema: one line for each member.

use appxmpp::ns;
use appxmpp::xml::Element;
use serde_json::{Map, Value};

use super::super::error::RestError;
use super::shape::{
    Shape, attr, attr_bool, attr_int, attrs, child, child_flag, child_int, integer, read_object,
    string, text, write_object,
};
use super::{Mode, forms, iq, message};
use crate::rest::path::Kind;

/// The kinds of stanza a member belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Kinds(pub(super) u8);

impl Kinds {
    pub(super) const MESSAGE: Self = Self(1);
    pub(super) const PRESENCE: Self = Self(2);
    pub(super) const IQ: Self = Self(4);
    const ANY: Self = Self(7);
}

/// One member and the element it stands for.
pub(super) struct Field {
    pub(super) json: &'static str,
    pub(super) kinds: Kinds,
    /// The element's name; empty for every element of the namespace.
    name: &'static str,
    ns: &'static str,
    shape: Shape,
}

impl Field {
    #[cfg(test)]
    pub(super) fn element_name(&self) -> &'static str {
        self.name
    }

    #[cfg(test)]
    pub(super) fn namespace(&self) -> &'static str {
        self.ns
    }

    /// Whether this member is about `element`.
    pub(super) fn claims(&self, element: &Element) -> bool {
        (self.name.is_empty() || self.name == element.name()) && self.ns == element.ns()
    }

    /// The member's value for the elements of one name, of which there is at least one.
    pub(super) fn read(&self, group: &[&Element], mode: Mode) -> Option<Value> {
        let first = group.first()?;
        match self.shape {
            Shape::Text => Some(first.text().into()),
            Shape::Integer => integer(&first.text()),
            Shape::Flag => Some(true.into()),
            Shape::Attr(name) => first.attr(name).map(Value::from),
            Shape::Object(parts) => Some(read_object(first, parts).into()),
            Shape::Custom(read, _) => read(group, mode),
        }
    }

    /// The elements that a value stands for.
    pub(super) fn write(
        &self,
        value: &Value,
        members: &Map<String, Value>,
        mode: Mode,
    ) -> Result<Vec<Element>, RestError> {
        let mut element = Element::new(self.name, self.ns);
        match self.shape {
            Shape::Text => element.push_text(string(value, mode)?),
            Shape::Integer => match value {
                Value::Number(number) if !number.is_f64() => element.push_text(&number.to_string()),
                Value::String(words) if !mode.strict && integer(words).is_some() => {
                    element.push_text(words);
                }
                _ if mode.strict => {}
                _ => return Err(RestError::UNPARSABLE),
            },
            Shape::Flag if *value == Value::Bool(true) => {}
            Shape::Flag => return Ok(Vec::new()),
            Shape::Attr(name) => element.set_attr(name, string(value, mode)?),
            Shape::Object(parts) => write_object(&mut element, value, parts)?,
            Shape::Custom(_, write) => return write(value, members, mode),
        }
        Ok(vec![element])
    }
}

const fn field(
    kind: Option<Kind>,
    json: &'static str,
    name: &'static str,
    ns: &'static str,
    shape: Shape,
) -> Field {
    let kinds = match kind {
        Some(kind) => Kinds::of(kind),
        None => Kinds::ANY,
    };
    Field { json, kinds, name, ns, shape }
}

const M: Option<Kind> = Some(Kind::Message);
const P: Option<Kind> = Some(Kind::Presence);
const I: Option<Kind> = Some(Kind::Iq);

/// Result set management, XEP-0059.
pub(super) const RSM: Shape = Shape::Object(&[
    child("after"),
    child("before"),
    child_int("max"),
    child("first"),
    child("last"),
    child_int("count"),
    child_int("index"),
]);

const OOB: Shape = Shape::Object(&[child("url"), child("desc")]);

/// Every member, in the order the elements are written.
pub(super) static FIELDS: &[Field] = &[
    field(M, "subject", "subject", ns::CLIENT, Shape::Text),
    field(M, "body", "body", ns::CLIENT, Shape::Text),
    field(M, "thread", "thread", ns::CLIENT, Shape::Object(&[text("id"), attr("parent")])),
    field(
        M,
        "html",
        "html",
        message::XHTML_IM,
        Shape::Custom(message::read_html, message::write_html),
    ),
    field(
        M,
        "state",
        "",
        message::CHATSTATES,
        Shape::Custom(message::read_state, message::write_state),
    ),
    field(M, "oob", "x", "jabber:x:oob", OOB),
    field(
        M,
        "oob_url",
        "x",
        "jabber:x:oob",
        Shape::Custom(message::read_oob_url, message::write_oob_url),
    ),
    field(M, "replace", "replace", "urn:xmpp:message-correct:0", Shape::Attr("id")),
    field(M, "attach_to", "attach-to", "urn:xmpp:message-attaching:1", Shape::Attr("id")),
    field(M, "markable", "markable", "urn:xmpp:chat-markers:0", Shape::Flag),
    field(M, "displayed", "displayed", "urn:xmpp:chat-markers:0", Shape::Attr("id")),
    field(M, "fallback", "fallback", "urn:xmpp:fallback:0", Shape::Flag),
    field(M, "encryption", "encryption", "urn:xmpp:eme:0", Shape::Attr("namespace")),
    field(M, "occupant_id", "occupant-id", "urn:xmpp:occupant-id:0", Shape::Attr("id")),
    field(M, "reply", "reply", "urn:xmpp:reply:0", Shape::Object(&[attr("id"), attr("to")])),
    field(
        M,
        "reactions",
        "reactions",
        message::REACTIONS,
        Shape::Custom(message::read_reactions, message::write_reactions),
    ),
    field(
        M,
        "reference",
        "reference",
        "urn:xmpp:reference:0",
        Shape::Object(&[attr("type"), attr("uri"), attr_int("begin"), attr_int("end")]),
    ),
    field(
        M,
        "stanza_ids",
        "stanza-id",
        message::STANZA_IDS,
        Shape::Custom(message::read_stanza_ids, message::write_stanza_ids),
    ),
    field(
        M,
        "invite",
        "x",
        "jabber:x:conference",
        Shape::Object(&[
            attr("jid"),
            attr("reason"),
            attr("password"),
            attr("thread"),
            attr_bool("continue"),
        ]),
    ),
    field(
        M,
        "forwarded",
        "forwarded",
        message::FORWARD,
        Shape::Custom(message::read_forwarded, message::write_forwarded),
    ),
    field(
        M,
        "archive",
        "result",
        iq::MAM,
        Shape::Custom(message::read_archived, message::write_archived),
    ),
    field(P, "status", "status", ns::CLIENT, Shape::Text),
    field(P, "priority", "priority", ns::CLIENT, Shape::Integer),
    field(P, "show", "show", ns::CLIENT, Shape::Text),
    field(
        P,
        "caps",
        "c",
        "http://jabber.org/protocol/caps",
        Shape::Object(&[attr("hash"), attr("node"), attr("ver"), attr("ext")]),
    ),
    field(P, "idle_since", "idle", "urn:xmpp:idle:1", Shape::Attr("since")),
    field(P, "vcard_update", "x", "vcard-temp:x:update", Shape::Object(&[child("photo")])),
    field(
        P,
        "muc",
        "x",
        message::MUC,
        Shape::Object(&[attrs(
            "history",
            &[attr_int("maxchars"), attr_int("maxstanzas"), attr_int("seconds"), attr("since")],
        )]),
    ),
    field(P, "join", "x", message::MUC, Shape::Custom(message::read_nothing, message::write_join)),
    field(None, "nick", "nick", "http://jabber.org/protocol/nick", Shape::Text),
    field(None, "delay", "delay", ns::DELAY, Shape::Attr("stamp")),
    field(None, "dataform", "x", forms::DATA, Shape::Custom(forms::read, forms::write)),
    field(
        None,
        "formdata",
        "x",
        forms::DATA,
        Shape::Custom(message::read_nothing, forms::write_data),
    ),
    field(
        None,
        "payload",
        "payload",
        message::JSON_MESSAGE,
        Shape::Custom(message::read_payload, message::write_payload),
    ),
    field(None, "rsm", "set", iq::RSM_NS, RSM),
    field(
        None,
        "error",
        "error",
        ns::CLIENT,
        Shape::Custom(message::read_error, message::write_error),
    ),
    field(I, "ping", "ping", ns::PING, Shape::Flag),
    field(
        I,
        "version",
        "query",
        ns::VERSION,
        Shape::Object(&[child("name"), child("version"), child("os")]),
    ),
    field(I, "disco", "query", ns::DISCO_INFO, Shape::Custom(iq::read_disco, iq::write_disco)),
    field(I, "items", "query", ns::DISCO_ITEMS, Shape::Custom(iq::read_items, iq::write_items)),
    field(
        I,
        "command",
        "command",
        iq::COMMANDS,
        Shape::Custom(iq::read_command, iq::write_command),
    ),
    field(I, "archive", "query", iq::MAM, Shape::Custom(iq::read_archive, iq::write_archive)),
    field(I, "result", "fin", iq::MAM, Shape::Custom(iq::read_fin, iq::write_fin)),
    field(
        I,
        "extdisco",
        "services",
        iq::EXTDISCO,
        Shape::Custom(iq::read_extdisco, iq::write_extdisco),
    ),
    field(
        I,
        "gateway",
        "query",
        "jabber:iq:gateway",
        Shape::Object(&[child("desc"), child("prompt"), child("jid")]),
    ),
    field(
        I,
        "lastactivity",
        "query",
        "jabber:iq:last",
        Shape::Object(&[attr_int("seconds"), text("status")]),
    ),
    field(I, "oob", "query", "jabber:iq:oob", OOB),
    field(
        I,
        "register",
        "query",
        "jabber:iq:register",
        Shape::Object(&[
            child_flag("registered"),
            child_flag("remove"),
            child("instructions"),
            child("username"),
            child("nick"),
            child("password"),
            child("name"),
            child("first"),
            child("last"),
            child("email"),
            child("address"),
            child("city"),
            child("state"),
            child("zip"),
            child("phone"),
            child("url"),
            child("date"),
            child("misc"),
            child("text"),
            child("key"),
        ]),
    ),
    field(I, "stats", "query", iq::STATS, Shape::Custom(iq::read_stats, iq::write_stats)),
    field(
        I,
        "upload_request",
        "request",
        iq::UPLOAD,
        Shape::Object(&[attr("filename"), attr_int("size"), attr("content-type")]),
    ),
    field(I, "upload_slot", "slot", iq::UPLOAD, Shape::Custom(iq::read_slot, iq::write_slot)),
    field(I, "block", "block", iq::BLOCKING, Shape::Custom(iq::read_blocked, iq::write_block)),
    field(
        I,
        "unblock",
        "unblock",
        iq::BLOCKING,
        Shape::Custom(iq::read_blocked, iq::write_unblock),
    ),
    field(
        I,
        "blocklist",
        "blocklist",
        iq::BLOCKING,
        Shape::Custom(iq::read_blocked, iq::write_blocklist),
    ),
];
