//! Who may connect when: not before what a dead process left is somebody's who lives.
//!
//! What comes on a new stream, and what is sent from now on, comes after what waits in the store of a
//! process that is gone. So that waits to be taken over first.

use std::collections::HashMap;
use std::time::Duration;

use crate::error::Result;
use crate::store::{Fellow, Fellows};

/// How soon is looked again.
pub const LOOK: Duration = Duration::from_millis(250);
/// How long a connection waits at most: what nobody takes over for so long must not keep the app from
/// being served.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// What is to be done about an attempt to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It may be made.
    Clear,
    /// It may be made, though something that was left is nobody's still.
    Overdue,
    /// Another process has the stream for sure.
    Taken,
    /// A process that is gone left something that is nobody's yet.
    Left,
}

/// Whether a process may connect, by what the store says of the others. All times are the driver's
/// `now`.
#[derive(Debug)]
pub struct Gate {
    /// Whether this process takes over messages.
    durable: bool,
    seen: Seen,
    /// Since when something is left.
    since: Option<Duration>,
}

impl Gate {
    /// One for a process that takes over messages, or does not.
    pub fn new(durable: bool) -> Self {
        Self { durable, seen: Seen::default(), since: None }
    }

    /// Another attempt to connect begins.
    pub fn begin(&mut self) {
        self.since = None;
    }

    /// What the others that the store was `asked` for mean; `standby` says whether the server refused
    /// this process because of one.
    pub fn judge(&mut self, now: Duration, asked: Result<Fellows>, standby: bool) -> Way {
        let way = match asked {
            Ok(fellows) => self.seen.judge(fellows, standby, self.durable),
            Err(error) => {
                tracing::debug!(%error, "the store does not say what others left");
                Way::Left
            }
        };
        match way {
            Way::Taken => self.since = None,
            Way::Left if now > *self.since.get_or_insert(now) + PATIENCE => return Way::Overdue,
            _ => {}
        }
        way
    }
}

/// The members that nobody was heard holding when they were first looked at, and their beats then.
#[derive(Debug, Default)]
struct Seen(HashMap<u64, u64>);

impl Seen {
    fn judge(&mut self, fellows: Fellows, standby: bool, durable: bool) -> Way {
        let before = std::mem::take(&mut self.0);
        let mut way = Way::Clear;
        for fellow in fellows {
            let Fellow { number, held, beat, inbox, outbox, .. } = fellow;
            if held {
                if standby && fellow.has_stream() && way == Way::Clear {
                    way = Way::Taken;
                }
                continue;
            }
            let first = before.get(&number).copied();
            self.0.insert(number, first.unwrap_or(beat));
            let beats = first.is_some_and(|first| first != beat);
            // Where messages are not taken over, neither is what waits with them.
            let ours = durable || !outbox;
            // Its last words may be on their way into the store yet, unless it left in order.
            let waits = inbox || outbox || (first.is_none() && beat > 0);
            if !beats && ours && waits {
                way = Way::Left;
            }
        }
        way
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dead(number: u64, beat: u64) -> Fellow {
        Fellow { number, beat, ..Fellow::default() }
    }

    fn living(number: u64) -> Fellow {
        Fellow { held: true, up: true, fresh: true, inbox: true, ..dead(number, 9) }
    }

    #[test]
    fn what_a_dead_member_left_is_waited_for() {
        let mut seen = Seen::default();
        for _ in 0..3 {
            let left = vec![living(1), Fellow { inbox: true, ..dead(2, 5) }];
            assert_eq!(seen.judge(left, false, true), Way::Left);
        }
        assert_eq!(seen.judge(vec![living(1)], false, true), Way::Clear);
        let left = || vec![Fellow { outbox: true, inbox: true, ..dead(3, 5) }];
        assert_eq!(seen.judge(left(), false, true), Way::Left);
        assert_eq!(seen.judge(left(), false, false), Way::Clear, "it does not take it over");
    }

    #[test]
    fn one_that_died_with_nothing_is_looked_at_twice_and_one_that_left_in_order_once() {
        let mut seen = Seen::default();
        assert_eq!(seen.judge(vec![dead(2, 5)], false, true), Way::Left);
        assert_eq!(seen.judge(vec![dead(2, 5), dead(3, 0)], false, true), Way::Clear);
        let left = vec![dead(2, 5), Fellow { inbox: true, ..dead(3, 0) }];
        assert_eq!(seen.judge(left, false, true), Way::Left);
    }

    #[test]
    fn one_that_lost_its_lock_and_goes_on_is_alive() {
        let mut seen = Seen::default();
        let at = |beat| vec![Fellow { inbox: true, ..dead(2, beat) }];
        assert_eq!(seen.judge(at(5), false, true), Way::Left);
        assert_eq!(seen.judge(at(6), false, true), Way::Clear);
        assert_eq!(seen.judge(at(6), false, true), Way::Clear);
    }

    #[test]
    fn who_stands_by_does_not_try_while_another_has_the_stream() {
        let mut seen = Seen::default();
        assert_eq!(seen.judge(vec![living(1)], true, true), Way::Taken);
        assert_eq!(seen.judge(vec![living(1)], false, true), Way::Clear);
        for other in [Fellow { up: false, ..living(1) }, Fellow { fresh: false, ..living(1) }] {
            assert_eq!(seen.judge(vec![other], true, true), Way::Clear);
        }
        let both = vec![Fellow { inbox: true, ..dead(2, 5) }, living(1)];
        assert_eq!(seen.judge(both, true, true), Way::Left);
    }

    #[test]
    fn a_connection_is_not_put_off_for_ever() {
        let mut gate = Gate::new(true);
        let left = || Ok(vec![Fellow { inbox: true, ..dead(2, 5) }]);
        let second = Duration::from_secs(1);
        assert_eq!(gate.judge(second, left(), false), Way::Left);
        assert_eq!(gate.judge(second + PATIENCE, left(), false), Way::Left);
        assert_eq!(gate.judge(second * 2 + PATIENCE, left(), false), Way::Overdue);
        gate.begin();
        assert_eq!(gate.judge(second * 3 + PATIENCE, left(), false), Way::Left);
        let unknown = Err(crate::Error::new(crate::ErrorKind::Store, "gone"));
        assert_eq!(gate.judge(second * 3 + PATIENCE, unknown, false), Way::Left);
    }
}
