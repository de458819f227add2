//! How an app comes up.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use appxmpp::net::dev::{DevConfig, DevServer};
use appxmpp::net::{Backend, Connection, ConnectionConfig, LiveOutbox};
use appxmpp::service::{InboundServices, OutboxLimits, Service, ServiceConfig};
use appxmpp::store::Store;
use appxmpp::{Jid, Result};
use http::HeaderValue;
use tokio::sync::{Notify, watch};

use super::App;
use super::barrier::Barrier;
use super::known::Known;
use super::stream::Stream;
use crate::config;
use crate::console::Stage;
use crate::deliver::engine::Engine;
use crate::metrics::Metrics;

impl App {
    /// Opens the stream of `config` and starts to serve it. `keeps` says whether `store` outlives the
    /// process, so that deliveries are worth keeping in it, and `outbox` what may wait there to be sent. `evicted` is
    /// told should other processes take over from this one.
    ///
    /// # Errors
    /// [`appxmpp::ErrorKind::Config`] for settings that cannot work, [`appxmpp::ErrorKind::Store`] for a store that cannot
    /// be read.
    pub fn open(
        config: config::App,
        store: Box<dyn Store>,
        keeps: bool,
        outbox: Option<OutboxLimits>,
        metrics: Arc<Metrics>,
        evicted: Arc<Notify>,
    ) -> Result<Arc<Self>> {
        let config = Arc::new(config);
        let own = Jid::parse(&config.domain)?;
        let stage = if config.development { Some(develop(&config)?) } else { None };
        let backend = match &stage {
            Some(stage) => stage.server.backend()?,
            None => Backend::parse(&config.backend)?,
        };
        let secret = appxmpp::net::Secret::new(config.secret.expose());
        let mut wire = ConnectionConfig::for_backend(&backend, Some(secret))?;
        // Every waiting request has a place of its own in `waiters`.
        wire.requests = 64;
        wire.one_of_several = store.shared().is_some();
        wire.gather = true;
        wire.barrier = outbox.map(|_| LiveOutbox::BARRIER);
        wire.confirm = keeps;
        if let Some(keepalive) = &mut wire.keepalive {
            keepalive.idle = config.keepalive;
            keepalive.answer = config.keepalive_timeout;
        }
        let barrier = (!wire.one_of_several).then(|| match wire.account {
            Some(_) => Barrier::of_account(&wire.domain),
            None => Barrier::of_component(&wire.domain),
        });
        let service = Arc::new(Service::new(service_config(&config, &wire)?, store)?);
        let left = if keeps { service.restore_deliveries()? } else { Vec::new() };
        let runtime = tokio::runtime::Handle::current();
        let connection = Connection::open_for(&runtime, wire, &service, outbox.is_some());
        let outbox =
            outbox.map(|limits| LiveOutbox::new(connection.clone(), Arc::clone(&service), limits));
        if let Some(outbox) = &outbox {
            tokio::spawn(Arc::clone(outbox).run());
        }
        let stream = Stream {
            connection: connection.clone(),
            metrics: Arc::clone(&metrics),
            service: Arc::clone(&service),
            keeper: keeps.then(|| Arc::clone(&service)),
            outbox: outbox.clone(),
        };
        let realm = format!("basic realm=\"{0}/rest\", bearer realm=\"{0}/rest\"", config.domain);
        metrics.stream(&config.name, false);
        let app = Arc::new(Self {
            own,
            challenge: HeaderValue::from_str(&realm)
                .unwrap_or_else(|_| HeaderValue::from_static("basic, bearer")),
            waiters: Arc::default(),
            archives: Arc::default(),
            stage,
            known: Known::default(),
            barrier,
            engine: Engine::new(Arc::clone(&config), Arc::clone(&metrics), stream.clone()),
            connection,
            service,
            keeps,
            outbox,
            stream,
            task: Mutex::default(),
            closing: Mutex::default(),
            news: Notify::new(),
            evicted,
            up: watch::Sender::new(false),
            metrics,
            config: RwLock::new(config),
        });
        if !left.is_empty() {
            tracing::info!(
                app = app.config().name,
                count = left.len(),
                "deliveries left before go on"
            );
        }
        left.into_iter().for_each(|delivery| app.engine.restore(delivery));
        let waking = Arc::downgrade(&app);
        app.service.on_news(move || {
            if let Some(app) = waking.upgrade() {
                app.news.notify_one();
            }
        });
        let task = tokio::spawn(Arc::clone(&app).run());
        *app.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        app.engine.begin_probe();
        Ok(app)
    }
}

/// A server for the app inside this process.
fn develop(config: &config::App) -> Result<Stage> {
    let server = DevServer::start_on(
        &tokio::runtime::Handle::current(),
        DevConfig {
            domain: config.domain.clone(),
            secret: appxmpp::net::Secret::new(config.secret.expose()),
            port: 0,
        },
    )?;
    let bot = format!("{}@{}", config.id, config.domain);
    Ok(Stage { domain: config.domain.clone(), bot, server })
}

fn service_config(app: &config::App, wire: &ConnectionConfig) -> Result<ServiceConfig> {
    let addresses = wire.addresses_of(Some(&app.id), app.version.as_deref())?;
    let mut service = ServiceConfig::at(addresses.with_presentation(app.addresses));
    service.inbound = match app.url {
        Some(_) => InboundServices::from_names(&app.inbound_services)?,
        None => InboundServices::NONE,
    };
    service.quotas = app.quotas;
    service.id_prefix = format!("{}-", crate::id::alphanumeric::<8>());
    Ok(service)
}
