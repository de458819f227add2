//! Which ends of a stream end the connection too.

use std::sync::atomic::Ordering;

use super::config::ConnectionConfig;
use super::shared::Shared;
use crate::error::ErrorKind;
use crate::stream::{Closed, StreamError};

/// Why a stream that ended ends the connection too.
pub(super) struct Refused {
    pub(super) kind: ErrorKind,
    pub(super) text: String,
    /// The first time, rather than if it is the same the second time.
    pub(super) at_once: bool,
}

/// Why `closed` ends the connection too, if it does. What depends on the server's configuration ends
/// only one that has never been up: it worked once, and may be mended again.
pub(super) fn refused(shared: &Shared, closed: &Closed) -> Option<Refused> {
    let config = &shared.config;
    let was_up = shared.counters.connects.load(Ordering::Relaxed) > 0;
    if config.account.is_some() {
        return of_account(config, closed, was_up);
    }
    if let Closed::Insecure(why) = closed {
        return (!was_up).then(|| unusable(config, why));
    }
    (closed.condition() == Some("not-authorized")).then(|| Refused {
        kind: ErrorKind::NotAuthorized,
        text: format!(
            "the server at {} refused the component {} twice ({closed}): either the secret is not the one in the server's configuration, or the server has no component of this name (ejabberd gives the same answer to both); correct it and open the connection again",
            config.endpoint, config.domain
        ),
        at_once: false,
    })
}

fn of_account(config: &ConnectionConfig, closed: &Closed, was_up: bool) -> Option<Refused> {
    match closed {
        Closed::Refused(error) => (error.condition != "temporary-auth-failure").then(|| Refused {
            kind: ErrorKind::NotAuthorized,
            text: format!(
                "the server at {} refused the log-in of {} ({error}); {}",
                config.endpoint,
                config.own(),
                advice(error)
            ),
            at_once: true,
        }),
        Closed::PeerError(error) if error.condition == "host-unknown" && !was_up => {
            let why = format!("the server does not serve {}", config.domain);
            Some(Refused { at_once: false, ..unusable(config, &why) })
        }
        Closed::Unsupported(_) | Closed::Insecure(_) | Closed::Unproven(_) if !was_up => {
            Some(unusable(config, &closed.to_string()))
        }
        _ => None,
    }
}

fn unusable(config: &ConnectionConfig, why: &str) -> Refused {
    let text = format!(
        "{} cannot connect to {}: {why}; then open the connection again",
        config.own(),
        config.endpoint
    );
    Refused { kind: ErrorKind::Config, text, at_once: true }
}

/// What to do about a SASL error (RFC 6120 §6.5).
fn advice(error: &StreamError) -> &'static str {
    match &*error.condition {
        "not-authorized" => {
            "see that the account exists and that the password (APPXMPP_SECRET) is its own"
        }
        "account-disabled" => "have its operator enable the account",
        "credentials-expired" => "set a new password on the server and here",
        "encryption-required" => "leave tls=none out",
        "mechanism-too-weak" => "the server wants a stronger mechanism than SCRAM or PLAIN",
        _ => "correct what it says and open the connection again",
    }
}
