//! A tree of elements. Parsing, writing, comparing, cloning and dropping one take no stack however
//! deep it is.

use std::fmt;
use std::sync::Arc;

use super::error::XmlError;
use super::limits::Limits;
use super::reader::{Event, Reader, Start, Text, Top};
use super::scope::Scope;
use super::writer::{attribute, escape_text};
use crate::ns;

/// An attribute of an [`Element`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attr {
    /// The namespace; empty for none.
    pub ns: Arc<str>,
    /// The local name.
    pub name: String,
    /// The value, unescaped.
    pub value: String,
}

/// A child of an [`Element`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// An element.
    Element(Element),
    /// Character data, unescaped.
    Text(String),
}

/// An element with all that is in it.
///
/// Names must be names ([`writer::is_name`](super::writer::is_name)): they come from a parser or
/// from a program's text, never from user input unchecked.
pub struct Element {
    name: String,
    ns: Arc<str>,
    attrs: Vec<Attr>,
    nodes: Vec<Node>,
}

impl Element {
    /// An empty element; `ns` is empty for no namespace.
    pub fn new(name: impl Into<String>, ns: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), ns: ns.into(), attrs: Vec::new(), nodes: Vec::new() }
    }

    /// Parses one element that stands where the bindings of `scope` are in force, by the rules of
    /// [`strict::check`](super::strict::check).
    ///
    /// # Errors
    /// The first thing that is wrong, and where.
    pub fn parse(bytes: &[u8], scope: &Scope, limits: &Limits) -> Result<Self, XmlError> {
        let mut reader = Reader::new(bytes, scope, limits, Top::Element)?;
        let mut names = Interner::default();
        let mut open: Vec<Self> = Vec::new();
        let mut root = None;
        while let Some(event) = reader.next()? {
            match event {
                Event::Start(start) => open.push(Self::start(&reader, &start, &mut names)),
                Event::Text(text) => {
                    if let Some(parent) = open.last_mut() {
                        parent.push_piece(text);
                    }
                }
                Event::End(_) => {
                    let Some(element) = open.pop() else { continue };
                    match open.last_mut() {
                        Some(parent) => parent.nodes.push(Node::Element(element)),
                        None => root = Some(element),
                    }
                }
            }
        }
        root.ok_or_else(|| XmlError::malformed(0, "there is no element"))
    }

    fn start<'a>(reader: &Reader<'a>, start: &Start<'a>, names: &mut Interner) -> Self {
        let attrs = reader.attributes().iter().filter(|a| !a.is_declaration()).map(|a| Attr {
            ns: names.get(&reader.attribute_ns(a)),
            name: a.name.local.to_owned(),
            value: a.value().into_owned(),
        });
        Self {
            attrs: attrs.collect(),
            ns: names.get(reader.ns(start.binding)),
            name: start.name.local.to_owned(),
            nodes: Vec::new(),
        }
    }

    /// Adds to the text node at the end, so that adjacent pieces are one.
    fn push_piece(&mut self, piece: Text<'_>) {
        if let Some(Node::Text(text)) = self.nodes.last_mut() {
            piece.push_to(text);
        } else if !piece.is_empty() {
            let mut text = String::new();
            piece.push_to(&mut text);
            self.nodes.push(Node::Text(text));
        }
    }

    /// The local name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace; empty for none.
    pub fn ns(&self) -> &str {
        &self.ns
    }

    /// Whether this is the element `name` of the namespace `ns`.
    pub fn is(&self, name: &str, ns: &str) -> bool {
        self.name == name && *self.ns == *ns
    }

    /// The attributes in order, without namespace declarations.
    pub fn attrs(&self) -> &[Attr] {
        &self.attrs
    }

    /// The value of the attribute `name` in no namespace.
    pub fn attr(&self, name: &str) -> Option<&str> {
        self.attr_ns(name, "")
    }

    /// The value of the attribute `name` of the namespace `ns`.
    pub fn attr_ns(&self, name: &str, ns: &str) -> Option<&str> {
        self.attrs.iter().find(|a| a.name == name && *a.ns == *ns).map(|a| &*a.value)
    }

    /// The value of `xml:lang` on this element.
    pub fn lang(&self) -> Option<&str> {
        self.attr_ns("lang", ns::XML)
    }

    /// Elements and text in order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The elements directly inside.
    pub fn children(&self) -> impl DoubleEndedIterator<Item = &Element> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    /// The first element directly inside that is `name` of the namespace `ns`.
    pub fn child(&self, name: &str, ns: &str) -> Option<&Element> {
        self.children().find(|child| child.is(name, ns))
    }

    /// The character data directly inside, in one piece.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for node in &self.nodes {
            if let Node::Text(text) = node {
                out.push_str(text);
            }
        }
        out
    }

    /// The same element with the attribute `name`, in no namespace, set to `value`.
    #[must_use]
    pub fn with_attr(mut self, name: &str, value: impl Into<String>) -> Self {
        self.set_attr(name, value);
        self
    }

    /// The same element with the attribute `name` of the namespace `ns` set to `value`.
    #[must_use]
    pub fn with_attr_ns(
        mut self,
        name: &str,
        ns: impl Into<Arc<str>>,
        value: impl Into<String>,
    ) -> Self {
        self.put_attr(Attr { ns: ns.into(), name: name.to_owned(), value: value.into() });
        self
    }

    /// The same element with `child` as its last child.
    #[must_use]
    pub fn with_child(mut self, child: Element) -> Self {
        self.push(child);
        self
    }

    /// The same element with `text` at its end.
    #[must_use]
    pub fn with_text(mut self, text: &str) -> Self {
        self.push_text(text);
        self
    }

    /// Sets the attribute `name`, in no namespace.
    pub fn set_attr(&mut self, name: &str, value: impl Into<String>) {
        self.put_attr(Attr { ns: "".into(), name: name.to_owned(), value: value.into() });
    }

    fn put_attr(&mut self, attr: Attr) {
        match self.attrs.iter_mut().find(|a| a.name == attr.name && a.ns == attr.ns) {
            Some(old) => *old = attr,
            None => self.attrs.push(attr),
        }
    }

    /// Adds a child at the end.
    pub fn push(&mut self, child: Element) {
        self.nodes.push(Node::Element(child));
    }

    /// Adds character data at the end.
    pub fn push_text(&mut self, text: &str) {
        match self.nodes.last_mut() {
            Some(Node::Text(last)) => last.push_str(text),
            _ if text.is_empty() => {}
            _ => self.nodes.push(Node::Text(text.to_owned())),
        }
    }

    /// The element as XML that can be parsed alone.
    pub fn to_xml(&self) -> String {
        let mut out = String::new();
        self.write_to(&mut out, &Scope::empty());
        out
    }

    /// Appends the element as XML for a place where the bindings of `scope` are in force: a
    /// namespace is declared only where it is not the default there or bound to a prefix. Characters
    /// that XML cannot carry become U+FFFD.
    pub fn write_to(&self, out: &mut String, scope: &Scope) {
        struct Open<'e> {
            element: &'e Element,
            rest: std::slice::Iter<'e, Node>,
            default_ns: &'e str,
            prefix: &'e str,
        }
        fn open<'e>(
            out: &mut String,
            element: &'e Element,
            default_ns: &'e str,
            scope: &'e Scope,
        ) -> Option<Open<'e>> {
            let (prefix, inside) = element.write_start(out, default_ns, scope);
            if element.nodes.is_empty() {
                out.push_str("/>");
                return None;
            }
            out.push('>');
            Some(Open { element, rest: element.nodes.iter(), default_ns: inside, prefix })
        }
        let outer = scope.get("").unwrap_or_default();
        let mut stack: Vec<Open<'_>> = open(out, self, outer, scope).into_iter().collect();
        while let Some(top) = stack.last_mut() {
            match top.rest.next() {
                Some(Node::Text(text)) => escape_text(out, text),
                Some(Node::Element(child)) => {
                    let default_ns = top.default_ns;
                    stack.extend(open(out, child, default_ns, scope));
                }
                None => {
                    out.push_str("</");
                    push_name(out, top.prefix, &top.element.name);
                    out.push('>');
                    stack.pop();
                }
            }
        }
    }

    /// Writes `<name` and the attributes; gives the prefix and the default namespace inside.
    fn write_start<'e>(
        &'e self,
        out: &mut String,
        default_ns: &'e str,
        scope: &'e Scope,
    ) -> (&'e str, &'e str) {
        let prefix = match &*self.ns {
            ns if ns == default_ns => "",
            "" => "",
            // It is always bound, and nothing else may be bound to it.
            ns::XML => "xml",
            ns => scope
                .iter()
                .rev()
                .find(|b| b.1 == ns && scope.get(b.0) == Some(ns))
                .map_or("", |b| b.0),
        };
        out.push('<');
        push_name(out, prefix, &self.name);
        let mut inside = default_ns;
        if prefix.is_empty() && *self.ns != *default_ns {
            attribute(out, "xmlns", &self.ns);
            inside = &self.ns;
        }
        for (index, attr) in self.attrs.iter().enumerate() {
            match &*attr.ns {
                "" => attribute(out, &attr.name, &attr.value),
                ns::XML => attribute(out, &format!("xml:{}", attr.name), &attr.value),
                ns => {
                    let mut prefix = format!("ns{index}");
                    // It must not hide one that elements inside are written with.
                    while scope.get(&prefix).is_some() {
                        prefix.push('_');
                    }
                    attribute(out, &format!("xmlns:{prefix}"), ns);
                    attribute(out, &format!("{prefix}:{}", attr.name), &attr.value);
                }
            }
        }
        (prefix, inside)
    }
}

