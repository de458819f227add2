//! XML as XMPP restricts it (RFC 6120 §11): framing, validation, trees and serialisation.
//!
//! Bytes from a stream go through a [`Framer`], which finds where each stanza ends and hands on its
//! bytes as they came. [`strict::check`] decides whether such bytes are one acceptable element, and
//! [`Element`] makes a tree of them where somebody needs one. Nothing here recurses on its input.
//!
//! ```
//! use appxmpp::xml::{Element, Frame, Framer, Limits};
//!
//! let mut framer = Framer::new(Limits::default());
//! framer.push(b"<stream:stream xmlns='jabber:client' \
//!     xmlns:stream='http://etherx.jabber.org/streams'><message><bo");
//! let Some(Frame::Open(header)) = framer.next()? else { unreachable!() };
//! assert_eq!(header.default_ns(), "jabber:client");
//! assert_eq!(framer.next()?, None);
//!
//! framer.push(b"dy>a &amp; b</body></message>");
//! let Some(Frame::Stanza(bytes)) = framer.next()? else { unreachable!() };
//! let message = Element::parse(&bytes, &header.scope, &Limits::default())?;
//! let body = message.child("body", "jabber:client").map(Element::text);
//! assert_eq!(body.as_deref(), Some("a & b"));
//! # Ok::<(), appxmpp::xml::XmlError>(())
//! ```

mod chars;
pub mod element;
mod error;
pub mod fragment;
mod frame;
mod header;
mod limits;
pub(crate) mod reader;
mod scan;
mod scope;
pub mod strict;
mod tag;
#[cfg(test)]
mod tests;
pub mod writer;

pub use element::{Attr, Element, Node};
pub use error::{XmlError, XmlErrorKind};
pub use frame::{Frame, Framer};
pub use header::StreamHeader;
pub use limits::Limits;
pub use scope::Scope;
pub use strict::{Attribute, Head};
