use std::time::Duration;

use super::backend::{Backend, Endpoint, component_domain};
use super::tls::Tls;
use crate::auth::Secret;
use crate::error::{Error, ErrorKind, Result};
use crate::jid::Jid;
use crate::ns;
use crate::service::address::{Addresses, DEFAULT_RESOURCE};
use crate::stream::{Barrier, ComponentConfig, Keepalive};
use crate::xml::Limits;
#[cfg(feature = "client")]
use crate::{
    net::tls::TlsMode,
    stream::{ClientConfig, Encryption},
};

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

/// An ordinary account, as one logs in to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its address, with the resourcepart to ask for.
    pub jid: Jid,
    /// Whether the password itself may be sent, encrypted, to a server that has no SCRAM.
    pub plain: bool,
    /// Whether the DNS is asked where the server listens, before the endpoint is tried. Takes the
    /// feature `srv`.
    pub srv: bool,
}

/// What a [`Connection`](super::Connection) needs to know. The secret is never printed.
#[derive(Debug, Clone)]
pub struct ConnectionConfig {
    /// The component's domain, or the account's.
    pub domain: String,
    /// The account; `None` for a component.
    pub account: Option<Account>,
    /// The secret that the component shares with the server, or the account's password.
    pub secret: Secret,
    /// Where the server listens.
    pub endpoint: Endpoint,
    /// How the connection is encrypted, if it is.
    pub tls: Option<Tls>,
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
    /// Whether the server may have other connections of the same component, so that what is for the
    /// component comes on any of them. Set where an app's store is shared.
    pub one_of_several: bool,
    /// How much may wait to be written.
    pub outbound: Bounds,
    /// How many events may wait to be taken; the socket is not read while so many wait.
    pub inbound: Bounds,
    /// How many requests may wait for their answers. Default 1024.
    pub requests: usize,
    /// Whether an account's server is told of a stanza only when
    /// [`Connection::confirm`](super::Connection::confirm) says that it is dealt with. Default off.
    pub confirm: bool,
    /// Whether the connection's own task writes, once for all that was sent before its turn comes:
    /// worth it where many tasks of one thread send at the same time, and not where each send comes
    /// alone. By default every send writes itself.
    pub gather: bool,
}

impl ConnectionConfig {
    /// Sets after how long a silence the server is asked whether it is still there; `None` for never.
    /// How long it may then take to answer stays as it is.
    pub fn set_keepalive(&mut self, idle: Option<Duration>) {
        match (idle, &mut self.keepalive) {
            (Some(idle), Some(keepalive)) => keepalive.idle = idle,
            (Some(_), None) => {}
            (None, keepalive) => *keepalive = None,
        }
    }

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
            account: None,
            secret,
            endpoint,
            tls: None,
            limits: stream.limits,
            connect_timeout: Duration::from_secs(10),
            login_timeout: stream.login_timeout,
            keepalive: stream.keepalive,
            barrier: None,
            one_of_several: false,
            outbound: Bounds::default(),
            inbound: Bounds::default(),
            requests: 1024,
            confirm: false,
            gather: false,
        })
    }

    /// The usual settings for an account.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the password is empty, or this library was built without accounts or
    /// without the TLS that is asked for.
    pub fn of_account(
        account: Account,
        password: Secret,
        endpoint: Endpoint,
        tls: Option<Tls>,
    ) -> Result<Self> {
        let config = |text: String| Err(Error::new(ErrorKind::Config, text));
        if cfg!(not(feature = "client")) {
            return config(format!(
                "{} is an account, and this library was built without them; build it with the feature client",
                account.jid.bare()
            ));
        }
        if password.is_empty() {
            return config(format!(
                "there is no password for the account {}; give the one that its server knows",
                account.jid.bare()
            ));
        }
        let mut it = Self::new(account.jid.domainpart(), password, endpoint)?;
        it.account = Some(account);
        it.with_tls(tls)
    }

    fn with_tls(mut self, tls: Option<Tls>) -> Result<Self> {
        if tls.is_some() && cfg!(not(feature = "tls")) {
            let text = "this library was built without TLS; build it with the feature tls, or connect without it to a server on this machine";
            return Err(Error::new(ErrorKind::Config, text));
        }
        self.tls = tls;
        Ok(self)
    }

    /// Who this is to the server: the component's domain, or the account's bare address.
    pub fn own(&self) -> &str {
        self.account.as_ref().map_or(&self.domain, |account| account.jid.bare())
    }

    /// The namespace of the stream's stanzas.
    pub fn namespace(&self) -> &'static str {
        if self.account.is_some() { ns::CLIENT } else { ns::COMPONENT }
    }

    /// The addresses of the app behind the connection. Without `app_id` it is called as the domain's
    /// first label, or as the account.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if `app_id` cannot be part of an address.
    pub fn addresses(&self, app_id: Option<&str>) -> Result<Addresses> {
        self.addresses_of(app_id, None)
    }

    /// The same for one version of the app, if `version` is not the default one: the component is then
    /// `VERSION.latest.DOMAIN`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] as in [`Addresses::of_own`].
    pub fn addresses_of(&self, app_id: Option<&str>, version: Option<&str>) -> Result<Addresses> {
        match &self.account {
            Some(account) => Addresses::of_own(&account.jid, app_id, version),
            None => Addresses::of_component(app_id, &self.domain, version),
        }
    }

    /// The usual settings for a backend; its own secret comes before `secret`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the backend is not one that a connection is made to, or if neither
    /// place has a secret.
    pub fn for_backend(backend: &Backend, secret: Option<Secret>) -> Result<Self> {
        match backend {
            Backend::Component { domain, secret: own, endpoint, tls } => {
                let secret = own.clone().or(secret).unwrap_or_else(|| Secret::new(""));
                Self::new(domain, secret, endpoint.clone())?.with_tls(tls.clone())
            }
            Backend::Client { account, password, endpoint, srv, tls, plain } => {
                let secret = password.clone().or(secret).unwrap_or_else(|| Secret::new(""));
                let jid = account.with_resource(DEFAULT_RESOURCE)?;
                let account = Account { jid, plain: *plain, srv: *srv };
                Self::of_account(account, secret, endpoint.clone(), tls.clone())
            }
            Backend::Stub => Err(Error::new(
                ErrorKind::Config,
                "the backend stub: has no server to connect to; name one with component://DOMAIN:SECRET@HOST",
            )),
        }
    }

    /// An account's stream. With stream management the server is asked what it has handled anyway; by
    /// pings only if that matters.
    #[cfg(feature = "client")]
    pub(super) fn client_stream(&self, account: &Account, random: [u64; 4]) -> ClientConfig {
        let [a, b, c, prefix] = random;
        let nonce = format!("{a:016x}{b:016x}{c:016x}");
        let usual = ClientConfig::new(
            account.jid.clone(),
            self.secret.clone(),
            nonce,
            format!("{prefix:x}-"),
        );
        ClientConfig {
            encryption: match self.tls.as_ref().map(|tls| tls.mode) {
                Some(TlsMode::StartTls) => Encryption::StartTls,
                Some(TlsMode::Direct) => Encryption::Direct,
                None => Encryption::None,
            },
            plain: account.plain,
            confirm: self.confirm,
            limits: self.limits,
            login_timeout: self.login_timeout,
            keepalive: self.keepalive.clone(),
            barrier: self.barrier.unwrap_or(usual.barrier),
            barrier_by_ping: self.barrier.is_some(),
            ..usual
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
            one_of_several: self.one_of_several,
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
