//! The stream header (RFC 6120 §4.7), and the XML declaration before it.

use super::chars::is_space;
use super::error::{XmlError, XmlErrorKind};
use super::limits::Limits;
use super::reader::{Event, Reader, Top};
use super::scope::Scope;
use super::strict::Head;
use super::tag;
use crate::ns;

/// What the other side's `<stream:stream>` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamHeader {
    /// The bindings in force for everything in the stream.
    pub scope: Scope,
    /// `from`, as written.
    pub from: Option<String>,
    /// `to`, as written.
    pub to: Option<String>,
    /// `id`: what a component's handshake is computed from (XEP-0114 §3).
    pub id: Option<String>,
    /// `version`; absent is 0.9 (RFC 6120 §4.7.5).
    pub version: Option<String>,
    /// `xml:lang`.
    pub lang: Option<String>,
}

impl StreamHeader {
    /// The namespace of the stanzas; empty for none.
    pub fn default_ns(&self) -> &str {
        self.scope.get("").unwrap_or_default()
    }

    /// Reads the start tag `bytes`; also gives its name as written.
    pub(super) fn parse(bytes: &[u8], limits: &Limits) -> Result<(Self, String), XmlError> {
        let outside = Scope::empty();
        let mut reader = Reader::new(bytes, &outside, limits, Top::StreamHeader)?;
        let Some(Event::Start(start)) = reader.next()? else {
            return Err(XmlError::malformed(0, "there is no stream header"));
        };
        let head = Head::of(&reader, &start);
        if head.ns != ns::STREAM {
            let what = format!("the stream's root is in the namespace {:?}", head.ns);
            return Err(XmlError::new(XmlErrorKind::InvalidNamespace, 0, what));
        }
        if head.name != "stream" {
            let what = format!("the stream's root is <{}>, not <stream>", head.name);
            return Err(XmlError::new(XmlErrorKind::BadFormat, 0, what));
        }
        let own = |name| head.attribute(name).map(str::to_owned);
        let header = Self {
            scope: Scope::new((0..reader.bindings()).map(|at| reader.binding(at))),
            from: own("from"),
            to: own("to"),
            id: own("id"),
            version: own("version"),
            lang: head.lang().map(str::to_owned),
        };
        Ok((header, start.name.as_written()))
    }
}

/// Checks `<?xml … ?>`: version 1.0, and no encoding but UTF-8 (RFC 6120 §11.4, §11.6).
pub(super) fn check_declaration(bytes: &[u8], limits: &Limits) -> Result<(), XmlError> {
    let malformed = |what: &'static str| XmlError::malformed(0, what);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let what = "the XML declaration is not UTF-8";
        XmlError::new(XmlErrorKind::UnsupportedEncoding, error.valid_up_to(), what)
    })?;
    let inside = text.strip_prefix("<?xml").and_then(|rest| rest.strip_suffix("?>"));
    let inside = inside.ok_or_else(|| malformed("the XML declaration is not one"))?;
    let inside = inside.trim_end_matches(|c: char| c.is_ascii() && is_space(c as u8));
    let mut attributes = tag::Attributes::new();
    tag::attributes(inside, "<?xml".len(), limits, &mut attributes)?;
    let mut pairs = attributes.iter().map(|a| (a.name.prefix, a.name.local, a.value)).peekable();
    match pairs.next() {
        Some(("", "version", "1.0")) => {}
        _ => return Err(malformed("the XML declaration does not begin with version 1.0")),
    }
    if let Some(("", "encoding", encoding)) = pairs.peek().copied() {
        if !encoding.eq_ignore_ascii_case("UTF-8") {
            let what = format!("the encoding {encoding:?} is not UTF-8");
            return Err(XmlError::new(XmlErrorKind::UnsupportedEncoding, 0, what));
        }
        pairs.next();
    }
    if let Some(("", "standalone", "yes" | "no")) = pairs.peek() {
        pairs.next();
    }
    match pairs.next() {
        None => Ok(()),
        Some(_) => Err(malformed("the XML declaration says more than it may")),
    }
}
