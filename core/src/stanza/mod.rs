//! Stanzas (RFC 6120 §8): what one says in its start tag, its bytes as they came, answers to it, and
//! new ones.
//!
//! ```
//! use appxmpp::ns;
//! use appxmpp::stanza::{Form, Stanza, StanzaBuilder, present};
//! use appxmpp::xml::{Limits, Scope};
//!
//! let xml = StanzaBuilder::message().from("a@b.example").type_("chat").body("1 < 2").finish();
//! let stanza = Stanza::parse(xml.into(), &Scope::stream(ns::COMPONENT), &Limits::default())?;
//! assert_eq!(stanza.body().as_deref(), Some("1 < 2"));
//! assert!(present(&stanza, Form::Cli).contains("<cli:body>1 &lt; 2</cli:body>"));
//! # Ok::<(), appxmpp::xml::XmlError>(())
//! ```

mod build;
mod error;
mod kind;
mod present;
mod seams;

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

pub use build::StanzaBuilder;
pub use error::{Condition, ErrorType, StanzaError};
pub use kind::{IqType, MessageType, PresenceType, StanzaKind};
pub use present::{Form, present};

use self::seams::{SeamReader, Seams};
use crate::jid::WireJid;
use crate::ns;
use crate::xml::reader::{Event, Reader, Start, Text, Top};
use crate::xml::{Element, Limits, Scope, XmlError};

/// One element of a stream: its header read, its inside checked, its bytes kept as they came.
/// Cloning one does not copy them.
#[derive(Debug, Clone)]
pub struct Stanza {
    raw: Bytes,
    scope: Scope,
    limits: Limits,
    kind: StanzaKind,
    name: Cow<'static, str>,
    ns: Cow<'static, str>,
    type_: Option<Cow<'static, str>>,
    id: Option<Box<str>>,
    from: Option<WireJid>,
    to: Option<WireJid>,
    lang: Option<Box<str>>,
    body: Option<Body>,
    /// Where its own elements are named, in a message or presence where that is all that
    /// [`present`] needs.
    seams: Option<Seams>,
}

/// What is inside the first `<body/>`.
#[derive(Debug, Clone)]
enum Body {
    /// In `raw`, with nothing to unescape.
    Verbatim(Range<usize>),
    Unescaped(Box<str>),
}

impl Stanza {
    /// Checks `bytes` by the rules of [`strict::check`](crate::xml::strict::check) and reads the
    /// start tag. Addresses are taken as written, whatever they are.
    ///
    /// # Errors
    /// The first thing that is wrong, and where. A stanza that was framed can be skipped for it: the
    /// stream goes on.
    pub fn parse(bytes: Bytes, scope: &Scope, limits: &Limits) -> Result<Self, XmlError> {
        let mut reader = Reader::new(&bytes, scope, limits, Top::Element)?;
        let Some(Event::Start(start)) = reader.next()? else {
            return Err(XmlError::malformed(0, "there is no element"));
        };
        let mut stanza = Self::of_start(&reader, &start);
        let is_presented = matches!(stanza.kind, StanzaKind::Message | StanzaKind::Presence);
        let mut seams = is_presented.then(|| SeamReader::new(scope, &reader, &start));
        let mut body = BodyReader::default();
        let mut end = start.tag.end;
        while let Some(event) = reader.next()? {
            if let Some(seams) = &mut seams {
                seams.see(&reader, &event);
            }
            if let Event::End(tag) = &event {
                end = tag.end;
            }
            if stanza.kind == StanzaKind::Message {
                body.see(&reader, event, &stanza.ns);
            }
        }
        let element = start.tag.start..end;
        drop(reader);
        stanza.seams = seams.and_then(|seams| seams.finish(element.start));
        stanza.body = body.finish(element.start);
        stanza.scope = scope.clone();
        stanza.limits = *limits;
        stanza.raw = if element.len() == bytes.len() { bytes } else { bytes.slice(element) };
        Ok(stanza)
    }

