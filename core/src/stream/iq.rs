//! Matching answers to the requests they answer.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::jid::WireJid;

/// Whose requests are tracked: decides which absent or own addresses name the server
/// (RFC 6120 §10.3.3: a client's iq without `to` is answered by its own account).
#[derive(Debug, Clone)]
pub struct OwnAddress {
    /// The component's domain, or the account's bare address.
    bare: WireJid,
    /// The account's server, for a client; a component's requests always name whom they ask.
    server: Option<WireJid>,
}

impl OwnAddress {
    /// A component's domain.
    pub fn component(domain: &str) -> Self {
        Self { bare: WireJid::new(domain), server: None }
    }

    /// A client's bare address.
    pub fn client(bare: &str) -> Self {
        let bare = WireJid::new(bare);
        let server = WireJid::new(bare.domainpart());
        Self { bare, server: Some(server) }
    }

    /// The key of an address: the same for all addresses that name the same answerer.
    fn key(&self, address: Option<&WireJid>) -> String {
        let Some(address) = address else { return String::new() };
        let own_account = self.server.is_some() && *address == self.bare;
        if own_account || self.server.as_ref() == Some(address) {
            return String::new();
        }
        match address.prepared() {
            Some(jid) => jid.as_str().to_owned(),
            None => address.as_str().to_owned(),
        }
    }
}

/// One tracked request, as [`IqTracker::cancel`] wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IqKey {
    peer: String,
    id: String,
    serial: u64,
}

struct Pending<T> {
    token: T,
    deadline: Duration,
    serial: u64,
}

/// The requests that wait for an answer, each with a token of the caller's that is given back with
/// the answer or when its time is up.
///
/// An answer matches by type (`result` or `error`), `id`, and the address that was asked; the same
/// id from anybody else matches nothing.
pub struct IqTracker<T> {
    own: OwnAddress,
    capacity: usize,
    serial: u64,
    pending: HashMap<(String, String), Pending<T>>,
    deadlines: BTreeMap<(Duration, u64), (String, String)>,
}

impl<T> IqTracker<T> {
    /// A tracker of at most `capacity` requests.
    pub fn new(own: OwnAddress, capacity: usize) -> Self {
        Self { own, capacity, serial: 0, pending: HashMap::new(), deadlines: BTreeMap::new() }
    }

    /// Waits until `deadline` for the answer of `to` to the request with `id`.
    ///
    /// # Errors
    /// [`ErrorKind::Backpressure`] if too many requests wait already, or if this address was asked
    /// with the same id and has not answered yet.
    pub fn insert(
        &mut self,
        to: Option<&WireJid>,
        id: &str,
        deadline: Duration,
        token: T,
    ) -> Result<IqKey> {
        if self.pending.len() >= self.capacity {
            return Err(Error::new(
                ErrorKind::Backpressure,
                format!("{} requests wait for their answers; try again later", self.capacity),
            ));
        }
        let key = (self.own.key(to), id.to_owned());
        if self.pending.contains_key(&key) {
            return Err(Error::new(
                ErrorKind::Backpressure,
                format!(
                    "a request with id {id:?} to the same address waits for its answer; use another id"
                ),
            ));
        }
        self.serial += 1;
        let serial = self.serial;
        self.deadlines.insert((deadline, serial), key.clone());
        let (peer, id) = key.clone();
        self.pending.insert(key, Pending { token, deadline, serial });
        Ok(IqKey { peer, id, serial })
    }

    /// The token of the request that an incoming iq answers, if it answers one.
    pub fn answer(&mut self, type_: Option<&str>, from: Option<&WireJid>, id: &str) -> Option<T> {
        if self.pending.is_empty() || !matches!(type_, Some("result" | "error")) {
            return None;
        }
        self.remove(&(self.own.key(from), id.to_owned()))
    }

    /// Forgets a request; its answer, if one comes, matches nothing.
    pub fn cancel(&mut self, key: &IqKey) -> Option<T> {
        let at = (key.peer.clone(), key.id.clone());
        if self.pending.get(&at).is_none_or(|pending| pending.serial != key.serial) {
            return None;
        }
        self.remove(&at)
    }

