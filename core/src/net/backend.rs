//! Where stanzas go, as one line of text.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::auth::Secret;
use crate::error::{Error, ErrorKind, Result};
use crate::jid::Jid;

/// The port on which servers listen for components unless told otherwise (XEP-0114 names none;
/// Prosody, ejabberd and Openfire agree on this one).
pub const COMPONENT_PORT: u16 = 5347;

/// What the text of `APPXMPP_BACKEND` names.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// A component of an XMPP server (XEP-0114).
    Component {
        /// The component's domain.
        domain: String,
        /// The shared secret, if the text has one.
        secret: Option<Secret>,
        /// Where the server listens.
        endpoint: Endpoint,
    },
    /// No server: what would be sent is printed.
    Stub,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A TCP port; the host is a name or an address.
    Tcp {
        /// Host name, IPv4 or IPv6 address (without brackets).
        host: String,
        /// Port number.
        port: u16,
    },
    /// A unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

const FORMS: &str = "write component://DOMAIN:SECRET@HOST[:PORT], component+unix://DOMAIN:SECRET@/path/to.sock or stub:";

impl Backend {
    /// Reads one of
    ///
    /// ```text
    /// component://DOMAIN:SECRET@HOST[:PORT]        port 5347 unless given; SECRET may be left out
    /// component+unix://DOMAIN:SECRET@/path/to.sock
    /// stub:
    /// ```
    ///
    /// In SECRET `%XX` is a byte in hexadecimal, as in any URL; `@` and `/` may also stand for
    /// themselves.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] says which part is wrong. The secret is never part of the message.
    pub fn parse(text: &str) -> Result<Self> {
        if text == "stub:" {
            return Ok(Self::Stub);
        }
        if let Some(rest) = text.strip_prefix("component://") {
            let (user, host) = rest.rsplit_once('@').ok_or_else(|| no_user("component://"))?;
            return Self::component(user, tcp(host)?);
        }
        if let Some(rest) = text.strip_prefix("component+unix://") {
            let at = rest.rfind("@/").ok_or_else(|| no_user("component+unix://"))?;
            return Self::component(&rest[..at], Endpoint::Unix(rest[at + 1..].into()));
        }
        // What has no scheme may be a secret that was put into the wrong variable.
        let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
        Err(config(format!("no backend has the scheme {scheme:?}; {FORMS}")))
    }

    fn component(user: &str, endpoint: Endpoint) -> Result<Self> {
        let (domain, secret) = match user.split_once(':') {
            Some((domain, secret)) => (domain, Some(Secret::new(percent_decoded(secret)?))),
            None => (user, None),
        };
        let domain = component_domain(domain)?;
        Ok(Self::Component { domain, secret: secret.filter(|s| !s.is_empty()), endpoint })
    }
}

impl FromStr for Backend {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

/// `text` as a prepared domain.
pub(crate) fn component_domain(text: &str) -> Result<String> {
    match Jid::parse(text) {
        Ok(jid) if jid.localpart().is_none() && jid.resourcepart().is_none() => {
            Ok(jid.domainpart().to_owned())
        }
        Ok(_) => Err(config(format!("{text:?} is an address, not a domain; {FORMS}"))),
        Err(error) => {
            Err(config(format!("{text:?} is not a component's domain; {FORMS}")).with_source(error))
        }
    }
}

fn tcp(text: &str) -> Result<Endpoint> {
    let text = text.strip_suffix('/').unwrap_or(text);
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':').unwrap_or("?"))),
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        None => COMPONENT_PORT,
        Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or_else(|| {
            config(format!("{port:?} is not a port number (1 to 65535); {FORMS}"))
        })?,
    };
    if host.is_empty() || host.contains(|c: char| c == '/' || c.is_whitespace()) {
        return Err(config(format!("{host:?} is not a host name or address; {FORMS}")));
    }
    Ok(Endpoint::Tcp { host: host.to_owned(), port })
}

fn percent_decoded(text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let decoded = match (first, tail) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        bytes.push(decoded.unwrap_or(*first));
        rest = if decoded.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8(bytes).map_err(|_| {
        config("the secret's %XX sequences are not UTF-8; write them as in any URL".to_owned())
    })
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn no_user(scheme: &str) -> Error {
    config(format!("a backend that begins with {scheme} needs DOMAIN@ before the host; {FORMS}"))
}

fn config(message: String) -> Error {
    Error::new(ErrorKind::Config, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (String, Option<String>, String) {
        match Backend::parse(text).expect(text) {
            Backend::Component { domain, secret, endpoint } => {
                (domain, secret.map(|s| s.expose().to_owned()), endpoint.to_string())
            }
            Backend::Stub => panic!("{text} is no stub"),
        }
    }

    fn own(domain: &str, secret: Option<&str>, at: &str) -> (String, Option<String>, String) {
        (domain.to_owned(), secret.map(str::to_owned), at.to_owned())
    }

    #[test]
    fn every_form_is_read() {
        for (text, domain, secret, at) in [
            (
                "component://bot.example:s3cret@localhost",
                "bot.example",
                Some("s3cret"),
                "localhost:5347",
            ),
            ("component://bot.example@localhost:99/", "bot.example", None, "localhost:99"),
            ("component://bot.example:@127.0.0.1:99", "bot.example", None, "127.0.0.1:99"),
            ("component://BOT.Example.:a@[::1]:99", "bot.example", Some("a"), "[::1]:99"),
            ("component://b:a@[fe80::1]", "b", Some("a"), "[fe80::1]:5347"),
            ("component://b:p%40s%3a%25@h", "b", Some("p@s:%"), "h:5347"),
            ("component://b:a@b/c+d==@h", "b", Some("a@b/c+d=="), "h:5347"),
            ("component://b:100%@h", "b", Some("100%"), "h:5347"),
            ("component+unix://b:a@/run/x@y.sock", "b", Some("a"), "/run/x@y.sock"),
            ("component+unix://b@/run/x.sock", "b", None, "/run/x.sock"),
        ] {
            assert_eq!(parts(text), own(domain, secret, at), "{text}");
        }
        assert_eq!(Backend::parse("stub:").unwrap(), Backend::Stub);
    }

    #[test]
    fn what_is_wrong_is_said_and_the_secret_is_not() {
        for (text, part) in [
            ("", "\"\""),
            ("hunter2", "\"\""),
            ("xmpp://b:hunter2@h", "\"xmpp\""),
            ("component://hunter2", "DOMAIN@"),
            ("component+unix://b:hunter2@run/x", "DOMAIN@"),
            ("component://b:hunter2@", "\"\""),
            ("component://b:hunter2@h:0", "\"0\""),
            ("component://b:hunter2@h:99999", "\"99999\""),
            ("component://b:hunter2@h:x", "\"x\""),
            ("component://b:hunter2@[::1]99", "\"?\""),
            ("component://b:hunter2@h/p", "\"h/p\""),
            ("component://b:hunter2%ff@h", "UTF-8"),
            ("component://:hunter2@h", "\"\""),
            ("component://b c:hunter2@h", "\"b c\""),
            ("component://b/r:hunter2@h", "\"b/r\""),
        ] {
            let error = Backend::parse(text).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::Config, "{text}");
            let message = error.to_string();
            assert!(message.contains(part), "{text}: {message}");
            assert!(!message.contains("hunter2"), "{text}: {message}");
        }
    }
}
