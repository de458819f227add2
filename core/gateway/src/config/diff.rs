//! What differs between two configurations, and what of it a running daemon can take over.

use appxmpp::service::OutboxLimits;

use super::{App, Config, Http, Log, Store};

/// The keys of an app that differ.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// In force at once.
    pub live: Vec<&'static str>,
    /// In force after a restart.
    pub restart: Vec<&'static str>,
}

impl Changes {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty() && self.restart.is_empty()
    }
}

/// The settings of the process itself; all of them are read at the start alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `[http]`
    pub http: Http,
    /// `[console]`
    pub console: Option<std::net::SocketAddr>,
    /// `[store]`
    pub store: Store,
    /// What of `[store]` is about the outbox.
    pub outbox: Option<OutboxLimits>,
    /// `[log]`
    pub log: Log,
    /// `drain_seconds`
    pub drain: std::time::Duration,
}

impl Settings {
    /// Those of `config`.
    pub fn of(config: &Config) -> Self {
        let Config { http, console, store, outbox, log, drain, .. } = config;
        let (http, store, log) = (http.clone(), store.clone(), log.clone());
        Self { http, console: *console, store, outbox: *outbox, log, drain: *drain }
    }
}

/// The tables of `new` that differ from what the process was started with.
pub fn process(old: &Settings, new: &Config) -> Vec<&'static str> {
    let new = Settings::of(new);
    let tables = [
        ("[http]", old.http != new.http),
        ("[console]", old.console != new.console),
        ("[store]", old.store != new.store || old.outbox != new.outbox),
        ("[log]", old.log != new.log),
        ("drain_seconds", old.drain != new.drain),
    ];
    differing(&tables)
}

/// The keys that differ between two states of an app.
pub fn app(old: &App, new: &App) -> Changes {
    macro_rules! changed {
        ($($name:literal $field:ident),* $(,)?) => {
            differing(&[$(($name, old.$field != new.$field)),*])
        };
    }
    Changes {
        live: {
            let mut live = changed![
                "hosts" hosts,
                "fallback_paths" fallback_paths,
                "callback_url" callback_url,
                "callback_ca" callback_trust,
                "callback_content_type" callback_media,
                "callback_stanzas" callback_stanzas,
                "callback_events" callback_events,
                "credentials" keyring,
                "webhook_secret" webhook_secret,
                "webhook_timeout_seconds" webhook_timeout,
                "webhook_deadline_seconds" webhook_deadline,
                "webhook_pause_ms" webhook_pause,
                "webhook_longest_pause_seconds" webhook_longest_pause,
                "webhook_concurrency" webhook_concurrency,
                "strict_mod_rest" strict,
                "bounce_wait_ms" bounce_wait,
                "iq_timeout_seconds" iq_timeout,
                "iq_max_timeout_seconds" iq_max_timeout,
                "stanza_size_limit" stanza_size_limit,
            ];
            if old.url != new.url && !turned(old, new) {
                live.push("url");
            }
            live
        },
        restart: {
            let mut restart = changed![
                "id" id,
                "version" version,
                "backend" backend,
                "secret" secret,
                "addresses" addresses,
                "inbound_services" inbound_services,
                "webhook_queue" webhook_queue,
                "keepalive_seconds" keepalive,
                "keepalive_timeout_seconds" keepalive_timeout,
                "quotas" quotas,
            ];
            if turned(old, new) {
                restart.push("url (set or removed)");
            }
            restart
        },
    }
}

/// Whether App Engine's services were switched on or off.
fn turned(old: &App, new: &App) -> bool {
    old.url.is_some() != new.url.is_some()
}

/// Puts back what only a restart can change.
pub fn keep(old: &App, new: &mut App) {
    new.id.clone_from(&old.id);
    new.version.clone_from(&old.version);
    new.name.clone_from(&old.name);
    new.addresses = old.addresses;
    new.backend.clone_from(&old.backend);
    new.secret.clone_from(&old.secret);
    new.inbound_services.clone_from(&old.inbound_services);
    new.webhook_queue = old.webhook_queue;
    new.keepalive = old.keepalive;
    new.keepalive_timeout = old.keepalive_timeout;
    new.quotas = old.quotas;
    if turned(old, new) {
        new.url.clone_from(&old.url);
    }
}

fn differing(list: &[(&'static str, bool)]) -> Vec<&'static str> {
    list.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name).collect()
}
