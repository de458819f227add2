//! Addresses: a JID is `localpart@domainpart/resourcepart`, of which only the domainpart is always
//! there (RFC 7622 §3).
//!
//! [`Jid`] is for what callers give and is strict. [`WireJid`] is for what a server gives: it keeps
//! the text as written, so that no stanza is lost for an address that this side would prepare
//! differently (an emoji in a resourcepart, say).

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

/// The longest localpart, domainpart or resourcepart, in bytes of UTF-8 (RFC 7622 §3.1).
pub const MAX_PART_BYTES: usize = 1023;

/// A valid, prepared address. Two of them are equal if and only if they name the same entity.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Jid(jid::Jid);

impl Jid {
    /// Parses and prepares `text`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidJid`] names the address and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self> {
        let invalid = |source: jid::Error| {
            Error::new(
                ErrorKind::InvalidJid,
                format!(
                    "{text:?} is not a JID ({source}); write localpart@domainpart/resourcepart"
                ),
            )
            .with_source(source)
        };
        // The jid crate keeps a domainpart's trailing dot, which RFC 7622 §3.2 strips before
        // anything else is compared.
        jid::Jid::new(&without_trailing_dot(text)).map(Self).map_err(invalid)
    }

    /// Builds an address of its parts, then parses and prepares it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidJid`], also for a part that holds the separator that would end it.
    pub fn from_parts(local: Option<&str>, domain: &str, resource: Option<&str>) -> Result<Self> {
        let mut text = String::new();
        if let Some(local) = local {
            text.extend([local, "@"]);
        }
        text.push_str(domain);
        if let Some(resource) = resource {
            text.extend(["/", resource]);
        }
        let jid = Self::parse(&text)?;
        if (jid.localpart().is_some(), jid.resourcepart().is_some())
            != (local.is_some(), resource.is_some())
            || local.is_some_and(|local| local.contains(['@', '/']))
            || domain.contains(['@', '/'])
        {
            let message =
                format!("{text:?} does not have the parts it was made of; check for @ and /");
            return Err(Error::new(ErrorKind::InvalidJid, message));
        }
        Ok(jid)
    }

    /// The part before `@`: an account, a room, or one of a component's own names.
    pub fn localpart(&self) -> Option<&str> {
        self.0.node().map(jid::NodeRef::as_str)
    }

    /// The server's or component's domain name.
    pub fn domainpart(&self) -> &str {
        self.0.domain().as_str()
    }

    /// The part after the first `/`: one connection of an account.
    pub fn resourcepart(&self) -> Option<&str> {
        self.0.resource().map(jid::ResourceRef::as_str)
    }

    /// The address without its resourcepart.
    #[must_use]
    pub fn to_bare(&self) -> Self {
        Self(self.0.to_bare().into())
    }

    /// The same address with `resource` as its resourcepart.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidJid`] if `resource` is not a resourcepart.
    pub fn with_resource(&self, resource: &str) -> Result<Self> {
        Self::parse(&format!("{}/{resource}", self.to_bare()))
    }

    /// The address in its prepared form.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

fn without_trailing_dot(text: &str) -> std::borrow::Cow<'_, str> {
    let end = text.find('/').unwrap_or(text.len());
    match text[..end].strip_suffix('.') {
        Some(bare) => format!("{bare}{}", &text[end..]).into(),
        None => text.into(),
    }
}

impl FromStr for Jid {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl fmt::Display for Jid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Jid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Jid({:?})", self.as_str())
    }
}

/// An address as a server wrote it. It is equal to another when both prepare to the same [`Jid`],
/// or, where preparation fails, when their text is the same.
#[derive(Clone)]
pub struct WireJid {
    text: String,
    prepared: Option<Jid>,
}

