//! Where a database is, and how to speak of it without its password.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::Host;

use super::encryption::{Asked, Place};
use super::tls::{self, Connector};
use crate::error::{Error, ErrorKind, Result};

/// Where Debian's PostgreSQL has its socket, for an address without a host.
const SOCKETS: &str = "/var/run/postgresql";
/// How long one attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The schema that holds the tables.
const SCHEMA: &str = "appxmpp";

/// A database, and the schema in it.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub(super) config: Config,
    pub(super) connector: Connector,
    pub(super) schema: String,
    shown: String,
}

impl Address {
    /// Reads `postgresql://USER:PASSWORD@HOST:PORT/DATABASE?OPTION=VALUE`.
    pub(super) fn parse(url: &str) -> Result<Self> {
        let is_url = url.starts_with("postgresql://") || url.starts_with("postgres://");
        // What is wrong with it is not repeated: it may be a piece of the password.
        let none = || {
            refuse(
                "the address of the state store is not one of a PostgreSQL database; write postgresql://USER@HOST/DATABASE or \
                 postgresql:///DATABASE?host=/FOLDER/OF/SOCKET, special characters in the password as %XX",
            )
        };
        let (url, asked) = Asked::take(is_url.then_some(url).ok_or_else(none)?)?;
        let mut config = Config::from_str(&url).map_err(|_| none())?;
        complete(&mut config);
        let shown = shown(&config);
        let encryption = asked.decide(place(&config), &shown)?;
        config.ssl_mode(encryption.ssl_mode());
        let connector = tls::load(&encryption, &shown)?;
        Ok(Self { config, connector, schema: SCHEMA.to_owned(), shown })
    }

    #[cfg(test)]
    pub(super) fn with_schema(mut self, schema: &str) -> Self {
        schema.clone_into(&mut self.schema);
        self
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

fn shown(config: &Config) -> String {
    let mut shown = "postgresql://".to_owned();
    if let Some(user) = config.get_user() {
        shown += user;
        shown += "@";
    }
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        #[cfg(unix)]
        Some(Host::Unix(folder)) => folder.display().to_string(),
        _ => config.get_hostaddrs().first().map(ToString::to_string).unwrap_or_default(),
    };
    shown += &host;
    if let Some(port) = config.get_ports().first() {
        shown += &format!(":{port}");
    }
    shown + "/" + config.get_dbname().unwrap_or_default()
}

/// Adds what is not said.
fn complete(config: &mut Config) {
    if config.get_hosts().is_empty() {
        // A certificate is then for the address.
        let addresses = config.get_hostaddrs().to_vec();
        for address in &addresses {
            config.host(address.to_string());
        }
        if addresses.is_empty() {
            config.host_path(SOCKETS);
        }
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if config.get_application_name().is_none() {
        config.application_name("appxmpp");
    }
}

/// The farthest of the places that an address names.
fn place(config: &Config) -> Place {
    let place = |host: &Host| match host {
        #[cfg(unix)]
        Host::Unix(_) => Place::Socket,
        Host::Tcp(name) => match name.parse::<std::net::IpAddr>() {
            Ok(ip) if ip.is_loopback() => Place::Loopback,
            Err(_) if name == "localhost" => Place::Loopback,
            _ => Place::Elsewhere,
        },
    };
    let addresses = config.get_hostaddrs().iter();
    let addresses =
        addresses.map(|ip| if ip.is_loopback() { Place::Loopback } else { Place::Elsewhere });
    config.get_hosts().iter().map(place).chain(addresses).max().unwrap_or(Place::Elsewhere)
}

pub(super) fn refuse(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, text.into())
}

#[cfg(test)]
mod tests {
    use tokio_postgres::config::SslMode;

    use super::*;

    #[test]
    fn an_address_is_shown_without_its_password() {
        for (url, shown) in [
            (
                "postgresql://bot:pa%40ss@localhost:5433/chat",
                "postgresql://bot@localhost:5433/chat",
            ),
            ("postgres://bot:secret@127.0.0.1/chat", "postgresql://bot@127.0.0.1:5432/chat"),
            (
                "postgresql:///chat?host=/run/pg&user=bot&password=secret",
                "postgresql://bot@/run/pg/chat",
            ),
            ("postgresql:///chat", "postgresql:///var/run/postgresql/chat"),
            (
                "postgresql://bot@db.example/chat?sslmode=disable",
                "postgresql://bot@db.example:5432/chat",
            ),
        ] {
            let address = Address::parse(url).unwrap();
            assert_eq!(address.to_string(), shown);
            assert!(!format!("{address:?}").contains("secret"));
        }
    }

    #[test]
    fn another_machine_is_reached_by_tls() {
        for url in ["postgresql://bot:secret@db.example/chat", "postgres://h/a?sslmode=require"] {
            match Address::parse(url) {
                Ok(address) => assert_eq!(address.config.get_ssl_mode(), SslMode::Require),
                Err(error) => {
                    let text = error.to_string();
                    assert!(!cfg!(feature = "tls") && text.contains("feature tls"), "{text}");
                }
            }
        }
    }

    #[test]
    fn what_would_be_sent_in_the_clear_is_refused() {
        for (url, says) in [
            ("postgresql://bot:secret@192.0.2.1/chat?sslmode=prefer", "another machine"),
            (
                "postgresql://bot:secret@db/chat?hostaddr=192.0.2.1&sslmode=prefer",
                "another machine",
            ),
            ("postgresql://bot:secret@localhost,db/chat?sslmode=prefer", "another machine"),
            ("postgresql://bot:secret@db/chat?sslrootcert=/no/file", "sslrootcert=/no/file"),
            ("postgresql://bot:secret@db/chat?sslmode=verify-ca", "sslrootcert=FILE"),
            ("postgresql://bot:secret@localhost:port/chat", "PostgreSQL database"),
            ("sqlite:/secret", "PostgreSQL database"),
        ] {
            let error = Address::parse(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            let text = error.to_string();
            assert!(text.contains(says) && !text.contains("secret"), "{text}");
        }
    }
}
