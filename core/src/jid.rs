//! Addresses: a JID is `localpart@domainpart/resourcepart`, of which only the domainpart is always
//! there (RFC 7622 §3).
//!
//! [`Jid`] is for what callers give and is strict. [`WireJid`] is for what a server gives: it keeps
//! the text as written, so that no stanza is lost for an address that this side would prepare
//! differently (an emoji in a resourcepart, say).

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use memchr::memchr;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use crate::error::{Error, ErrorKind, Result};

/// The longest localpart, domainpart or resourcepart, in bytes of UTF-8 (RFC 7622 §3.1).
pub const MAX_PART_BYTES: usize = 1023;

/// How much of a refused address its error repeats.
const SHOWN_CHARACTERS: usize = 128;

/// A valid, prepared address. Two of them are equal if and only if they name the same entity.
///
/// Preparation is that of RFC 7622 as far as it agrees with the older RFC 6122, which servers
/// still follow; beyond it, resourceparts may hold what Unicode gained after version 3.2 (emoji),
/// and localparts may hold its letters, digits and marks.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Jid(String);

impl Jid {
    /// Parses and prepares `text`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidJid`] names the address and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self> {
        if is_plain(text) {
            return Ok(Self(text.to_owned()));
        }
        let mut prepared = Cow::Borrowed(text);
        // Newer code points can need more than one pass; four are what RFC 8264 §7 allows.
        for _ in 0..4 {
            let next = prepare(&prepared).map_err(|source| invalid(text, source))?;
            if next == *prepared {
                return Ok(Self(next));
            }
            prepared = Cow::Owned(next);
        }
        Err(invalid(text, jid::Error::Idna))
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
        split(&self.0).0
    }

    /// The server's or component's domain name.
    pub fn domainpart(&self) -> &str {
        split(&self.0).1
    }

    /// The part after the first `/`: one connection of an account.
    pub fn resourcepart(&self) -> Option<&str> {
        split(&self.0).2
    }

    /// The address without its resourcepart.
    #[must_use]
    pub fn to_bare(&self) -> Self {
        Self(self.bare().to_owned())
    }

    /// The text of the address without its resourcepart.
    pub fn bare(&self) -> &str {
        before_slash(&self.0)
    }

    /// The same address with `resource` as its resourcepart.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidJid`] if `resource` is not a resourcepart.
    pub fn with_resource(&self, resource: &str) -> Result<Self> {
        Self::parse(&format!("{}/{resource}", self.bare()))
    }

    /// The same localpart and resourcepart at another domain.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidJid`] if `domain` is not a domainpart.
    pub fn with_domain(&self, domain: &str) -> Result<Self> {
        Self::from_parts(self.localpart(), domain, self.resourcepart())
    }

    /// The address in its prepared form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address in its prepared form, owned.
    pub fn into_string(self) -> String {
        self.0
    }
}

/// Whether preparation would leave `text` as it is: small ASCII letters, digits and a few signs, as
/// nearly all addresses are. That is seen at a tenth of what preparation costs.
fn is_plain(text: &str) -> bool {
    let (local, domain, resource) = split(text);
    let fits = |part: &str| (1..=MAX_PART_BYTES).contains(&part.len());
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_local = |part: &str| {
        fits(part)
            && part.bytes().all(|b| alphanumeric(b) || matches!(b, b'.' | b'-' | b'_' | b'+'))
    };
    // No label that IDNA would look into: those have two hyphens in the third place.
    let is_label = |label: &[u8]| {
        (1..=63).contains(&label.len())
            && label.iter().all(|&b| alphanumeric(b) || b == b'-')
            && !label.starts_with(b"-")
            && !label.ends_with(b"-")
            && label.get(2..4) != Some(b"--")
    };
    domain.len() <= 253
        && domain.as_bytes().split(|&b| b == b'.').all(is_label)
        && local.is_none_or(is_local)
        && resource.is_none_or(|part| fits(part) && part.bytes().all(|b| b.is_ascii_graphic()))
}

