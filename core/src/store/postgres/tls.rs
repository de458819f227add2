//! Encrypted connections to the database.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Socket;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;

use super::address::refuse;
use super::encryption::{Encryption, Mode, Roots};
use super::link::Untrusted;
use crate::error::Result;
use crate::trust::certificate::Certificate;
use crate::trust::{self, Advice, Authorities, Demands};

const ADVICE: Advice = Advice {
    unknown: "name its authority with sslrootcert=FILE",
    not_spoken: "see what the database's log says about it",
};

/// Encrypts connections, if they are to be.
#[derive(Clone)]
pub(super) struct Connector {
    config: Option<Arc<ClientConfig>>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("encrypts", &self.config.is_some()).finish()
    }
}

/// Reads the certificates that are named.
pub(super) fn load(encryption: &Encryption, shown: &str) -> Result<Connector> {
    if encryption.mode == Mode::Disable {
        return Ok(Connector { config: None });
    }
    let authorities = match &encryption.roots {
        Some(Roots::File(path)) => Authorities::of_file("sslrootcert", path).map(Some),
        Some(Roots::System) => Authorities::of_the_system("sslrootcert=FILE").map(Some),
        None => Ok(None),
    };
    let authorities =
        authorities.map_err(|error| refuse(format!("the state store {shown}: {error}")))?;
    let any_name = encryption.mode != Mode::VerifyFull;
    let demands = Demands { authorities, any_name, pin: None };
    Ok(Connector { config: Some(trust::config(demands, Some(b"postgresql"))?) })
}

/// A connection that is about to be encrypted.
pub(super) struct Handshake {
    config: Option<Arc<ClientConfig>>,
    name: String,
}

type Boxed = Box<dyn std::error::Error + Send + Sync>;

impl MakeTlsConnect<Socket> for Connector {
    type Stream = Encrypted;
    type TlsConnect = Handshake;
    type Error = Boxed;

    fn make_tls_connect(&mut self, name: &str) -> Result<Handshake, Boxed> {
        Ok(Handshake { config: self.config.clone(), name: name.to_owned() })
    }
}

impl TlsConnect<Socket> for Handshake {
    type Stream = Encrypted;
    type Error = Boxed;
    type Future = Pin<Box<dyn Future<Output = Result<Encrypted, Boxed>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move {
            let Self { config, name } = self;
            let config = config.ok_or_else(|| Untrusted("TLS was not asked for".to_owned()))?;
            let server = ServerName::try_from(name.clone()).map_err(|_| {
                Untrusted(format!(
                    "{name:?} is no name that a certificate could be for; correct the host"
                ))
            })?;
            let made = TlsConnector::from(config).connect(server, socket).await;
            made.map(|stream| Encrypted(Box::new(stream))).map_err(|error| explained(error, &name))
        })
    }
}

fn explained(error: io::Error, name: &str) -> Boxed {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(wrong) => Box::new(Untrusted(trust::explained(wrong, name, &ADVICE))),
        None => Box::new(error),
    }
}

/// An encrypted connection.
pub(super) struct Encrypted(Box<tokio_rustls::client::TlsStream<Socket>>);

impl TlsStream for Encrypted {
    /// A log-in by SCRAM is bound to the server's certificate (RFC 5929 §4), so that nobody between
    /// can pass it on, whatever was verified before.
    fn channel_binding(&self) -> ChannelBinding {
        let (_, session) = self.0.get_ref();
        let certificate = session.peer_certificates().and_then(|chain| chain.first());
        let end_point = certificate
            .and_then(|certificate| Certificate::read(certificate))
            .and_then(|certificate| certificate.end_point());
        end_point.map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, bytes)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
