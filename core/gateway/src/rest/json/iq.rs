//! Members of iq stanzas that take a form of their own.

use appxmpp::ns;
use appxmpp::xml::Element;
use serde_json::{Map, Value};

use super::super::error::RestError;
use super::Mode;
use super::forms::{DATA, read_form, submit, write_data, write_form};
use super::shape::{
    Part, attr, attr_bool, attr_int, child, read_object, scalar_text, string, write_object,
};

pub(super) const BLOCKING: &str = "urn:xmpp:blocking";
pub(super) const COMMANDS: &str = "http://jabber.org/protocol/commands";
pub(super) const EXTDISCO: &str = "urn:xmpp:extdisco:2";
pub(super) const MAM: &str = "urn:xmpp:mam:2";
pub(super) const RSM_NS: &str = "http://jabber.org/protocol/rsm";
pub(super) const STATS: &str = "http://jabber.org/protocol/stats";
pub(super) const UPLOAD: &str = "urn:xmpp:http:upload:0";

type Members = Map<String, Value>;
type Written = Result<Vec<Element>, RestError>;

/// The elements `name` directly inside, each as an object.
fn read_list(element: &Element, name: &str, parts: &[Part]) -> Vec<Value> {
    let found = element.children().filter(|child| child.is(name, element.ns()));
    found.map(|child| Value::from(read_object(child, parts))).collect()
}

/// Appends an element `name` for each object in `list`; a string there is the value of `alone`.
fn write_list(
    element: &mut Element,
    name: &str,
    list: Option<&Value>,
    parts: &[Part],
    alone: &str,
) -> Result<(), RestError> {
    let ns = element.ns().to_owned();
    for value in list.and_then(Value::as_array).into_iter().flatten() {
        let mut item = Element::new(name, ns.as_str());
        match value {
            Value::String(text) => item.set_attr(alone, text),
            object => write_object(&mut item, object, parts)?,
        }
        element.push(item);
    }
    Ok(())
}

const IDENTITY: &[Part] = &[attr("category"), attr("type"), attr("name")];

/// `disco` is `true`, a node, or `{node, identities, features, extensions}`.
pub(super) fn read_disco(group: &[&Element], _: Mode) -> Option<Value> {
    let query = group.first()?;
    if query.children().next().is_none() {
        return Some(query.attr("node").map_or(true.into(), Value::from));
    }
    let mut object = read_object(query, &[attr("node")]);
    object.insert("identities".into(), read_list(query, "identity", IDENTITY).into());
    let features = query.children().filter(|child| child.is("feature", ns::DISCO_INFO));
    let features: Vec<Value> = features.filter_map(|f| f.attr("var").map(Value::from)).collect();
    object.insert("features".into(), features.into());
    let extensions: Map<String, Value> =
        query.children().filter(|child| child.is("x", DATA)).filter_map(read_extension).collect();
    if !extensions.is_empty() {
        object.insert("extensions".into(), extensions.into());
    }
    Some(object.into())
}

/// A form of service discovery extensions, by its FORM_TYPE (XEP-0128).
fn read_extension(form: &Element) -> Option<(String, Value)> {
    let mut values = Map::new();
    let mut form_type = None;
    for field in form.children().filter(|child| child.is("field", DATA)) {
        let var = field.attr("var")?;
        let mut list: Vec<Value> = field
            .children()
            .filter(|child| child.is("value", DATA))
            .map(|value| value.text().into())
            .collect();
        let value = if list.len() == 1 { list.remove(0) } else { list.into() };
        match (var, &value) {
            ("FORM_TYPE", Value::String(text)) => form_type = Some(text.clone()),
            _ => {
                values.insert(var.into(), value);
            }
        }
    }
    Some((form_type?, values.into()))
}

