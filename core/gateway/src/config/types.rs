//! The checked configuration.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use appxmpp::service::address::Presentation;
use appxmpp::service::{OutboxLimits, Quotas};

use crate::deliver::trust::Trust;
use crate::rest::auth::Keyring;
use crate::rest::media::Media;
use crate::rest::path::Kind;
use crate::secret::Secret;

/// Everything the daemon was told.
#[derive(Debug)]
pub struct Config {
    /// The apps, at least one, with distinct domains.
    pub apps: Vec<App>,
    /// The HTTP server.
    pub http: Http,
    /// Where the development console listens.
    pub console: Option<SocketAddr>,
    /// Where state is kept.
    pub store: Store,
    /// What may wait to be sent, if messages are stored before they count as sent.
    pub outbox: Option<OutboxLimits>,
    /// What is allowed, and may not be what was meant.
    pub warnings: Vec<String>,
    /// The log.
    pub log: Log,
    /// How long a stop waits for work in flight.
    pub drain: Duration,
}

/// One app: its XMPP side, its webhooks and who may send for it.
#[derive(Debug)]
pub struct App {
    /// The App Engine application id.
    pub id: String,
    /// Which version of it this is, unless it is the default one.
    pub version: Option<String>,
    /// What it is called where apps are told apart: `ID`, or `VERSION.latest.ID`.
    pub name: String,
    /// The component's domain, prepared.
    pub domain: String,
    /// Where the XMPP server is, without the secret.
    pub backend: String,
    /// Whether the XMPP server is one inside the gateway, for development.
    pub development: bool,
    /// The component's secret.
    pub secret: Secret,
    /// Further Host header values, in lower case.
    pub hosts: Vec<String>,
    /// Where App Engine's form posts go, without a trailing slash.
    pub url: Option<String>,
    /// In which form the app gets to see its own addresses.
    pub addresses: Presentation,
    /// App Engine's services that post there.
    pub inbound_services: Vec<String>,
    /// Whether to try other paths after a 404.
    pub fallback_paths: bool,
    /// Where mod_rest callbacks go.
    pub callback_url: Option<String>,
    /// Which servers `https` may lead to, for both.
    pub callback_trust: Arc<Trust>,
    /// What their body is.
    pub callback_media: Media,
    /// Which kinds are posted.
    pub callback_stanzas: Vec<Kind>,
    /// For which addresses.
    pub callback_events: Vec<Event>,
    /// Who may use `/rest`.
    pub keyring: Keyring,
    /// The key that signs webhooks.
    pub webhook_secret: Secret,
    /// How long a webhook may take.
    pub webhook_timeout: Duration,
    /// For how long a delivery is tried again.
    pub webhook_deadline: Duration,
    /// The first pause between two attempts.
    pub webhook_pause: Duration,
    /// The longest one.
    pub webhook_longest_pause: Duration,
    /// How many run at once.
    pub webhook_concurrency: usize,
    /// How many may wait.
    pub webhook_queue: usize,
    /// Whether to be faithful to mod_rest's quirks.
    pub strict: bool,
    /// How long a POST waits for a bounce.
    pub bounce_wait: Duration,
    /// How long an iq waits by default.
    pub iq_timeout: Duration,
    /// How long it may be made to wait.
    pub iq_max_timeout: Duration,
    /// After how much silence the server is asked whether it is there.
    pub keepalive: Duration,
    /// How long it may take to answer.
    pub keepalive_timeout: Duration,
    /// The longest request body, in bytes.
    pub stanza_size_limit: usize,
    /// What it may use in a day.
    pub quotas: Quotas,
}

/// Which of an app's addresses a stanza was sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// `name@domain`
    Bare,
    /// With a resource.
    Full,
    /// The domain itself.
    Host,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl std::fmt::Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The HTTP server's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Where `/rest` is served.
    pub listen: Listen,
    /// Where `/metrics` is served.
    pub metrics: Option<Listen>,
    /// How many connections may be open.
    pub max_connections: usize,
    /// How long a request's head may take.
    pub header_timeout: Duration,
    /// How long a request's body may take.
    pub body_timeout: Duration,
    /// How long a client may read nothing of what it asked for.
    pub write_timeout: Duration,
    /// The longest request head, in bytes.
    pub max_header_bytes: usize,
}

/// Where subscriptions and presence are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// Nowhere: they are gone after a restart.
    Memory,
    /// An SQLite database.
    Sqlite(PathBuf),
    /// A PostgreSQL database, by its URL.
    Postgres(Secret),
}

/// The log's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// A level, or `tracing` directives.
    pub level: String,
    /// How lines look.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// Text.
    Text,
    /// One JSON object on each line.
    Json,
}
