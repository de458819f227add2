//! Whether a connection is encrypted, and which server it may lead to: `sslmode` and `sslrootcert`, as
//! PostgreSQL's own programs understand them (libpq, "SSL Support").

use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use tokio_postgres::config::SslMode;

use super::address::refuse;
use crate::error::Result;

/// What `sslmode` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mode {
    /// In the clear.
    Disable,
    /// Encrypted if the server can.
    Prefer,
    /// Encrypted.
    Require,
    /// And with a server that an authority knows.
    VerifyCa,
    /// And by the name in the address.
    VerifyFull,
}

const MODES: [(&str, Mode); 5] = [
    ("disable", Mode::Disable),
    ("prefer", Mode::Prefer),
    ("require", Mode::Require),
    ("verify-ca", Mode::VerifyCa),
    ("verify-full", Mode::VerifyFull),
];

/// Whose certificates are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Roots {
    /// `system`: those whom the operating system trusts.
    System,
    File(PathBuf),
}

/// What an address asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    mode: Option<Mode>,
    roots: Option<Roots>,
}

/// What is done about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Encryption {
    pub(super) mode: Mode,
    /// Whose certificates are believed; without any, all are.
    #[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "none are shown"))]
    pub(super) roots: Option<Roots>,
}

impl Encryption {
    pub(super) fn ssl_mode(&self) -> SslMode {
        match self.mode {
            Mode::Disable => SslMode::Disable,
            Mode::Prefer => SslMode::Prefer,
            Mode::Require | Mode::VerifyCa | Mode::VerifyFull => SslMode::Require,
        }
    }
}

impl Asked {
    /// Takes what is about encryption out of a URL, and returns the rest.
    pub(super) fn take(url: &str) -> Result<(String, Self)> {
        // What stands before an @ is a user and a password, whatever they look like.
        let start = url.find('@').unwrap_or_default();
        let Some(at) = url[start..].find('?').map(|at| start + at) else {
            return Ok((url.to_owned(), Self::default()));
        };
        let (mut asked, mut others) = (Self::default(), Vec::new());
        for option in url[at + 1..].split('&') {
            match option.split_once('=') {
                Some(("sslmode", mode)) => asked.mode = Some(mode_of(mode)?),
                Some(("sslrootcert", roots)) => asked.roots = roots_of(roots)?,
                Some((name, _)) if name.starts_with("ssl") && name != "sslnegotiation" => {
                    return Err(refuse(format!(
                        "the address of the state store has the option {name}, which is not known here; about TLS there are \
                         sslmode, sslrootcert and sslnegotiation, and the log-in is by user and password"
                    )));
                }
                _ => others.push(option),
            }
        }
        let mut rest = url[..at].to_owned();
        if !others.is_empty() {
            rest += "?";
            rest += &others.join("&");
        }
        Ok((rest, asked))
    }

    /// What that means for a database in `place`, which is `shown` so.
    pub(super) fn decide(self, place: Place, shown: &str) -> Result<Encryption> {
        let clear = |roots| Encryption { mode: Mode::Disable, roots };
        let mode = match (place, self.mode) {
            (Place::Socket, _) | (_, Some(Mode::Disable)) => return Ok(clear(None)),
            (Place::Loopback, None) if self.roots.is_none() => return Ok(clear(None)),
            (Place::Elsewhere, Some(Mode::Prefer)) => {
                return Err(refuse(format!(
                    "the state store {shown} is on another machine, and with sslmode=prefer what it keeps could cross the network \
                     unencrypted; say sslmode=verify-full, or sslmode=disable if the network is private"
                )));
            }
            (_, None) => Mode::VerifyFull,
            (_, Some(mode)) => mode,
        };
        match (mode, self.roots) {
            (mode, Some(Roots::System)) if mode != Mode::VerifyFull => Err(refuse(format!(
                "the state store {shown} has sslrootcert=system with an sslmode that lets anybody whom the system trusts pass for \
                 it; say sslmode=verify-full, or name its own authority with sslrootcert=FILE"
            ))),
            (Mode::VerifyCa, None) => Err(refuse(format!(
                "the state store {shown} has sslmode=verify-ca and names no authority; name it with sslrootcert=FILE, or say \
                 sslmode=verify-full for those of the system"
            ))),
            (Mode::VerifyFull, None) => Ok(Encryption { mode, roots: Some(Roots::System) }),
            // As libpq does: an authority that is named is not named for nothing.
            (Mode::Require, roots @ Some(_)) => Ok(Encryption { mode: Mode::VerifyCa, roots }),
            (mode, roots) => Ok(Encryption { mode, roots }),
        }
    }
}

/// How far away a database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// Behind unix sockets, where there is no TLS.
    Socket,
    Loopback,
    Elsewhere,
}

