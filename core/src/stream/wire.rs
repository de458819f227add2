//! One XML stream in both directions, whichever role this side has: framing, headers, stream
//! errors and the two halves of the close.

use std::borrow::Cow;

use super::error::StreamError;
use crate::ns;
use crate::stanza::{Stanza, StanzaKind};
use crate::xml::writer::{escape_attr, escape_text};
use crate::xml::{Element, Frame, Framer, Limits, Scope, StreamHeader, XmlError};

/// What the peer wrote.
#[expect(clippy::large_enum_variant, reason = "nearly everything is a stanza")]
pub(super) enum Incoming {
    Header(StreamHeader),
    Stanza(Stanza),
    Other(Element),
    Error(StreamError),
    /// An element that is unacceptable, though the stream around it is sound.
    Skipped(XmlError),
    Closed,
}

/// The attributes of this side's stream header.
pub(super) struct Header<'a> {
    pub(super) default_ns: &'static str,
    pub(super) attributes: &'a [(&'static str, &'a str)],
}

pub(super) struct Wire {
    framer: Framer,
    limits: Limits,
    scope: Scope,
    out: Vec<u8>,
    opened: bool,
    closed: bool,
}

impl Wire {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            framer: Framer::new(limits),
            limits,
            scope: Scope::empty(),
            out: Vec::new(),
            opened: false,
            closed: false,
        }
    }

    /// Awaits a new header, and lets this side write one, as after STARTTLS and SASL.
    #[cfg(feature = "client")]
    pub(super) fn restart(&mut self) {
        self.framer.reset();
        self.opened = false;
    }

    /// How many bytes were pushed and are not read.
    #[cfg(feature = "client")]
    pub(super) fn unread(&self) -> usize {
        self.framer.unread()
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.framer.push(bytes);
    }

    /// The next thing the peer wrote; an error is to be given to [`Wire::fail`].
    pub(super) fn next(&mut self) -> Result<Option<Incoming>, StreamError> {
        let bytes = match self.framer.next().map_err(|error| violation(&error))? {
            None => return Ok(None),
            Some(Frame::Open(header)) => {
                self.scope = header.scope.clone();
                return Ok(Some(Incoming::Header(header)));
            }
            Some(Frame::Skipped(error)) => return Ok(Some(Incoming::Skipped(error))),
            Some(Frame::Close) => return Ok(Some(Incoming::Closed)),
            Some(Frame::Stanza(bytes)) => bytes,
        };
        let stanza = match Stanza::parse(bytes, &self.scope, &self.limits) {
            Ok(stanza) if stanza.kind() != StanzaKind::Other => {
                return Ok(Some(Incoming::Stanza(stanza)));
            }
            Ok(stanza) => stanza,
            Err(error) => return Ok(Some(Incoming::Skipped(error))),
        };
        Ok(Some(match Element::parse(stanza.raw(), &self.scope, &self.limits) {
            Ok(element) if element.is("error", ns::STREAM) => Incoming::Error(read_error(&element)),
            Ok(element) => Incoming::Other(element),
            Err(error) => Incoming::Skipped(error),
        }))
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Moves everything that is to be sent to the end of `buffer`; says whether there was anything.
    pub(super) fn poll_transmit(&mut self, buffer: &mut Vec<u8>) -> bool {
        if self.out.is_empty() {
            return false;
        }
        if buffer.is_empty() {
            std::mem::swap(buffer, &mut self.out);
        } else {
            buffer.append(&mut self.out);
        }
        true
    }

    /// Writes this side's stream header.
    pub(super) fn open(&mut self, header: &Header<'_>) {
        self.opened = true;
        let mut text = format!(
            "<?xml version='1.0'?><stream:stream xmlns='{}' xmlns:stream='{}'",
            header.default_ns,
            ns::STREAM
        );
        for (name, value) in header.attributes {
            text.push(' ');
            text.push_str(name);
            text.push_str("='");
            escape_attr(&mut text, value);
            text.push('\'');
        }
        text.push('>');
        self.write(text.as_bytes());
    }

    pub(super) fn was_opened(&self) -> bool {
        self.opened
    }

    fn is_open(&self) -> bool {
        self.opened && !self.closed
    }

    /// Closes this side's half, once.
    pub(super) fn close(&mut self) {
        if self.is_open() {
            self.closed = true;
            self.write(b"</stream:stream>");
        }
    }

    /// Tells the peer what was wrong and closes this side's half. The header must have been written.
    pub(super) fn fail(&mut self, error: &StreamError) {
        if !self.is_open() {
            return;
        }
        let mut text =
            format!("<stream:error><{} xmlns='{}'/>", error.condition, ns::STREAM_ERRORS);
        if let Some(about) = &error.text {
            text.push_str("<text xmlns='");
            text.push_str(ns::STREAM_ERRORS);
            text.push_str("' xml:lang='en'>");
            escape_text(&mut text, about);
            text.push_str("</text>");
        }
        text.push_str("</stream:error>");
        self.write(text.as_bytes());
        self.close();
    }
}

fn violation(error: &XmlError) -> StreamError {
    StreamError::new(error.condition()).with_text(error.to_string())
}

/// Reads `<stream:error/>`: the first child in the conditions' namespace that is not the text.
fn read_error(element: &Element) -> StreamError {
    let condition = element
        .children()
        .find(|child| child.ns() == ns::STREAM_ERRORS && child.name() != "text")
        .map_or(Cow::Borrowed("undefined-condition"), |child| child.name().to_owned().into());
    let text = element.child("text", ns::STREAM_ERRORS).map(|text| text.text().to_string());
    StreamError { condition, text: text.filter(|text| !text.is_empty()) }
}