fn invalid(text: &str, source: jid::Error) -> Error {
    let shown: String = text.chars().take(SHOWN_CHARACTERS).collect();
    let cut = if shown.len() < text.len() { " (cut)" } else { "" };
    Error::new(
        ErrorKind::InvalidJid,
        format!("{shown:?}{cut} is not a JID ({source}); write localpart@domainpart/resourcepart"),
    )
    .with_source(source)
}

/// One pass of preparation.
fn prepare(text: &str) -> std::result::Result<String, jid::Error> {
    // The jid crate keeps a domainpart's trailing dot, which RFC 7622 §3.2 strips before anything
    // else is compared.
    let dotless = without_trailing_dot(text);
    match jid::Jid::new(&dotless) {
        Ok(jid) => Ok(jid.into_inner()),
        Err(source) => prepare_newer_unicode(&dotless).ok_or(source),
    }
}

/// Prepares an address whose only fault is that RFC 6122's Unicode 3.2 does not know some of its
/// code points, which RFC 7622 (PRECIS, any version of Unicode) allows.
fn prepare_newer_unicode(text: &str) -> Option<String> {
    let (local, domain, resource) = split(text);
    let mut out = String::with_capacity(text.len());
    if let Some(local) = local {
        out.push_str(&prepare_localpart(local)?);
        out.push('@');
    }
    out.push_str(jid::DomainPart::new(domain).ok()?.as_str());
    if let Some(resource) = resource {
        out.push('/');
        out.push_str(&prepare_resourcepart(resource)?);
    }
    Some(out)
}

fn is_newer(c: char) -> bool {
    stringprep::tables::unassigned_code_point(c)
}

/// UsernameCaseMapped (RFC 8265 §3.3): letters, digits and marks, in lower case, composed.
fn prepare_localpart(local: &str) -> Option<Cow<'_, str>> {
    if !local.contains(is_newer) {
        return jid::NodePart::new(local).ok().map(|part| part.as_str().to_owned().into());
    }
    let prepared: String = local.to_lowercase().nfc().collect();
    let allowed = |c: char| c.is_alphanumeric() || is_combining_mark(c);
    let newer_allowed = prepared.chars().filter(|&c| is_newer(c)).all(allowed);
    let older: String = prepared.chars().filter(|&c| !is_newer(c)).collect();
    let older_allowed =
        older.is_empty() || jid::NodePart::new(&older).is_ok_and(|part| part.as_str() == older);
    (newer_allowed && older_allowed && prepared.len() <= MAX_PART_BYTES).then(|| prepared.into())
}

/// OpaqueString (RFC 8265 §4.2) for what holds newer code points: any of them, as written.
fn prepare_resourcepart(resource: &str) -> Option<Cow<'_, str>> {
    if !resource.contains(is_newer) {
        return jid::ResourcePart::new(resource).ok().map(|part| part.as_str().to_owned().into());
    }
    let older: String = resource.chars().filter(|&c| !is_newer(c)).collect();
    // A resourcepart is never empty, but what is left of one may be: joiners are mapped to nothing.
    let older_allowed = jid::ResourcePart::new(&format!("x{older}")).is_ok();
    (older_allowed && resource.len() <= MAX_PART_BYTES).then_some(resource.into())
}

fn without_trailing_dot(text: &str) -> Cow<'_, str> {
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
pub struct WireJid(Wire);

#[derive(Clone)]
enum Wire {
    /// What preparation leaves as it was written.
    Prepared(Jid),
    Other {
        text: String,
        prepared: Option<Jid>,
        /// The bare address, where only the resourcepart is what preparation rejects.
        bare: Option<Box<Jid>>,
    },
}

