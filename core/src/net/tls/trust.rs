//! Which servers' certificates a connection takes.

use std::sync::Arc;

use rustls::{ClientConfig, Error as TlsError};

use super::settings::{Tls, TlsMode};
use crate::error::Result;
use crate::trust::{self, Advice, Authorities, Demands};

const ADVICE: Advice = Advice {
    unknown: "name its authority with ca=FILE, or the certificate itself with pin=SHA256",
    not_spoken: "see that tls=starttls or tls=direct is what this port speaks",
};

/// Settings with the certificates they name, read once for many connections.
#[derive(Clone)]
pub(in crate::net) struct Trust {
    pub(super) config: Arc<ClientConfig>,
}

impl Trust {
    /// Reads the certificates; files are read, so not for a thread that serves connections.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] says which file is at fault.
    pub(in crate::net) fn load(settings: &Tls) -> Result<Self> {
        let authorities = match (&settings.ca, settings.pin) {
            (Some(path), _) => Some(Authorities::of_file("ca", path)?),
            (None, Some(_)) => None,
            (None, None) => Some(Authorities::of_the_system("ca=FILE or pin=SHA256")?),
        };
        let demands = Demands { authorities, pin: settings.pin, ..Demands::default() };
        // XEP-0368 §4: one port may serve several protocols.
        let protocol = (settings.mode == TlsMode::Direct).then_some(&b"xmpp-client"[..]);
        Ok(Self { config: trust::config(demands, protocol)? })
    }
}

/// Why a handshake with `name` failed, with what to do.
pub(super) fn explained(error: &TlsError, name: &str) -> String {
    trust::explained(error, name, &ADVICE)
}