pub(super) fn write_disco(value: &Value, _: &Members, mode: Mode) -> Written {
    let mut query = Element::new("query", ns::DISCO_INFO);
    match value {
        Value::String(node) => query.set_attr("node", node),
        value => write_object(&mut query, value, &[attr("node")])?,
    }
    write_list(&mut query, "identity", value.get("identities"), IDENTITY, "category")?;
    for feature in value.get("features").and_then(Value::as_array).into_iter().flatten() {
        let var = string(feature, mode)?;
        query.push(Element::new("feature", ns::DISCO_INFO).with_attr("var", var));
    }
    for (form_type, values) in
        value.get("extensions").and_then(Value::as_object).into_iter().flatten()
    {
        let mut form = Element::new("x", DATA).with_attr("type", "result");
        let hidden = serde_json::json!({"fields": [
            {"var": "FORM_TYPE", "type": "hidden", "value": form_type}]});
        let fields = values.as_object().into_iter().flatten();
        let fields = fields.map(|(var, value)| serde_json::json!({"var": var, "value": value}));
        let rest = serde_json::json!({"fields": fields.collect::<Vec<_>>()});
        for part in [write_form(&hidden)?, write_form(&rest)?] {
            part.children().for_each(|field| form.push(field.clone()));
        }
        query.push(form);
    }
    Ok(vec![query])
}

const ITEM: &[Part] = &[attr("jid"), attr("node"), attr("name")];

/// `items` is `true`, a node, `{node}`, or a list of `{jid, node, name}`.
pub(super) fn read_items(group: &[&Element], _: Mode) -> Option<Value> {
    let query = group.first()?;
    let items = read_list(query, "item", ITEM);
    Some(match query.attr("node") {
        Some(node) if items.is_empty() => serde_json::json!({"node": node}),
        None if items.is_empty() => true.into(),
        _ => items.into(),
    })
}

pub(super) fn write_items(value: &Value, _: &Members, _: Mode) -> Written {
    let mut query = Element::new("query", ns::DISCO_ITEMS);
    match value {
        Value::String(node) => query.set_attr("node", node),
        Value::Array(_) => write_list(&mut query, "item", Some(value), ITEM, "jid")?,
        value => write_object(&mut query, value, &[attr("node")])?,
    }
    Ok(vec![query])
}

const COMMAND: &[Part] = &[attr("node"), attr("action"), attr("sessionid"), attr("status")];

/// `command` is a node, or `{node, action, sessionid, status, actions, note, form, data}`.
pub(super) fn read_command(group: &[&Element], _: Mode) -> Option<Value> {
    let command = group.first()?;
    let mut object = read_object(command, COMMAND);
    if let Some(actions) = command.child("actions", COMMANDS) {
        let mut value = read_object(actions, &[attr("execute")]);
        let names = actions.children().map(|action| (action.name().to_owned(), Value::Bool(true)));
        value.extend(names);
        object.insert("actions".into(), value.into());
    }
    if let Some(note) = command.child("note", COMMANDS) {
        let mut value = read_object(note, &[attr("type")]);
        value.insert("text".into(), note.text().into());
        object.insert("note".into(), value.into());
    }
    if let Some(form) = command.child("x", DATA) {
        object.insert("form".into(), read_form(form));
    }
    Some(object.into())
}

pub(super) fn write_command(value: &Value, members: &Members, mode: Mode) -> Written {
    let mut command = Element::new("command", COMMANDS);
    if let Value::String(node) = value {
        command.set_attr("node", node);
        return Ok(vec![command]);
    }
    write_object(&mut command, value, COMMAND)?;
    if let Some(actions) = value.get("actions") {
        let mut element = Element::new("actions", COMMANDS);
        write_object(&mut element, actions, &[attr("execute")])?;
        for name in ["prev", "next", "complete"] {
            if actions.get(name) == Some(&Value::Bool(true)) {
                element.push(Element::new(name, COMMANDS));
            }
        }
        command.push(element);
    }
    if let Some(form) = value.get("form") {
        command.push(write_form(form)?);
    } else if let Some(data) = value.get("data") {
        write_data(data, members, mode)?.into_iter().for_each(|form| command.push(form));
    }
    if let Some(note) = value.get("note") {
        let mut element = Element::new("note", COMMANDS);
        write_object(&mut element, note, &[attr("type")])?;
        if let Some(text) = note.get("text").map(scalar_text).transpose()?.flatten() {
            element.push_text(&text);
        }
        command.push(element);
    }
    Ok(vec![command])
}

