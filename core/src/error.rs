//! What can go wrong, once: every face translates this table and adds nothing to it.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

/// The kinds of failure, by what the caller can do about them.
///
/// The numbers are part of the C interface: they are never renumbered or reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An address is not a JID (RFC 7622), or is empty. Fix the input.
    InvalidJid = 1,
    /// XML is not well-formed, or uses what RFC 6120 §11.1 forbids. Fix the input.
    InvalidXml = 2,
    /// A message has no body. Fix the input.
    NoBody = 3,
    /// A message or presence type is not one of App Engine's. Fix the input.
    InvalidType = 4,
    /// A presence show value is not one of RFC 6121 §4.7.2.1. Fix the input.
    InvalidShow = 5,
    /// A presence status is longer than 1024 characters. Fix the input.
    InvalidStatus = 6,
    /// A body or stanza is over its size limit. Fix the input.
    TooLarge = 7,
    /// The sender is not an address of this app. Use one of its own.
    InvalidSender = 8,
    /// No stream to the server is up. Try later.
    NotConnected = 9,
    /// A bounded queue is full. Try later.
    Backpressure = 10,
    /// No answer came in the time allowed. The caller decides.
    Timeout = 11,
    /// A setting is missing, malformed or contradictory. For the operator.
    Config = 12,
    /// The server refused the credentials. For the operator.
    NotAuthorized = 13,
    /// The connection was closed by this side. Open another.
    Closed = 14,
    /// The state store failed. For the operator.
    Store = 15,
    /// A fault of this library. Please report it.
    Internal = 16,
    /// The arguments of one call are over 1 MiB in all. Fix the input.
    RequestTooLarge = 17,
    /// A quota of the app is used up for the day (UTC). Try tomorrow, or raise it.
    OverQuota = 18,
}

/// A failure: its [`ErrorKind`], a sentence that names the value and the next step, and its cause.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: Cow<'static, str>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure of `kind`; `message` says what happened, to which value, and what to do next.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// The same failure with what caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
