//! Which servers an `https` webhook may lead to: those that an authority vouches for, by name.

use std::io;
use std::sync::{Arc, OnceLock};

use appxmpp::{Error, ErrorKind, Result};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CertificateError, ClientConfig, ClientConnection, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The authorities that are believed; those of the system are read when they are first needed.
#[derive(Default)]
pub struct Trust {
    authorities: Option<RootCertStore>,
    settings: OnceLock<std::result::Result<Arc<ClientConfig>, String>>,
}

impl Trust {
    /// Believes the authorities whose certificates `pem` holds, and no other.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if it holds none, or one that cannot be read.
    pub fn only(pem: &str) -> Result<Self> {
        let wrong = |why: &dyn std::fmt::Display| {
            Error::new(ErrorKind::Config, format!("{why}; give a file of certificates in PEM form"))
        };
        let mut authorities = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|error| wrong(&error))?;
            authorities.add(certificate).map_err(|error| wrong(&error))?;
        }
        if authorities.is_empty() {
            return Err(wrong(&"it holds no certificate"));
        }
        Ok(Self { authorities: Some(authorities), settings: OnceLock::new() })
    }

    /// Encrypts a connection to `host`, once it has proved to be that.
    ///
    /// # Errors
    /// Why it cannot be trusted, or broke.
    pub(super) async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> std::result::Result<TlsStream<TcpStream>, String> {
        let connector = TlsConnector::from(self.settings()?);
        connector.connect(name(host)?, stream).await.map_err(|error| explained(&error))
    }

    /// The same on this thread, to see whether it would work.
    ///
    /// # Errors
    /// As [`Trust::connect`].
    pub(crate) fn try_connect(
        &self,
        host: &str,
        stream: &mut std::net::TcpStream,
    ) -> std::result::Result<(), String> {
        let mut session = ClientConnection::new(self.settings()?, name(host)?)
            .map_err(|error| format!("TLS cannot be used: {error}"))?;
        while session.is_handshaking() {
            session.complete_io(stream).map_err(|error| explained(&error))?;
        }
        Ok(())
    }

    fn settings(&self) -> std::result::Result<Arc<ClientConfig>, String> {
        self.settings.get_or_init(|| self.build()).clone()
    }

    fn build(&self) -> std::result::Result<Arc<ClientConfig>, String> {
        let authorities = match &self.authorities {
            Some(authorities) => authorities.clone(),
            None => of_the_system()?,
        };
        let mut settings = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be used: {error}"))?
            .with_root_certificates(authorities)
            .with_no_client_auth();
        settings.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(settings))
    }
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trust").field("of_the_system", &self.authorities.is_none()).finish()
    }
}

impl PartialEq for Trust {
    fn eq(&self, other: &Self) -> bool {
        let roots = |trust: &Self| trust.authorities.as_ref().map(|found| found.roots.clone());
        roots(self) == roots(other)
    }
}

fn of_the_system() -> std::result::Result<RootCertStore, String> {
    let mut authorities = RootCertStore::empty();
    let (added, _) =
        authorities.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 {
        return Err(
            "the system has no trusted certificates; install them (ca-certificates), or set \
                    callback_ca"
                .to_owned(),
        );
    }
    Ok(authorities)
}

fn name(host: &str) -> std::result::Result<ServerName<'static>, String> {
    ServerName::try_from(host.to_owned())
        .map_err(|_| format!("{host:?} is no name that a certificate could be for"))
}

/// What is wrong, and what to do about it.
fn explained(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(wrong)) => match wrong {
            CertificateError::UnknownIssuer => {
                "its certificate is from an authority that is not trusted here; if it is your own, \
                 name its file in callback_ca"
                    .to_owned()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is for another name than the URL has".to_owned()
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired".to_owned()
            }
            other => format!("its certificate is not good: {other}"),
        },
        Some(other) => format!("TLS failed: {other}"),
        None => format!("TLS failed: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused() {
        for pem in
            ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
        {
            let error = Trust::only(pem).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{pem}");
            assert!(error.to_string().contains("PEM"), "{error}");
        }
    }
}
