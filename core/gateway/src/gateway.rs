//! The composition root: apps, HTTP servers, and how they start and stop.

use std::sync::Arc;

use appxmpp::net::farewell_time;
use appxmpp::store::{MemoryStore, PostgresStore, SqliteStore, Store};
use appxmpp::{Error, ErrorKind, Result};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::app::App;
use crate::config::{self, Config};
use crate::metrics::Metrics;
use crate::rest::error::RestError;
use crate::server::Server;
use crate::{console, routes, shutdown, terminal};

/// How many connections may be open where `/metrics` is.
pub(crate) const SIDE_CONNECTIONS: usize = 128;

/// Everything that runs.
pub struct Gateway {
    /// The HTTP server's settings.
    pub http: config::Http,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    apps: Vec<Arc<App>>,
    settings: config::diff::Settings,
}

/// Where the servers listen, for whoever chose port 0.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// `/rest`
    pub http: String,
    /// `/metrics`
    pub metrics: Option<String>,
}

impl Gateway {
    /// The app that a request is for.
    ///
    /// # Errors
    /// 400 without a Host header, 404 for a host that is no app's.
    pub fn app_for(&self, host: Option<&str>) -> Result<&Arc<App>, RestError> {
        let host = host.ok_or(RestError::UNPARSABLE)?;
        let is = |name: &String| name.eq_ignore_ascii_case(host);
        let named = self.apps.iter().find(|app| {
            let config = app.config();
            host_of(&config.domain).eq_ignore_ascii_case(host) || config.hosts.iter().any(is)
        });
        let app = named.or_else(|| {
            let lone = config::lone(&self.apps, |app| app.config().version.is_some())?;
            self.apps.get(lone).filter(|app| !app.config().strict)
        });
        app.ok_or(RestError::UNKNOWN_HOST)
    }

    /// The apps.
    pub fn apps(&self) -> &[Arc<App>] {
        &self.apps
    }

    /// What the process was started with.
    pub fn settings(&self) -> &config::diff::Settings {
        &self.settings
    }

    /// Whether every stream is up.
    pub fn is_ready(&self) -> bool {
        self.apps.iter().all(|app| app.is_ready())
    }

    /// Runs until `stop` says so; `started` is told where the servers listen.
    ///
    /// # Errors
    /// What keeps it from starting: settings, store, or an address that is in use. [`ErrorKind::Store`] if
    /// it ended because other processes have taken over from it.
    pub async fn run(
        config: Config,
        mut stop: watch::Receiver<shutdown::Stop>,
        started: impl FnOnce(&Arc<Self>, Addresses) + Send,
    ) -> Result<()> {
        let metrics = Arc::new(Metrics::default());
        let (drain, console) = (config.drain, config.console);
        let settings = config::diff::Settings::of(&config);
        let main = Server::bind(&config.http.listen).await?;
        let side = match &config.http.metrics {
            Some(listen) => Some(Server::bind(listen).await?),
            None => None,
        };
        let evicted = Arc::new(Notify::new());
        let mut apps = Vec::with_capacity(config.apps.len());
        for app in config.apps {
            let keeps = !matches!(config.store, config::Store::Memory);
            let (store, metrics) = (store(&config.store)?, Arc::clone(&metrics));
            apps.push(App::open(app, store, keeps, config.outbox, metrics, Arc::clone(&evicted))?);
        }
        let gateway = Arc::new(Self { http: config.http, metrics, apps, settings });
        let addresses =
            Addresses { http: main.address(), metrics: side.as_ref().map(Server::address) };
        started(&gateway, addresses);
        let (closing, closed) = watch::channel(false);
        let serving = tokio::spawn(main.serve(
            routes::Main::new(Arc::clone(&gateway)),
            gateway.http.clone(),
            Arc::clone(&gateway.metrics),
            closed.clone(),
        ));
        if let Some(side) = side {
            let most = gateway.http.max_connections.min(SIDE_CONNECTIONS);
            let http = config::Http { max_connections: most, ..gateway.http.clone() };
            let metrics = Arc::clone(&gateway.metrics);
            tokio::spawn(side.serve(routes::side(Arc::clone(&gateway)), http, metrics, closed));
        }
        let stages = gateway.apps.iter().filter_map(|app| app.stage.clone()).collect();
        let page = match console {
            Some(listen) => Some(console::start(listen, stages).await?),
            None => None,
        };
        if let Some(page) = &page {
            // Not to the log: whoever has the key can play users.
            terminal::line(&format!("development console: {}", page.url));
        }
        let outcome = tokio::select! {
            () = shutdown::reached(&mut stop, shutdown::Stop::Drain) => Ok(()),
            // It could go on only as another member, with nothing of what it has in memory: as a new process.
            () = evicted.notified() => Err(taken_over()),
        };
        tracing::info!(seconds = drain.as_secs(), "stopping: finishing what is under way");
        let deadline = Instant::now() + drain;
        let _ = closing.send(true);
        let finish = async {
            let _ = tokio::time::timeout_at(deadline - farewell_time(drain), serving).await;
            close(&gateway.apps, deadline).await;
        };
        tokio::select! {
            () = finish => {}
            () = shutdown::reached(&mut stop, shutdown::Stop::Now) => {
                tracing::warn!("stopped at once: asked twice");
            }
        }
        outcome
    }
}

/// All at once: none waits for the webhooks of another, nor for its contacts.
async fn close(apps: &[Arc<App>], deadline: Instant) {
    let mut closing = JoinSet::new();
    for app in apps {
        let app = Arc::clone(app);
        closing.spawn(async move { app.close(deadline).await });
    }
    closing.join_all().await;
}

fn taken_over() -> Error {
    let text = "another gateway took over from this one, which was out of the state store's reach too long; start it again";
    Error::new(ErrorKind::Store, text)
}

fn store(store: &config::Store) -> Result<Box<dyn Store>> {
    match store {
        config::Store::Memory => Ok(Box::new(MemoryStore::new())),
        config::Store::Sqlite(path) => Ok(Box::new(SqliteStore::open(path)?)),
        config::Store::Postgres(url) => Ok(Box::new(PostgresStore::open(url.expose())?)),
    }
}

/// What a request for an app has in its Host header: the app's domain, or its account's.
pub(crate) fn host_of(own: &str) -> &str {
    own.split_once('@').map_or(own, |(_, domain)| domain)
}