fn push_name(out: &mut String, prefix: &str, name: &str) {
    if !prefix.is_empty() {
        out.push_str(prefix);
        out.push(':');
    }
    out.push_str(name);
}

/// Shares the namespaces of one tree.
#[derive(Default)]
struct Interner(Vec<Arc<str>>);

impl Interner {
    fn get(&mut self, ns: &str) -> Arc<str> {
        // Few namespaces come in turn; one that is not among the last is shared anew.
        if let Some(known) = self.0.iter().rev().take(8).find(|known| ***known == *ns) {
            return known.clone();
        }
        let new: Arc<str> = ns.into();
        self.0.push(new.clone());
        new
    }
}

impl Drop for Element {
    fn drop(&mut self) {
        let mut doomed = std::mem::take(&mut self.nodes);
        while let Some(node) = doomed.pop() {
            if let Node::Element(mut element) = node {
                doomed.append(&mut element.nodes);
            }
        }
    }
}

impl Clone for Element {
    fn clone(&self) -> Self {
        let shell = |from: &Self| Self {
            name: from.name.clone(),
            ns: from.ns.clone(),
            attrs: from.attrs.clone(),
            nodes: Vec::with_capacity(from.nodes.len()),
        };
        let mut copy = shell(self);
        let mut rest = self.nodes.iter();
        let mut outer = Vec::new();
        loop {
            match rest.next() {
                Some(Node::Text(text)) => copy.nodes.push(Node::Text(text.clone())),
                Some(Node::Element(child)) => {
                    let parent = std::mem::replace(&mut copy, shell(child));
                    outer.push((parent, std::mem::replace(&mut rest, child.nodes.iter())));
                }
                None => {
                    let Some((parent, siblings)) = outer.pop() else { return copy };
                    let child = std::mem::replace(&mut copy, parent);
                    copy.push(child);
                    rest = siblings;
                }
            }
        }
    }
}

/// The order of attributes has no meaning (XML 1.0 §3.1).
impl PartialEq for Element {
    fn eq(&self, other: &Self) -> bool {
        let mut pairs = vec![(self, other)];
        while let Some((a, b)) = pairs.pop() {
            let same_attrs =
                a.attrs.len() == b.attrs.len() && a.attrs.iter().all(|attr| b.attrs.contains(attr));
            if a.name != b.name || a.ns != b.ns || !same_attrs || a.nodes.len() != b.nodes.len() {
                return false;
            }
            for nodes in a.nodes.iter().zip(&b.nodes) {
                match nodes {
                    (Node::Text(a), Node::Text(b)) if a == b => {}
                    (Node::Element(a), Node::Element(b)) => pairs.push((a, b)),
                    _ => return false,
                }
            }
        }
        true
    }
}

impl Eq for Element {}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_xml())
    }
}

impl fmt::Debug for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Element({})", self.to_xml())
    }
}
