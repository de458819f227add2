//! Which kinds of stanza an address has taken before without a bounce.
//!
//! Waiting for a bounce costs every POST the whole wait, since a stanza that arrives is not
//! acknowledged. So only the first stanza of a kind to an address waits: the server bounces the
//! next one for the same reasons, and if it begins to bounce later, that goes to the callback and
//! the address is watched again.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

/// How many are remembered for certain; at most twice as many are.
const ROOM: usize = 16 * 1024;

/// Remembers what went well.
#[derive(Debug, Default)]
pub struct Known {
    hasher: RandomState,
    sets: Mutex<Sets>,
}

#[derive(Debug, Default)]
struct Sets {
    young: HashSet<u64>,
    old: HashSet<u64>,
}

impl Known {
    /// Whether such a stanza went well before.
    pub fn contains(&self, kind: &str, type_: Option<&str>, to: &str) -> bool {
        let hash = self.hash(kind, type_, to);
        self.with(|sets| sets.young.contains(&hash) || sets.old.contains(&hash))
    }

    /// Such a stanza went well.
    pub fn insert(&self, kind: &str, type_: Option<&str>, to: &str) {
        let hash = self.hash(kind, type_, to);
        self.with(|sets| {
            if sets.young.len() >= ROOM {
                sets.old = std::mem::take(&mut sets.young);
            }
            sets.young.insert(hash);
        });
    }

    /// A stanza of this kind, of whatever type, came back from `from`.
    pub fn forget(&self, kind: &str, from: &str) {
        let types = [
            None,
            Some("chat"),
            Some("normal"),
            Some("groupchat"),
            Some("headline"),
            Some("unavailable"),
            Some("subscribe"),
        ];
        let hashes = types.map(|type_| self.hash(kind, type_, from));
        self.with(|sets| {
            for hash in hashes {
                sets.young.remove(&hash);
                sets.old.remove(&hash);
            }
        });
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

    #[test]
    fn kind_type_and_address_are_remembered_together() {
        let known = Known::default();
        known.insert("message", Some("chat"), "bob@localhost");
        assert!(known.contains("message", Some("chat"), "bob@localhost"));
        assert!(!known.contains("message", None, "bob@localhost"));
        assert!(!known.contains("presence", Some("chat"), "bob@localhost"));
        assert!(!known.contains("message", Some("chat"), "carol@localhost"));
        known.forget("message", "bob@localhost");
        assert!(!known.contains("message", Some("chat"), "bob@localhost"));
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
    }
}
