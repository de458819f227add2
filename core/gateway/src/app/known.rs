//! Which kinds of stanza an address has taken before without a bounce.
//!
//! A stanza that arrives is not acknowledged, and waiting for its bounce costs an exchange with the
//! server. So only the first stanza of a kind to an address waits: the server bounces the next one for
//! the same reasons, and if it begins to bounce later, that goes to the callback and the address is
//! watched again.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use appxmpp::Jid;

/// How many are remembered for certain; at most twice as many are.
const ROOM: usize = 16 * 1024;
/// Of how many hosts is remembered that they bounce late.
const HOSTS: usize = 1024;

/// Remembers what went well.
#[derive(Debug, Default)]
pub struct Known {
    hasher: RandomState,
    sets: Mutex<Sets>,
}

#[derive(Debug, Default)]
struct Sets {
    /// Since when each has gone well.
    young: HashMap<u64, Instant>,
    old: HashMap<u64, Instant>,
    /// Hosts whose bounces come behind the server's own.
    late: HashSet<String>,
}

impl Known {
    /// Whether such a stanza went well before.
    pub fn contains(&self, kind: &str, type_: Option<&str>, to: &str) -> bool {
        let hash = self.hash(kind, type_, to);
        self.with(|sets| sets.young.contains_key(&hash) || sets.old.contains_key(&hash))
    }

    /// Such a stanza went well.
    pub fn insert(&self, kind: &str, type_: Option<&str>, to: &str) {
        let hash = self.hash(kind, type_, to);
        self.with(|sets| {
            if sets.young.len() >= ROOM {
                sets.old = std::mem::take(&mut sets.young);
            }
            sets.young.insert(hash, Instant::now());
        });
    }

    /// A stanza of this kind, of whatever type, came back from `from`. If its request could still be
    /// waiting for it, had it waited for as long as it may (`wait`), the next ones to this host will.
    pub fn forget(&self, kind: &str, from: &Jid, wait: Duration) {
        let types = [
            None,
            Some("chat"),
            Some("normal"),
            Some("groupchat"),
            Some("headline"),
            Some("unavailable"),
            Some("subscribe"),
        ];
        let hashes = types.map(|type_| self.hash(kind, type_, from.as_str()));
        self.with(|sets| {
            let Sets { young, old, late } = sets;
            let since = hashes.iter().flat_map(|hash| [young.remove(hash), old.remove(hash)]);
            let latest = since.flatten().max();
            if latest.is_some_and(|since| since.elapsed() < wait) && late.len() < HOSTS {
                late.insert(from.domainpart().to_owned());
            }
        });
    }

    /// Whether bounces of this host are to be waited for even when the server's own would have come.
    pub fn is_late(&self, host: &str) -> bool {
        self.with(|sets| sets.late.contains(host))
    }

    /// It was waited for in vain.
    pub fn not_late(&self, host: &str) {
        self.with(|sets| sets.late.remove(host));
    }

    fn hash(&self, kind: &str, type_: Option<&str>, to: &str) -> u64 {
        self.hasher.hash_one((kind, type_, to))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Sets) -> T) -> T {
        act(&mut self.sets.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jid(text: &str) -> Jid {
        Jid::parse(text).unwrap()
    }

    #[test]
    fn kind_type_and_address_are_remembered_together() {
        let known = Known::default();
        known.insert("message", Some("chat"), "bob@localhost");
        assert!(known.contains("message", Some("chat"), "bob@localhost"));
        assert!(!known.contains("message", None, "bob@localhost"));
        assert!(!known.contains("presence", Some("chat"), "bob@localhost"));
        assert!(!known.contains("message", Some("chat"), "carol@localhost"));
        known.forget("message", &jid("bob@localhost"), Duration::ZERO);
        assert!(!known.contains("message", Some("chat"), "bob@localhost"));
    }

    #[test]
    fn a_host_that_bounced_behind_the_servers_own_is_late_until_it_does_not() {
        let known = Known::default();
        let (room, wait) = (jid("Room@rooms.localhost"), Duration::from_secs(60));
        known.forget("message", &room, wait);
        assert!(!known.is_late("rooms.localhost"), "nobody was waiting");
        known.insert("message", Some("groupchat"), "room@rooms.localhost");
        known.forget("message", &room, Duration::ZERO);
        assert!(!known.is_late("rooms.localhost"), "nobody would have waited that long");
        known.insert("message", Some("groupchat"), "room@rooms.localhost");
        known.forget("message", &room, wait);
        assert!(known.is_late("rooms.localhost"));
        known.not_late("rooms.localhost");
        assert!(!known.is_late("rooms.localhost"));
    }

    #[test]
    fn memory_is_bounded_and_the_latest_stay() {
        let known = Known::default();
        for n in 0..4 * ROOM {
            known.insert("message", None, &n.to_string());
        }
        let total = known.with(|sets| sets.young.len() + sets.old.len());
        assert!(total <= 2 * ROOM);
        assert!(known.contains("message", None, &(4 * ROOM - 1).to_string()));
        assert!(!known.contains("message", None, "0"));
        for n in 0..2 * HOSTS {
            let address = format!("a@h{n}.example");
            known.insert("message", None, &address);
            known.forget("message", &jid(&address), Duration::from_secs(60));
        }
        assert_eq!(known.with(|sets| sets.late.len()), HOSTS);
    }
}
