//! Is this text something that may stand inside a stanza?

use std::ops::Range;

use super::error::XmlError;
use super::limits::Limits;
use super::reader::{Event, Reader, Top};
use super::scope::Scope;

/// Checks that `xml` is a sequence of whole elements and text that may stand inside a stanza whose
/// default namespace is `default_ns`, and that cannot end that stanza or the stream around it.
/// Returns where its top-level elements are.
///
/// # Errors
/// The first thing that is wrong, and where.
pub fn check(xml: &str, default_ns: &str, limits: &Limits) -> Result<Vec<Range<usize>>, XmlError> {
    let scope = Scope::default_ns(default_ns);
    // The stanza around it is one level.
    let limits = Limits { depth: limits.depth.saturating_sub(1), ..*limits };
    let mut reader = Reader::new(xml.as_bytes(), &scope, &limits, Top::Fragment)?;
    let mut elements = Vec::new();
    let mut start = 0;
    while let Some(event) = reader.next()? {
        match event {
            Event::Start(tag) if reader.depth() == 1 => start = tag.tag.start,
            Event::End(tag) if reader.depth() == 0 => elements.push(start..tag.end),
            _ => {}
        }
    }
    Ok(elements)
}
