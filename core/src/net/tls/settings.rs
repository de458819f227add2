//! How a connection is to be encrypted, as text says it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

/// From when on a connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    /// After the server's consent to STARTTLS (RFC 6120 §5), which it must give.
    StartTls,
    /// From the first byte on (XEP-0368).
    Direct,
}

/// How a connection is encrypted, and which certificates are good.
///
/// Without `ca` and `pin` the server's certificate must be issued, for `name`, by an authority that
/// the operating system trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// From when on.
    pub mode: TlsMode,
    /// Whose certificate the server must show: a domain or an IP address.
    pub name: String,
    /// A file of certificates (PEM) that are trusted instead of the operating system's. A server's
    /// own certificate may be among them, if nobody issued it.
    pub ca: Option<PathBuf>,
    /// The one certificate, or key, that is good. Without `ca` nothing else about it counts: neither
    /// who issued it, nor for which name, nor when it ends.
    pub pin: Option<Pin>,
}

impl Tls {
    /// The operating system's authorities, for `name`.
    pub fn new(mode: TlsMode, name: impl Into<String>) -> Self {
        Self { mode, name: name.into(), ca: None, pin: None }
    }
}

/// The SHA-256 of a certificate, or of its public key (`SubjectPublicKeyInfo`, as in RFC 7469): 64
/// hexadecimal digits, with or without colons between them. What is meant is not said: either fits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pin(pub [u8; 32]);

impl FromStr for Pin {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        hexadecimal(text).map(Self).ok_or_else(|| {
            Error::new(
                ErrorKind::Config,
                format!(
                    "the pin {text:?} is not a SHA-256; give the 64 hexadecimal digits that `openssl x509 -noout -fingerprint -sha256 -in CERTIFICATE` prints"
                ),
            )
        })
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({self})")
    }
}

fn hexadecimal(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| *c != ':')
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    bytes.try_into().ok().filter(|_| digits.len() == 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_read_in_every_form() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let colons: Vec<_> = (0..32).map(|i| empty[2 * i..2 * i + 2].to_uppercase()).collect();
        let forms = [empty.to_owned(), colons.join(":")];
        for text in forms {
            assert_eq!(text.parse::<Pin>().expect(&text).to_string(), empty);
        }
        for bad in ["", "e3b0", &empty[1..], "zz", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="] {
            let error = bad.parse::<Pin>().expect_err(bad);
            assert!(error.to_string().contains("64 hexadecimal"), "{error}");
        }
    }
}
