//! The few forms that most members take.

use appxmpp::xml::Element;
use serde_json::{Map, Number, Value};

use super::super::error::RestError;
use super::Mode;

/// How one member and one element say the same.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    /// A string is the element's text.
    Text,
    /// A whole number is the element's text.
    Integer,
    /// `true` is the element.
    Flag,
    /// A string is the value of one attribute.
    Attr(&'static str),
    /// An object's members are attributes, child elements and text; `{}` or `true` is the element
    /// with nothing in it.
    Object(&'static [Part]),
    /// Anything else. Both see all elements of the name.
    Custom(Read, Write),
}

pub(super) type Read = fn(&[&Element], Mode) -> Option<Value>;
pub(super) type Write = fn(&Value, &Map<String, Value>, Mode) -> Result<Vec<Element>, RestError>;

/// One member of an object.
pub(super) struct Part {
    pub(super) json: &'static str,
    pub(super) place: Place,
    pub(super) scalar: Scalar,
}

/// Where in the element a member's value stands.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Attr(&'static str),
    Child(&'static str),
    Text,
    /// An element whose attributes are the member's own members.
    Attrs(&'static str, &'static [Part]),
}

/// What a member's value is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scalar {
    Text,
    Integer,
    /// `1` or `true` in XML; as a child element, its presence.
    Bool,
}

pub(super) const fn attr(json: &'static str) -> Part {
    Part { json, place: Place::Attr(json), scalar: Scalar::Text }
}

pub(super) const fn attr_int(json: &'static str) -> Part {
    Part { json, place: Place::Attr(json), scalar: Scalar::Integer }
}

pub(super) const fn attr_bool(json: &'static str) -> Part {
    Part { json, place: Place::Attr(json), scalar: Scalar::Bool }
}

pub(super) const fn child(json: &'static str) -> Part {
    Part { json, place: Place::Child(json), scalar: Scalar::Text }
}

pub(super) const fn child_int(json: &'static str) -> Part {
    Part { json, place: Place::Child(json), scalar: Scalar::Integer }
}

pub(super) const fn child_flag(json: &'static str) -> Part {
    Part { json, place: Place::Child(json), scalar: Scalar::Bool }
}

pub(super) const fn text(json: &'static str) -> Part {
    Part { json, place: Place::Text, scalar: Scalar::Text }
}

pub(super) const fn attrs(json: &'static str, parts: &'static [Part]) -> Part {
    Part { json, place: Place::Attrs(json, parts), scalar: Scalar::Text }
}

/// The object that `element` is by `parts`.
pub(super) fn read_object(element: &Element, parts: &[Part]) -> Map<String, Value> {
    let mut object = Map::new();
    for part in parts {
        let value = match part.place {
            Place::Attr(name) => element.attr(name).map(|value| scalar(value, part.scalar)),
            Place::Child(name) => element.child(name, element.ns()).map(|child| {
                if part.scalar == Scalar::Bool {
                    Value::Bool(true)
                } else {
                    scalar(&child.text(), part.scalar)
                }
            }),
            Place::Text => Some(element.text()).filter(|t| !t.trim().is_empty()).map(Value::String),
            Place::Attrs(name, parts) => {
                element.child(name, element.ns()).map(|child| read_object(child, parts).into())
            }
        };
        if let Some(value) = value {
            object.insert(part.json.into(), value);
        }
    }
    object
}

/// Writes `value` into `element` by `parts`. `true` and `{}` write nothing; a string is the text,
/// where the element has one.
pub(super) fn write_object(
    element: &mut Element,
    value: &Value,
    parts: &[Part],
) -> Result<(), RestError> {
    let object = match value {
        Value::Object(object) => object,
        Value::Bool(true) => return Ok(()),
        Value::String(words) if parts.iter().any(|part| matches!(part.place, Place::Text)) => {
            element.push_text(words);
            return Ok(());
        }
        _ => return Err(RestError::UNPARSABLE),
    };
    let ns = element.ns().to_owned();
    for part in parts {
        let Some(value) = object.get(part.json) else { continue };
        match part.place {
            Place::Attr(name) => {
                if let Some(value) = scalar_text(value)? {
                    element.set_attr(name, value);
                }
            }
            Place::Child(name) if part.scalar == Scalar::Bool => {
                if value == &Value::Bool(true) {
                    element.push(Element::new(name, ns.as_str()));
                }
            }
            Place::Child(name) => {
                if let Some(value) = scalar_text(value)? {
                    element.push(Element::new(name, ns.as_str()).with_text(&value));
                }
            }
            Place::Text => {
                if let Some(value) = scalar_text(value)? {
                    element.push_text(&value);
                }
            }
            Place::Attrs(name, parts) => {
                let mut child = Element::new(name, ns.as_str());
                write_object(&mut child, value, parts)?;
                element.push(child);
            }
        }
    }
    Ok(())
}

fn scalar(text: &str, kind: Scalar) -> Value {
    match kind {
        Scalar::Text => text.into(),
        Scalar::Integer => integer(text).unwrap_or_else(|| text.into()),
        Scalar::Bool => match text {
            "1" | "true" => true.into(),
            "0" | "false" => false.into(),
            other => other.into(),
        },
    }
}

/// A whole number, if `text` is one in its only spelling.
pub(super) fn integer(text: &str) -> Option<Value> {
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then(|| Value::Number(Number::from(number)))
}

/// A scalar as text; `null` is nothing.
pub(super) fn scalar_text(value: &Value) -> Result<Option<String>, RestError> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::Bool(yes) => Ok(Some(if *yes { "1" } else { "0" }.to_owned())),
        Value::Array(_) | Value::Object(_) => Err(RestError::UNPARSABLE),
    }
}

/// A string; mod_rest makes an empty element of anything else.
pub(super) fn string(value: &Value, mode: Mode) -> Result<&str, RestError> {
    match value {
        Value::String(text) => Ok(text),
        _ if mode.strict => Ok(""),
        _ => Err(RestError::UNPARSABLE),
    }
}
