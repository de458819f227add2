//! Why a stream ended.

use std::borrow::Cow;
use std::fmt;

/// A stream error as it goes over the wire (RFC 6120 §4.9): data, not a failure of this library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamError {
    /// The defined condition (RFC 6120 §4.9.3), or whatever the peer wrote in its place.
    pub condition: Cow<'static, str>,
    /// What the peer says about it, for people.
    pub text: Option<String>,
}

impl StreamError {
    /// An error with this condition and no text.
    pub fn new(condition: impl Into<Cow<'static, str>>) -> Self {
        Self { condition: condition.into(), text: None }
    }

    /// The same error with a text for people.
    #[must_use]
    pub fn with_text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => write!(f, "{} ({text})", self.condition),
            None => f.write_str(&self.condition),
        }
    }
}

/// How a stream came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Closed {
    /// This side closed it, and the peer has closed its half too or was given the time to.
    ByUs,
    /// The peer closed it politely.
    ByPeer,
    /// The peer ended it with an error.
    PeerError(StreamError),
    /// This side ended it because of what the peer wrote, and told the peer so.
    Violation(StreamError),
    /// The server refused the log-in, with a SASL error condition (RFC 6120 §6.5).
    Refused(StreamError),
    /// The server does not offer what this side insists on; the text says what.
    Unsupported(String),
    /// The server did not prove that it knows the password, or asks for what one that does would not;
    /// the text says which.
    Unproven(String),
    /// The connection could not be encrypted; the text says why.
    Insecure(String),
    /// The peer said nothing for too long; the text says what was waited for.
    Silence(&'static str),
    /// The connection broke off without a word.
    Lost,
}

impl Closed {
    /// The peer's error condition, if it gave one.
    pub fn condition(&self) -> Option<&str> {
        match self {
            Self::PeerError(error) | Self::Refused(error) => Some(&error.condition),
            _ => None,
        }
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByUs => f.write_str("closed by this side"),
            Self::ByPeer => f.write_str("closed by the server"),
            Self::PeerError(error) => write!(f, "the server ended the stream: {error}"),
            Self::Violation(error) => write!(f, "the server broke the protocol: {error}"),
            Self::Refused(error) => write!(f, "the server refused the log-in: {error}"),
            Self::Unsupported(what) => f.write_str(what),
            Self::Unproven(why) => write!(f, "the server is not to be trusted: {why}"),
            Self::Insecure(why) => f.write_str(why),
            Self::Silence(what) => write!(f, "the server did not answer in time: {what}"),
            Self::Lost => f.write_str("the connection was lost"),
        }
    }
}
