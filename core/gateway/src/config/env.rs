//! The environment over the file: each key has a variable.

use appxmpp::Result;
use toml::{Table, Value};

use super::keys::{KEYS, Key, Type};
use super::resolve::default_id;
use super::{Surroundings, apps, config, lone};

/// Overlays every variable that is set.
pub(super) fn overlay(root: &mut Table, around: &dyn Surroundings) -> Result<()> {
    for key in KEYS.iter().filter(|key| !is_of_app(key)) {
        let name = variable(&[key.table, key.name]);
        if let Some(text) = around.var(&name) {
            let value = value(key, &name, &text)?;
            let table = if key.table.is_empty() { &mut *root } else { subtable(root, key.table)? };
            table.insert(key.name.to_owned(), value);
        }
    }
    let names: Vec<_> = apps(root).map(|app| (app_id(app), text(app, "version"))).collect();
    for (index, (id, version)) in names.iter().enumerate() {
        match (id, version) {
            (Some(id), None) => overlay_app(root, index, &["app", id], around)?,
            (Some(id), Some(version)) => {
                overlay_app(root, index, &["app", id, "version", version], around)?;
            }
            (None, _) => {}
        }
    }
    // The short names belong to a lone app, or make one.
    let lone = lone(&names, |(_, version)| version.is_some());
    if let Some(index) = lone.or(names.is_empty().then_some(0)) {
        overlay_app(root, index, &[""], around)?;
    }
    Ok(())
}

fn overlay_app(
    root: &mut Table,
    index: usize,
    prefix: &[&str],
    around: &dyn Surroundings,
) -> Result<()> {
    for key in KEYS.iter().filter(|key| is_of_app(key)) {
        let inner = key.table.strip_prefix("app.");
        let name = variable(&[prefix, inner.as_slice(), &[key.name]].concat());
        let Some(text) = around.var(&name) else { continue };
        if key.name == "backend" && leads_to_a_gateway(&text) {
            continue;
        }
        let value = value(key, &name, &text)?;
        let list = root.entry("app").or_insert_with(|| Value::Array(Vec::new()));
        let list = list.as_array_mut().ok_or_else(|| config("app must be a list: [[app]]"))?;
        if list.is_empty() {
            list.push(Value::Table(Table::new()));
        }
        if let Some(app) = list.get_mut(index).and_then(Value::as_table_mut) {
            let table = match inner {
                Some(inner) => subtable(app, inner)?,
                None => app,
            };
            replace_twin(table, key.name);
            table.insert(key.name.to_owned(), value);
        }
    }
    Ok(())
}

fn is_of_app(key: &Key) -> bool {
    key.table == "app" || key.table.starts_with("app.")
}

/// A secret from the environment takes the place of one from a file, and the other way round.
fn replace_twin(app: &mut Table, name: &str) {
    match name.strip_suffix("_file") {
        Some(plain) => app.remove(plain),
        None => app.remove(&format!("{name}_file")),
    };
}

fn text(app: &Table, key: &str) -> Option<String> {
    app.get(key).and_then(Value::as_str).map(str::to_owned)
}

/// The id that names an app's variables: its own, or what the domain says.
fn app_id(app: &Table) -> Option<String> {
    let version = text(app, "version");
    text(app, "id").or_else(|| default_id(&text(app, "backend")?, version.as_deref()))
}

/// Whether a backend is what the app's own processes have in this variable: the way to a gateway.
pub(super) fn leads_to_a_gateway(backend: &str) -> bool {
    ["http://", "https://", "http+unix://"].iter().any(|scheme| backend.starts_with(scheme))
}

fn subtable<'t>(root: &'t mut Table, name: &str) -> Result<&'t mut Table> {
    root.entry(name)
        .or_insert_with(|| Value::Table(Table::new()))
        .as_table_mut()
        .ok_or_else(|| config(format!("{name} is a table: write its keys below [{name}]")))
}

/// `["http", "listen"]` is `APPXMPP_HTTP_LISTEN`.
pub(super) fn variable(words: &[&str]) -> String {
    let mut out = String::from("APPXMPP");
    for word in words.iter().filter(|word| !word.is_empty()) {
        out.push('_');
        out.extend(
            word.chars().map(
                |c| {
                    if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }
                },
            ),
        );
    }
    out
}

fn value(key: &Key, variable: &str, text: &str) -> Result<Value> {
    let wrong = |wanted: &str| config(format!("{variable} must be {wanted}, not {text:?}"));
    Ok(match key.type_ {
        Type::Text => Value::String(text.to_owned()),
        Type::Number => {
            let number = text.trim().parse().ok().filter(|number: &i64| *number >= 0);
            Value::Integer(number.ok_or_else(|| wrong("a whole number, not negative"))?)
        }
        Type::Bool => match text.trim() {
            "true" | "1" | "yes" | "on" => Value::Boolean(true),
            "false" | "0" | "no" | "off" => Value::Boolean(false),
            _ => return Err(wrong("true or false")),
        },
        Type::List => Value::Array(
            text.split(',').map(|item| Value::String(item.trim().to_owned())).collect(),
        ),
    })
}
