//! The configuration: one TOML file, every key of which an environment variable can override.
//!
//! [`keys::KEYS`] is the one list of what may be set. A key that is not in it is refused with the
//! nearest name, and the example file and the reference are written from it.

pub mod diff;
mod env;
pub mod keys;
mod resolve;
mod types;

use std::path::Path;

use appxmpp::{Error, ErrorKind, Result};
use toml::{Table, Value};

pub use types::{App, Config, Event, Http, Listen, Log, LogFormat, Store};

/// Environment and files, as the configuration sees them; the process's own in production.
pub trait Surroundings {
    /// The value of an environment variable, if it is set and not empty.
    fn var(&self, name: &str) -> Option<String>;
    /// The text of a file.
    ///
    /// # Errors
    /// What the file system says.
    fn read(&self, path: &Path) -> std::io::Result<String>;
}

/// The process's own environment and file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct Process;

impl Surroundings for Process {
    fn var(&self, name: &str) -> Option<String> {
        std::env::var(name).ok().filter(|value| !value.is_empty())
    }

    fn read(&self, path: &Path) -> std::io::Result<String> {
        std::fs::read_to_string(path)
    }
}

/// Loads `path` (or the environment alone), overlays the environment and checks everything.
///
/// # Errors
/// [`ErrorKind::Config`] names the key, the value and what to write instead.
pub fn load(path: Option<&Path>, around: &dyn Surroundings) -> Result<Config> {
    let mut table = match path {
        None => Table::new(),
        Some(path) => {
            let text = around.read(path).map_err(|error| {
                config(format!("cannot read the configuration {}: {error}", path.display()))
            })?;
            parse(&text).map_err(|error| config(format!("{}: {error}", path.display())))?
        }
    };
    keys::check(&table)?;
    env::overlay(&mut table, around)?;
    resolve::resolve(table, around)
}

fn parse(text: &str) -> Result<Table, String> {
    text.parse::<Table>().map_err(|error| error.to_string().trim_end().to_owned())
}

fn config(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, text.into())
}

/// The tables of `[[app]]`, in order.
fn apps(table: &Table) -> impl Iterator<Item = &Table> {
    let list = table.get("app").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    list.iter().filter_map(Value::as_table)
}

/// Which of `apps` is meant where none is named: the only one, or the only one that is no version of
/// another.
pub(crate) fn lone<A>(apps: &[A], is_version: impl Fn(&A) -> bool) -> Option<usize> {
    if apps.len() == 1 {
        return Some(0);
    }
    let mut defaults = apps.iter().enumerate().filter(|(_, app)| !is_version(app));
    let (index, _) = defaults.next()?;
    defaults.next().is_none().then_some(index)
}

#[cfg(test)]
mod tests;
