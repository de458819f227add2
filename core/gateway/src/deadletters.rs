//! `appxmpp deadletters`: what the app did not take, seen and settled through the running gateway.

use appxmpp::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use crate::config::{App, Config};
use crate::{send, terminal};

/// What to do with dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Print them.
    List,
    /// Deliver these again, or all.
    Replay(Vec<String>),
    /// Forget these, or all.
    Purge(Vec<String>),
}

/// Does it, and says what was done. An empty list of ids stands for all of them.
///
/// # Errors
/// The gateway cannot be reached, or refuses, or there is no such letter.
pub fn run(config: &Config, app: Option<&str>, action: &Action) -> Result<()> {
    let app = send::choose(config, app)?;
    match action {
        Action::List => {
            for letter in letters(config, app)? {
                let word = |name: &str| letter[name].as_str().unwrap_or("-").to_owned();
                let path = match word("path") {
                    path if path.is_empty() => "callback".to_owned(),
                    path => path,
                };
                let at = letter["at"].as_u64().unwrap_or_default();
                terminal::line(&format!(
                    "{}  {at}  {}  {path}  {}",
                    word("id"),
                    word("reason"),
                    word("from")
                ));
            }
            Ok(())
        }
        Action::Replay(ids) => settle(config, app, "replay_dead_letters", ids, "replayed"),
        Action::Purge(ids) => settle(config, app, "purge_dead_letters", ids, "purged"),
    }
}

fn letters(config: &Config, app: &App) -> Result<Vec<Value>> {
    let answer = send::call(config, app, "dead_letters", &json!({}))?;
    Ok(answer["dead_letters"].as_array().cloned().unwrap_or_default())
}

fn settle(config: &Config, app: &App, call: &str, ids: &[String], done: &str) -> Result<()> {
    let ids = if ids.is_empty() {
        let all = letters(config, app)?;
        all.iter().filter_map(|letter| letter["id"].as_str().map(str::to_owned)).collect()
    } else {
        ids.to_vec()
    };
    let answer = send::call(config, app, call, &json!({"ids": ids}))?;
    let count = answer["done"].as_array().map_or(0, Vec::len);
    terminal::line(&format!("{done}: {count}"));
    let unknown: Vec<&str> =
        answer["unknown"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let text = format!("there is no dead letter {}; list them first", unknown.join(", "));
    Err(Error::new(ErrorKind::Config, text))
}
