//! Messages that were stored while some of another process waited: should that process be gone, its
//! messages go before them.

use std::collections::VecDeque;
use std::time::Duration;

use super::gate::{LOOK, PATIENCE};
use crate::error::Result;
use crate::store::Fellows;

/// So long after the end of a process the database has let go of what shows that it lives, also on a
/// machine that is busy.
const AFTER: Duration = Duration::from_millis(250);

/// What waits until it is known whether the other processes live. All times are the driver's `now`.
#[derive(Debug, Default)]
pub struct Suspense {
    /// The numbers of the first messages stored together, and when they were.
    since: VecDeque<(u64, Duration)>,
    /// Since when one that is gone has left messages, and when that was seen last.
    left: Option<(Duration, Duration)>,
}

impl Suspense {
    /// Messages from the number `first` on were stored at `now`, while some of another process waited.
    pub fn begin(&mut self, first: u64, now: Duration) {
        self.since.push_back((first, now));
    }

    /// The number from which on messages wait.
    pub fn from(&self) -> Option<u64> {
        self.since.iter().map(|(first, _)| *first).min()
    }

    /// This process has taken over what one left: it goes before what waits here.
    pub fn taken_over(&mut self) {
        self.left = None;
    }

    /// When the others are to be looked at.
    pub fn due(&self) -> Option<Duration> {
        let (_, since) = self.since.front()?;
        Some(match self.left {
            Some((_, seen)) => seen + LOOK,
            None => *since + AFTER,
        })
    }

    /// The store was `asked` for the others at this time.
    pub fn looked(&mut self, at: Duration, asked: &Result<Fellows>) {
        let before = self.left.take();
        let Ok(fellows) = asked else {
            self.left = Some((at, at));
            return;
        };
        let left = fellows.iter().any(|fellow| fellow.outbox && !fellow.held);
        if left {
            let since = before.map_or(at, |(since, _)| since);
            if at < since + PATIENCE {
                self.left = Some((since, at));
                return;
            }
            tracing::warn!(
                "messages go before those that another process left: nobody takes it over"
            );
            self.since.clear();
        } else if before.is_some() {
            // Whoever took over sends them now.
            self.since.iter_mut().for_each(|(_, since)| *since = at);
        } else {
            self.since.retain(|(_, since)| *since + AFTER > at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Fellow;

    const START: Duration = Duration::from_secs(60);

    /// One other process, which is gone and left messages or has none.
    fn one(left: bool) -> Result<Fellows> {
        Ok(vec![Fellow { outbox: left, ..Fellow::default() }])
    }

    #[test]
    fn messages_wait_until_the_others_are_known_to_live() {
        let mut suspense = Suspense::default();
        assert_eq!((suspense.from(), suspense.due()), (None, None));
        suspense.begin(7, START);
        suspense.begin(9, START + AFTER / 2);
        let living = Ok(vec![Fellow { held: true, outbox: true, ..Fellow::default() }]);
        suspense.looked(suspense.due().unwrap(), &living);
        assert_eq!(suspense.from(), Some(9), "these were stored later");
        suspense.looked(suspense.due().unwrap(), &living);
        assert_eq!((suspense.from(), suspense.due()), (None, None));
    }

    #[test]
    fn what_a_dead_one_left_is_waited_for_and_given_time_to_go_first() {
        let mut suspense = Suspense::default();
        suspense.begin(7, START);
        let first = suspense.due().unwrap();
        let unknown = Err(crate::Error::new(crate::ErrorKind::Store, "gone"));
        suspense.looked(first, &unknown);
        suspense.looked(first, &one(true));
        assert_eq!(suspense.due(), Some(first + LOOK));
        suspense.looked(first + LOOK, &one(true));
        suspense.looked(first + LOOK * 2, &one(false));
        assert_eq!(suspense.due(), Some(first + LOOK * 2 + AFTER));
        assert_eq!(suspense.from(), Some(7));
        suspense.looked(first + LOOK * 2 + AFTER, &one(false));
        assert_eq!(suspense.from(), None);

        suspense.begin(8, START);
        let first = suspense.due().unwrap();
        suspense.looked(first, &one(true));
        suspense.taken_over();
        assert_eq!(suspense.due(), Some(first), "at once");
        suspense.looked(first, &one(false));
        assert_eq!(suspense.from(), None);

        suspense.begin(9, START);
        let first = suspense.due().unwrap();
        suspense.looked(first, &one(true));
        suspense.looked(first + PATIENCE, &one(true));
        assert_eq!(suspense.from(), None, "nobody takes over");
    }
}
