//! Paths below `/rest`: `{kind}/{type}/{to}` for POST, `{query}/{to}` for GET.

use std::borrow::Cow;

use appxmpp::stanza::StanzaKind;
use percent_encoding::percent_decode_str;

use super::error::RestError;

/// The three stanza kinds, by their element names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `message`
    Message,
    /// `presence`
    Presence,
    /// `iq`
    Iq,
}

impl Kind {
    /// What core calls it.
    pub fn stanza(self) -> StanzaKind {
        match self {
            Self::Message => StanzaKind::Message,
            Self::Presence => StanzaKind::Presence,
            Self::Iq => StanzaKind::Iq,
        }
    }

    /// The element name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Presence => "presence",
            Self::Iq => "iq",
        }
    }

    /// The kind an element name stands for.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Message, Self::Presence, Self::Iq].into_iter().find(|kind| kind.name() == name)
    }
}

/// `{kind}/{type}/{to}`: what the path of a POST says about the stanza in its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostPath<'p> {
    /// The stanza's kind.
    pub kind: Kind,
    /// The stanza's type, or for an iq the query's name.
    pub type_: &'p str,
    /// The destination, percent-decoded; `None` stands for the own address.
    pub to: Option<Cow<'p, str>>,
}

/// `{query}/{to}`: what the path of a GET asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetPath<'p> {
    /// A JSON field of an iq: `ping`, `version`, `disco`, …
    pub query: &'p str,
    /// The destination, percent-decoded; `None` stands for the own address.
    pub to: Option<Cow<'p, str>>,
}

/// Reads the part of a POST's path behind `/rest/`.
///
/// # Errors
/// [`RestError::UNPARSABLE`] if it is not of that form.
pub fn post(path: &str) -> Result<PostPath<'_>, RestError> {
    let (kind, rest) = path.split_once('/').ok_or(RestError::UNPARSABLE)?;
    let kind = Kind::from_name(kind).ok_or(RestError::UNPARSABLE)?;
    let (type_, to) = rest.split_once('/').ok_or(RestError::UNPARSABLE)?;
    Ok(PostPath { kind, type_: word(type_)?, to: destination(to)? })
}

/// Reads the part of a GET's path behind `/rest/`.
///
/// # Errors
/// [`RestError::UNPARSABLE`] if it is not of that form.
pub fn get(path: &str) -> Result<GetPath<'_>, RestError> {
    let (query, to) = path.split_once('/').ok_or(RestError::UNPARSABLE)?;
    Ok(GetPath { query: word(query)?, to: destination(to)? })
}

fn word(text: &str) -> Result<&str, RestError> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let ok = !text.is_empty() && text.bytes().all(fits);
    ok.then_some(text).ok_or(RestError::UNPARSABLE)
}

fn destination(text: &str) -> Result<Option<Cow<'_, str>>, RestError> {
    if text.is_empty() {
        return Ok(None);
    }
    percent_decode_str(text).decode_utf8().map(Some).map_err(|_| RestError::UNPARSABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_post_path_names_kind_type_and_destination() {
        let path = post("message/chat/bob%40localhost%2fphone").unwrap();
        assert_eq!((path.kind, path.type_), (Kind::Message, "chat"));
        assert_eq!(path.to.as_deref(), Some("bob@localhost/phone"));
        assert_eq!(post("iq/ping/bob@localhost/a/b").unwrap().to.unwrap(), "bob@localhost/a/b");
        assert_eq!(post("presence/available/").unwrap().to, None);
    }

    #[test]
    fn anything_else_is_unparsable() {
        for path in ["", "message", "message/chat", "mfoo/chat/x", "foo/chat/x", "message/a-b/x"] {
            assert_eq!(post(path).unwrap_err(), RestError::UNPARSABLE, "{path}");
        }
        assert_eq!(post("message/chat/%ff").unwrap_err(), RestError::UNPARSABLE);
        for path in ["", "ping", "/x"] {
            assert_eq!(get(path).unwrap_err(), RestError::UNPARSABLE, "{path}");
        }
    }

    #[test]
    fn a_get_path_names_query_and_destination() {
        let path = get("upload_request/up.example").unwrap();
        assert_eq!((path.query, path.to.as_deref()), ("upload_request", Some("up.example")));
        assert_eq!(get("ping/").unwrap().to, None);
    }
}
