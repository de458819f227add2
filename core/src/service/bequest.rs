//! Messages of a process that stands by, because the server gives another one the only stream: they are
//! handed over. They would wait for the other one's end.
//!
//! What is handed over keeps its order, but may come after what this process accepts later.

use std::time::Duration;

use crate::error::Result;
use crate::store::{Fellow, Fellows};

/// So long a process stands by before it hands over: the other one may be about to end.
const AFTER: Duration = Duration::from_secs(5);
/// How soon is looked again for the one that has the stream, and a store is asked again that did not answer.
const LOOK: Duration = Duration::from_secs(1);

/// When what waits is to be handed over. All times are the driver's `now`.
#[derive(Debug, Default)]
pub struct Bequest {
    /// Since when this process stands by.
    since: Option<Duration>,
    /// When was looked last.
    looked: Option<Duration>,
}

impl Bequest {
    /// Whether the server refuses this process a stream now, since another one has it.
    pub fn note(&mut self, now: Duration, stands_by: bool) {
        match stands_by {
            true => _ = self.since.get_or_insert(now),
            false => self.since = None,
        }
    }

    /// When the others are to be looked at, if messages can be handed over; with those that
    /// [are being](super::Outbox::is_undecided), when the store is to be asked again.
    pub fn due(&self, undecided: bool) -> Option<Duration> {
        let again = self.looked.map_or(Duration::ZERO, |looked| looked + LOOK);
        match undecided {
            true => Some(again),
            false => Some(again.max(self.since? + AFTER)),
        }
    }

    /// The others were looked at, or the store was asked again.
    pub fn looked(&mut self, now: Duration) {
        self.looked = Some(now);
    }

    /// The store was `asked` for the others: whether what waits is to be handed over to one of them.
    pub fn finds_heir(&self, asked: &Result<Fellows>) -> bool {
        let has_stream = |fellows: &Fellows| fellows.iter().any(Fellow::has_stream);
        self.since.is_some() && asked.as_ref().is_ok_and(has_stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_stands_by_for_a_while_hands_over_to_the_one_with_the_stream() {
        let mut bequest = Bequest::default();
        assert_eq!(bequest.due(false), None);
        bequest.note(SECOND, true);
        bequest.note(SECOND * 2, true);
        let due = SECOND + AFTER;
        assert_eq!(bequest.due(false), Some(due));
        let up = Fellow { held: true, up: true, fresh: true, ..Fellow::default() };
        for no in [
            Fellow { held: false, ..up },
            Fellow { up: false, ..up },
            Fellow { fresh: false, ..up },
        ] {
            assert!(!bequest.finds_heir(&Ok(vec![no])), "{no:?}");
        }
        let unknown = Err(crate::Error::new(crate::ErrorKind::Store, "gone"));
        assert!(!bequest.finds_heir(&unknown));
        bequest.looked(due);
        assert_eq!(bequest.due(false), Some(due + LOOK));
        assert!(bequest.finds_heir(&Ok(vec![Fellow::default(), up])));
        bequest.looked(due + LOOK);
        bequest.note(due + LOOK, false);
        assert_eq!(bequest.due(false), None);
        assert!(!bequest.finds_heir(&Ok(vec![up])), "it may have a stream itself by now");
        assert_eq!(bequest.due(true), Some(due + LOOK * 2));
        bequest.looked(due + LOOK * 2);
        assert_eq!(bequest.due(true), Some(due + LOOK * 3));
    }
}
