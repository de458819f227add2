//! Where a database is, and how to speak of it without its password.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

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
    pub(super) schema: String,
    shown: String,
}

impl Address {
    /// Reads `postgresql://USER:PASSWORD@HOST:PORT/DATABASE?OPTION=VALUE`.
    pub(super) fn parse(url: &str) -> Result<Self> {
        let is_url = url.starts_with("postgresql://") || url.starts_with("postgres://");
        // What is wrong with it is not repeated: it may be a piece of the password.
        let mut config = is_url.then(|| Config::from_str(url).ok()).flatten().ok_or_else(|| {
            refuse(
                "the address of the state store is not one of a PostgreSQL database; write postgresql://USER@HOST/DATABASE or \
                 postgresql:///DATABASE?host=/FOLDER/OF/SOCKET, special characters in the password as %XX",
            )
        })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            config.host_path(SOCKETS);
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_application_name().is_none() {
            config.application_name("appxmpp");
        }
        let shown = shown(&config);
        check_privacy(&config, &shown)?;
        Ok(Self { config, schema: SCHEMA.to_owned(), shown })
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

/// There is no TLS here, so what could be read on its way is sent only where that was asked for.
fn check_privacy(config: &Config, shown: &str) -> Result<()> {
    if config.get_ssl_mode() == SslMode::Require {
        return Err(refuse(format!(
            "the state store {shown} asks for TLS (sslmode=require), which this program does not speak with PostgreSQL; use its \
             unix socket (host=/FOLDER), or a tunnel that ends on this machine"
        )));
    }
    let is_here = |host: &Host| match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    };
    let here = config.get_hosts().iter().all(is_here)
        && config.get_hostaddrs().iter().all(std::net::IpAddr::is_loopback);
    if here || config.get_ssl_mode() == SslMode::Disable {
        return Ok(());
    }
    Err(refuse(format!(
        "the state store {shown} is on another machine, and what it keeps would cross the network unencrypted; use a tunnel \
         that ends on this machine, or say sslmode=disable if the network is private"
    )))
}

fn refuse(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, text.into())
}

#[cfg(test)]
mod tests {
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
    fn what_would_be_sent_in_the_clear_is_refused() {
        for (url, says) in [
            ("postgresql://bot:secret@db.example/chat", "another machine"),
            ("postgresql://bot:secret@192.0.2.1/chat?sslmode=prefer", "another machine"),
            ("postgresql://bot:secret@localhost/chat?sslmode=require", "sslmode=require"),
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
