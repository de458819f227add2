//! The strict pull reader that everything else stands on: quick-xml finds the tokens, this checks
//! them and resolves namespaces.

use std::borrow::Cow;
use std::ops::Range;

use quick_xml::events::Event as Token;
use smallvec::SmallVec;

use super::chars::{find_non_char, is_space};
use super::error::{XmlError, XmlErrorKind};
use super::limits::Limits;
use super::scope::Scope;
use super::tag;
pub(crate) use super::tag::{QName, RawAttribute};
use crate::ns;

/// The most namespace declarations in force at one place, without those around the whole. Each name
/// with a prefix is looked up among them, so that this bounds the time a hostile stanza can take.
const MAX_BINDINGS: usize = 256;

/// From this number of attributes on, duplicates are looked for by sorting.
const SORT_FROM: usize = 12;

const BOM: char = '\u{feff}';

/// What the reader accepts at the top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Top {
    /// One element, and white space around it.
    Element,
    /// The start tag of a stream.
    StreamHeader,
    /// Elements and text, as they may stand inside an element.
    Fragment,
}

pub(crate) enum Event<'a> {
    Start(Start<'a>),
    /// The end of the innermost element; empty at the end of an empty-element tag.
    End(Range<usize>),
    Text(Text<'a>),
}

/// A start tag. Its attributes are those of [`Reader::attributes`] until the next event.
pub(crate) struct Start<'a> {
    pub(crate) name: QName<'a>,
    pub(crate) binding: Option<Binding>,
    /// Where it is in the source.
    pub(crate) tag: Range<usize>,
}

/// A namespace binding in force, for [`Reader::ns`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Binding(usize);

impl Binding {
    /// The prefix `xml`, which is bound without being declared.
    const XML: Self = Self(usize::MAX);

    /// Its place among those in force, from the outside in.
    pub(crate) fn index(self) -> usize {
        self.0
    }
}

/// A piece of character data.
#[derive(Clone, Copy)]
pub(crate) enum Text<'a> {
    /// As written; line ends are not yet normalised.
    Literal(&'a str),
    /// A resolved reference.
    Char(char),
}

impl Text<'_> {
    pub(crate) fn is_empty(self) -> bool {
        matches!(self, Self::Literal(""))
    }

    /// Appends the text that is meant.
    pub(crate) fn push_to(self, out: &mut String) {
        match self {
            Self::Char(c) => out.push(c),
            Self::Literal(text) => {
                // Line ends: XML 1.0 §2.11.
                let mut rest = text;
                while let Some(at) = memchr::memchr(b'\r', rest.as_bytes()) {
                    out.push_str(&rest[..at]);
                    out.push('\n');
                    rest = &rest[at + 1..];
                    rest = rest.strip_prefix('\n').unwrap_or(rest);
                }
                out.push_str(rest);
            }
        }
    }
}

struct Declaration<'a> {
    prefix: &'a str,
    /// Empty for `xmlns=""`.
    ns: Cow<'a, str>,
}

struct Open<'a> {
    /// The name as written.
    name: &'a str,
    /// How many declarations were in force outside.
    declarations: usize,
}