const PAGE: &[&str] = &["after", "before", "max"];
const FILTER: &[&str] = &["with", "start", "end", "before-id", "after-id", "ids"];

/// `archive` of an iq is `{queryid, form, page}`.
pub(super) fn read_archive(group: &[&Element], mode: Mode) -> Option<Value> {
    let query = group.first()?;
    let mut object = read_object(query, &[attr("queryid")]);
    if let Some(form) = query.child("x", DATA) {
        object.insert("form".into(), read_form(form));
    }
    insert_page(query, &mut object, mode);
    Some(object.into())
}

fn insert_page(element: &Element, object: &mut Map<String, Value>, _: Mode) {
    if let (Some(set), super::shape::Shape::Object(parts)) =
        (element.child("set", RSM_NS), super::fields::RSM)
    {
        object.insert("page".into(), read_object(set, parts).into());
    }
}

fn push_page(element: &mut Element, page: Option<&Value>) -> Result<(), RestError> {
    if let (Some(page), super::shape::Shape::Object(parts)) = (page, super::fields::RSM) {
        let mut set = Element::new("set", RSM_NS);
        write_object(&mut set, page, parts)?;
        element.push(set);
    }
    Ok(())
}

/// Besides `form` and `page`, the members `with start end before-id after-id ids` and
/// `after before max` may be given directly.
pub(super) fn write_archive(value: &Value, _: &Members, mode: Mode) -> Written {
    let mut query = Element::new("query", MAM);
    write_object(&mut query, value, &[attr("queryid")])?;
    if PAGE.iter().any(|name| value.get(name).is_some()) {
        let mut set = Element::new("set", RSM_NS);
        write_object(&mut set, value, &[child("after"), child("before"), child("max")])?;
        query.push(set);
    } else {
        push_page(&mut query, value.get("page"))?;
    }
    if FILTER.iter().any(|name| value.get(name).is_some()) {
        query.push(archive_filter(value, mode)?);
    } else if let Some(form) = value.get("form") {
        query.push(write_form(form)?);
    }
    Ok(vec![query])
}

fn archive_filter(value: &Value, mode: Mode) -> Result<Element, RestError> {
    let ids = value.get("ids").map(|ids| match ids {
        Value::String(list) => list.split(',').map(|id| Value::from(id.trim())).collect(),
        other => other.clone(),
    });
    let form_type = Value::from(MAM);
    let mut fields = vec![("FORM_TYPE", Some(&form_type))];
    for name in FILTER {
        let given = if *name == "ids" { ids.as_ref() } else { value.get(name) };
        // mod_rest names every field there could be; a server may take an empty one amiss.
        if given.is_some() || mode.strict {
            fields.push((name, given));
        }
    }
    submit(fields.into_iter())
}

/// `result` is `{page, complete}`, the end of an archive query.
pub(super) fn read_fin(group: &[&Element], mode: Mode) -> Option<Value> {
    let fin = group.first()?;
    let mut object = read_object(fin, &[attr_bool("complete"), attr("queryid")]);
    insert_page(fin, &mut object, mode);
    Some(object.into())
}

pub(super) fn write_fin(value: &Value, _: &Members, _: Mode) -> Written {
    let mut fin = Element::new("fin", MAM);
    if let Some(Value::Bool(complete)) = value.get("complete") {
        fin.set_attr("complete", if *complete { "true" } else { "false" });
    }
    write_object(&mut fin, value, &[attr("queryid")])?;
    push_page(&mut fin, value.get("page"))?;
    Ok(vec![fin])
}

const SERVICE: &[Part] = &[
    attr("type"),
    attr("host"),
    attr_int("port"),
    attr("transport"),
    attr("name"),
    attr("username"),
    attr("password"),
    attr("expires"),
    attr("action"),
    attr_bool("restricted"),
];

