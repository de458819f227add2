use std::time::Duration;

use crate::auth::Secret;
use crate::error::Result;
use crate::net::backend::Backend;
use crate::net::config::ConnectionConfig;
use crate::service::{InboundServices, LaneLimits, OutboxLimits, ServiceConfig};
use crate::store::{MemoryStore, Store};

/// What an [`App`](super::App) needs to know.
pub struct AppConfig {
    /// The connection.
    pub connection: ConnectionConfig,
    /// The service. Its `id_prefix` is chosen at random if it is empty.
    pub service: ServiceConfig,
    /// What survives a restart; memory by default.
    pub store: Box<dyn Store>,
    /// How many deliveries may wait.
    pub lanes: LaneLimits,
    /// How long the server is kept waiting for room for another delivery, before its sender is told
    /// to try again later. Default 5 s.
    pub room_timeout: Duration,
    /// Whether messages are stored before they count as sent, and kept until the server is known to
    /// have read them, and deliveries are stored until they are done: all then survive a broken stream
    /// and a restart. That takes a store that itself survives one. Default off.
    pub durable: bool,
    /// With `durable`, how much may wait to be sent and how long it is worth sending.
    pub outbox: OutboxLimits,
}

impl AppConfig {
    /// The usual settings for the app `app_id` behind a connection, its state kept in memory.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] if `app_id` cannot be part of an address.
    pub fn new(app_id: &str, connection: ConnectionConfig) -> Result<Self> {
        Ok(Self {
            service: ServiceConfig::at(connection.addresses(Some(app_id))?),
            connection,
            store: Box::new(MemoryStore::new()),
            lanes: LaneLimits::default(),
            room_timeout: Duration::from_secs(5),
            durable: false,
            outbox: OutboxLimits::default(),
        })
    }

    /// The usual settings for the version `version` of the app `app_id`, which is not the default one:
    /// the connection is that of the component `VERSION.latest.DOMAIN`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] if the connection's domain is no such name.
    pub fn for_version(app_id: &str, version: &str, connection: ConnectionConfig) -> Result<Self> {
        let addresses = connection.addresses_of(Some(app_id), Some(version))?;
        let mut config = Self::new(app_id, connection)?;
        config.service.addresses = addresses;
        Ok(config)
    }

    /// The usual settings for a backend. Without `app_id` the app is called as the domain's first
    /// label, or as the account.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] as in [`AppConfig::new`] and
    /// [`ConnectionConfig::for_backend`].
    pub fn for_backend(
        backend: &Backend,
        secret: Option<Secret>,
        app_id: Option<&str>,
        inbound: InboundServices,
    ) -> Result<Self> {
        let connection = ConnectionConfig::for_backend(backend, secret)?;
        let addresses = connection.addresses(app_id)?;
        let mut config = Self::new(addresses.app_id(), connection)?;
        config.service.inbound = inbound;
        Ok(config)
    }
}

/// The settings that the app's own task needs.
pub(super) struct Own {
    pub(super) lanes: LaneLimits,
    pub(super) room_timeout: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn connection(domain: &str) -> ConnectionConfig {
        let backend = Backend::parse(&format!("component://{domain}:s@127.0.0.1")).unwrap();
        ConnectionConfig::for_backend(&backend, None).unwrap()
    }

    #[test]
    fn a_version_has_the_component_that_is_called_after_it() {
        let of = |domain, version| AppConfig::for_version("shop", version, connection(domain));
        let beta = of("beta.latest.bot.example", "Beta").unwrap();
        let addresses = &beta.service.addresses;
        assert_eq!(
            addresses.sender(Some("a@bot.example")).unwrap().domainpart(),
            addresses.domain()
        );
        assert_eq!(addresses.domain(), beta.connection.domain);
        for domain in ["bot.example", "old.latest.bot.example"] {
            let Err(error) = of(domain, "beta") else { panic!("{domain} was taken") };
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(domain) && error.to_string().contains("beta"));
        }
    }
}