    fn of_start(reader: &Reader<'_>, start: &Start<'_>) -> Self {
        let ns = match reader.ns(start.binding) {
            ns::COMPONENT => Cow::Borrowed(ns::COMPONENT),
            ns::CLIENT => Cow::Borrowed(ns::CLIENT),
            other => Cow::Owned(other.to_owned()),
        };
        let kind = match ns {
            Cow::Borrowed(_) => StanzaKind::of(start.name.local),
            Cow::Owned(_) => StanzaKind::Other,
        };
        let name = match kind {
            StanzaKind::Other => start.name.local.to_owned().into(),
            known => known.as_str().into(),
        };
        let mut stanza = Self {
            raw: Bytes::new(),
            scope: Scope::empty(),
            limits: Limits::default(),
            kind,
            name,
            ns,
            type_: None,
            id: None,
            from: None,
            to: None,
            lang: None,
            body: None,
            seams: None,
        };
        for attribute in reader.attributes() {
            let value = || attribute.value();
            match (attribute.name.prefix, attribute.name.local) {
                ("", "from") => stanza.from = Some(WireJid::new(value())),
                ("", "to") => stanza.to = Some(WireJid::new(value())),
                ("", "id") => stanza.id = Some(value().into()),
                ("", "type") => stanza.type_ = Some(kind::known_type(value())),
                ("xml", "lang") => stanza.lang = Some(value().into()),
                _ => {}
            }
        }
        stanza
    }

    /// The same stanza in memory of its own. As it came, it keeps all that was received with it in
    /// memory, which is a lot if it waits for long.
    #[must_use]
    pub fn detached(mut self) -> Self {
        self.raw = Bytes::copy_from_slice(&self.raw);
        self
    }

    /// Message, presence or iq, in either of the two namespaces stanzas have.
    pub fn kind(&self) -> StanzaKind {
        self.kind
    }

    /// The local name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace: `jabber:component:accept` or `jabber:client`, unless the kind is `Other`.
    pub fn ns(&self) -> &str {
        &self.ns
    }

    /// Whether this is the element `name` of the namespace `ns`.
    pub fn is(&self, name: &str, ns: &str) -> bool {
        self.name == name && self.ns == ns
    }

    /// The attribute `type`, as written.
    pub fn type_(&self) -> Option<&str> {
        self.type_.as_deref()
    }

    /// The type of a message; one that is absent or unknown is normal (RFC 6121 §5.2.2).
    pub fn message_type(&self) -> MessageType {
        self.type_().map_or(MessageType::Normal, MessageType::parse)
    }

    /// The type of a presence stanza; `None` for one that RFC 6121 §4.7.1 does not know.
    pub fn presence_type(&self) -> Option<PresenceType> {
        self.type_().map_or(Some(PresenceType::Available), PresenceType::parse)
    }

    /// The type of an iq; `None` where it is absent or not one of RFC 6120 §8.2.3.
    pub fn iq_type(&self) -> Option<IqType> {
        self.type_().and_then(IqType::parse)
    }

    /// Whether the type is `error`.
    pub fn is_error(&self) -> bool {
        self.type_() == Some("error")
    }

    /// The sender, as the server wrote it.
    pub fn from(&self) -> Option<&WireJid> {
        self.from.as_ref()
    }

    /// The address written to, as the server wrote it.
    pub fn to(&self) -> Option<&WireJid> {
        self.to.as_ref()
    }

    /// The attribute `id`.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// `xml:lang` of the stanza.
    pub fn lang(&self) -> Option<&str> {
        self.lang.as_deref()
    }

    /// The bytes as they came. Namespaces declared on the stream header are not declared in them:
    /// for XML that can be parsed alone see [`present`].
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// The bindings in force around the stanza.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The stanza as a tree, built anew at each call.
    ///
    /// # Errors
    /// None that [`Stanza::parse`] would have let through.
    pub fn element(&self) -> Result<Element, XmlError> {
        Element::parse(&self.raw, &self.scope, &self.limits)
    }

