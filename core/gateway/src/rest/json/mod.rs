//! Stanzas as JSON objects and back, in mod_rest's schema.
//!
//! Nothing is lost: children of a stanza that the schema does not express, or not wholly, stand as
//! XML in the member `xml` beside the mapped ones, and what stands there on the way back takes the
//! place of mapped members for the same elements. With [`Mode::strict`] they are dropped, as in
//! mod_rest.

mod fields;
mod forms;
mod iq;
mod message;
mod shape;

use std::fmt;

use appxmpp::ns;
use appxmpp::xml::{Element, Limits, Node, Scope, fragment, writer};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::error::RestError;
use super::path::Kind;
use fields::{FIELDS, Kinds};

/// The member that carries what the schema cannot express.
const XML: &str = "xml";

/// How faithful the mapping is, and how much it may nest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode {
    /// Drop what mod_rest drops, write what mod_rest writes.
    pub strict: bool,
    /// Only strings, numbers and `true` can be expressed: `application/x-www-form-urlencoded`.
    pub flat: bool,
    /// How many stanzas may still be inside this one.
    depth: u8,
}

impl Mode {
    /// The mapping for `application/json`.
    pub fn json(strict: bool) -> Self {
        Self { strict, flat: false, depth: 3 }
    }

    /// The mapping for `application/x-www-form-urlencoded`.
    pub fn form(strict: bool) -> Self {
        Self { strict, flat: true, depth: 3 }
    }

    fn inner(self) -> Option<Self> {
        Some(Self { depth: self.depth.checked_sub(1)?, ..self })
    }
}

