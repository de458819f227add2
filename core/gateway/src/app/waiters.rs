//! Who waits for an answer: requests of `/rest` for the answers to their iqs, and, for a moment,
//! for the bounce of a message or presence.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use appxmpp::stanza::{Stanza, StanzaKind};
use appxmpp::{Jid, WireJid};
use tokio::sync::oneshot;

type Key = (StanzaKind, String, String);

/// Matches answers to waiting requests by kind, sender and id.
#[derive(Debug, Default)]
pub struct Waiters {
    waiting: Mutex<HashMap<Key, oneshot::Sender<Box<Stanza>>>>,
}

/// A place in the queue; dropping it gives it up.
#[derive(Debug)]
pub struct Wait {
    waiters: Arc<Waiters>,
    key: Key,
    /// In a box, as there is none for as long as it is waited for.
    answer: oneshot::Receiver<Box<Stanza>>,
}

impl Waiters {
    /// Waits for what `to` answers to `id`; `None` if somebody else does already.
    pub fn wait(self: &Arc<Self>, kind: StanzaKind, to: &Jid, id: &str) -> Option<Wait> {
        let key = (kind, to.as_str().to_owned(), id.to_owned());
        let (sender, answer) = oneshot::channel();
        match self.lock().entry(key.clone()) {
            Entry::Occupied(_) => None,
            Entry::Vacant(place) => {
                place.insert(sender);
                Some(Wait { waiters: Arc::clone(self), key, answer })
            }
        }
    }

    /// Gives `stanza` to whoever waits for it; gives it back if nobody does.
    pub fn answer(&self, stanza: Stanza) -> Option<Stanza> {
        let type_ = stanza.type_();
        let is_answer = match stanza.kind() {
            StanzaKind::Iq => matches!(type_, Some("result" | "error")),
            StanzaKind::Message | StanzaKind::Presence => type_ == Some("error"),
            StanzaKind::Other => false,
        };
        let (Some(from), Some(id), true) = (stanza.from(), stanza.id(), is_answer) else {
            return Some(stanza);
        };
        let key = (stanza.kind(), name(from).to_owned(), id.to_owned());
        let Some(waiter) = self.lock().remove(&key) else { return Some(stanza) };
        // Gone in the meantime: the answer is a stanza like any other.
        waiter.send(Box::new(stanza)).err().map(|stanza| *stanza)
    }

    /// How many requests wait.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, oneshot::Sender<Box<Stanza>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name(jid: &WireJid) -> &str {
    jid.prepared().map_or(jid.as_str(), Jid::as_str)
}

impl Wait {
    /// The answer, once it comes. `None` if it never can.
    pub async fn answer(&mut self) -> Option<Stanza> {
        (&mut self.answer).await.ok().map(|stanza| *stanza)
    }

    /// The answer, if it has come by now. What comes later is a stanza like any other.
    pub fn end(&mut self) -> Option<Stanza> {
        self.answer.close();
        self.answer.try_recv().ok().map(|stanza| *stanza)
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut waiting = self.waiters.lock();
        // The place may be somebody else's by now: only one whose receiver is this one's is closed.
        self.answer.close();
        if waiting.get(&self.key).is_some_and(|waiter| waiter.is_closed()) {
            waiting.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use appxmpp::ns;
    use appxmpp::xml::{Limits, Scope};

    fn stanza(xml: &str) -> Stanza {
        let scope = Scope::stream(ns::COMPONENT);
        Stanza::parse(xml.to_owned().into(), &scope, &Limits::default()).unwrap()
    }

    fn jid(text: &str) -> Jid {
        Jid::parse(text).unwrap()
    }

    #[test]
    fn an_answer_finds_its_request_by_kind_sender_and_id() {
        let waiters = Arc::new(Waiters::default());
        let mut wait = waiters.wait(StanzaKind::Iq, &jid("bob@localhost/p"), "1").unwrap();
        for other in [
            "<iq from='bob@localhost/p' id='1' type='get'/>",
            "<iq from='bob@localhost/q' id='1' type='result'/>",
            "<iq from='bob@localhost/p' id='2' type='result'/>",
            "<iq id='1' type='result'/>",
            "<message from='bob@localhost/p' id='1' type='error'/>",
        ] {
            assert!(waiters.answer(stanza(other)).is_some(), "{other}");
        }
        assert!(
            waiters.answer(stanza("<iq from='BOB@localhost/p' id='1' type='error'/>")).is_none()
        );
        assert_eq!(wait.answer.try_recv().unwrap().type_(), Some("error"));
        assert!(waiters.is_empty());
    }

    #[test]
    fn one_id_is_waited_for_once_at_a_time() {
        let waiters = Arc::new(Waiters::default());
        let first = waiters.wait(StanzaKind::Iq, &jid("bob@localhost"), "1").unwrap();
        assert!(waiters.wait(StanzaKind::Iq, &jid("bob@localhost"), "1").is_none());
        assert!(waiters.wait(StanzaKind::Iq, &jid("carol@localhost"), "1").is_some());
        assert!(waiters.wait(StanzaKind::Message, &jid("bob@localhost"), "1").is_some());
        drop(first);
        assert!(waiters.wait(StanzaKind::Iq, &jid("bob@localhost"), "1").is_some());
    }

    #[test]
    fn what_comes_after_the_end_of_a_wait_is_a_stanza_like_any_other() {
        let bounce = || stanza("<message from='bob@localhost' id='1' type='error'/>");
        let waiters = Arc::new(Waiters::default());
        let mut wait = waiters.wait(StanzaKind::Message, &jid("bob@localhost"), "1").unwrap();
        assert!(wait.end().is_none());
        assert!(waiters.answer(bounce()).is_some());
        let mut wait = waiters.wait(StanzaKind::Message, &jid("bob@localhost"), "1").unwrap();
        assert!(waiters.answer(bounce()).is_none());
        assert!(wait.end().is_some(), "it came before the end");
    }

    #[test]
    fn who_gave_up_gets_nothing_and_keeps_nothing() {
        let waiters = Arc::new(Waiters::default());
        drop(waiters.wait(StanzaKind::Message, &jid("bob@localhost"), "1"));
        assert!(waiters.is_empty());
        assert!(
            waiters.answer(stanza("<message from='bob@localhost' id='1' type='error'/>")).is_some()
        );
        let answered = waiters.wait(StanzaKind::Message, &jid("bob@localhost"), "1").unwrap();
        assert!(
            waiters.answer(stanza("<message from='bob@localhost' id='1' type='error'/>")).is_none()
        );
        let second = waiters.wait(StanzaKind::Message, &jid("bob@localhost"), "1").unwrap();
        drop(answered);
        assert_eq!(waiters.len(), 1, "the second one still waits");
        drop(second);
        assert!(waiters.is_empty());
    }
}
