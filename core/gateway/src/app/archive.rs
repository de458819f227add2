//! Answers of several stanzas: what an archive sends before the result of a query (XEP-0313).

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use appxmpp::stanza::{Stanza, StanzaKind};
use appxmpp::xml::{Element, Limits, Scope};
use appxmpp::{Jid, ns};
use memchr::memmem;

/// How much one query may collect; what comes beyond it is a message like any other.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// What every version's namespace begins with.
const MAM: &str = "urn:xmpp:mam:";

/// Whose messages, and to which query: the archive's address and the query's id.
type Key = (String, String);

/// The queries that wait for their result.
#[derive(Debug, Default)]
pub struct Archives {
    open: Mutex<HashMap<Key, Collected>>,
    /// How many there are: nothing is locked for an app that never asks an archive.
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Collected {
    stanzas: Vec<Stanza>,
    bytes: usize,
}

/// One query; dropping it ends the collecting.
#[derive(Debug)]
pub struct Query {
    archives: Arc<Archives>,
    key: Key,
}

impl Archives {
    /// Collects what `to` sends for the archive query in `inner`, the children of an iq. `None` if they
    /// are no such query, or one with the same id is already under way.
    pub fn collect(self: &Arc<Self>, to: &Jid, inner: &str) -> Option<Query> {
        memmem::find(inner.as_bytes(), MAM.as_bytes())?;
        let scope = Scope::stream(ns::CLIENT);
        let query = Element::parse(inner.as_bytes(), &scope, &Limits::default()).ok()?;
        if query.name() != "query" || !query.ns().starts_with(MAM) {
            return None;
        }
        let id = query.attr("queryid").unwrap_or_default();
        let key = (to.as_str().to_owned(), id.to_owned());
        let mut open = self.lock();
        if open.contains_key(&key) {
            return None;
        }
        open.insert(key.clone(), Collected::default());
        self.count.store(open.len(), Ordering::Relaxed);
        Some(Query { archives: Arc::clone(self), key })
    }

    /// Keeps `stanza` if it is an answer that a query collects; gives it back otherwise.
    pub fn keep(&self, stanza: Stanza) -> Option<Stanza> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return Some(stanza);
        }
        let Some(key) = key_of(&stanza) else { return Some(stanza) };
        let mut open = self.lock();
        let Some(collected) = open.get_mut(&key) else { return Some(stanza) };
        if collected.bytes + stanza.raw().len() > MAX_BYTES {
            return Some(stanza);
        }
        collected.bytes += stanza.raw().len();
        // On its own, so that it does not hold on to the buffer that it was read into.
        collected.stanzas.push(stanza.detached());
        None
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Collected>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key_of(stanza: &Stanza) -> Option<Key> {
    if stanza.kind() != StanzaKind::Message
        || stanza.is_error()
        || memmem::find(stanza.raw(), MAM.as_bytes()).is_none()
    {
        return None;
    }
    let from = stanza.from()?;
    let from = from.prepared().map_or(from.as_str(), Jid::as_str).to_owned();
    let message = stanza.element().ok()?;
    let result =
        message.children().find(|child| child.name() == "result" && child.ns().starts_with(MAM))?;
    Some((from, result.attr("queryid").unwrap_or_default().to_owned()))
}

impl Query {
    /// What came so far, in order.
    pub fn take(&self) -> Vec<Stanza> {
        let mut open = self.archives.lock();
        open.get_mut(&self.key).map(|found| std::mem::take(&mut found.stanzas)).unwrap_or_default()
    }
}

impl Drop for Query {
    fn drop(&mut self) {
        let mut open = self.archives.lock();
        open.remove(&self.key);
        self.archives.count.store(open.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: &str = "<query xmlns='urn:xmpp:mam:2' queryid='q'/>";

    fn message(from: &str, query: &str) -> Stanza {
        let xml = format!(
            "<message from='{from}'><result xmlns='urn:xmpp:mam:2' id='1' queryid='{query}'/></message>"
        );
        let scope = Scope::stream(ns::COMPONENT);
        Stanza::parse(xml.into(), &scope, &Limits::default()).unwrap()
    }

    #[test]
    fn a_query_collects_its_own_results_in_order() {
        let archives = Arc::new(Archives::default());
        let room = Jid::parse("room@muc.example").unwrap();
        assert!(archives.keep(message("room@muc.example", "q")).is_some(), "nobody asked");
        let query = archives.collect(&room, ASKED).unwrap();
        assert!(archives.collect(&room, ASKED).is_none(), "the id is in use");
        assert!(archives.keep(message("room@muc.example", "other")).is_some());
        assert!(archives.keep(message("mallory@muc.example", "q")).is_some());
        assert!(archives.keep(message("room@muc.example", "q")).is_none());
        assert!(archives.keep(message("ROOM@muc.example", "q")).is_none());
        assert_eq!(query.take().len(), 2);
        drop(query);
        assert!(archives.keep(message("room@muc.example", "q")).is_some(), "the query is over");
    }

    #[test]
    fn what_is_no_archive_query_collects_nothing() {
        let archives = Arc::new(Archives::default());
        let room = Jid::parse("room@muc.example").unwrap();
        for inner in
            ["<ping xmlns='urn:xmpp:ping'/>", "<fin xmlns='urn:xmpp:mam:2'/>", "<a>urn:xmpp:mam:2"]
        {
            assert!(archives.collect(&room, inner).is_none(), "{inner}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let archives = Arc::new(Archives::default());
        let room = Jid::parse("room@muc.example").unwrap();
        let query = archives.collect(&room, ASKED).unwrap();
        let filler = "x".repeat(400_000);
        let kept = (0..20)
            .filter(|_| {
                let xml = format!(
                    "<message from='room@muc.example'><result xmlns='urn:xmpp:mam:2' queryid='q'>{filler}</result></message>"
                );
                let scope = Scope::stream(ns::COMPONENT);
                let stanza = Stanza::parse(xml.into(), &scope, &Limits::default()).unwrap();
                archives.keep(stanza).is_none()
            })
            .count();
        assert_eq!(kept, 10);
        assert_eq!(query.take().len(), 10);
    }
}
