//! Where stanzas go, as one line of text.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use super::tls::{Tls, TlsMode};
use crate::auth::Secret;
use crate::error::{Error, ErrorKind, Result};
use crate::jid::Jid;

/// The port on which servers listen for components unless told otherwise (XEP-0114 names none;
/// Prosody, ejabberd and Openfire agree on this one).
pub const COMPONENT_PORT: u16 = 5347;
/// The port on which servers listen for accounts (RFC 6120 §14.7).
pub const CLIENT_PORT: u16 = 5222;
/// The port on which servers listen for accounts with TLS from the first byte on (XEP-0368).
pub const CLIENT_TLS_PORT: u16 = 5223;

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
        /// How the connection is encrypted, if it is.
        tls: Option<Tls>,
    },
    /// An ordinary account (RFC 6120).
    Client {
        /// The account's bare address.
        account: Jid,
        /// Its password, if the text has one.
        password: Option<Secret>,
        /// Where its server listens, unless the DNS says otherwise.
        endpoint: Endpoint,
        /// Whether the DNS is asked first where the server listens (RFC 6120 §3.2.1): it is if the text
        /// names neither host nor port.
        srv: bool,
        /// How the connection is encrypted; `None` only towards this machine.
        tls: Option<Tls>,
        /// Whether the password itself may be sent, encrypted, to a server that has no SCRAM.
        plain: bool,
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

const FORMS: &str = "write component://DOMAIN:SECRET@HOST[:PORT], component+tls://DOMAIN:SECRET@HOST[:PORT], component+unix://DOMAIN:SECRET@/path/to.sock, client://LOCALPART:PASSWORD@DOMAIN[:PORT] or stub:";

impl Backend {
    /// Reads one of
    ///
    /// ```text
    /// component://DOMAIN:SECRET@HOST[:PORT]        port 5347 unless given; SECRET may be left out
    /// component+unix://DOMAIN:SECRET@/path/to.sock
    /// component+tls://DOMAIN:SECRET@HOST[:PORT][?name=&ca=&pin=]
    /// client://LOCALPART:PASSWORD@DOMAIN[:PORT][?host=&tls=&ca=&pin=&plain=]
    /// stub:
    /// ```
    ///
    /// | option | what it is |
    /// |---|---|
    /// | `host=HOST` | where the account's server listens; otherwise the DNS is asked (with the feature `srv`), then DOMAIN itself |
    /// | `tls=starttls`, `direct`, `none` | when an account's connection is encrypted: after STARTTLS (the default), from the first byte on, or never, which is for a server on this machine only |
    /// | `ca=FILE` | certificates that are trusted instead of the operating system's, see [`Tls::ca`] |
    /// | `pin=SHA256` | the one certificate or key that is good, see [`Tls::pin`] |
    /// | `name=NAME` | whose certificate a component's server shows, unless it is HOST's |
    /// | `plain=yes` | the password itself may be sent, encrypted, to a server without SCRAM |
    ///
    /// In SECRET, PASSWORD and options `%XX` is a byte in hexadecimal, as in any URL; `@` and `/` may
    /// also stand for themselves in a secret, and `@` in an option is always written `%40`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] says which part is wrong. The secret is never part of the message.
    pub fn parse(text: &str) -> Result<Self> {
        if text == "stub:" {
            return Ok(Self::Stub);
        }
        if let Some(rest) = text.strip_prefix("component://") {
            let (user, host) = split(rest, "component://")?;
            return Self::component(user, tcp(host, COMPONENT_PORT)?, None);
        }
        if let Some(rest) = text.strip_prefix("component+tls://") {
            let (user, rest) = split(rest, "component+tls://")?;
            return Self::component_tls(user, rest);
        }
        if let Some(rest) = text.strip_prefix("component+unix://") {
            let at = rest.rfind("@/").ok_or_else(|| no_user("component+unix://"))?;
            return Self::component(&rest[..at], Endpoint::Unix(rest[at + 1..].into()), None);
        }
        if let Some(rest) = text.strip_prefix("client://") {
            let (user, rest) = split(rest, "client://")?;
            return Self::client(user, rest);
        }
        // What has no scheme may be a secret that was put into the wrong variable.
        let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
        Err(config(format!("no backend has the scheme {scheme:?}; {FORMS}")))
    }

    /// The same without its secret: what may be shown.
    #[must_use]
    pub fn without_secret(mut self) -> Self {
        match &mut self {
            Self::Component { secret, .. } => *secret = None,
            Self::Client { password, .. } => *password = None,
            Self::Stub => {}
        }
        self
    }

    /// The secret, if the text has one.
    pub fn secret(&self) -> Option<&Secret> {
        match self {
            Self::Component { secret, .. } => secret.as_ref(),
            Self::Client { password, .. } => password.as_ref(),
            Self::Stub => None,
        }
    }

    fn component_tls(user: &str, rest: &str) -> Result<Self> {
        let (host, options) = Options::split(rest)?;
        let endpoint = tcp(host, COMPONENT_PORT)?;
        let Endpoint::Tcp { host, .. } = &endpoint else { return Err(no_user("component+tls://")) };
        let mut tls = Tls::new(TlsMode::Direct, host.clone());
        for (name, value) in options.0 {
            match &*name {
                "name" => tls.name = value,
                "ca" => tls.ca = Some(value.into()),
                "pin" => tls.pin = Some(value.parse()?),
                other => return Err(no_option(other, "name, ca and pin")),
            }
        }
        Self::component(user, endpoint, Some(tls))
    }

    fn client(user: &str, rest: &str) -> Result<Self> {
        let (domain, options) = Options::split(rest)?;
        let (user, password) = match user.split_once(':') {
            Some((user, password)) => (user, Some(Secret::new(percent_decoded(password)?))),
            None => (user, None),
        };
        let (mut host, mut mode, mut plain) = (None, Some(TlsMode::StartTls), false);
        let mut tls = Tls::new(TlsMode::StartTls, "");
        for (name, value) in options.0 {
            match (&*name, &*value) {
                ("host", _) => host = Some(value),
                ("ca", _) => tls.ca = Some(value.into()),
                ("pin", _) => tls.pin = Some(value.parse()?),
                ("tls", "starttls") => mode = Some(TlsMode::StartTls),
                ("tls", "direct") => mode = Some(TlsMode::Direct),
                ("tls", "none") => mode = None,
                ("plain", "yes") => plain = true,
                ("plain", "no") => plain = false,
                ("tls", other) => {
                    let text = format!("tls={other} is not known; write starttls, direct or none");
                    return Err(config(text));
                }
                ("plain", other) => {
                    return Err(config(format!("plain={other} is not known; write yes or no")));
                }
                (other, _) => return Err(no_option(other, "host, tls, ca, pin and plain")),
            }
        }
        if mode.is_none() && (plain || tls.ca.is_some() || tls.pin.is_some()) {
            let text =
                "tls=none leaves nothing for ca, pin and plain to say; drop one or the other";
            return Err(config(text.to_owned()));
        }
        let port = if mode == Some(TlsMode::Direct) { CLIENT_TLS_PORT } else { CLIENT_PORT };
        let endpoint = tcp(domain, port)?;
        let Endpoint::Tcp { host: domain, port: chosen } = endpoint else {
            return Err(no_user("client://"));
        };
        let localpart = percent_decoded(user)?;
        let account = Jid::from_parts(Some(&localpart), &domain, None).map_err(|error| {
            config(format!("{localpart}@{domain} is no account; {FORMS}")).with_source(error)
        })?;
        account.domainpart().clone_into(&mut tls.name);
        tls.mode = mode.unwrap_or(TlsMode::StartTls);
        let srv = host.is_none() && chosen == port && is_name(account.domainpart());
        let host = host.unwrap_or_else(|| account.domainpart().to_owned());
        let host = host.trim_matches(['[', ']']).to_owned();
        check_host(&host)?;
        let tls = mode.map(|_| tls);
        if tls.is_none() && host.parse::<IpAddr>().is_ok_and(|ip| !ip.is_loopback()) {
            return Err(not_encrypted(&host));
        }
        let endpoint = Endpoint::Tcp { host, port: chosen };
        let password = password.filter(|password| !password.is_empty());
        Ok(Self::Client { account, password, endpoint, srv, tls, plain })
    }

    fn component(user: &str, endpoint: Endpoint, tls: Option<Tls>) -> Result<Self> {
        let (domain, secret) = match user.split_once(':') {
            Some((domain, secret)) => (domain, Some(Secret::new(percent_decoded(secret)?))),
            None => (user, None),
        };
        let domain = component_domain(domain)?;
        Ok(Self::Component { domain, secret: secret.filter(|s| !s.is_empty()), endpoint, tls })
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

/// What stands before the last `@`, and what behind it.
fn split<'t>(text: &'t str, scheme: &str) -> Result<(&'t str, &'t str)> {
    text.rsplit_once('@').ok_or_else(|| no_user(scheme))
}

/// What stands behind the `?` of a backend.
struct Options(Vec<(String, String)>);

impl Options {
    /// Takes them from the end of `text`.
    fn split(text: &str) -> Result<(&str, Self)> {
        let Some((rest, options)) = text.split_once('?') else {
            return Ok((text, Self(Vec::new())));
        };
        let one = |option: &str| {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let value = percent_decoded(value)?;
            if value.is_empty() {
                return Err(config(format!("the option {name:?} has no value; {FORMS}")));
            }
            Ok((name.to_owned(), value))
        };
        let options = options.split('&').filter(|option| !option.is_empty());
        Ok((rest, Self(options.map(one).collect::<Result<_>>()?)))
    }
}

fn no_option(name: &str, known: &str) -> Error {
    config(format!("a backend of this kind has no option {name:?}; there are {known}"))
}

/// Whether the DNS can be asked about it.
fn is_name(domain: &str) -> bool {
    domain != "localhost" && !domain.ends_with(".localhost") && domain.parse::<IpAddr>().is_err()
}

/// That a connection without TLS leads, or would lead, off this machine.
pub(super) fn not_encrypted(host: &str) -> Error {
    config(format!(
        "tls=none is for a server on this machine, and {host} is not: the password's exchange and every message could be read on the way; leave tls=none out"
    ))
}

fn tcp(text: &str, default_port: u16) -> Result<Endpoint> {
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
        None => default_port,
        Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or_else(|| {
            config(format!("{port:?} is not a port number (1 to 65535); {FORMS}"))
        })?,
    };
    check_host(host)?;
    Ok(Endpoint::Tcp { host: host.to_owned(), port })
}

fn check_host(host: &str) -> Result<()> {
    if host.is_empty() || host.contains(|c: char| matches!(c, '/' | '?') || c.is_whitespace()) {
        return Err(config(format!("{host:?} is not a host name or address; {FORMS}")));
    }
    Ok(())
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
    let what = if scheme == "client://" {
        "LOCALPART@ before the domain"
    } else {
        "DOMAIN@ before the host"
    };
    config(format!("a backend that begins with {scheme} needs {what}; {FORMS}"))
}

fn config(message: String) -> Error {
    Error::new(ErrorKind::Config, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> (String, Option<String>, String) {
        match Backend::parse(text).expect(text) {
            Backend::Component { domain, secret, endpoint, tls: None } => {
                (domain, secret.map(|s| s.expose().to_owned()), endpoint.to_string())
            }
            other => panic!("{text} is {other:?}"),
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

    fn account(text: &str) -> (String, Option<String>, String, bool, Option<Tls>, bool) {
        match Backend::parse(text).expect(text) {
            Backend::Client { account, password, endpoint, srv, tls, plain } => {
                let password = password.map(|secret| secret.expose().to_owned());
                (account.into_string(), password, endpoint.to_string(), srv, tls, plain)
            }
            other => panic!("{text} is {other:?}"),
        }
    }

    #[test]
    fn an_account_is_read_with_its_options() {
        let starttls = |name: &str| Some(Tls::new(TlsMode::StartTls, name));
        let (jid, password, at, srv, tls, plain) = account("client://bot:pa%3Ass@Example.com");
        assert_eq!(
            (&*jid, password.as_deref(), &*at),
            ("bot@example.com", Some("pa:ss"), "example.com:5222")
        );
        assert_eq!((srv, tls, plain), (true, starttls("example.com"), false));
        let (_, password, at, srv, tls, _) = account("client://bot@example.com:99");
        assert_eq!(
            (password, &*at, srv, tls),
            (None, "example.com:99", false, starttls("example.com"))
        );
        let (.., at, srv, tls, plain) =
            account("client://b:a@b/c?d@x.example?tls=direct&plain=yes");
        let direct = Tls::new(TlsMode::Direct, "x.example");
        assert_eq!((&*at, srv, tls, plain), ("x.example:5223", true, Some(direct), true));
        let pin = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let (.., at, srv, tls, _) =
            account(&format!("client://b@x.example:99?host=[::1]&ca=/a%40b.pem&pin={pin}"));
        let expected = Tls {
            ca: Some("/a@b.pem".into()),
            pin: Some(pin.parse().unwrap()),
            ..starttls("x.example").unwrap()
        };
        assert_eq!((&*at, srv, tls), ("[::1]:99", false, Some(expected)));
        let (.., at, srv, tls, _) = account("client://b@localhost?tls=none");
        assert_eq!((&*at, srv, tls), ("localhost:5222", false, None));
    }

    #[test]
    fn a_component_may_be_encrypted() {
        let text = "component+tls://bot.example:s@127.0.0.1:99?name=example&ca=/ca.pem";
        let Backend::Component { domain, endpoint, tls: Some(tls), .. } =
            Backend::parse(text).unwrap()
        else {
            panic!("{text}");
        };
        assert_eq!((&*domain, &*endpoint.to_string()), ("bot.example", "127.0.0.1:99"));
        assert_eq!(
            (tls.mode, &*tls.name, tls.ca),
            (TlsMode::Direct, "example", Some("/ca.pem".into()))
        );
    }

    #[test]
    fn options_that_say_nothing_good_are_refused() {
        for (text, part) in [
            ("client://hunter2", "LOCALPART@"),
            ("client://b:hunter2@", "\"\""),
            ("client://b c:hunter2@x.example", "b c@x.example"),
            ("client://:hunter2@x.example", "@x.example is no account"),
            ("client://b:hunter2@x.example?hots=h", "\"hots\""),
            ("client://b:hunter2@x.example?host=", "\"host\""),
            ("client://b:hunter2@x.example?tls=maybe", "tls=maybe"),
            ("client://b:hunter2@x.example?plain=1", "plain=1"),
            ("client://b:hunter2@x.example?pin=abc", "\"abc\""),
            ("client://b:hunter2@x.example?tls=none&plain=yes", "tls=none"),
            ("client://b:hunter2@192.0.2.1?tls=none", "192.0.2.1"),
            ("client://b:hunter2@x.example?tls=none&host=2001:db8::1", "2001:db8::1"),
            ("component+tls://b:hunter2@h?host=x", "\"host\""),
            ("component+tls://hunter2", "DOMAIN@"),
            ("component://b:hunter2@h?ca=x", "\"h?ca=x\""),
        ] {
            let error = Backend::parse(text).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::Config, "{text}");
            let message = error.to_string();
            assert!(message.contains(part), "{text}: {message}");
            assert!(!message.contains("hunter2"), "{text}: {message}");
        }
    }
}