/// Reads the members of one JSON object. Members that the schema does not know are skipped however
/// deep they nest.
///
/// # Errors
/// [`RestError::UNPARSABLE`] unless `bytes` are one object with something in it.
pub fn parse(bytes: &[u8]) -> Result<Map<String, Value>, RestError> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let map = reader.deserialize_map(Members).map_err(|_| RestError::UNPARSABLE)?;
    reader.end().map_err(|_| RestError::UNPARSABLE)?;
    map.ok_or(RestError::UNPARSABLE)
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Option<Map<String, Value>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Map::new();
        let mut empty = true;
        while let Some(name) = map.next_key::<String>()? {
            empty = false;
            if is_known(&name) {
                members.insert(name, map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok((!empty).then_some(members))
    }
}

fn is_known(name: &str) -> bool {
    matches!(name, "kind" | "type" | "to" | "from" | "id" | "lang" | XML)
        || FIELDS.iter().any(|field| field.json == name)
}

/// The stanza that `members` describe, in the namespace `jabber:client`.
///
/// # Errors
/// [`RestError::UNPARSABLE`] for an unknown kind, a value of the wrong type, or text that XML cannot
/// carry; [`RestError::DESTINATION`] and [`RestError::SOURCE`] for addresses that are no strings.
pub fn to_stanza(members: &Map<String, Value>, mode: Mode) -> Result<Element, RestError> {
    let kind = kind(members)?;
    let mut stanza = Element::new(kind.name(), ns::CLIENT);
    address(&mut stanza, members, "to", RestError::DESTINATION, mode)?;
    address(&mut stanza, members, "from", RestError::SOURCE, mode)?;
    if let Some(id) = members.get("id").and_then(Value::as_str) {
        stanza.set_attr("id", id);
    }
    if let Some(type_) = type_(members, kind) {
        stanza.set_attr("type", type_);
    }
    if let Some(lang) = members.get("lang").and_then(Value::as_str) {
        stanza = stanza.with_attr_ns("lang", ns::XML, lang);
    }
    write_children(&mut stanza, members, kind, mode)?;
    let nameless =
        stanza.attr("type") == Some("error") && stanza.child("error", ns::CLIENT).is_none();
    if nameless && members.contains_key("body") {
        stanza.push(message::implied_error(members, mode));
    }
    if is_writable(&stanza) { Ok(stanza) } else { Err(RestError::UNPARSABLE) }
}

fn write_children(
    stanza: &mut Element,
    members: &Map<String, Value>,
    kind: Kind,
    mode: Mode,
) -> Result<(), RestError> {
    let verbatim = match members.get(XML).and_then(Value::as_str) {
        Some(xml) if !mode.strict => verbatim(xml)?,
        _ => Vec::new(),
    };
    for field in FIELDS.iter().filter(|field| field.kinds.contains(kind)) {
        let Some(value) = members.get(field.json) else { continue };
        for element in field.write(value, members, mode)? {
            let twin = |other: &Element| other.is(element.name(), element.ns());
            // Two members may stand for one element (oob and oob_url): the first in the table wins.
            let mut others = FIELDS.iter().take_while(|other| !std::ptr::eq(*other, field));
            let rival = others.any(|other| {
                other.kinds.contains(kind)
                    && members.contains_key(other.json)
                    && other.claims(&element)
            });
            if !rival && !verbatim.iter().any(twin) {
                stanza.push(element);
            }
        }
    }
    verbatim.into_iter().for_each(|element| stanza.push(element));
    Ok(())
}

/// The elements of the member `xml`.
fn verbatim(xml: &str) -> Result<Vec<Element>, RestError> {
    let limits = Limits::default();
    let ranges = fragment::check(xml, ns::CLIENT, &limits).map_err(|_| RestError::UNPARSABLE)?;
    let scope = Scope::default_ns(ns::CLIENT);
    ranges
        .into_iter()
        .map(|range| Element::parse(xml[range].as_bytes(), &scope, &limits))
        .collect::<Result<_, _>>()
        .map_err(|_| RestError::UNPARSABLE)
}

fn address(
    stanza: &mut Element,
    members: &Map<String, Value>,
    name: &str,
    error: RestError,
    mode: Mode,
) -> Result<(), RestError> {
    match members.get(name) {
        None => Ok(()),
        Some(Value::String(jid)) => {
            stanza.set_attr(name, jid);
            Ok(())
        }
        Some(_) if mode.strict => Ok(()),
        Some(_) => Err(error),
    }
}

fn kind(members: &Map<String, Value>) -> Result<Kind, RestError> {
    match members.get("kind") {
        Some(Value::String(name)) => Kind::from_name(name).ok_or(RestError::UNPARSABLE),
        _ => Ok(implied_kind(members)),
    }
}

fn implied_kind(members: &Map<String, Value>) -> Kind {
    match members.get("type").and_then(Value::as_str) {
        Some("get" | "set" | "result") => return Kind::Iq,
        Some("normal" | "chat" | "headline" | "groupchat") => return Kind::Message,
        Some(
            "available" | "unavailable" | "probe" | "subscribe" | "subscribed" | "unsubscribe"
            | "unsubscribed",
        ) => return Kind::Presence,
        _ => {}
    }
    // `archive` and `oob` are members of messages too, but alone they ask for something.
    let implies = |kind: Kind| {
        FIELDS.iter().any(|field| {
            (field.kinds.only(kind) || (kind == Kind::Iq && field.json == "archive"))
                && members.contains_key(field.json)
        })
    };
    [Kind::Iq, Kind::Message, Kind::Presence]
        .into_iter()
        .find(|kind| implies(*kind))
        .unwrap_or(Kind::Message)
}

fn type_(members: &Map<String, Value>, kind: Kind) -> Option<&str> {
    let given = members.get("type").and_then(Value::as_str);
    match (given, kind) {
        (Some("available"), Kind::Presence) => None,
        (Some(type_), _) => Some(type_),
        (None, _) if members.get("error").is_some_and(Value::is_object) => Some("error"),
        (None, Kind::Iq) => {
            let acts = ["command", "archive"].iter().any(|name| members.contains_key(*name));
            Some(if acts { "set" } else { "get" })
        }
        (None, _) => None,
    }
}

/// The members that describe `stanza`, which is in the namespace `jabber:client`.
pub fn of_stanza(stanza: &Element, mode: Mode) -> Map<String, Value> {
    let mut members = Map::new();
    let kind = Kind::from_name(stanza.name());
    members.insert("kind".into(), stanza.name().into());
    for name in ["to", "from", "id", "type"] {
        if let Some(value) = stanza.attr(name) {
            members.insert(name.into(), value.into());
        }
    }
    if kind == Some(Kind::Presence) && stanza.attr("type").is_none() {
        members.insert("type".into(), "available".into());
    }
    if let Some(lang) = stanza.lang() {
        members.insert("lang".into(), lang.into());
    }
    let Some(kind) = kind else { return members };
    let lost = read_children(stanza, kind, &mut members, mode);
    if !lost.is_empty() && !mode.strict {
        let scope = Scope::default_ns(ns::CLIENT);
        let mut xml = String::new();
        lost.iter().for_each(|element| element.write_to(&mut xml, &scope));
        members.insert(XML.into(), xml.into());
    }
    members
}

/// Fills in what the schema expresses; gives back the children it does not express, or not wholly.
fn read_children<'e>(
    stanza: &'e Element,
    kind: Kind,
    members: &mut Map<String, Value>,
    mode: Mode,
) -> Vec<&'e Element> {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    let mut lost = Vec::new();
    for child in stanza.children() {
        let name = (child.name(), child.ns());
        if seen.contains(&name) {
            continue;
        }
        seen.push(name);
        let group: Vec<&Element> =
            stanza.children().filter(|other| other.is(name.0, name.1)).collect();
        if !read_group(&group, kind, members, mode) {
            lost.extend(group);
        }
    }
    lost
}

