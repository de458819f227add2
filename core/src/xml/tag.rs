//! The inside of one start tag: its name and its attributes, as written.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::chars::{is_ncname, is_space, plain_name, plain_value, resolve_reference};
use super::error::{XmlError, XmlErrorKind};
use super::limits::Limits;
use super::reader::shorten;

/// A name as written, split at its colon. Without a colon the prefix is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QName<'a> {
    pub(crate) prefix: &'a str,
    pub(crate) local: &'a str,
}

impl<'a> QName<'a> {
    pub(crate) fn as_written(&self) -> String {
        match self.prefix {
            "" => self.local.to_owned(),
            prefix => format!("{prefix}:{}", self.local),
        }
    }

    /// The name that `text` begins with, to its end, to white space or to what `ends` it.
    pub(super) fn leading(
        text: &'a str,
        at: usize,
        limits: &Limits,
        ends: impl Fn(u8) -> bool,
    ) -> Result<Self, XmlError> {
        let bytes = text.as_bytes();
        let is_end = |byte: u8| ends(byte) || is_space(byte);
        // Nearly all names are plain: no prefix, no other script.
        let plain = plain_name(bytes);
        if (1..=limits.name_bytes).contains(&plain)
            && bytes.get(plain).is_none_or(|&byte| is_end(byte))
        {
            return Ok(Self { prefix: "", local: &text[..plain] });
        }
        let len = bytes.iter().position(|&byte| is_end(byte)).unwrap_or(bytes.len());
        Self::parse(&text[..len], at, limits)
    }

    /// How many bytes it has as written.
    pub(super) fn len(&self) -> usize {
        match self.prefix.len() {
            0 => self.local.len(),
            prefix => prefix + 1 + self.local.len(),
        }
    }

    fn parse(name: &'a str, at: usize, limits: &Limits) -> Result<Self, XmlError> {
        if name.len() > limits.name_bytes {
            let what = format!(
                "a name of {} bytes is over the limit of {}",
                name.len(),
                limits.name_bytes
            );
            return Err(XmlError::new(XmlErrorKind::PolicyViolation, at, what));
        }
        let qname = match memchr::memchr(b':', name.as_bytes()) {
            None => Self { prefix: "", local: name },
            Some(colon) => Self { prefix: &name[..colon], local: &name[colon + 1..] },
        };
        let prefix_ok = qname.local.len() == name.len() || is_ncname(qname.prefix);
        if prefix_ok && is_ncname(qname.local) {
            return Ok(qname);
        }
        Err(XmlError::malformed(at, format!("{:?} is not a name", shorten(name))))
    }
}

/// An attribute as written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawAttribute<'a> {
    pub(crate) name: QName<'a>,
    /// Between the quotes.
    pub(crate) value: &'a str,
    /// Where the attribute starts and ends in the source.
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// Whether the value holds a reference, or white space to be normalised.
    escaped: bool,
}

/// The attributes of a start tag, in order.
pub(crate) type Attributes<'a> = SmallVec<[RawAttribute<'a>; 8]>;

impl<'a> RawAttribute<'a> {
    /// The value after normalisation (XML 1.0 §3.3.3).
    pub(crate) fn value(&self) -> Cow<'a, str> {
        if self.escaped { unescape_attribute(self.value).into() } else { self.value.into() }
    }

    /// Whether it declares a namespace.
    pub(crate) fn is_declaration(&self) -> bool {
        self.name.prefix == "xmlns" || (self.name.prefix.is_empty() && self.name.local == "xmlns")
    }

    pub(super) fn same_name(&self, other: &Self) -> bool {
        // The prefixes seldom differ, the lengths of the local names often.
        let (a, b) = (self.name.local, other.name.local);
        a.len() == b.len() && a == b && self.name.prefix == other.name.prefix
    }
}

fn unescape_attribute(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let bytes = raw.as_bytes();
    let mut from = 0;
    while let Some(found) = bytes[from..].iter().position(|b| matches!(b, b'&' | b'\t'..=b'\r')) {
        let at = from + found;
        out.push_str(&raw[from..at]);
        from = at + 1;
        if bytes[at] == b'&' {
            let end = memchr::memchr(b';', &bytes[from..]).map_or(raw.len(), |end| from + end);
            out.extend(resolve_reference(&raw[from..end]));
            from = (end + 1).min(raw.len());
        } else {
            // A line end of two characters is one (XML 1.0 §2.11).
            if bytes[at] == b'\r' && bytes.get(from) == Some(&b'\n') {
                from += 1;
            }
            out.push(' ');
        }
    }
    out.push_str(&raw[from..]);
    out
}

