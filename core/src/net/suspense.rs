//! Messages that were stored while some of another process waited: should that process be gone, its
//! messages go before them.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::gate::{LOOK, PATIENCE};

/// So long after the end of a process the database has let go of what shows that it lives, also on a
/// machine that is busy.
const AFTER: Duration = Duration::from_millis(250);

/// What waits until it is known whether the other processes live.
#[derive(Debug, Default)]
pub(super) struct Suspense {
    /// The numbers of the first messages stored together, and when they were.
    since: VecDeque<(u64, Instant)>,
    /// Since when one that is gone has left messages, and when that was seen last.
    left: Option<(Instant, Instant)>,
}

impl Suspense {
    pub(super) fn begin(&mut self, first: u64) {
        self.since.push_back((first, Instant::now()));
    }

    /// The number from which on messages wait.
    pub(super) fn from(&self) -> Option<u64> {
        self.since.iter().map(|(first, _)| *first).min()
    }

    /// This process has taken over what one left: it goes before what waits here.
    pub(super) fn taken_over(&mut self) {
        self.left = None;
    }

    /// When the others are to be looked at.
    pub(super) fn due(&self) -> Option<Instant> {
        let (_, since) = self.since.front()?;
        Some(match self.left {
            Some((_, seen)) => seen + LOOK,
            None => *since + AFTER,
        })
    }

    /// At this time a process that is gone had, or had not, messages `left`; `None` if nobody knows.
    pub(super) fn looked(&mut self, at: Instant, left: Option<bool>) {
        let before = self.left.take();
        let Some(left) = left else {
            self.left = Some((at, at));
            return;
        };
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

    #[tokio::test(start_paused = true)]
    async fn messages_wait_until_the_others_are_known_to_live() {
        let mut suspense = Suspense::default();
        assert_eq!((suspense.from(), suspense.due()), (None, None));
        suspense.begin(7);
        tokio::time::advance(AFTER / 2).await;
        suspense.begin(9);
        suspense.looked(suspense.due().unwrap(), Some(false));
        assert_eq!(suspense.from(), Some(9), "these were stored later");
        suspense.looked(suspense.due().unwrap(), Some(false));
        assert_eq!((suspense.from(), suspense.due()), (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_dead_one_left_is_waited_for_and_given_time_to_go_first() {
        let mut suspense = Suspense::default();
        suspense.begin(7);
        let first = suspense.due().unwrap();
        suspense.looked(first, None);
        suspense.looked(first, Some(true));
        assert_eq!(suspense.due(), Some(first + LOOK));
        suspense.looked(first + LOOK, Some(true));
        suspense.looked(first + LOOK * 2, Some(false));
        assert_eq!(suspense.due(), Some(first + LOOK * 2 + AFTER));
        assert_eq!(suspense.from(), Some(7));
        suspense.looked(first + LOOK * 2 + AFTER, Some(false));
        assert_eq!(suspense.from(), None);

        suspense.begin(8);
        let first = suspense.due().unwrap();
        suspense.looked(first, Some(true));
        suspense.taken_over();
        assert_eq!(suspense.due(), Some(first), "at once");
        suspense.looked(first, Some(false));
        assert_eq!(suspense.from(), None);

        suspense.begin(9);
        let first = suspense.due().unwrap();
        suspense.looked(first, Some(true));
        suspense.looked(first + PATIENCE, Some(true));
        assert_eq!(suspense.from(), None, "nobody takes over");
    }
}
