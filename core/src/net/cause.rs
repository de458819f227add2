//! Why there is no stream, in one word: for those who count.

use std::io;

use crate::stream::Closed;

/// Why a stream ended, or an attempt to have one failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// The connection broke off.
    Lost,
    /// The server did not answer in time.
    Timeout,
    /// Nobody listens where the server should.
    Refused,
    /// There is no way there: no address, no route.
    Unreachable,
    /// The server closed the stream without a reason.
    Closed,
    /// Another connection of the same name has the stream.
    Conflict,
    /// The server does not accept the name or the secret.
    NotAuthorized,
    /// The server stops or starts anew.
    ServerShutdown,
    /// The connection could not be encrypted, or the server's certificate is not trusted.
    Tls,
    /// The server broke the protocol.
    Protocol,
    /// The server ended the stream with another error.
    StreamError,
    /// Something else.
    Other,
}

impl Cause {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Timeout => "timeout",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Closed => "closed",
            Self::Conflict => "conflict",
            Self::NotAuthorized => "not_authorized",
            Self::ServerShutdown => "server_shutdown",
            Self::Tls => "tls",
            Self::Protocol => "protocol",
            Self::StreamError => "stream_error",
            Self::Other => "other",
        }
    }

    pub(super) fn of_end(closed: &Closed) -> Self {
        match closed {
            Closed::Lost => Self::Lost,
            Closed::Silence(_) => Self::Timeout,
            Closed::ByPeer => Self::Closed,
            Closed::Violation(_) => Self::Protocol,
            Closed::Insecure(_) => Self::Tls,
            Closed::Refused(_) => Self::NotAuthorized,
            Closed::PeerError(error) => match &*error.condition {
                "conflict" => Self::Conflict,
                "not-authorized" => Self::NotAuthorized,
                "reset" | "system-shutdown" => Self::ServerShutdown,
                "connection-timeout" => Self::Timeout,
                _ => Self::StreamError,
            },
            Closed::ByUs | Closed::Unsupported(_) | Closed::Unproven(_) => Self::Other,
        }
    }

    pub(super) fn of_dialling(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Self::Timeout,
            // A unix socket that is not there is a server that has not started.
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Self::Refused,
            io::ErrorKind::ConnectionReset => Self::Lost,
            _ => Self::Unreachable,
        }
    }
}