/// Reads the elements of one name; whether the members now say all that they say.
fn read_group(
    group: &[&Element],
    kind: Kind,
    members: &mut Map<String, Value>,
    mode: Mode,
) -> bool {
    let mut whole = false;
    for field in FIELDS.iter().filter(|field| field.kinds.contains(kind)) {
        if members.contains_key(field.json) || !group.first().is_some_and(|e| field.claims(e)) {
            continue;
        }
        let Some(value) = field.read(group, mode) else { continue };
        let flat = matches!(value, Value::String(_) | Value::Number(_) | Value::Bool(true));
        if mode.flat && !flat {
            continue;
        }
        if !mode.strict {
            // What could not be written again is better left to `xml` alone.
            let Ok(again) = field.write(&value, &Map::new(), mode) else { continue };
            whole |= again.len() == group.len() && again.iter().zip(group).all(|(a, b)| same(a, b));
        }
        members.insert(field.json.into(), value);
    }
    whole
}

/// Whether two elements say the same: attributes in any order, white space between elements apart.
fn same(a: &Element, b: &Element) -> bool {
    let mut pairs = vec![(a, b)];
    while let Some((a, b)) = pairs.pop() {
        let attrs = a.attrs().len() == b.attrs().len()
            && a.attrs().iter().all(|attr| b.attr_ns(&attr.name, &attr.ns) == Some(&attr.value));
        if !a.is(b.name(), b.ns()) || !attrs || a.children().count() != b.children().count() {
            return false;
        }
        let (text_a, text_b) = (a.text(), b.text());
        let blank =
            a.children().next().is_some() && text_a.trim().is_empty() && text_b.trim().is_empty();
        if !blank && text_a != text_b {
            return false;
        }
        pairs.extend(a.children().zip(b.children()));
    }
    true
}

/// Whether XML can carry every text in the tree.
fn is_writable(element: &Element) -> bool {
    let mut rest = vec![element];
    while let Some(element) = rest.pop() {
        let attrs = element.attrs().iter().all(|attr| writer::is_xml_text(&attr.value));
        let text = element.nodes().iter().all(|node| match node {
            Node::Text(text) => writer::is_xml_text(text),
            Node::Element(_) => true,
        });
        if !attrs || !text || !writer::is_name(element.name()) {
            return false;
        }
        rest.extend(element.children());
    }
    true
}

impl Kinds {
    fn contains(self, kind: Kind) -> bool {
        self.0 & Self::of(kind).0 != 0
    }

    fn only(self, kind: Kind) -> bool {
        self.0 == Self::of(kind).0
    }

    const fn of(kind: Kind) -> Self {
        match kind {
            Kind::Message => Self::MESSAGE,
            Kind::Presence => Self::PRESENCE,
            Kind::Iq => Self::IQ,
        }
    }
}

#[cfg(test)]
mod tests;
