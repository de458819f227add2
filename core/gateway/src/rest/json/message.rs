//! Members of messages, and those of every stanza, that take a form of their own.

use appxmpp::ns;
use appxmpp::xml::{Element, Limits, Scope, writer};
use serde_json::{Map, Value, json};

use super::super::error::RestError;
use super::iq::MAM;
use super::shape::{Part, attr, read_object, scalar_text, string, write_object};
use super::{Mode, of_stanza, to_stanza};

pub(super) const CHATSTATES: &str = "http://jabber.org/protocol/chatstates";
pub(super) const FORWARD: &str = "urn:xmpp:forward:0";
pub(super) const JSON_MESSAGE: &str = "urn:xmpp:json-msg:0";
const JSON_TEXT: &str = "urn:xmpp:json:0";
pub(super) const MUC: &str = "http://jabber.org/protocol/muc";
pub(super) const REACTIONS: &str = "urn:xmpp:reactions:0";
pub(super) const STANZA_IDS: &str = "urn:xmpp:sid:0";
const XHTML: &str = "http://www.w3.org/1999/xhtml";
pub(super) const XHTML_IM: &str = "http://jabber.org/protocol/xhtml-im";

type Members = Map<String, Value>;
type Written = Result<Vec<Element>, RestError>;

/// A member that is only ever written.
pub(super) fn read_nothing(_: &[&Element], _: Mode) -> Option<Value> {
    None
}

/// `state` is the name of the chat state's element.
pub(super) fn read_state(group: &[&Element], _: Mode) -> Option<Value> {
    group.first().map(|state| state.name().into())
}

pub(super) fn write_state(value: &Value, _: &Members, _: Mode) -> Written {
    let name = value.as_str().filter(|name| writer::is_name(name)).ok_or(RestError::UNPARSABLE)?;
    Ok(vec![Element::new(name, CHATSTATES)])
}

/// `html` is XHTML-IM's `<body>…</body>` as text.
pub(super) fn read_html(group: &[&Element], _: Mode) -> Option<Value> {
    let body = group.first()?.child("body", XHTML)?;
    let mut out = String::new();
    body.write_to(&mut out, &Scope::default_ns(XHTML));
    Some(out.into())
}

pub(super) fn write_html(value: &Value, _: &Members, _: Mode) -> Written {
    let html = value.as_str().ok_or(RestError::UNPARSABLE)?;
    let scope = Scope::default_ns(XHTML);
    let parse = |html: &str| Element::parse(html.as_bytes(), &scope, &Limits::default()).ok();
    let body = parse(html)
        .filter(|body| body.is("body", XHTML))
        .or_else(|| parse(&format!("<body>{html}</body>")))
        .ok_or(RestError::UNPARSABLE)?;
    Ok(vec![Element::new("html", XHTML_IM).with_child(body)])
}

/// `oob_url` is the URL alone of `oob`.
pub(super) fn read_oob_url(group: &[&Element], _: Mode) -> Option<Value> {
    let oob = group.first()?;
    oob.child("url", oob.ns()).map(|url| url.text().into())
}

pub(super) fn write_oob_url(value: &Value, _: &Members, mode: Mode) -> Written {
    const OOB: &str = "jabber:x:oob";
    let url = Element::new("url", OOB).with_text(string(value, mode)?);
    Ok(vec![Element::new("x", OOB).with_child(url)])
}

/// `reactions` is `{id, reactions: ["👍", …]}`.
pub(super) fn read_reactions(group: &[&Element], _: Mode) -> Option<Value> {
    let element = group.first()?;
    let list: Vec<Value> = element
        .children()
        .filter(|child| child.is("reaction", REACTIONS))
        .map(|child| child.text().into())
        .collect();
    let mut object = read_object(element, &[attr("id")]);
    object.insert("reactions".into(), list.into());
    Some(object.into())
}

pub(super) fn write_reactions(value: &Value, _: &Members, mode: Mode) -> Written {
    let mut element = Element::new("reactions", REACTIONS);
    write_object(&mut element, value, &[attr("id")])?;
    for reaction in value.get("reactions").and_then(Value::as_array).into_iter().flatten() {
        element.push(Element::new("reaction", REACTIONS).with_text(string(reaction, mode)?));
    }
    Ok(vec![element])
}

const STANZA_ID: &[Part] = &[attr("id"), attr("by")];

/// `stanza_ids` is `[{id, by}]`.
pub(super) fn read_stanza_ids(group: &[&Element], _: Mode) -> Option<Value> {
    Some(group.iter().map(|element| Value::from(read_object(element, STANZA_ID))).collect())
}

pub(super) fn write_stanza_ids(value: &Value, _: &Members, _: Mode) -> Written {
    let one = |value: &Value| {
        let mut element = Element::new("stanza-id", STANZA_IDS);
        write_object(&mut element, value, STANZA_ID).map(|()| element)
    };
    value.as_array().ok_or(RestError::UNPARSABLE)?.iter().map(one).collect()
}

/// `forwarded` is `{delay, message: {…}}`.
pub(super) fn read_forwarded(group: &[&Element], mode: Mode) -> Option<Value> {
    read_forward(group.first()?, mode)
}

