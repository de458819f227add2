use crate::xml::writer::{attribute, escape_text};
use crate::xml::{Element, Scope};

/// Writes one stanza. It carries no namespace of its own: it is in the stream's, be that
/// `jabber:component:accept` or `jabber:client`.
///
/// Attributes come first; what is added after the first child is ignored if it is an attribute.
#[derive(Debug, Clone)]
pub struct StanzaBuilder {
    out: String,
    name: &'static str,
    /// Whether the start tag is closed.
    open: bool,
}

impl StanzaBuilder {
    /// A message.
    pub fn message() -> Self {
        Self::new("message")
    }

    /// A presence stanza.
    pub fn presence() -> Self {
        Self::new("presence")
    }

    /// An iq. Its type and id must be set (RFC 6120 §8.2.3).
    pub fn iq() -> Self {
        Self::new("iq")
    }

    fn new(name: &'static str) -> Self {
        let mut out = String::with_capacity(256);
        out.push('<');
        out.push_str(name);
        Self { out, name, open: false }
    }

    /// Adds an attribute, escaped. `name` must be a name, and not be there yet.
    #[must_use]
    pub fn attr(mut self, name: &str, value: &str) -> Self {
        debug_assert!(!self.open, "an attribute after a child");
        if !self.open {
            attribute(&mut self.out, name, value);
        }
        self
    }

    /// Sets the sender.
    #[must_use]
    pub fn from(self, jid: &str) -> Self {
        self.attr("from", jid)
    }

    /// Sets the recipient.
    #[must_use]
    pub fn to(self, jid: &str) -> Self {
        self.attr("to", jid)
    }

    /// Sets the id.
    #[must_use]
    pub fn id(self, id: &str) -> Self {
        self.attr("id", id)
    }

    /// Sets the type.
    #[must_use]
    pub fn type_(self, type_: &str) -> Self {
        self.attr("type", type_)
    }

    /// Adds a child of the stanza's own namespace with `text` inside, escaped.
    #[must_use]
    pub fn child_text(mut self, name: &str, text: &str) -> Self {
        self.close_start();
        let out = &mut self.out;
        out.push('<');
        out.push_str(name);
        out.push('>');
        escape_text(out, text);
        out.push_str("</");
        out.push_str(name);
        out.push('>');
        self
    }

    /// Adds `<body/>`.
    #[must_use]
    pub fn body(self, text: &str) -> Self {
        self.child_text("body", text)
    }

    /// Adds a child. `scope` says what is in force around it: where the stream's default namespace
    /// is in it, elements of that namespace are written without one.
    #[must_use]
    pub fn element(mut self, element: &Element, scope: &Scope) -> Self {
        self.close_start();
        element.write_to(&mut self.out, scope);
        self
    }

    /// Adds XML as it is. It must have passed [`fragment::check`](crate::xml::fragment::check).
    #[must_use]
    pub fn xml(mut self, xml: &str) -> Self {
        self.close_start();
        self.out.push_str(xml);
        self
    }

    /// The stanza's XML.
    pub fn finish(mut self) -> String {
        if self.open {
            self.out.push_str("</");
            self.out.push_str(self.name);
            self.out.push('>');
        } else {
            self.out.push_str("/>");
        }
        self.out
    }

    fn close_start(&mut self) {
        if !self.open {
            self.out.push('>');
            self.open = true;
        }
    }
}