    /// When the next request's time is up.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.deadlines.first_key_value().map(|((deadline, _), _)| *deadline)
    }

    /// The tokens of the requests whose time is up, the earliest first.
    pub fn handle_timeout(&mut self, now: Duration) -> Vec<T> {
        let mut expired = Vec::new();
        while let Some(entry) = self.deadlines.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let key = entry.remove();
            expired.extend(self.pending.remove(&key).map(|pending| pending.token));
        }
        expired
    }

    /// Gives every token back: the stream is gone and no answer can come.
    pub fn drain(&mut self) -> Vec<T> {
        self.deadlines.clear();
        self.pending.drain().map(|(_, pending)| pending.token).collect()
    }

    /// How many requests wait.
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether no request waits.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    fn remove(&mut self, key: &(String, String)) -> Option<T> {
        let pending = self.pending.remove(key)?;
        self.deadlines.remove(&(pending.deadline, pending.serial));
        Some(pending.token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn jid(text: &str) -> WireJid {
        WireJid::new(text)
    }

    fn component() -> IqTracker<u8> {
        IqTracker::new(OwnAddress::component("bot.example"), 3)
    }

    #[test]
    fn an_answer_matches_by_type_address_and_id() {
        let mut iqs = component();
        let alice = jid("alice@example.com/phone");
        iqs.insert(Some(&alice), "a", S, 1).unwrap();
        assert_eq!(iqs.answer(Some("get"), Some(&alice), "a"), None);
        assert_eq!(iqs.answer(None, Some(&alice), "a"), None);
        assert_eq!(iqs.answer(Some("result"), Some(&alice), "b"), None);
        assert_eq!(iqs.answer(Some("result"), Some(&jid("mallory@example.com")), "a"), None);
        assert_eq!(iqs.answer(Some("result"), None, "a"), None);
        assert_eq!(iqs.answer(Some("error"), Some(&jid("ALICE@example.com/phone")), "a"), Some(1));
        assert_eq!(iqs.answer(Some("result"), Some(&alice), "a"), None, "answered once");
        assert!(iqs.is_empty() && iqs.poll_timeout().is_none());
    }

    #[test]
    fn an_address_that_preparation_rejects_matches_by_its_text() {
        let mut iqs = component();
        iqs.insert(Some(&jid("a@b/🎉")), "a", S, 1).unwrap();
        assert_eq!(iqs.answer(Some("result"), Some(&jid("a@b/🎈")), "a"), None);
        assert_eq!(iqs.answer(Some("result"), Some(&jid("a@b/🎉")), "a"), Some(1));
    }

    #[test]
    fn one_id_may_be_used_towards_two_addresses_but_not_twice_towards_one() {
        let mut iqs = component();
        iqs.insert(Some(&jid("a@x")), "1", S, 1).unwrap();
        iqs.insert(Some(&jid("b@x")), "1", S, 2).unwrap();
        let again = iqs.insert(Some(&jid("A@x")), "1", S, 3).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::Backpressure);
        assert_eq!(iqs.answer(Some("result"), Some(&jid("b@x")), "1"), Some(2));
        assert_eq!(iqs.answer(Some("result"), Some(&jid("a@x")), "1"), Some(1));
    }

    #[test]
    fn a_client_s_server_answers_by_any_of_its_names() {
        for from in [None, Some(jid("me@host")), Some(jid("host"))] {
            let mut iqs = IqTracker::new(OwnAddress::client("me@host"), 3);
            iqs.insert(None, "1", S, 1).unwrap();
            assert_eq!(iqs.answer(Some("result"), Some(&jid("you@host")), "1"), None);
            assert_eq!(iqs.answer(Some("result"), Some(&jid("me@host/other")), "1"), None);
            assert_eq!(iqs.answer(Some("result"), from.as_ref(), "1"), Some(1));
        }
    }

    #[test]
    fn it_is_bounded() {
        let mut iqs = component();
        for token in 0..3 {
            iqs.insert(Some(&jid("a@x")), &token.to_string(), S, token).unwrap();
        }
        let full = iqs.insert(Some(&jid("a@x")), "more", S, 9).unwrap_err();
        assert_eq!(full.kind(), ErrorKind::Backpressure);
        let mut rest = iqs.drain();
        rest.sort_unstable();
        assert_eq!((rest, iqs.len()), (vec![0, 1, 2], 0));
    }

    #[test]
    fn time_runs_out_in_order_and_once() {
        let mut iqs = component();
        iqs.insert(Some(&jid("a@x")), "late", 3 * S, 3).unwrap();
        iqs.insert(Some(&jid("a@x")), "early", S, 1).unwrap();
        iqs.insert(Some(&jid("a@x")), "middle", 2 * S, 2).unwrap();
        assert_eq!(iqs.poll_timeout(), Some(S));
        assert_eq!(iqs.handle_timeout(S / 2), Vec::<u8>::new());
        assert_eq!(iqs.handle_timeout(2 * S), vec![1, 2]);
        assert_eq!(iqs.answer(Some("result"), Some(&jid("a@x")), "early"), None);
        assert_eq!(iqs.poll_timeout(), Some(3 * S));
    }

    #[test]
    fn a_cancelled_request_is_forgotten_and_a_later_one_of_the_same_id_is_not() {
        let mut iqs = component();
        let first = iqs.insert(Some(&jid("a@x")), "1", S, 1).unwrap();
        assert_eq!(iqs.cancel(&first), Some(1));
        let _second = iqs.insert(Some(&jid("a@x")), "1", 2 * S, 2).unwrap();
        assert_eq!(iqs.cancel(&first), None);
        assert_eq!(iqs.poll_timeout(), Some(2 * S));
        assert_eq!(iqs.answer(Some("result"), Some(&jid("a@x")), "1"), Some(2));
    }
}
