use std::borrow::Cow;
use std::fmt;

use crate::error::{Error, ErrorKind};

/// Why XML was refused, by the stream error condition that says so (RFC 6120 §4.9.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum XmlErrorKind {
    /// Text or an element where the stream allows none (§4.9.3.1).
    BadFormat,
    /// A prefix that is not declared, or a reserved one misused (§4.9.3.2).
    BadNamespacePrefix,
    /// The root is not `<stream:stream/>` in the streams namespace (§4.9.3.10).
    InvalidNamespace,
    /// Not well-formed by XML 1.0 or Namespaces in XML 1.0 (§4.9.3.13).
    NotWellFormed,
    /// Over one of the [`Limits`](super::Limits) (§4.9.3.14).
    PolicyViolation,
    /// A comment, processing instruction, document type or entity of one (§4.9.3.18).
    RestrictedXml,
    /// Not UTF-8 (§4.9.3.22).
    UnsupportedEncoding,
}

/// XML that was refused: why, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XmlError {
    kind: XmlErrorKind,
    offset: usize,
    what: Cow<'static, str>,
}

impl XmlError {
    #[cold]
    pub(crate) fn new(
        kind: XmlErrorKind,
        offset: usize,
        what: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { kind, offset, what: what.into() }
    }

    #[cold]
    pub(crate) fn malformed(offset: usize, what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(XmlErrorKind::NotWellFormed, offset, what)
    }

    /// The same, of a text that begins `by` bytes earlier.
    pub(super) fn moved(mut self, by: usize) -> Self {
        self.offset += by;
        self
    }

    /// Why it was refused.
    pub fn kind(&self) -> XmlErrorKind {
        self.kind
    }

    /// Where, in bytes from the start of the text that was checked.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The stream error condition of RFC 6120 §4.9.3, an element name.
    pub fn condition(&self) -> &'static str {
        match self.kind {
            XmlErrorKind::BadFormat => "bad-format",
            XmlErrorKind::BadNamespacePrefix => "bad-namespace-prefix",
            XmlErrorKind::InvalidNamespace => "invalid-namespace",
            XmlErrorKind::NotWellFormed => "not-well-formed",
            XmlErrorKind::PolicyViolation => "policy-violation",
            XmlErrorKind::RestrictedXml => "restricted-xml",
            XmlErrorKind::UnsupportedEncoding => "unsupported-encoding",
        }
    }
}

impl fmt::Display for XmlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, at byte {})", self.what, self.condition(), self.offset)
    }
}

impl std::error::Error for XmlError {}

impl From<XmlError> for Error {
    fn from(error: XmlError) -> Self {
        let kind = match error.kind {
            XmlErrorKind::PolicyViolation => ErrorKind::TooLarge,
            _ => ErrorKind::InvalidXml,
        };
        Error::new(kind, format!("this XML cannot be sent or read over XMPP: {error}"))
            .with_source(error)
    }
}
