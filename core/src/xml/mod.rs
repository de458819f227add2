//! XML as XMPP restricts it (RFC 6120 §11): framing, validation, trees and serialisation.
//!
//! Bytes from a stream go through a [`Framer`], which finds where each stanza ends and hands on its
//! bytes as they came. [`strict::check`] decides whether such bytes are one acceptable element, and
//! [`Element`] makes a tree of them where somebody needs one. Nothing here recurses on its input.

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
