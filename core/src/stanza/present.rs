//! A stanza as XML that can be parsed alone, for those who asked for its text.

use std::ops::Range;

use super::Stanza;
use crate::ns;
use crate::xml::XmlError;
use crate::xml::reader::{Binding, Event, RawAttribute, Reader, Start, Top};
use crate::xml::writer::attribute;

/// How [`present`] writes the elements of the stanza's own namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Form {
    /// `<cli:message xmlns:cli="jabber:client"><cli:body>`, as App Engine did.
    #[default]
    Cli,
    /// `<message xmlns="jabber:client"><body>`.
    Client,
}

/// The stanza as XML that can be parsed alone, its own elements in `jabber:client` whatever the
/// stream's namespace is.
///
/// All else is as it came: children of other namespaces, their order, attributes, text and white
/// space. Where the stanza itself declares the prefix `cli`, [`Form::Client`] is written instead.
pub fn present(stanza: &Stanza, form: Form) -> String {
    if let (Form::Cli, Some(seams)) = (form, &stanza.seams) {
        let src = std::str::from_utf8(&stanza.raw).unwrap_or_default();
        return seams.prefixed(src, &stanza.name);
    }
    rewritten(stanza, form)
}

/// [`present`] for any stanza: by reading it again.
pub(super) fn rewritten(stanza: &Stanza, form: Form) -> String {
    let rewrite = |form| Presenter::new(stanza, form).run();
    let written = match rewrite(form) {
        Ok(None) => rewrite(Form::Client),
        other => other,
    };
    match written {
        Ok(Some(xml)) => xml,
        // The stanza was checked when it was parsed, so that its tree can be written in any case.
        _ => stanza.element().map(|element| element.to_xml()).unwrap_or_default(),
    }
}

/// Copies the stanza, changing its tags where they need it.
struct Presenter<'s> {
    stanza: &'s Stanza,
    src: &'s str,
    form: Form,
    out: String,
    /// How much of `src` is written or left out.
    done: usize,
    /// For each open element that is written with the prefix `cli`, the length of the prefix and
    /// colon it came with.
    renamed: Vec<Option<usize>>,
    /// How many bindings are in force inside the root's start tag.
    root_bindings: usize,
    /// Which of the stream header's bindings the root must declare.
    needed: Vec<bool>,
    /// Where in `out` the root's attributes begin.
    attributes_at: usize,
    /// Whether anything is written with the prefix `cli`.
    uses_cli: bool,
}

impl<'s> Presenter<'s> {
    fn new(stanza: &'s Stanza, form: Form) -> Self {
        let src = std::str::from_utf8(&stanza.raw).unwrap_or_default();
        Self {
            stanza,
            src,
            form,
            out: String::with_capacity(src.len() + 96),
            done: 0,
            renamed: Vec::with_capacity(8),
            root_bindings: 0,
            needed: vec![false; stanza.scope.iter().len()],
            attributes_at: 0,
            uses_cli: false,
        }
    }

    /// The text; `None` if the stanza uses the prefix `cli` itself.
    fn run(mut self) -> Result<Option<String>, XmlError> {
        let Stanza { scope, limits, .. } = self.stanza;
        if self.form == Form::Cli && scope.get("cli").is_some() {
            return Ok(None);
        }
        let mut reader = Reader::new(self.src.as_bytes(), scope, limits, Top::Element)?;
        while let Some(event) = reader.next()? {
            match event {
                Event::Start(_) if self.clashes(&reader) => return Ok(None),
                Event::Start(start) => self.start(&reader, &start),
                Event::End(tag) => self.end(tag),
                Event::Text(_) => {}
            }
        }
        self.copy_to(self.src.len());
        self.declare_on_root();
        Ok(Some(self.out))
    }

    fn clashes(&self, reader: &Reader<'_>) -> bool {
        let declares_cli = |a: &RawAttribute<'_>| a.is_declaration() && a.name.local == "cli";
        self.form == Form::Cli && reader.attributes().iter().any(declares_cli)
    }

    fn start(&mut self, reader: &Reader<'s>, start: &Start<'s>) {
        let root = reader.depth() == 1;
        if root {
            self.root_bindings = reader.bindings();
        }
        let prefix_len = match start.name.prefix.len() {
            0 => 0,
            len => len + 1,
        };
        // The stanza's own elements are those that say nothing else themselves.
        let inherited = start.binding.is_none_or(|b| b.index() < self.root_bindings);
        let own = is_own(reader.ns(start.binding))
            && (inherited || self.renamed.last().is_some_and(Option::is_some));
        let rename = own && self.form == Form::Cli;

        let name_at = start.tag.start + 1;
        if rename {
            self.uses_cli = true;
            self.copy_to(name_at);
            self.out.push_str("cli:");
            self.done = name_at + prefix_len;
        } else {
            self.need(start.binding);
        }
        self.renamed.push(rename.then_some(prefix_len));
        if root {
            self.copy_to(name_at + prefix_len + start.name.local.len());
            self.attributes_at = self.out.len();
        }
        for attribute in reader.attributes() {
            self.attribute(reader, attribute, root);
        }
    }

    fn attribute(&mut self, reader: &Reader<'s>, attribute: &RawAttribute<'s>, root: bool) {
        if !attribute.is_declaration() {
            self.need(reader.attribute_binding(attribute));
            return;
        }
        let ns = attribute.value();
        if root && self.form == Form::Cli && attribute.name.prefix.is_empty() && is_own(&ns) {
            // Nothing without a prefix is left to which it would apply.
            self.copy_to(self.src[..attribute.start].trim_ascii_end().len());
            self.done = attribute.end;
        } else if ns == ns::COMPONENT {
            let value_end = attribute.end - 1;
            self.copy_to(value_end - attribute.value.len());
            self.out.push_str(ns::CLIENT);
            self.done = value_end;
        }
    }

    fn end(&mut self, tag: Range<usize>) {
        if let Some(Some(prefix_len)) = self.renamed.pop()
            && !tag.is_empty()
        {
            self.copy_to(tag.start + 2);
            self.out.push_str("cli:");
            self.done += prefix_len;
        }
    }

    /// Takes note of a binding that something written as it came depends on.
    fn need(&mut self, binding: Option<Binding>) {
        if let Some(needed) = binding.and_then(|binding| self.needed.get_mut(binding.index())) {
            *needed = true;
        }
    }

    fn copy_to(&mut self, end: usize) {
        self.out.push_str(&self.src[self.done..end]);
        self.done = end;
    }

    /// Declares on the root what is used inside without being declared there.
    fn declare_on_root(&mut self) {
        let mut declarations = String::with_capacity(64);
        if self.uses_cli {
            attribute(&mut declarations, "xmlns:cli", ns::CLIENT);
        }
        for ((prefix, ns), needed) in self.stanza.scope.iter().zip(&self.needed) {
            if !needed {
                continue;
            }
            let ns = if is_own(ns) { ns::CLIENT } else { ns };
            match prefix {
                "" => attribute(&mut declarations, "xmlns", ns),
                _ => attribute(&mut declarations, &format!("xmlns:{prefix}"), ns),
            }
        }
        if !declarations.is_empty() {
            self.out.insert_str(self.attributes_at, &declarations);
        }
    }
}

pub(super) fn is_own(ns: &str) -> bool {
    matches!(ns, ns::CLIENT | ns::COMPONENT)
}
