//! Where a stanza's own elements are named: noted while it is read, so that
//! [`present`](super::present) need not read it a second time.

use smallvec::SmallVec;

use super::present::is_own;
use crate::ns;
use crate::xml::Scope;
use crate::xml::reader::{Event, Reader, Start};
use crate::xml::writer::attribute;

/// The deepest element that is kept in mind; as deep as a stanza may be by default.
const DEPTH: usize = u128::BITS as usize;

/// The most places that are noted: a stranger's stanza takes no more memory for them.
const PLACES: usize = 64;

/// The places in a stanza where `cli:` belongs, in the order of the text.
#[derive(Debug, Clone, Default)]
pub(super) struct Seams(SmallVec<[u32; 4]>);

impl Seams {
    /// `src` with the prefix at each place, declared on its root, whose name is `root`.
    pub(super) fn prefixed(&self, src: &str, root: &str) -> String {
        let mut out = String::with_capacity(src.len() + 4 * self.0.len() + 32);
        let mut done = 0;
        for &at in &self.0 {
            let is_root = done == 0;
            out.push_str(&src[done..at as usize]);
            out.push_str("cli:");
            done = at as usize;
            if is_root {
                out.push_str(root);
                attribute(&mut out, "xmlns:cli", ns::CLIENT);
                done += root.len();
            }
        }
        out.push_str(&src[done..]);
        out
    }
}

/// Finds the places while the events of a stanza pass.
pub(super) struct SeamReader {
    /// `None` from the first thing on that takes more than a prefix at each place.
    seams: Option<Seams>,
    /// How many bindings are in force around the stanza.
    outside: usize,
    /// Which of the open elements are the stanza's own: a bit for each depth.
    own: u128,
}

impl SeamReader {
    /// In a stanza whose start tag is `root`, where the bindings of `scope` are in force.
    pub(super) fn new(scope: &Scope, reader: &Reader<'_>, root: &Start<'_>) -> Self {
        let seams = scope.get("cli").is_none().then(Seams::default);
        let mut this = Self { seams, outside: scope.iter().len(), own: 0 };
        this.start(reader, root);
        this
    }

    pub(super) fn see(&mut self, reader: &Reader<'_>, event: &Event<'_>) {
        match event {
            _ if self.seams.is_none() => {}
            Event::Start(start) => self.start(reader, start),
            // The element is closed: it was one deeper.
            Event::End(tag) if !tag.is_empty() && self.own & bit(reader.depth() + 1) != 0 => {
                self.note(tag.start + 2);
            }
            Event::End(_) | Event::Text(_) => {}
        }
    }

    fn start(&mut self, reader: &Reader<'_>, start: &Start<'_>) {
        match self.is_own(reader, start) {
            Some(true) => self.note(start.tag.start + 1),
            Some(false) => {}
            None => self.seams = None,
        }
    }

    fn note(&mut self, place: usize) {
        let Some(Seams(places)) = &mut self.seams else { return };
        match u32::try_from(place) {
            Ok(place) if places.len() < PLACES => places.push(place),
            _ => self.seams = None,
        }
    }

    /// The places, in a stanza that starts at `origin`; `None` if that is not all there is to it.
    pub(super) fn finish(self, origin: usize) -> Option<Seams> {
        let mut seams = self.seams?;
        let origin = u32::try_from(origin).ok()?;
        seams.0.iter_mut().for_each(|place| *place -= origin);
        Some(seams)
    }

    /// Whether an element is the stanza's own; `None` where the general way must be gone: something
    /// depends on the stream header for more than its default namespace, or the stanza declares its own
    /// namespace once more, or the prefix.
    fn is_own(&mut self, reader: &Reader<'_>, start: &Start<'_>) -> Option<bool> {
        let depth = reader.depth();
        for attribute in reader.attributes() {
            let is_plain = if attribute.is_declaration() {
                attribute.name.local != "cli" && !is_own(&attribute.value())
            } else {
                let binding = reader.attribute_binding(attribute);
                binding.is_none_or(|binding| binding.index() >= self.outside)
            };
            if !is_plain {
                return None;
            }
        }
        let is_inherited = start.binding.is_some_and(|it| it.index() < self.outside);
        let is_plain = start.name.prefix.is_empty() && is_own(reader.ns(start.binding));
        if depth > DEPTH || (is_inherited && !is_plain) {
            return None;
        }
        match is_inherited {
            true => self.own |= bit(depth),
            false => self.own &= !bit(depth),
        }
        Some(is_inherited)
    }
}

/// The bit of the element at `depth`, the root's being 1.
fn bit(depth: usize) -> u128 {
    1 << ((depth - 1) % DEPTH)
}