pub(crate) struct Reader<'a> {
    src: &'a str,
    tokens: quick_xml::Reader<&'a [u8]>,
    /// How many bytes at the start the tokeniser does not count.
    uncounted: usize,
    limits: Limits,
    top: Top,
    open: SmallVec<[Open<'a>; 8]>,
    declarations: SmallVec<[Declaration<'a>; 4]>,
    /// How many of them are in force around the whole.
    outside: usize,
    attributes: tag::Attributes<'a>,
    ended_empty: bool,
    seen_root: bool,
}

impl<'a> Reader<'a> {
    /// Reads `bytes`, which stand where the bindings of `scope` are in force.
    pub(crate) fn new(
        bytes: &'a [u8],
        scope: &'a Scope,
        limits: &Limits,
        top: Top,
    ) -> Result<Self, XmlError> {
        if bytes.len() > limits.stanza_bytes {
            let what = format!(
                "{} bytes are over the limit of {} for a stanza",
                bytes.len(),
                limits.stanza_bytes
            );
            return Err(XmlError::new(XmlErrorKind::PolicyViolation, limits.stanza_bytes, what));
        }
        let src = std::str::from_utf8(bytes).map_err(|error| {
            let kind = XmlErrorKind::UnsupportedEncoding;
            XmlError::new(kind, error.valid_up_to(), "the text is not UTF-8")
        })?;
        if let Some(at) = find_non_char(src) {
            let c = src[at..].chars().next().map_or(0, u32::from);
            return Err(XmlError::malformed(
                at,
                format!("XML cannot carry the character U+{c:04X}"),
            ));
        }
        // A byte order mark is a character like another to XMPP (RFC 6120 §11.6), but quick-xml
        // drops it.
        let uncounted = if src.starts_with(BOM) { BOM.len_utf8() } else { 0 };
        if uncounted > 0 && top != Top::Fragment {
            return Err(outside(0));
        }
        let mut tokens = quick_xml::Reader::from_str(src);
        let config = tokens.config_mut();
        config.check_end_names = false;
        config.allow_unmatched_ends = true;
        config.trim_markup_names_in_closing_tags = false;
        let scoped = scope.iter().map(|(prefix, ns)| Declaration { prefix, ns: ns.into() });
        Ok(Self {
            src,
            tokens,
            uncounted,
            limits: *limits,
            top,
            open: SmallVec::new(),
            declarations: scoped.collect(),
            outside: scope.iter().len(),
            attributes: tag::Attributes::new(),
            ended_empty: false,
            seen_root: false,
        })
    }

    /// The next event; `None` at the end of the input.
    pub(crate) fn next(&mut self) -> Result<Option<Event<'a>>, XmlError> {
        if std::mem::take(&mut self.ended_empty) {
            let at = self.position();
            self.close();
            return Ok(Some(Event::End(at..at)));
        }
        loop {
            let start = self.position();
            // Only the kind and the span are of interest. Looking through a reference leaves the
            // event where quick-xml wrote it.
            let token = self.tokens.read_event();
            let range = start..self.position();
            match &token {
                Ok(Token::Start(_)) => return self.start(range, false).map(Some),
                Ok(Token::Empty(_)) => return self.start(range, true).map(Some),
                Ok(Token::End(_)) => return self.end(range).map(Some),
                Ok(Token::Text(_)) => {
                    if let Some(text) = self.text(range)? {
                        return Ok(Some(text));
                    }
                }
                Ok(Token::GeneralRef(_)) => {
                    let name = &self.src[range.start + 1..range.end - 1];
                    let c = tag::check_reference(Some(name), range.start)?;
                    self.require_inside(range.start)?;
                    return Ok(Some(Event::Text(Text::Char(c))));
                }
                Ok(Token::CData(_)) => {
                    self.require_inside(range.start)?;
                    let text = &self.src[range.start + 9..range.end - 3];
                    return Ok(Some(Event::Text(Text::Literal(text))));
                }
                Ok(Token::Comment(_)) => return Err(restricted(start, "a comment")),
                Ok(Token::DocType(_)) => return Err(restricted(start, "a document type")),
                Ok(Token::PI(_)) => return Err(restricted(start, "a processing instruction")),
                Ok(Token::Decl(_)) => return Err(restricted(start, "an XML declaration")),
                Ok(Token::Eof) => return self.eof(),
                Err(error) => return Err(self.token_error(start, error)),
            }
        }
    }

    /// What was read at `range`.
    pub(crate) fn source(&self, range: Range<usize>) -> &'a str {
        &self.src[range]
    }

    /// How many elements are open.
    pub(crate) fn depth(&self) -> usize {
        self.open.len()
    }

    /// How many bindings are in force.
    pub(crate) fn bindings(&self) -> usize {
        self.declarations.len()
    }

    /// The prefix and namespace of a binding in force; the namespace is empty for `xmlns=""`.
    pub(crate) fn binding(&self, index: usize) -> (&'a str, &str) {
        self.declarations.get(index).map_or(("", ""), |d| (d.prefix, &*d.ns))
    }

    /// The namespace of an element; empty for none. Good while the element is open.
    pub(crate) fn ns(&self, binding: Option<Binding>) -> &str {
        match binding {
            None => "",
            Some(Binding::XML) => ns::XML,
            Some(Binding(index)) => self.binding(index).1,
        }
    }

    /// As [`Reader::ns`], without a copy where the source holds it.
    pub(crate) fn ns_cow(&self, binding: Option<Binding>) -> Cow<'a, str> {
        match binding {
            None => "".into(),
            Some(Binding::XML) => ns::XML.into(),
            Some(Binding(index)) => {
                self.declarations.get(index).map_or("".into(), |d| d.ns.clone())
            }
        }
    }

    /// The attributes of the last start tag, namespace declarations included, in order.
    pub(crate) fn attributes(&self) -> &[RawAttribute<'a>] {
        &self.attributes
    }

    /// What the prefix of an attribute of the last start tag is bound to.
    pub(crate) fn attribute_binding(&self, attribute: &RawAttribute<'a>) -> Option<Binding> {
        match attribute.name.prefix {
            "" | "xmlns" => None,
            prefix => self.lookup(prefix),
        }
    }

    /// The namespace of an attribute of the last start tag; empty for none.
    pub(crate) fn attribute_ns(&self, attribute: &RawAttribute<'a>) -> Cow<'a, str> {
        match attribute.name.prefix {
            "" => "".into(),
            prefix => self.ns_cow(self.lookup(prefix)),
        }
    }

    fn position(&self) -> usize {
        // The source is in memory, so that its positions fit.
        self.tokens.buffer_position() as usize + self.uncounted
    }

    fn start(&mut self, range: Range<usize>, empty: bool) -> Result<Event<'a>, XmlError> {
        let at = range.start;
        self.admit_element(at)?;
        let inside = &self.src[at + 1..range.end - if empty { 2 } else { 1 }];
        let name = QName::leading(inside, at + 1, &self.limits, |_| false)?;
        let name_len = name.len();
        self.attributes.clear();
        let base = at + 1 + name_len;
        tag::attributes(&inside[name_len..], base, &self.limits, &mut self.attributes)?;

        let outside = self.declarations.len();
        self.declare()?;
        self.open.push(Open { name: &inside[..name_len], declarations: outside });
        self.ended_empty = empty;
        let binding = self.resolve(name.prefix, at + 1)?;
        self.check_attribute_names()?;
        Ok(Event::Start(Start { name, binding, tag: range }))
    }

    /// Whether an element may start here.
    fn admit_element(&mut self, at: usize) -> Result<(), XmlError> {
        if self.open.is_empty()
            && self.top != Top::Fragment
            && std::mem::replace(&mut self.seen_root, true)
        {
            return Err(XmlError::malformed(at, "a second element after the first"));
        }
        if self.open.len() >= self.limits.depth {
            let what = format!("elements are nested deeper than {}", self.limits.depth);
            return Err(XmlError::new(XmlErrorKind::PolicyViolation, at, what));
        }
        Ok(())
    }

    /// Takes the namespace declarations among the attributes into force.
    fn declare(&mut self) -> Result<(), XmlError> {
        for attribute in &self.attributes {
            let prefix = match (attribute.name.prefix, attribute.name.local) {
                ("", "xmlns") => "",
                ("xmlns", prefix) => prefix,
                _ => continue,
            };
            let ns = attribute.value();
            check_declaration(prefix, &ns, attribute.start)?;
            if self.declarations.len() - self.outside >= MAX_BINDINGS {
                let what = format!("over {MAX_BINDINGS} namespace declarations are in force");
                return Err(XmlError::new(XmlErrorKind::PolicyViolation, attribute.start, what));
            }
            self.declarations.push(Declaration { prefix, ns });
        }
        Ok(())
    }

    fn lookup(&self, prefix: &str) -> Option<Binding> {
        if prefix == "xml" {
            return Some(Binding::XML);
        }
        self.declarations.iter().rposition(|d| d.prefix == prefix).map(Binding)
    }

    /// The binding of an element's prefix.
    fn resolve(&self, prefix: &str, at: usize) -> Result<Option<Binding>, XmlError> {
        match prefix {
            "" => Ok(self.lookup("")),
            // No element has it (Namespaces in XML 1.0 §3).
            "xmlns" => Err(undeclared(prefix, at)),
            _ => self.lookup(prefix).map(Some).ok_or_else(|| undeclared(prefix, at)),
        }
    }

    /// Every prefix is declared, and no two attributes have the same expanded name.
    fn check_attribute_names(&self) -> Result<(), XmlError> {
        let attributes = &self.attributes[..];
        let mut prefixed = false;
        for attribute in attributes {
            let prefix = attribute.name.prefix;
            if !matches!(prefix, "" | "xml" | "xmlns") {
                prefixed = true;
                if self.lookup(prefix).is_none() {
                    return Err(undeclared(prefix, attribute.start));
                }
            }
        }
        if attributes.len() < 2 {
            return Ok(());
        }
        let duplicate = if prefixed || attributes.len() >= SORT_FROM {
            self.duplicate_expanded_name()
        } else {
            let mut pairs = attributes.iter().enumerate();
            pairs.find_map(|(i, a)| attributes[..i].iter().any(|b| a.same_name(b)).then_some(*a))
        };
        match duplicate {
            None => Ok(()),
            Some(attribute) => {
                let what =
                    format!("the attribute {:?} is there twice", shorten(attribute.name.local));
                Err(XmlError::malformed(attribute.start, what))
            }
        }
    }

    #[cold]
    fn duplicate_expanded_name(&self) -> Option<RawAttribute<'a>> {
        let expanded = |attribute: &RawAttribute<'a>| match attribute.name.prefix {
            "" => "",
            "xmlns" => ns::XMLNS,
            prefix => self.ns(self.lookup(prefix)),
        };
        let mut names: Vec<_> =
            self.attributes.iter().map(|a| (a.name.local, expanded(a), a.start, a)).collect();
        names.sort_unstable_by_key(|&(local, ns, start, _)| (local, ns, start));
        let twice = names.windows(2).find(|two| two[0].0 == two[1].0 && two[0].1 == two[1].1);
        twice.map(|two| *two[1].3)
    }

    fn end(&mut self, range: Range<usize>) -> Result<Event<'a>, XmlError> {
        let name =
            self.src[range.start + 2..range.end - 1].trim_end_matches([' ', '\t', '\r', '\n']);
        match self.open.last() {
            Some(open) if open.name == name => {
                self.close();
                Ok(Event::End(range))
            }
            Some(open) => {
                let (open, name) = (shorten(open.name), shorten(name));
                let what = format!("<{open}> is closed by </{name}>");
                Err(XmlError::malformed(range.start, what))
            }
            None => {
                let what = format!("</{}> closes nothing", shorten(name));
                Err(XmlError::malformed(range.start, what))
            }
        }
    }

    fn close(&mut self) {
        if let Some(open) = self.open.pop() {
            self.declarations.truncate(open.declarations);
        }
    }

    fn text(&self, range: Range<usize>) -> Result<Option<Event<'a>>, XmlError> {
        let text = &self.src[range.clone()];
        let bytes = text.as_bytes();
        if let Some(at) = memchr::memchr_iter(b'>', bytes).find(|&at| bytes[..at].ends_with(b"]]"))
        {
            return Err(XmlError::malformed(range.start + at, "`]]>` outside a CDATA section"));
        }
        if self.open.is_empty() && self.top != Top::Fragment {
            return match bytes.iter().position(|&byte| !is_space(byte)) {
                None => Ok(None),
                Some(at) => Err(outside(range.start + at)),
            };
        }
        Ok(Some(Event::Text(Text::Literal(text))))
    }

    fn require_inside(&self, at: usize) -> Result<(), XmlError> {
        if self.open.is_empty() && self.top != Top::Fragment { Err(outside(at)) } else { Ok(()) }
    }

    fn eof(&self) -> Result<Option<Event<'a>>, XmlError> {
        let at = self.src.len();
        match self.open.last() {
            _ if self.top == Top::StreamHeader => Ok(None),
            Some(open) => {
                Err(XmlError::malformed(at, format!("<{}> is not closed", shorten(open.name))))
            }
            None if self.seen_root || self.top == Top::Fragment => Ok(None),
            None => Err(XmlError::malformed(at, "there is no element")),
        }
    }

    #[cold]
    fn token_error(&self, start: usize, error: &quick_xml::Error) -> XmlError {
        let rest = &self.src[start..];
        if rest.starts_with("<?") || (rest.starts_with("<!") && !rest.starts_with("<![")) {
            return restricted(start, "a comment, document type or processing instruction");
        }
        if rest.starts_with('&') {
            return XmlError::malformed(start, "`&` does not start a reference; write `&amp;`");
        }
        XmlError::malformed(start, error.to_string())
    }
}