impl WireJid {
    /// Takes `text` as it is; nothing is refused.
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        if is_plain(&text) {
            return Self(Wire::Prepared(Jid(text)));
        }
        let prepared = match Jid::parse(&text) {
            Ok(jid) if jid.0 == text => return Self(Wire::Prepared(jid)),
            prepared => prepared.ok(),
        };
        let bare = match (&prepared, text.split_once('/')) {
            (None, Some((bare, _))) => Jid::parse(bare).ok().map(Box::new),
            _ => None,
        };
        Self(Wire::Other { text, prepared, bare })
    }

    /// The text as the server wrote it.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Wire::Prepared(jid) => jid.as_str(),
            Wire::Other { text, .. } => text,
        }
    }

    /// The prepared address, if preparation accepts it.
    pub fn prepared(&self) -> Option<&Jid> {
        match &self.0 {
            Wire::Prepared(jid) => Some(jid),
            Wire::Other { prepared, .. } => prepared.as_ref(),
        }
    }

    /// The part before `@`, prepared where possible.
    pub fn localpart(&self) -> Option<&str> {
        match self.prepared_bare() {
            Some(jid) => jid.localpart(),
            None => split(self.as_str()).0,
        }
    }

    /// The domainpart, prepared where possible.
    pub fn domainpart(&self) -> &str {
        match self.prepared_bare() {
            Some(jid) => jid.domainpart(),
            None => split(self.as_str()).1,
        }
    }

    /// A prepared address whose bare form is this one's.
    fn prepared_bare(&self) -> Option<&Jid> {
        match &self.0 {
            Wire::Prepared(jid) => Some(jid),
            Wire::Other { prepared, bare, .. } => prepared.as_ref().or(bare.as_deref()),
        }
    }

    /// The part after the first `/`, as written.
    pub fn resourcepart(&self) -> Option<&str> {
        split(self.as_str()).2
    }

    /// The address without its resourcepart, for use as a key: prepared where possible.
    pub fn bare_key(&self) -> String {
        let written = || before_slash(self.as_str());
        self.prepared_bare().map_or_else(written, Jid::bare).to_owned()
    }
}

fn before_slash(text: &str) -> &str {
    memchr(b'/', text.as_bytes()).map_or(text, |at| &text[..at])
}

/// Splits at the first `/`, then at the first `@` before it (RFC 7622 §3.1).
fn split(text: &str) -> (Option<&str>, &str, Option<&str>) {
    let (bare, resource) = match memchr(b'/', text.as_bytes()) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    match memchr(b'@', bare.as_bytes()) {
        Some(at) => (Some(&bare[..at]), &bare[at + 1..], resource),
        None => (None, bare, resource),
    }
}

impl PartialEq for WireJid {
    fn eq(&self, other: &Self) -> bool {
        match (self.prepared(), other.prepared()) {
            (Some(a), Some(b)) => a == b,
            (None, None) => self.as_str() == other.as_str(),
            _ => false,
        }
    }
}

impl Eq for WireJid {}

impl Hash for WireJid {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.prepared() {
            Some(jid) => jid.hash(state),
            None => self.as_str().hash(state),
        }
    }
}