/// Reads the attributes of `text`, which is what stands between an element's name and the end of
/// its tag; `base` is where `text` starts in the source.
pub(super) fn attributes<'a>(
    text: &'a str,
    base: usize,
    limits: &Limits,
    into: &mut Attributes<'a>,
) -> Result<(), XmlError> {
    let bytes = text.as_bytes();
    let mut at = 0;
    loop {
        let gap = at;
        while bytes.get(at).copied().is_some_and(is_space) {
            at += 1;
        }
        if at == bytes.len() {
            return Ok(());
        }
        if at == gap {
            return Err(XmlError::malformed(base + at, "no white space before an attribute"));
        }
        if into.len() == limits.attributes {
            let what = format!("an element has over {} attributes", limits.attributes);
            return Err(XmlError::new(XmlErrorKind::PolicyViolation, base + at, what));
        }
        let attribute = attribute(text, at, base, limits)?;
        at = attribute.end - base;
        into.push(attribute);
    }
}

fn attribute<'a>(
    text: &'a str,
    start: usize,
    base: usize,
    limits: &Limits,
) -> Result<RawAttribute<'a>, XmlError> {
    let bytes = text.as_bytes();
    let skip_space = |mut at: usize| {
        while bytes.get(at).copied().is_some_and(is_space) {
            at += 1;
        }
        at
    };
    let name = QName::leading(&text[start..], base + start, limits, |b| b == b'=')?;
    let mut at = skip_space(start + name.len());
    if bytes.get(at) != Some(&b'=') {
        return Err(XmlError::malformed(base + at, "an attribute has no value"));
    }
    at = skip_space(at + 1);
    let quote = match bytes.get(at) {
        Some(&quote @ (b'"' | b'\'')) => quote,
        _ => return Err(XmlError::malformed(base + at, "an attribute's value is not quoted")),
    };
    at += 1;
    let plain = plain_value(&bytes[at..]);
    if bytes.get(at + plain) == Some(&quote) {
        let (value, end) = (&text[at..at + plain], base + at + plain + 1);
        return Ok(RawAttribute { name, value, start: base + start, end, escaped: false });
    }
    let Some(len) = memchr::memchr(quote, &bytes[at..]) else {
        return Err(XmlError::malformed(base + at, "an attribute's value does not end"));
    };
    let value = &text[at..at + len];
    let escaped = check_value(value, base + at)?;
    Ok(RawAttribute { name, value, start: base + start, end: base + at + len + 1, escaped })
}

/// Checks an attribute's value; says whether it needs unescaping.
fn check_value(value: &str, base: usize) -> Result<bool, XmlError> {
    let bytes = value.as_bytes();
    let special = |&b: &u8| matches!(b, b'<' | b'&' | b'\t' | b'\n' | b'\r');
    let Some(first) = bytes.iter().position(special) else { return Ok(false) };
    if let Some(at) = memchr::memchr(b'<', &bytes[first..]) {
        return Err(XmlError::malformed(base + first + at, "`<` in an attribute's value"));
    }
    for at in memchr::memchr_iter(b'&', bytes) {
        let rest = &value[at + 1..];
        let end = memchr::memchr(b';', rest.as_bytes());
        check_reference(end.map(|end| &rest[..end]), base + at)?;
    }
    Ok(true)
}

/// Resolves the reference `name`; `None` stands for one that does not end.
pub(super) fn check_reference(name: Option<&str>, at: usize) -> Result<char, XmlError> {
    let Some(name) = name else {
        return Err(XmlError::malformed(at, "`&` does not start a reference; write `&amp;`"));
    };
    if let Some(c) = resolve_reference(name) {
        return Ok(c);
    }
    if is_ncname(name) {
        let what = format!("the entity {:?} is not one of XML's five", shorten(name));
        return Err(XmlError::new(XmlErrorKind::RestrictedXml, at, what));
    }
    Err(XmlError::malformed(at, format!("{:?} is not a reference to a character", shorten(name))))
}
