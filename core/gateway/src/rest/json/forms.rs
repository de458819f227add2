//! Data forms, XEP-0004.

use appxmpp::xml::Element;
use serde_json::{Map, Value};

use super::super::error::RestError;
use super::Mode;
use super::shape::scalar_text;

pub(super) const DATA: &str = "jabber:x:data";

/// A form as `{type, title, instructions, fields: [{var, type, label, desc, required, value,
/// options}]}`; a field's value is a string, or a list of them where there are several.
pub(super) fn read(group: &[&Element], _: Mode) -> Option<Value> {
    group.first().map(|form| read_form(form))
}

pub(super) fn read_form(form: &Element) -> Value {
    let mut object = Map::new();
    copy_attr(form, "type", &mut object);
    copy_child(form, "title", &mut object);
    copy_child(form, "instructions", &mut object);
    let fields: Vec<Value> =
        form.children().filter(|child| child.is("field", DATA)).map(read_field).collect();
    if !fields.is_empty() {
        object.insert("fields".into(), fields.into());
    }
    object.into()
}

fn read_field(field: &Element) -> Value {
    let mut object = Map::new();
    ["var", "type", "label"].iter().for_each(|name| copy_attr(field, name, &mut object));
    copy_child(field, "desc", &mut object);
    if field.child("required", DATA).is_some() {
        object.insert("required".into(), true.into());
    }
    let mut values: Vec<Value> = field
        .children()
        .filter(|child| child.is("value", DATA))
        .map(|value| value.text().into())
        .collect();
    match values.len() {
        0 => None,
        1 => object.insert("value".into(), values.remove(0)),
        _ => object.insert("value".into(), values.into()),
    };
    let options: Vec<Value> =
        field.children().filter(|child| child.is("option", DATA)).map(read_option).collect();
    if !options.is_empty() {
        object.insert("options".into(), options.into());
    }
    object.into()
}

fn read_option(option: &Element) -> Value {
    let mut object = Map::new();
    copy_attr(option, "label", &mut object);
    copy_child(option, "value", &mut object);
    object.into()
}

fn copy_attr(from: &Element, name: &str, to: &mut Map<String, Value>) {
    if let Some(value) = from.attr(name) {
        to.insert(name.into(), value.into());
    }
}

fn copy_child(from: &Element, name: &str, to: &mut Map<String, Value>) {
    if let Some(child) = from.child(name, DATA) {
        to.insert(name.into(), child.text().into());
    }
}

pub(super) fn write(
    value: &Value,
    _: &Map<String, Value>,
    _: Mode,
) -> Result<Vec<Element>, RestError> {
    Ok(vec![write_form(value)?])
}

pub(super) fn write_form(value: &Value) -> Result<Element, RestError> {
    let object = value.as_object().ok_or(RestError::UNPARSABLE)?;
    let mut form = Element::new("x", DATA);
    put_attr(&mut form, "type", object)?;
    put_child(&mut form, "title", object)?;
    put_child(&mut form, "instructions", object)?;
    for field in list(object, "fields")? {
        form.push(write_field(field)?);
    }
    Ok(form)
}

fn write_field(value: &Value) -> Result<Element, RestError> {
    let object = value.as_object().ok_or(RestError::UNPARSABLE)?;
    let mut field = Element::new("field", DATA);
    for name in ["var", "type", "label"] {
        put_attr(&mut field, name, object)?;
    }
    put_child(&mut field, "desc", object)?;
    if object.get("required") == Some(&Value::Bool(true)) {
        field.push(Element::new("required", DATA));
    }
    for name in ["value", "values"] {
        put_values(&mut field, object.get(name))?;
    }
    for option in list(object, "options")? {
        let option = option.as_object().ok_or(RestError::UNPARSABLE)?;
        let mut element = Element::new("option", DATA);
        put_attr(&mut element, "label", option)?;
        put_child(&mut element, "value", option)?;
        field.push(element);
    }
    Ok(field)
}

fn put_values(field: &mut Element, value: Option<&Value>) -> Result<(), RestError> {
    let single = value.filter(|value| !value.is_array()).map(std::slice::from_ref);
    let values = value.and_then(Value::as_array).map(Vec::as_slice).or(single).unwrap_or_default();
    for value in values {
        if let Some(text) = scalar_text(value)? {
            field.push(Element::new("value", DATA).with_text(&text));
        }
    }
    Ok(())
}

fn list<'o>(object: &'o Map<String, Value>, name: &str) -> Result<&'o [Value], RestError> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(list)) => Ok(list),
        Some(_) => Err(RestError::UNPARSABLE),
    }
}

fn put_attr(
    element: &mut Element,
    name: &str,
    object: &Map<String, Value>,
) -> Result<(), RestError> {
    if let Some(text) = object.get(name).map(scalar_text).transpose()?.flatten() {
        element.set_attr(name, text);
    }
    Ok(())
}

fn put_child(
    element: &mut Element,
    name: &str,
    object: &Map<String, Value>,
) -> Result<(), RestError> {
    if let Some(text) = object.get(name).map(scalar_text).transpose()?.flatten() {
        element.push(Element::new(name, DATA).with_text(&text));
    }
    Ok(())
}

/// `{var: value}` as a submitted form.
pub(super) fn write_data(
    value: &Value,
    _: &Map<String, Value>,
    _: Mode,
) -> Result<Vec<Element>, RestError> {
    let object = value.as_object().ok_or(RestError::UNPARSABLE)?;
    Ok(vec![submit(object.iter().map(|(name, value)| (name.as_str(), Some(value))))?])
}

/// A submitted form of the given fields, FORM_TYPE first (XEP-0068 §3).
pub(super) fn submit<'v>(
    fields: impl Iterator<Item = (&'v str, Option<&'v Value>)>,
) -> Result<Element, RestError> {
    let mut fields: Vec<_> = fields.collect();
    fields.sort_by_key(|(name, _)| *name != "FORM_TYPE");
    let mut form = Element::new("x", DATA).with_attr("type", "submit");
    for (name, value) in fields {
        let mut field = Element::new("field", DATA).with_attr("var", name);
        put_values(&mut field, value)?;
        form.push(field);
    }
    Ok(form)
}