fn mode_of(text: &str) -> Result<Mode> {
    let found = MODES.iter().find(|(name, _)| *name == text);
    found.map(|(_, mode)| *mode).ok_or_else(|| {
        refuse(format!(
            "sslmode={text} in the address of the state store is none that is known here; say disable, prefer, require, verify-ca \
             or verify-full"
        ))
    })
}

fn roots_of(text: &str) -> Result<Option<Roots>> {
    let path = percent_decode_str(text).decode_utf8().map_err(|_| {
        refuse(format!(
            "sslrootcert={text} in the address of the state store is not UTF-8; name a file"
        ))
    })?;
    Ok(match &*path {
        "" => None,
        "system" => Some(Roots::System),
        path => Some(Roots::File(path.into())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(place: Place, options: &str) -> std::result::Result<(Mode, Option<Roots>), String> {
        let (_, asked) = Asked::take(&format!("postgresql://db/chat?{options}")).unwrap();
        let decided = asked.decide(place, "DB").map_err(|error| error.to_string())?;
        Ok((decided.mode, decided.roots))
    }

    #[test]
    fn options_about_encryption_are_taken_out_of_a_url() {
        let file = |path: &str| Some(Roots::File(path.into()));
        for (url, rest, mode, roots) in [
            ("postgresql:///a", "postgresql:///a", None, None),
            ("postgresql:///a?sslmode=require", "postgresql:///a", Some(Mode::Require), None),
            ("x://u:p?sslmode=no@h/a?b=c", "x://u:p?sslmode=no@h/a?b=c", None, None),
            (
                "x://h/a?host=b&sslmode=verify-ca&user=c&sslrootcert=%2Fe%20f",
                "x://h/a?host=b&user=c",
                Some(Mode::VerifyCa),
                file("/e f"),
            ),
            ("x://h/a?sslrootcert=system", "x://h/a", None, Some(Roots::System)),
            ("x://h/a?sslrootcert=", "x://h/a", None, None),
        ] {
            assert_eq!(
                Asked::take(url).unwrap(),
                (rest.to_owned(), Asked { mode, roots }),
                "{url}"
            );
        }
        for (url, says) in [
            ("x://u:secret@h/a?sslmode=allow", "sslmode=allow"),
            ("x://u:secret@h/a?sslmode=", "verify-full"),
            ("x://u:secret@h/a?sslrootcert=%ff", "sslrootcert=%ff"),
            ("x://u:secret@h/a?sslcert=me.crt", "option sslcert,"),
            ("x://u:secret@h/a?sslpassword=secret", "option sslpassword,"),
        ] {
            let text = Asked::take(url).unwrap_err().to_string();
            assert!(text.contains(says) && !text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn a_mode_means_what_it_does_to_libpq() {
        let file = || Some(Roots::File("ca".into()));
        let system = || Some(Roots::System);
        for (options, mode, roots) in [
            ("sslmode=disable&sslrootcert=ca", Mode::Disable, None),
            ("sslmode=require", Mode::Require, None),
            ("sslmode=require&sslrootcert=ca", Mode::VerifyCa, file()),
            ("sslmode=verify-ca&sslrootcert=ca", Mode::VerifyCa, file()),
            ("sslmode=verify-full&sslrootcert=ca", Mode::VerifyFull, file()),
            ("sslmode=verify-full&sslrootcert=system", Mode::VerifyFull, system()),
            ("sslmode=verify-full", Mode::VerifyFull, system()),
            ("sslrootcert=system", Mode::VerifyFull, system()),
            ("sslrootcert=ca", Mode::VerifyFull, file()),
        ] {
            for place in [Place::Loopback, Place::Elsewhere] {
                assert_eq!(decided(place, options), Ok((mode, roots.clone())), "{options}");
            }
            assert_eq!(decided(Place::Socket, options), Ok((Mode::Disable, None)), "{options}");
        }
        for (options, says) in [
            ("sslmode=verify-ca", "sslrootcert=FILE"),
            ("sslmode=require&sslrootcert=system", "verify-full"),
            ("sslmode=verify-ca&sslrootcert=system", "verify-full"),
        ] {
            let text = decided(Place::Loopback, options).unwrap_err();
            assert!(text.contains(says), "{text}");
        }
    }

    #[test]
    fn nothing_crosses_a_network_in_the_clear_that_was_not_asked_to() {
        assert_eq!(decided(Place::Elsewhere, ""), Ok((Mode::VerifyFull, Some(Roots::System))));
        assert_eq!(decided(Place::Loopback, ""), Ok((Mode::Disable, None)));
        assert_eq!(decided(Place::Loopback, "sslmode=prefer"), Ok((Mode::Prefer, None)));
        let text = decided(Place::Elsewhere, "sslmode=prefer").unwrap_err();
        assert!(text.contains("another machine") && text.contains("sslmode=disable"), "{text}");
    }
}
