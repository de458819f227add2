//! Which certificates are good, whatever is spoken behind them: XMPP, or a database's protocol.

#[cfg_attr(not(feature = "client"), allow(dead_code, reason = "a log-in is bound to it"))]
pub(crate) mod certificate;

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, OtherError,
    RootCertStore, SignatureScheme,
};
use subtle::ConstantTimeEq;

use crate::error::{Error, ErrorKind, Result};
use crate::net::Pin;
use certificate::Certificate;

/// Those whose certificates are believed.
#[derive(Debug)]
pub(crate) struct Authorities {
    roots: RootCertStore,
    trusted: Vec<CertificateDer<'static>>,
}

impl Authorities {
    /// Those of a file of certificates in PEM form, which is the value of `option`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] says what is wrong with the file.
    pub(crate) fn of_file(option: &str, path: &Path) -> Result<Self> {
        let wrong = |why: &str| {
            let text = format!(
                "{option}={}: {why}; give a file of certificates in PEM form",
                path.display()
            );
            Error::new(ErrorKind::Config, text)
        };
        let certificates = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
            .map_err(|error| wrong(&error.to_string()))?;
        if certificates.is_empty() {
            return Err(wrong("it holds no certificate"));
        }
        Ok(Self::new(certificates))
    }

    /// Those of the operating system; `instead` says what can be named where it has none.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if it has none.
    pub(crate) fn of_the_system(instead: &str) -> Result<Self> {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::debug!(%error, "certificates of the system cannot be read");
        }
        if found.certs.is_empty() {
            let text = format!(
                "the system has no trusted certificates; install them (ca-certificates), or name the server's own with {instead}"
            );
            return Err(Error::new(ErrorKind::Config, text));
        }
        Ok(Self::new(found.certs))
    }

    fn new(trusted: Vec<CertificateDer<'static>>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(trusted.iter().cloned());
        Self { roots, trusted }
    }
}

/// What a server's certificate has to be; nothing of it is asked by default.
#[derive(Debug, Default)]
pub(crate) struct Demands {
    /// One that somebody of these issued, or one of theirs.
    pub(crate) authorities: Option<Authorities>,
    /// And for any name, not only the server's.
    pub(crate) any_name: bool,
    /// The one certificate, or key.
    pub(crate) pin: Option<Pin>,
}

/// Settings for many connections; `protocol` is what is offered by ALPN (RFC 7301).
///
/// # Errors
/// [`ErrorKind::Config`] if TLS cannot be used at all.
pub(crate) fn config(demands: Demands, protocol: Option<&[u8]>) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(Verifier { demands, provider: Arc::clone(&provider) });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(ErrorKind::Config, format!("TLS cannot be used: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols.extend(protocol.map(<[u8]>::to_vec));
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct Verifier {
    demands: Demands,
    provider: Arc<CryptoProvider>,
}

type Verdict = std::result::Result<(), TlsError>;

fn wrong(error: CertificateError) -> Verdict {
    Err(TlsError::InvalidCertificate(error))
}

impl Verifier {
    /// Whether it is the pinned one.
    fn check_pin(&self, certificate: &CertificateDer<'_>) -> Verdict {
        let Some(pin) = self.demands.pin else { return Ok(()) };
        let Some(certificate) = Certificate::read(certificate) else {
            return wrong(CertificateError::BadEncoding);
        };
        let [whole, key] = certificate.fingerprints();
        if bool::from(whole.ct_eq(&pin.0) | key.ct_eq(&pin.0)) {
            return Ok(());
        }
        wrong(CertificateError::Other(OtherError(Arc::new(NotPinned(Pin(whole))))))
    }

    /// Whether somebody who is trusted issued it, for the server's name.
    fn check_issuer(
        &self,
        authorities: &Authorities,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Verdict {
        let parsed = ParsedCertificate::try_from(certificate)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        let roots = &authorities.roots;
        let issued =
            verify_server_cert_signed_by_trust_anchor(&parsed, roots, chain, now, algorithms)
                .and_then(|()| self.check_name(&parsed, name));
        if issued.is_ok() {
            return issued;
        }
        if authorities.trusted.iter().any(|trusted| **trusted == **certificate) {
            self.check_name(&parsed, name)?;
            return check_time(certificate, now);
        }
        match Certificate::read(certificate) {
            Some(read) if read.is_its_own() => wrong(CertificateError::UnknownIssuer),
            _ => issued,
        }
    }

    fn check_name(&self, certificate: &ParsedCertificate<'_>, name: &ServerName<'_>) -> Verdict {
        if self.demands.any_name { Ok(()) } else { verify_server_name(certificate, name) }
    }
}

/// Of a server's own certificate, which nobody issued: it is also its own authority, which as a
/// server's certificate the rules for the Web do not allow, and everybody makes.
fn check_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Verdict {
    match Certificate::read(certificate) {
        None => wrong(CertificateError::BadEncoding),
        Some(read) if !read.is_valid_at(std::time::Duration::from_secs(now.as_secs())) => {
            wrong(CertificateError::Expired)
        }
        Some(_) => Ok(()),
    }
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
        self.check_pin(end_entity)?;
        if let Some(authorities) = &self.demands.authorities {
            self.check_issuer(authorities, end_entity, intermediates, server_name, now)?;
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

/// What to do next, in the words of whoever asked for the connection.
pub(crate) struct Advice {
    /// Where nobody who is trusted issued the certificate.
    pub(crate) unknown: &'static str,
    /// Where the other end seems not to speak TLS.
    pub(crate) not_spoken: &'static str,
}

/// Why a handshake with `name` failed, with what to do.
pub(crate) fn explained(error: &TlsError, name: &str, advice: &Advice) -> String {
    let TlsError::InvalidCertificate(wrong) = error else {
        return format!("TLS with {name} failed: {error}; {}", advice.not_spoken);
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
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            ("was issued by nobody who is trusted here".to_owned(), advice.unknown)
        }
        CertificateError::Other(other) => (
            format!("cannot be trusted: {other}"),
            "correct the pin, unless somebody stands between this machine and the server",
        ),
        other => (format!("cannot be trusted: {other}"), "correct it on the server"),
    };
    format!("the server's certificate {what} (asked for {name}); {next}")
}
