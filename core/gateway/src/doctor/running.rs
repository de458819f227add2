//! The gateway that runs with the same configuration, if there is one: a second connection beside its
//! own would take stanzas away from it, where the server (ejabberd) lets several in.

use super::{Finding, PATIENCE};
use crate::config::{App, Config, Listen};
use crate::health;
use crate::send;

/// What a gateway says of itself.
pub(super) struct Running {
    /// Where it listens.
    pub(super) place: String,
    /// The lines of its `/readyz`.
    lines: Vec<(String, String)>,
}

/// Asks where a gateway with this configuration would listen.
pub(super) fn find(config: &Config) -> Option<Running> {
    let places = config.http.metrics.iter().chain([&config.http.listen]);
    places.into_iter().find_map(|place| ask(place, config))
}

fn ask(place: &Listen, config: &Config) -> Option<Running> {
    let request = "GET /readyz HTTP/1.0\r\nHost: doctor\r\n\r\n";
    let (status, body) = send::exchange_at(place, request, PATIENCE).ok()?;
    if !matches!(status, 200 | 503) {
        return None;
    }
    let lines = body.lines().filter_map(|line| line.split_once(": "));
    let lines: Vec<_> = lines.map(|(id, state)| (id.to_owned(), state.to_owned())).collect();
    let running = Running { place: place.to_string(), lines };
    // Something else may listen there.
    config.apps.iter().any(|app| running.state_of(app).is_some()).then_some(running)
}

impl Running {
    /// What it says of an app.
    pub(super) fn state_of(&self, app: &App) -> Option<&str> {
        self.lines.iter().find(|(id, _)| *id == app.name).map(|(_, state)| state.as_str())
    }
}

pub(super) fn finding(state: &str) -> Finding {
    let skipped = "no second log-in is tried beside it";
    match state {
        health::DOWN => Err(format!(
            "the gateway that runs says: {state}. Its log says why (journalctl -u appxmpp); {skipped}"
        )),
        state => Ok(format!("the gateway that runs says: {state}; {skipped}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_stream_that_is_down_is_wrong() {
        assert!(finding("ready").is_ok());
        assert!(finding("standby: another process has the stream to the XMPP server").is_ok());
        assert!(finding(health::DOWN).unwrap_err().contains("log says why"));
    }
}