impl WireJid {
    /// Takes `text` as it is; nothing is refused.
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        let prepared = Jid::parse(&text).ok();
        Self { text, prepared }
    }

    /// The text as the server wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The prepared address, if preparation accepts it.
    pub fn prepared(&self) -> Option<&Jid> {
        self.prepared.as_ref()
    }

    /// The part before `@`, prepared where possible.
    pub fn localpart(&self) -> Option<&str> {
        match &self.prepared {
            Some(jid) => jid.localpart(),
            None => split(&self.text).0,
        }
    }

    /// The domainpart, prepared where possible.
    pub fn domainpart(&self) -> &str {
        match &self.prepared {
            Some(jid) => jid.domainpart(),
            None => split(&self.text).1,
        }
    }

    /// The part after the first `/`, as written.
    pub fn resourcepart(&self) -> Option<&str> {
        split(&self.text).2
    }

    /// The address without its resourcepart, for use as a key: prepared where possible.
    pub fn bare_key(&self) -> String {
        if let Some(jid) = &self.prepared {
            return jid.to_bare().as_str().to_owned();
        }
        let bare = self.text.split('/').next().unwrap_or_default();
        // Only the resourcepart may be what preparation rejects.
        Jid::parse(bare).map_or_else(|_| bare.to_owned(), |jid| jid.as_str().to_owned())
    }
}

/// Splits at the first `/`, then at the first `@` before it (RFC 7622 §3.1).
fn split(text: &str) -> (Option<&str>, &str, Option<&str>) {
    let (bare, resource) = match text.split_once('/') {
        Some((bare, resource)) => (bare, Some(resource)),
        None => (text, None),
    };
    match bare.split_once('@') {
        Some((local, domain)) => (Some(local), domain, resource),
        None => (None, bare, resource),
    }
}

impl PartialEq for WireJid {
    fn eq(&self, other: &Self) -> bool {
        match (&self.prepared, &other.prepared) {
            (Some(a), Some(b)) => a == b,
            (None, None) => self.text == other.text,
            _ => false,
        }
    }
}

impl Eq for WireJid {}

impl Hash for WireJid {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match &self.prepared {
            Some(jid) => jid.hash(state),
            None => self.text.hash(state),
        }
    }
}

impl fmt::Display for WireJid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for WireJid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WireJid({:?})", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts(text: &str) -> (Option<String>, String, Option<String>) {
        let jid = Jid::parse(text).unwrap();
        let own = |part: Option<&str>| part.map(str::to_owned);
        (own(jid.localpart()), jid.domainpart().to_owned(), own(jid.resourcepart()))
    }

    #[test]
    fn a_trailing_dot_of_the_domain_is_no_part_of_it() {
        let expected = (Some("user".into()), "example.com".into(), Some("res".into()));
        assert_eq!(parts("user@example.com./res"), expected);
        assert_eq!(
            Jid::parse("user@example.com.").unwrap(),
            Jid::parse("user@example.com").unwrap()
        );
    }

    #[test]
    fn a_dot_or_slash_in_the_resource_stays() {
        assert_eq!(parts("a@b/c./d@e.").2.as_deref(), Some("c./d@e."));
    }

    #[test]
    fn what_is_no_address_is_refused_with_its_text() {
        for text in ["", "@b", "a@", "a@b/", "/r", "a b@c", "a@b@c", ".", "a@.", "a@b\u{0}"] {
            let error = Jid::parse(text).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::InvalidJid);
            assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn an_emoji_resource_from_the_wire_is_kept() {
        let jid = WireJid::new("Room@Conf.Example/Nick \u{1f389}");
        assert!(jid.prepared().is_none());
        assert_eq!(jid.as_str(), "Room@Conf.Example/Nick \u{1f389}");
        assert_eq!(jid.bare_key(), "room@conf.example");
        assert_eq!(jid.resourcepart(), Some("Nick \u{1f389}"));
        assert_eq!(jid, WireJid::new("Room@Conf.Example/Nick \u{1f389}"));
    }

    proptest! {
        #[test]
        fn parse_print_parse_is_the_identity(text in "\\PC{0,12}@?[a-zA-Z0-9.\\-ßéü]{0,12}\\.?(/\\PC{0,12})?") {
            if let Ok(jid) = Jid::parse(&text) {
                let again = Jid::parse(jid.as_str()).expect("a printed JID parses");
                prop_assert_eq!(&again, &jid);
                prop_assert_eq!(again.as_str(), jid.as_str());
                prop_assert_eq!(again.resourcepart(), jid.resourcepart());
            }
        }

        #[test]
        fn the_wire_form_keeps_every_text(text in "\\PC{0,40}") {
            let jid = WireJid::new(text.clone());
            prop_assert_eq!(jid.as_str(), text);
        }
    }
}
