//! What of an account's session outlives the link it runs on: what to resume it with (XEP-0198), and
//! which stanzas the app has not confirmed.

use std::collections::VecDeque;

#[cfg(feature = "client")]
use crate::{auth::scram::SaltedKey, stream::Resumption};

/// Of a component, nothing.
#[derive(Default)]
pub(super) struct Continuity {
    /// What the next link is to resume with.
    #[cfg(feature = "client")]
    pub(super) resumption: Option<Resumption>,
    /// What the last log-in had the password hashed to.
    #[cfg(feature = "client")]
    pub(super) salted: Option<SaltedKey>,
    /// How many stanzas the session that may be resumed has taken.
    pub(super) sent: u64,
    /// Which session it is.
    serial: u64,
    /// The stanzas that were handed out and not confirmed: in which session, and where there.
    unconfirmed: VecDeque<(u64, u32)>,
}

impl Continuity {
    /// Another session begins: what was before is past confirming.
    #[cfg(feature = "client")]
    pub(super) fn begin(&mut self) {
        self.serial += 1;
        self.sent = 0;
    }

    /// The stanza at `position` of the session is handed out.
    #[cfg(feature = "client")]
    pub(super) fn handed_out(&mut self, position: u32) {
        self.unconfirmed.push_back((self.serial, position));
    }

    /// Whether all that was handed out is confirmed.
    pub(super) fn is_settled(&self) -> bool {
        self.unconfirmed.is_empty()
    }

    /// How many stanzas were handed out and not confirmed.
    #[cfg(feature = "client")]
    pub(super) fn unconfirmed(&self) -> usize {
        self.unconfirmed.len()
    }

    /// The next `count` stanzas that were handed out are dealt with; gives the position in this session
    /// up to which, if it is in this session.
    pub(super) fn confirm(&mut self, count: usize) -> Option<u32> {
        let count = count.min(self.unconfirmed.len());
        let serial = self.serial;
        let last = self.unconfirmed.drain(..count).next_back();
        last.filter(|(session, _)| *session == serial).map(|(_, position)| position)
    }
}

#[cfg(all(test, feature = "client"))]
mod tests {
    use super::*;

    #[test]
    fn confirmations_of_a_session_that_is_past_move_nothing() {
        let mut session = Continuity::default();
        session.handed_out(1);
        session.handed_out(2);
        assert_eq!((session.confirm(1), session.is_settled()), (Some(1), false));
        session.begin();
        session.handed_out(1);
        session.handed_out(3);
        assert_eq!(session.confirm(1), None, "of the session before");
        assert_eq!((session.confirm(9), session.is_settled()), (Some(3), true));
        assert_eq!(session.confirm(1), None);
    }
}