impl fmt::Display for WireJid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for WireJid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WireJid({:?})", self.as_str())
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
    fn preparation_is_repeated_until_nothing_changes() {
        // OUTLINED LATIN CAPITAL LETTER A of Unicode 16 becomes A, and only then a.
        assert_eq!(
            Jid::parse("\u{1ccd6}.example").map(Jid::into_string).ok().as_deref(),
            Some("a.example")
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
        assert_eq!(jid.as_str(), "Room@Conf.Example/Nick \u{1f389}");
        assert_eq!(jid.bare_key(), "room@conf.example");
        assert_eq!(jid.resourcepart(), Some("Nick \u{1f389}"));
        assert_eq!(jid, WireJid::new("room@conf.example/Nick \u{1f389}"));
    }

    #[test]
    fn what_unicode_gained_after_its_version_3_2_is_allowed_where_rfc_7622_allows_it() {
        let emoji = Jid::parse("Room@Conf.Example/Nick \u{1f389}").unwrap();
        assert_eq!(emoji.as_str(), "room@conf.example/Nick \u{1f389}");
        let family = "a@b/\u{1f468}\u{200d}\u{1f469}";
        assert_eq!(Jid::parse(family).unwrap().as_str(), family);
        // Georgian Mtavruli (Unicode 11) folds to Mkhedruli; an emoji is no letter.
        assert_eq!(Jid::parse("\u{1c90}x@b").unwrap().as_str(), "\u{10d0}x@b");
        for text in
            ["\u{1f389}@b", "a@\u{1f389}.example", "a@b/\u{1f389}\u{0}", "\u{1f389} \u{1c90}@b"]
        {
            Jid::parse(text).expect_err(text);
        }
    }

    #[test]
    fn plain_addresses_are_known_at_sight() {
        let long = "a".repeat(MAX_PART_BYTES);
        for text in ["b", "a@b", "a.b_c-d+1@b-c.example/Phone (2)!", &format!("{long}@b/{long}")] {
            assert_eq!(is_plain(text), !text.contains(' '), "{text}");
            assert_eq!(prepare(text).unwrap(), text);
        }
        let label = "a".repeat(63);
        let domain = [&*label, &label, &label, &label].join(".");
        for text in
            ["", "@b", "a@", "a@b/", "A@b", "a@B", "a@b.", "a@xn--x", "a@-b", "a@b-", "a@b..c"]
                .into_iter()
                .chain([
                    &*format!("{long}a@b"),
                    &format!("b/{long}a"),
                    &format!("{label}a"),
                    &domain,
                ])
        {
            assert!(!is_plain(text), "{text}");
        }
    }

    #[test]
    fn a_long_refused_address_is_cut_in_its_error() {
        let error = Jid::parse(&"a b".repeat(1000)).expect_err("spaces");
        assert!(error.to_string().len() < 400, "{error}");
        assert!(error.to_string().contains("(cut)"), "{error}");
    }

    #[test]
    fn another_domain_keeps_the_other_parts() {
        let jid = Jid::parse("a@b/c@d/e").unwrap();
        assert_eq!(jid.with_domain("x.example").unwrap().as_str(), "a@x.example/c@d/e");
        assert_eq!(Jid::parse("b").unwrap().with_domain("c").unwrap().as_str(), "c");
    }

    #[test]
    fn vectors() {
        crate::vectors::each("jid", |case| {
            let text = case.str("jid");
            let parsed = Jid::parse(text);
            if case.bool("valid") {
                let jid = parsed.map_err(|error| error.to_string())?;
                let of = |key| case.optional_str(key);
                crate::vectors::same("localpart", jid.localpart(), of("localpart"))?;
                crate::vectors::same("domainpart", Some(jid.domainpart()), of("domainpart"))?;
                crate::vectors::same("resourcepart", jid.resourcepart(), of("resourcepart"))
            } else {
                let kind = parsed.err().map(|error| error.kind());
                crate::vectors::same("kind", kind, Some(ErrorKind::InvalidJid))
            }
        });
    }

    #[test]
    fn an_address_that_preparation_rejects_is_kept_from_the_wire() {
        let jid = WireJid::new("Room@Conf.Example/a\u{e000}");
        assert!(jid.prepared().is_none());
        assert_eq!(jid.as_str(), "Room@Conf.Example/a\u{e000}");
        assert_eq!(jid.bare_key(), "room@conf.example");
        assert_eq!((jid.localpart(), jid.domainpart()), (Some("room"), "conf.example"));
        assert_eq!(jid.resourcepart(), Some("a\u{e000}"));
        assert_eq!(jid, WireJid::new("Room@Conf.Example/a\u{e000}"));
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
        fn what_looks_plain_is_prepared(text in "([!-~]{0,6}@)?[a-z0-9.\\-]{0,9}(/[ -~]{0,6})?") {
            if is_plain(&text) {
                prop_assert_eq!(prepare(&text).ok(), Some(text));
            }
        }

        #[test]
        fn the_wire_form_keeps_every_text(text in "\\PC{0,40}") {
            let jid = WireJid::new(text.clone());
            prop_assert_eq!(jid.as_str(), text);
        }
    }
}