fn read_forward(forwarded: &Element, mode: Mode) -> Option<Value> {
    let inner = mode.inner()?;
    let mut object = Map::new();
    if let Some(stamp) = forwarded.child("delay", ns::DELAY).and_then(|delay| delay.attr("stamp")) {
        object.insert("delay".into(), stamp.into());
    }
    if let Some(message) = forwarded.child("message", ns::CLIENT) {
        object.insert("message".into(), of_stanza(message, Mode { flat: false, ..inner }).into());
    }
    Some(object.into())
}

pub(super) fn write_forwarded(value: &Value, _: &Members, mode: Mode) -> Written {
    write_forward(value, mode).map(|element| vec![element])
}

fn write_forward(value: &Value, mode: Mode) -> Result<Element, RestError> {
    let inner = mode.inner().ok_or(RestError::UNPARSABLE)?;
    let object = value.as_object().ok_or(RestError::UNPARSABLE)?;
    let mut forwarded = Element::new("forwarded", FORWARD);
    if let Some(stamp) = object.get("delay") {
        let stamp = string(stamp, mode)?;
        forwarded.push(Element::new("delay", ns::DELAY).with_attr("stamp", stamp));
    }
    if let Some(message) = object.get("message") {
        let message = message.as_object().ok_or(RestError::UNPARSABLE)?;
        let mut message = message.clone();
        message.insert("kind".into(), "message".into());
        forwarded.push(to_stanza(&message, inner)?);
    }
    Ok(forwarded)
}

/// `archive` of a message is `{id, queryid, forward}`, a result of an archive query.
pub(super) fn read_archived(group: &[&Element], mode: Mode) -> Option<Value> {
    let result = group.first()?;
    let mut object = read_object(result, &[attr("id"), attr("queryid")]);
    if let Some(forwarded) = result.child("forwarded", FORWARD) {
        object.insert("forward".into(), read_forward(forwarded, mode)?);
    }
    Some(object.into())
}

pub(super) fn write_archived(value: &Value, _: &Members, mode: Mode) -> Written {
    let mut result = Element::new("result", MAM);
    write_object(&mut result, value, &[attr("id"), attr("queryid")])?;
    if let Some(forward) = value.get("forward") {
        result.push(write_forward(forward, mode)?);
    }
    Ok(vec![result])
}

/// `payload` is `{datatype, data}`, XEP-0432; the data is JSON itself.
pub(super) fn read_payload(group: &[&Element], _: Mode) -> Option<Value> {
    let payload = group.first()?;
    let text = match payload.child("json", JSON_TEXT) {
        Some(json) => json.text(),
        None => payload.text(),
    };
    let mut object = read_object(payload, &[attr("datatype")]);
    if !text.trim().is_empty() {
        object.insert("data".into(), serde_json::from_str(&text).ok()?);
    }
    Some(object.into())
}

pub(super) fn write_payload(value: &Value, _: &Members, _: Mode) -> Written {
    let mut payload = Element::new("payload", JSON_MESSAGE);
    write_object(&mut payload, value, &[attr("datatype")])?;
    if let Some(data) = value.get("data") {
        payload.push_text(&data.to_string());
    }
    Ok(vec![payload])
}

pub(super) fn write_join(value: &Value, _: &Members, _: Mode) -> Written {
    Ok(if value == &Value::Bool(true) { vec![Element::new("x", MUC)] } else { Vec::new() })
}

/// `error` is `{type, condition, text, by}`, RFC 6120 §8.3.
pub(super) fn read_error(group: &[&Element], _: Mode) -> Option<Value> {
    let error = group.first()?;
    let mut object = read_object(error, &[attr("type"), attr("by")]);
    let conditions = error.children().filter(|child| child.ns() == ns::STANZA_ERRORS);
    for child in conditions {
        if child.name() == "text" {
            object.insert("text".into(), child.text().into());
        } else if !object.contains_key("condition") {
            object.insert("condition".into(), child.name().into());
        }
    }
    Some(object.into())
}

pub(super) fn write_error(value: &Value, _: &Members, mode: Mode) -> Written {
    if mode.strict && !value.is_object() {
        return Ok(Vec::new());
    }
    let object = value.as_object().ok_or(RestError::UNPARSABLE)?;
    let condition = object
        .get("condition")
        .and_then(Value::as_str)
        .filter(|name| writer::is_name(name))
        .ok_or(RestError::UNPARSABLE)?;
    let mut error = Element::new("error", ns::CLIENT);
    write_object(&mut error, value, &[attr("type"), attr("by")])?;
    error.push(Element::new(condition, ns::STANZA_ERRORS));
    if let Some(text) = object.get("text").map(scalar_text).transpose()?.flatten() {
        error.push(Element::new("text", ns::STANZA_ERRORS).with_text(&text));
    }
    Ok(vec![error])
}

/// A stanza of type error that names no error: mod_rest repeats the body in `<error/>`; a client is
/// helped more by a condition.
pub(super) fn implied_error(members: &Members, mode: Mode) -> Element {
    let body = members.get("body").and_then(Value::as_str).unwrap_or_default();
    if mode.strict {
        return Element::new("error", ns::CLIENT).with_text(body);
    }
    let error = json!({"type": "cancel", "condition": "undefined-condition", "text": body});
    let written = write_error(&error, members, mode).ok().and_then(|mut list| list.pop());
    written.unwrap_or_else(|| Element::new("error", ns::CLIENT))
}
