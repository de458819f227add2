//! Is this one element of restricted XML (RFC 6120 §11.1), and what does its start tag say?

use std::borrow::Cow;

use super::error::XmlError;
use super::limits::Limits;
use super::reader::{Event, RawAttribute, Reader, Start, Top};
use super::scope::Scope;
use crate::ns;

/// What an element's start tag says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head<'a> {
    /// The namespace; empty for none.
    pub ns: Cow<'a, str>,
    /// The local name.
    pub name: &'a str,
    /// The attributes in the order they are written, without namespace declarations.
    pub attributes: Vec<Attribute<'a>>,
    /// Whether there are such declarations.
    pub declares: bool,
    /// What is between the element's tags; empty where only the start tag was read.
    pub inside: &'a str,
    /// How deep elements are nested, the element itself included; 1 where only the start tag was read.
    pub depth: usize,
}

/// An attribute, its namespace resolved and its value unescaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// The namespace; empty for none.
    pub ns: Cow<'a, str>,
    /// The local name.
    pub name: &'a str,
    /// The value.
    pub value: Cow<'a, str>,
}

impl<'a> Head<'a> {
    /// The value of the attribute `name` in no namespace.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.find("", name)
    }

    /// The value of `xml:lang`.
    pub fn lang(&self) -> Option<&str> {
        self.find(ns::XML, "lang")
    }

    fn find(&self, ns: &str, name: &str) -> Option<&str> {
        self.attributes.iter().find(|a| a.name == name && a.ns == ns).map(|a| &*a.value)
    }

    /// The values of the attributes `names`, which stay behind empty; those in no namespace, and
    /// `xml:lang` for the name `xml:lang`.
    pub fn take<const N: usize>(&mut self, names: [&str; N]) -> [Option<Cow<'a, str>>; N] {
        names.map(|name| {
            let (ns, name) = if name == "xml:lang" { (ns::XML, "lang") } else { ("", name) };
            let mut attributes = self.attributes.iter_mut();
            let found = attributes.find(|a| a.name == name && a.ns == ns);
            found.map(|attribute| std::mem::take(&mut attribute.value))
        })
    }

    pub(crate) fn of(reader: &Reader<'a>, start: &Start<'a>) -> Self {
        let attributes = reader.attributes().iter().filter(|a| !a.is_declaration());
        let attributes = attributes.map(|attribute| Attribute {
            ns: reader.attribute_ns(attribute),
            name: attribute.name.local,
            value: attribute.value(),
        });
        Self {
            ns: reader.ns_cow(start.binding),
            name: start.name.local,
            attributes: attributes.collect(),
            declares: reader.attributes().iter().any(RawAttribute::is_declaration),
            inside: "",
            depth: 1,
        }
    }
}

/// Checks that `bytes` are one element, with nothing but white space around it, that RFC 6120
/// §11.1, XML 1.0 and Namespaces in XML 1.0 allow where the bindings of `scope` are in force.
///
/// # Errors
/// The first thing that is wrong, and where.
pub fn check<'a>(bytes: &'a [u8], scope: &'a Scope, limits: &Limits) -> Result<Head<'a>, XmlError> {
    let mut reader = Reader::new(bytes, scope, limits, Top::Element)?;
    let Some(Event::Start(start)) = reader.next()? else {
        return Err(XmlError::malformed(0, "there is no element"));
    };
    let mut head = Head::of(&reader, &start);
    let mut inside = start.tag.end..start.tag.end;
    while let Some(event) = reader.next()? {
        match event {
            Event::Start(_) => head.depth = head.depth.max(reader.depth()),
            Event::End(tag) => inside.end = tag.start,
            Event::Text(_) => {}
        }
    }
    head.inside = reader.source(inside);
    Ok(head)
}
