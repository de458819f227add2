//! From nothing to a connection: certificates, where the server listens, a socket, and the stream for
//! it.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};
#[cfg(feature = "srv")]
use tracing::debug;

use super::backend::Endpoint;
#[cfg(feature = "client")]
use super::backend::not_encrypted;
use super::cause::Cause;
use super::config::ConnectionConfig;
use super::refusal::Refused;
use super::role::Role;
use super::shared::{Shared, State};
use super::socket::Socket;
use super::stats::random;
use super::tls::{Session, TlsMode, Trust};
use crate::error::ErrorKind;
#[cfg(feature = "client")]
use crate::stream::ClientStream;
use crate::stream::ComponentStream;

/// How long the app has to confirm what it was given before a session is resumed.
const SETTLE: Duration = Duration::from_secs(10);

/// How one attempt ended.
pub(super) struct Ended {
    pub(super) reason: String,
    pub(super) cause: Cause,
    /// How long the stream was up.
    pub(super) up: Duration,
    pub(super) refused: Option<Refused>,
    /// Another connection of the same component has the stream.
    pub(super) conflict: bool,
}

/// A socket to the server, and what encrypts it from the first byte on.
pub(super) async fn connect(
    shared: &Shared,
    trust: &mut Option<Trust>,
) -> Result<(Socket, Option<Session>), Ended> {
    let config = &shared.config;
    settled(shared).await;
    if let (None, Some(tls)) = (&trust, &config.tls) {
        let tls = tls.clone();
        let loaded = tokio::task::spawn_blocking(move || Trust::load(&tls)).await;
        *trust = Some(match loaded {
            Ok(Ok(trust)) => trust,
            Ok(Err(error)) => return Err(cannot(ErrorKind::Config, error.to_string())),
            Err(error) => {
                let why = format!("certificates were not read: {error}");
                return Err(never_up(Cause::Tls, why));
            }
        });
    }
    let socket = match dial(config).await {
        Ok(socket) => socket,
        Err((cause, why)) => return Err(never_up(cause, why)),
    };
    #[cfg(feature = "client")]
    if config.account.is_some() && config.tls.is_none() && !socket.is_local() {
        let error = not_encrypted(&config.endpoint.to_string());
        return Err(cannot(ErrorKind::Config, error.to_string()));
    }
    let session = match (trust, &config.tls) {
        (Some(trust), Some(tls)) if tls.mode == TlsMode::Direct => {
            let session = Session::new(trust, &tls.name);
            Some(session.map_err(|why| cannot(ErrorKind::Config, why))?)
        }
        _ => None,
    };
    Ok((socket, session))
}

async fn dial(config: &ConnectionConfig) -> Result<Socket, (Cause, String)> {
    let mut why = (Cause::Unreachable, String::new());
    for endpoint in endpoints(config).await {
        match Socket::dial(&endpoint, config.connect_timeout).await {
            Ok(socket) => return Ok(socket),
            Err(error) => {
                let text = format!("cannot connect to {endpoint}: {error}");
                why = (Cause::of_dialling(&error), text);
            }
        }
    }
    Err(why)
}

/// Where the server may listen, in the order to try it.
pub async fn endpoints(config: &ConnectionConfig) -> Vec<Endpoint> {
    #[cfg(feature = "srv")]
    if config.account.as_ref().is_some_and(|account| account.srv) {
        let direct = config.tls.as_ref().is_some_and(|tls| tls.mode == TlsMode::Direct);
        let look_up = super::srv::look_up(&config.domain, direct, random());
        match tokio::time::timeout(config.connect_timeout, look_up).await {
            Ok(found) if !found.is_empty() => return found,
            Ok(_) => debug!(domain = config.domain, "the DNS names no server for accounts"),
            Err(_) => debug!(domain = config.domain, "the DNS does not answer"),
        }
    }
    vec![config.endpoint.clone()]
}

/// Before a session is resumed the app has a while to confirm what it was given: what is not, comes
/// again.
async fn settled(shared: &Shared) {
    let until = Instant::now() + SETTLE;
    while shared.config.confirm && !shared.lock().session.is_settled() {
        if timeout_at(until, shared.wake.notified()).await.is_err() {
            return;
        }
    }
}

/// The stream for a new connection; an account's goes on with what the one before left.
pub(super) fn role(shared: &Shared, state: &mut State) -> Role {
    let (config, now) = (&shared.config, shared.now());
    #[cfg(feature = "client")]
    if let Some(account) = &config.account {
        let random = [random(), random(), random(), random()];
        let session = &mut state.session;
        let mut settings = config.client_stream(account, random);
        settings.salted.clone_from(&session.salted);
        return Role::client(ClientStream::new(settings, session.resumption.take(), now));
    }
    let _ = state;
    Role::Component(Box::new(ComponentStream::new(config.stream(format!("{:x}-", random())), now)))
}

pub(super) fn never_up(cause: Cause, reason: String) -> Ended {
    Ended { reason, cause, up: Duration::ZERO, refused: None, conflict: false }
}

/// The connection cannot be encrypted as it is configured: it would be the same the next time.
pub(super) fn cannot(kind: ErrorKind, text: String) -> Ended {
    let refused = Some(Refused { kind, text: text.clone(), at_once: true });
    Ended { refused, ..never_up(Cause::Tls, text) }
}
