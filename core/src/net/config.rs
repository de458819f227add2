use std::time::Duration;

use super::backend::{Backend, Endpoint, component_domain};
use crate::auth::Secret;
use crate::error::{Error, ErrorKind, Result};
use crate::stream::{Barrier, ComponentConfig, Keepalive};
use crate::xml::Limits;

/// How much may wait in a queue; what comes first counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// So many stanzas.
    pub stanzas: usize,
    /// So many bytes.
    pub bytes: usize,
}

impl Default for Bounds {
    /// 1024 stanzas or 8 MiB.
    fn default() -> Self {
        Self { stanzas: 1024, bytes: 8 * 1024 * 1024 }
    }
}

/// What a [`Connection`](super::Connection) needs to know. The secret is never printed.
#[derive(Debug, Clone)]
pub struct ConnectionConfig {
    /// The component's domain.
    pub domain: String,
    /// The secret it shares with the server.
    pub secret: Secret,
    /// Where the server listens.
    pub endpoint: Endpoint,
    /// What one stanza may hold.
    pub limits: Limits,
    /// How long the operating system may take to connect. Default 10 s.
    pub connect_timeout: Duration,
    /// How long the server may take to accept the log-in. Default 15 s.
    pub login_timeout: Duration,
    /// What keeps a silent stream alive. By default an iq ping to the own domain after 60 s, with
    /// 20 s for its answer.
    pub keepalive: Option<Keepalive>,
    /// How soon the server is asked what it has read. By default never.
    pub barrier: Option<Barrier>,
    /// How much may wait to be written.
    pub outbound: Bounds,
    /// How many events may wait to be taken; the socket is not read while so many wait.
    pub inbound: Bounds,
    /// How many requests may wait for their answers. Default 1024.
    pub requests: usize,
}

impl ConnectionConfig {
    /// The usual settings.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if `domain` is no domain or the secret is empty.
    pub fn new(domain: &str, secret: Secret, endpoint: Endpoint) -> Result<Self> {
        if secret.is_empty() {
            return Err(Error::new(
                ErrorKind::Config,
                format!(
                    "there is no secret for the component {domain:?}; give the one that the server's configuration has for it"
                ),
            ));
        }
        let domain = component_domain(domain)?;
        let stream = ComponentConfig::new(&*domain, secret.clone(), "");
        Ok(Self {
            domain,
            secret,
            endpoint,
            limits: stream.limits,
            connect_timeout: Duration::from_secs(10),
            login_timeout: stream.login_timeout,
            keepalive: stream.keepalive,
            barrier: None,
            outbound: Bounds::default(),
            inbound: Bounds::default(),
            requests: 1024,
        })
    }

    /// The usual settings for a backend; its own secret comes before `secret`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the backend is not one that a connection is made to, or if neither
    /// place has a secret.
    pub fn for_backend(backend: &Backend, secret: Option<Secret>) -> Result<Self> {
        match backend {
            Backend::Component { domain, secret: own, endpoint } => {
                let secret = own.clone().or(secret).unwrap_or_else(|| Secret::new(""));
                Self::new(domain, secret, endpoint.clone())
            }
            Backend::Stub => Err(Error::new(
                ErrorKind::Config,
                "the backend stub: has no server to connect to; name one with component://DOMAIN:SECRET@HOST",
            )),
        }
    }

    pub(super) fn stream(&self, id_prefix: String) -> ComponentConfig {
        ComponentConfig {
            domain: self.domain.clone(),
            secret: self.secret.clone(),
            limits: self.limits,
            login_timeout: self.login_timeout,
            keepalive: self.keepalive.clone(),
            barrier: self.barrier,
            id_prefix,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backend_s_secret_comes_first_and_one_there_must_be() {
        let with = Backend::parse("component://b.example:own@h").unwrap();
        let without = Backend::parse("component://b.example@h").unwrap();
        let other = || Some(Secret::new("other"));
        let secret = |backend, other| {
            ConnectionConfig::for_backend(backend, other).map(|config| config.secret)
        };
        assert_eq!(secret(&with, other()).unwrap(), Secret::new("own"));
        assert_eq!(secret(&without, other()).unwrap(), Secret::new("other"));
        for (backend, secret) in [(&without, None), (&without, Some(Secret::new("")))] {
            let error = ConnectionConfig::for_backend(backend, secret).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains("b.example"));
        }
        assert!(ConnectionConfig::for_backend(&Backend::Stub, other()).is_err());
    }
}