/// Namespaces in XML 1.0 §3 on the reserved prefixes, and §5: a prefix cannot be undeclared.
fn check_declaration(prefix: &str, ns: &str, at: usize) -> Result<(), XmlError> {
    let what = match (prefix, ns) {
        ("xml", ns::XML) => return Ok(()),
        ("xml" | "xmlns", _) => "the prefixes `xml` and `xmlns` cannot be declared",
        (_, ns::XML | ns::XMLNS) => "a namespace reserved for `xml` or `xmlns` cannot be declared",
        ("", _) => return Ok(()),
        (_, "") => "a prefix cannot be bound to no namespace",
        _ => return Ok(()),
    };
    Err(XmlError::new(XmlErrorKind::BadNamespacePrefix, at, what))
}

#[cold]
fn restricted(at: usize, what: &str) -> XmlError {
    XmlError::new(XmlErrorKind::RestrictedXml, at, format!("{what} is not allowed in XMPP"))
}

#[cold]
fn undeclared(prefix: &str, at: usize) -> XmlError {
    let what = format!("the namespace prefix {:?} is not declared", shorten(prefix));
    XmlError::new(XmlErrorKind::BadNamespacePrefix, at, what)
}

#[cold]
fn outside(at: usize) -> XmlError {
    XmlError::malformed(at, "text outside the element")
}

/// As much of a name as belongs in a message.
pub(super) fn shorten(name: &str) -> Cow<'_, str> {
    match name.char_indices().nth(40) {
        None => name.into(),
        Some((end, _)) => format!("{}…", &name[..end]).into(),
    }
}