    /// The text of a message's first `<body/>`; `None` where there is none.
    pub fn body(&self) -> Option<Cow<'_, str>> {
        match self.body.as_ref()? {
            // The stanza was checked, so that this is text.
            Body::Verbatim(range) => {
                std::str::from_utf8(&self.raw[range.clone()]).ok().map(Cow::Borrowed)
            }
            Body::Unescaped(text) => Some(Cow::Borrowed(text)),
        }
    }

    /// The text of the first child `name` in the stanza's own namespace: `show`, `status`, `subject`
    /// and the like.
    pub fn child_text(&self, name: &str) -> Option<String> {
        let mut reader = Reader::new(&self.raw, &self.scope, &self.limits, Top::Element).ok()?;
        let mut text = None;
        while let Some(event) = reader.next().ok()? {
            match event {
                Event::Start(start)
                    if reader.depth() == 2
                        && start.name.local == name
                        && reader.ns(start.binding) == self.ns =>
                {
                    text = Some(String::new());
                }
                Event::Text(piece) if reader.depth() == 2 => {
                    if let Some(text) = &mut text {
                        piece.push_to(text);
                    }
                }
                Event::End(_) if reader.depth() == 1 && text.is_some() => break,
                _ => {}
            }
        }
        text
    }

    /// What went wrong, where the type is `error` (RFC 6120 §8.3).
    pub fn error(&self) -> Option<StanzaError> {
        if !self.is_error() {
            return None;
        }
        let element = self.element().ok()?;
        element.child("error", &self.ns).map(StanzaError::from_element)
    }

    /// The answer to this stanza that says `error`: the same kind and id, sent back. `None` for what
    /// must not be answered: another error (RFC 6120 §8.3.1), the result of an iq, or a stanza
    /// without a sender.
    pub fn error_reply(&self, error: &StanzaError) -> Option<String> {
        if self.is_error() || self.type_() == Some("result") && self.kind == StanzaKind::Iq {
            return None;
        }
        let builder = match self.kind {
            StanzaKind::Message => StanzaBuilder::message(),
            StanzaKind::Presence => StanzaBuilder::presence(),
            StanzaKind::Iq => StanzaBuilder::iq(),
            StanzaKind::Other => return None,
        };
        Some(self.address_back(builder)?.type_("error").error(error).finish())
    }

    /// The result of this iq of type get or set, with `payload` inside. `None` for anything else and
    /// for an iq without a sender.
    pub fn result_reply(&self, payload: Option<&Element>) -> Option<String> {
        if self.kind != StanzaKind::Iq || !matches!(self.iq_type()?, IqType::Get | IqType::Set) {
            return None;
        }
        let builder = self.address_back(StanzaBuilder::iq())?.type_("result");
        let default_ns = Scope::default_ns(&self.ns);
        Some(match payload {
            Some(payload) => builder.element(payload, &default_ns).finish(),
            None => builder.finish(),
        })
    }

    /// To whoever sent this, from whom it was sent to, with the same id.
    fn address_back(&self, mut builder: StanzaBuilder) -> Option<StanzaBuilder> {
        match &self.from {
            Some(from) => builder = builder.to(from.as_str()),
            // To an account its server need not say who it is (RFC 6120 §8.1.2.1).
            None if self.ns() == ns::CLIENT => {}
            None => return None,
        }
        if let Some(to) = &self.to {
            builder = builder.from(to.as_str());
        }
        if let Some(id) = &self.id {
            builder = builder.id(id);
        }
        Some(builder)
    }
}

/// Picks the first `<body/>` of a message out of the events as they pass.
#[derive(Default)]
struct BodyReader<'a> {
    inside: bool,
    done: bool,
    start: usize,
    end: usize,
    /// The first piece, if it is verbatim, until there is another one.
    first: Option<&'a str>,
    text: String,
}

impl<'a> BodyReader<'a> {
    fn see(&mut self, reader: &Reader<'_>, event: Event<'a>, stanza_ns: &str) {
        if self.done {
            return;
        }
        match event {
            Event::Start(start) if reader.depth() == 2 => {
                let is_body = start.name.local == "body" && reader.ns(start.binding) == stanza_ns;
                if is_body {
                    self.inside = true;
                    self.start = start.tag.end;
                }
            }
            Event::Text(piece) if self.inside && reader.depth() == 2 => self.piece(piece),
            Event::End(tag) if self.inside && reader.depth() == 1 => {
                self.end = tag.start;
                self.inside = false;
                self.done = true;
            }
            _ => {}
        }
    }

    fn piece(&mut self, piece: Text<'a>) {
        if let Text::Literal(text) = piece
            && self.text.is_empty()
            && self.first.is_none()
            && memchr::memchr(b'\r', text.as_bytes()).is_none()
        {
            self.first = Some(text);
            return;
        }
        self.text.push_str(self.first.take().unwrap_or_default());
        piece.push_to(&mut self.text);
    }

    /// `origin` is where the stanza starts.
    fn finish(self, origin: usize) -> Option<Body> {
        if !self.done {
            return None;
        }
        match self.first {
            // It is all there is.
            Some(first) if first.len() == self.end - self.start => {
                Some(Body::Verbatim(self.start - origin..self.end - origin))
            }
            Some(first) => Some(Body::Unescaped(first.into())),
            None => Some(Body::Unescaped(self.text.into())),
        }
    }
}

#[cfg(test)]
mod tests;
