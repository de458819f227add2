//! Which certificates are good.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, OtherError,
    RootCertStore, SignatureScheme,
};
use subtle::ConstantTimeEq;

use super::certificate::Certificate;
use super::settings::{Pin, Tls, TlsMode};
use crate::error::{Error, ErrorKind, Result};

/// Settings with the certificates they name, read once for many connections.
#[derive(Clone)]
pub(in crate::net) struct Trust {
    pub(super) config: Arc<ClientConfig>,
}

impl Trust {
    /// Reads the certificates; files are read, so not for a thread that serves connections.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] says which file is at fault.
    pub(in crate::net) fn load(settings: &Tls) -> Result<Self> {
        let provider = Arc::new(ring::default_provider());
        let trusted = match (&settings.ca, settings.pin) {
            (Some(path), _) => {
                let wrong = |why: String| {
                    let text = format!(
                        "ca={}: {why}; give a file of certificates in PEM form",
                        path.display()
                    );
                    Error::new(ErrorKind::Config, text)
                };
                let certificates = CertificateDer::pem_file_iter(path)
                    .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
                    .map_err(|error| wrong(error.to_string()))?;
                if certificates.is_empty() {
                    return Err(wrong("it holds no certificate".to_owned()));
                }
                Some(certificates)
            }
            (None, Some(_)) => None,
            (None, None) => Some(of_the_system()?),
        };
        let by_name = trusted.map(|trusted| ByName::new(trusted, &provider)).transpose()?;
        let verifier =
            Arc::new(Verifier { by_name, pin: settings.pin, provider: Arc::clone(&provider) });
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error))?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        if settings.mode == TlsMode::Direct {
            // XEP-0368 §4: one port may serve several protocols.
            config.alpn_protocols = vec![b"xmpp-client".to_vec()];
        }
        Ok(Self { config: Arc::new(config) })
    }
}

fn of_the_system() -> Result<Vec<CertificateDer<'static>>> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::debug!(%error, "certificates of the system cannot be read");
    }
    if found.certs.is_empty() {
        let text = "the system has no trusted certificates; install them (ca-certificates), or name the server's own with ca=FILE or pin=SHA256";
        return Err(Error::new(ErrorKind::Config, text));
    }
    Ok(found.certs)
}

fn unusable(error: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Config, format!("TLS cannot be used: {error}"))
}

/// A certificate is good if somebody who is trusted issued it for the server's name.
#[derive(Debug)]
struct ByName {
    issued: Option<Arc<WebPkiServerVerifier>>,
    trusted: Vec<CertificateDer<'static>>,
}

impl ByName {
    fn new(trusted: Vec<CertificateDer<'static>>, provider: &Arc<CryptoProvider>) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(trusted.iter().cloned());
        let issued = if roots.is_empty() {
            None
        } else {
            let provider = Arc::clone(provider);
            let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
            Some(builder.build().map_err(|error| unusable(&error))?)
        };
        Ok(Self { issued, trusted })
    }

    fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> std::result::Result<(), TlsError> {
        let unknown = || Err(TlsError::InvalidCertificate(CertificateError::UnknownIssuer));
        let found = match &self.issued {
            Some(issued) => issued
                .verify_server_cert(certificate, chain, name, &[], now)
                .map(|_: ServerCertVerified| ()),
            None => unknown(),
        };
        if found.is_ok() {
            return found;
        }
        if self.trusted.iter().any(|trusted| **trusted == **certificate) {
            return itself(certificate, name, now);
        }
        match Certificate::read(certificate) {
            Some(read) if read.is_its_own() => unknown(),
            _ => found,
        }
    }
}

/// A server's own certificate, which nobody issued: it is also its own authority, which as a server's
/// certificate the rules for the Web do not allow, and everybody makes.
fn itself(
    certificate: &CertificateDer<'_>,
    name: &ServerName<'_>,
    now: UnixTime,
) -> std::result::Result<(), TlsError> {
    let wrong = |error| Err(TlsError::InvalidCertificate(error));
    verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
    match Certificate::read(certificate) {
        None => wrong(CertificateError::BadEncoding),
        Some(read) if !read.is_valid_at(std::time::Duration::from_secs(now.as_secs())) => {
            wrong(CertificateError::Expired)
        }
        Some(_) => Ok(()),
    }
}

#[derive(Debug)]
struct Verifier {
    by_name: Option<ByName>,
    pin: Option<Pin>,
    provider: Arc<CryptoProvider>,
}

/// The server showed a certificate that is not the pinned one, with this SHA-256.
#[derive(Debug)]
struct NotPinned(Pin);

impl std::fmt::Display for NotPinned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "it is not the pinned one, its SHA-256 is {}", self.0)
    }
}

impl std::error::Error for NotPinned {}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, TlsError> {
        if let Some(pin) = self.pin {
            let Some(certificate) = Certificate::read(end_entity) else {
                return Err(TlsError::InvalidCertificate(CertificateError::BadEncoding));
            };
            let [whole, key] = certificate.fingerprints();
            if !bool::from(whole.ct_eq(&pin.0) | key.ct_eq(&pin.0)) {
                let other = OtherError(Arc::new(NotPinned(Pin(whole))));
                return Err(TlsError::InvalidCertificate(CertificateError::Other(other)));
            }
        }
        if let Some(by_name) = &self.by_name {
            by_name.verify(end_entity, intermediates, server_name, now)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Why a handshake with `name` failed, with what to do.
pub(super) fn explained(error: &TlsError, name: &str) -> String {
    let TlsError::InvalidCertificate(wrong) = error else {
        return format!(
            "TLS with {name} failed: {error}; see that tls=starttls or tls=direct is what this port speaks"
        );
    };
    let (what, next) = match wrong {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            ("has expired".to_owned(), "renew it on the server")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            ("is not valid yet".to_owned(), "see whether this machine's clock is right")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            (format!("is not for {name}"), "give the server a certificate for that name")
        }
        // A bad signature: of somebody who is called like one who is trusted.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => (
            "was issued by nobody who is trusted here".to_owned(),
            "name its authority with ca=FILE, or the certificate itself with pin=SHA256",
        ),
        CertificateError::Other(other) => (
            format!("cannot be trusted: {other}"),
            "correct the pin, unless somebody stands between this machine and the server",
        ),
        other => (format!("cannot be trusted: {other}"), "correct it on the server"),
    };
    format!("the server's certificate {what} (asked for {name}); {next}")
}
