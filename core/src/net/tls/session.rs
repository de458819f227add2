//! One encrypted connection: bytes in, bytes out. The socket is the driver's, and rustls never sees
//! it.

use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;

use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use super::trust::{Trust, explained};
#[cfg(feature = "client")]
use crate::auth::sasl::ChannelBindings;
use crate::net::socket::Socket;

/// What is encrypted at once: small enough that writing stops soon after the socket is full.
const CHUNK_BYTES: usize = 64 * 1024;

/// One encrypted connection.
pub(in crate::net) struct Session {
    tls: ClientConnection,
    name: String,
}

impl Session {
    /// A session with whoever is at the other end of a connection, who must turn out to be `name`.
    pub(in crate::net) fn new(trust: &Trust, name: &str) -> Result<Self, String> {
        let server = ServerName::try_from(name.to_owned())
            .map_err(|_| format!("{name:?} is no name that a certificate could be for"))?;
        let tls = ClientConnection::new(Arc::clone(&trust.config), server)
            .map_err(|error| format!("TLS cannot be used: {error}"))?;
        Ok(Self { tls, name: name.to_owned() })
    }

    /// Takes what was received, and adds what it holds to `plain`. Whether the other end has closed
    /// its half. The error says why the connection cannot be trusted; there is still something to
    /// write then.
    pub(in crate::net) fn feed(
        &mut self,
        mut raw: &[u8],
        plain: &mut Vec<u8>,
    ) -> Result<bool, String> {
        let mut closed = false;
        while !raw.is_empty() && !closed {
            self.tls.read_tls(&mut raw).map_err(|error| format!("TLS failed: {error}"))?;
            let state =
                self.tls.process_new_packets().map_err(|error| explained(&error, &self.name))?;
            closed = state.peer_has_closed();
            let mut left = state.plaintext_bytes_to_read();
            while left > 0 {
                let start = plain.len();
                plain.resize(start + left, 0);
                let count = self.tls.reader().read(&mut plain[start..]).unwrap_or(0);
                plain.truncate(start + count);
                left = if count == 0 { 0 } else { left - count };
            }
        }
        Ok(closed)
    }

    /// Whether the two ends have not agreed yet.
    pub(in crate::net) fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// Whether there is something that the socket has not taken.
    pub(in crate::net) fn wants_write(&self) -> bool {
        self.tls.wants_write()
    }

    /// Encrypts the beginning of `plain`; returns how much of it.
    pub(in crate::net) fn encrypt(&mut self, plain: &[u8]) -> io::Result<usize> {
        self.tls.writer().write(&plain[..plain.len().min(CHUNK_BYTES)])
    }

    /// Writes what was encrypted.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if the socket does not take all of it now.
    pub(in crate::net) fn flush(&mut self, socket: &Socket) -> io::Result<()> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut Sink(socket)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Nothing more will be encrypted.
    pub(in crate::net) fn close(&mut self) {
        self.tls.send_close_notify();
    }

    /// What a log-in can be bound to (RFC 5801).
    #[cfg(feature = "client")]
    pub(in crate::net) fn bindings(&self) -> ChannelBindings {
        let certificate = self.tls.peer_certificates().and_then(|chain| chain.first());
        let end_point = certificate
            .and_then(|der| crate::trust::certificate::Certificate::read(der))
            .and_then(|certificate| certificate.end_point());
        // RFC 9266 §4.2: before TLS 1.3 it would need the extended master secret.
        let modern = self.tls.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3);
        let export = || {
            let label = b"EXPORTER-Channel-Binding";
            self.tls.export_keying_material(vec![0; 32], label, Some(&[])).ok()
        };
        ChannelBindings { exporter: modern.then(export).flatten(), end_point }
    }
}

/// A socket that is never waited for.
struct Sink<'s>(&'s Socket);

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(pieces)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