/// `extdisco` is `{type, services: […]}`.
pub(super) fn read_extdisco(group: &[&Element], _: Mode) -> Option<Value> {
    let services = group.first()?;
    let mut object = read_object(services, &[attr("type")]);
    let list = read_list(services, "service", SERVICE);
    if !list.is_empty() {
        object.insert("services".into(), list.into());
    }
    Some(object.into())
}

pub(super) fn write_extdisco(value: &Value, _: &Members, _: Mode) -> Written {
    let mut services = Element::new("services", EXTDISCO);
    write_object(&mut services, value, &[attr("type")])?;
    write_list(&mut services, "service", value.get("services"), SERVICE, "host")?;
    Ok(vec![services])
}

const STAT: &[Part] = &[attr("name"), attr("unit"), attr_int("value")];

/// `stats` is a list of `{name, unit, value}`.
pub(super) fn read_stats(group: &[&Element], _: Mode) -> Option<Value> {
    group.first().map(|query| read_list(query, "stat", STAT).into())
}

pub(super) fn write_stats(value: &Value, _: &Members, _: Mode) -> Written {
    let mut query = Element::new("query", STATS);
    write_list(&mut query, "stat", Some(value), STAT, "name")?;
    Ok(vec![query])
}

/// `upload_slot` is `{get: {url}, put: {url, headers: [{name, value}]}}`.
pub(super) fn read_slot(group: &[&Element], _: Mode) -> Option<Value> {
    let slot = group.first()?;
    let mut object = Map::new();
    for name in ["put", "get"] {
        let Some(element) = slot.child(name, UPLOAD) else { continue };
        let mut value = read_object(element, &[attr("url")]);
        let headers: Vec<Value> = element
            .children()
            .filter(|child| child.is("header", UPLOAD))
            .map(|header| serde_json::json!({"name": header.attr("name"), "value": header.text()}))
            .collect();
        if !headers.is_empty() {
            value.insert("headers".into(), headers.into());
        }
        object.insert(name.into(), value.into());
    }
    Some(object.into())
}

pub(super) fn write_slot(value: &Value, _: &Members, _: Mode) -> Written {
    let mut slot = Element::new("slot", UPLOAD);
    for name in ["put", "get"] {
        let Some(value) = value.get(name) else { continue };
        let mut element = Element::new(name, UPLOAD);
        write_object(&mut element, value, &[attr("url")])?;
        for header in value.get("headers").and_then(Value::as_array).into_iter().flatten() {
            let mut line = Element::new("header", UPLOAD);
            write_object(&mut line, header, &[attr("name")])?;
            if let Some(text) = header.get("value").map(scalar_text).transpose()?.flatten() {
                line.push_text(&text);
            }
            element.push(line);
        }
        slot.push(element);
    }
    Ok(vec![slot])
}

/// `block`, `unblock` and `blocklist` are lists of addresses.
pub(super) fn read_blocked(group: &[&Element], _: Mode) -> Option<Value> {
    let items = group.first()?.children().filter(|child| child.is("item", BLOCKING));
    Some(items.filter_map(|item| item.attr("jid").map(Value::from)).collect())
}

pub(super) fn write_block(value: &Value, _: &Members, _: Mode) -> Written {
    write_blocked("block", value)
}

/// mod_rest knows no `unblock`.
pub(super) fn write_unblock(value: &Value, _: &Members, mode: Mode) -> Written {
    if mode.strict { Ok(Vec::new()) } else { write_blocked("unblock", value) }
}

pub(super) fn write_blocklist(value: &Value, _: &Members, _: Mode) -> Written {
    write_blocked("blocklist", value)
}

fn write_blocked(name: &str, value: &Value) -> Written {
    let mut list = Element::new(name, BLOCKING);
    write_list(&mut list, "item", Some(value), &[attr("jid")], "jid")?;
    Ok(vec![list])
}
