//! SIGHUP: the configuration is read again. What can change while the daemon runs does; the rest is
//! named and waits for a restart.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use crate::app::App;
use crate::config::{self, Config};
use crate::gateway::Gateway;
use crate::notify;

/// Reads the configuration anew with `load` at each SIGHUP, for as long as the runtime lives.
///
/// # Errors
/// The system refuses to say when a signal comes.
pub fn watch(
    gateway: Arc<Gateway>,
    load: impl Fn() -> appxmpp::Result<Config> + Send + 'static,
) -> std::io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            notify::reloading();
            let status = match load() {
                Ok(config) => apply(&gateway, config),
                Err(error) => {
                    tracing::error!(
                        "the configuration was not reloaded, the old one holds: {error}"
                    );
                    "the new configuration is wrong, the old one holds"
                }
            };
            notify::ready(status);
        }
    });
    Ok(())
}

fn apply(gateway: &Gateway, new: Config) -> &'static str {
    let mut waiting = config::diff::process(gateway.settings(), &new);
    let apps = gateway.apps();
    if apps.iter().any(|app| !new.apps.iter().any(|new| new.domain == app.config().domain)) {
        waiting.push("app (one was removed or has another domain)");
    }
    for config in new.apps {
        match apps.iter().find(|app| app.config().domain == config.domain) {
            Some(app) => reload(app, config),
            None => waiting.push("app (a new one)"),
        }
    }
    if waiting.is_empty() {
        return "the configuration was reloaded";
    }
    tracing::warn!("changed, but only a restart applies it: {}", waiting.join(", "));
    "the configuration was reloaded in part; the log names what needs a restart"
}

fn reload(app: &App, mut new: config::App) {
    let old = app.config();
    let changes = config::diff::app(&old, &new);
    let (id, names) = (&old.name, |list: &[&str]| list.join(", "));
    if changes.is_empty() {
        tracing::info!(app = id, "reloaded: nothing changed");
        return;
    }
    if !changes.restart.is_empty() {
        let keys = names(&changes.restart);
        tracing::warn!(app = id, "changed, but only a restart applies it: {keys}");
        config::diff::keep(&old, &mut new);
    }
    if !changes.live.is_empty() {
        tracing::info!(app = id, "reloaded: {}", names(&changes.live));
        app.reload(new);
    }
}
