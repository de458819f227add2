//! Calls that wait for one flush of the disk, and for whom a flush waits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::store::OutboxRow;

/// Calls that the store gets at once: its work for each, and everybody's wake-ups, would cost more
/// than the messages.
#[derive(Default)]
pub(super) struct Gathering {
    pub(super) rows: Vec<OutboxRow>,
    pub(super) calls: usize,
    pub(super) group: Arc<Group>,
    /// Another process kept them before.
    pub(super) is_legacy: bool,
}

/// What became of calls that the store got at once.
#[derive(Default)]
pub(super) struct Group(Mutex<Progress>);

#[derive(Default)]
pub(super) struct Progress {
    pub(super) stored: Option<Result<(), Arc<Error>>>,
    pub(super) wakers: Vec<Waker>,
}

impl Group {
    pub(super) fn lock(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn settle(&self, stored: Result<()>) {
        let mut progress = self.lock();
        progress.stored = Some(stored.map_err(Arc::new));
        let wakers = std::mem::take(&mut progress.wakers);
        drop(progress);
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// Fewer calls than this are not waited for: whoever stores takes those that are there.
const MANY: usize = 8;
/// How long is waited for more calls, at first and each time that it was worth it.
const PATIENCE: Duration = Duration::from_millis(1);

/// How many calls the next flush waits for. Whoever was told of the last one is likely to send again
/// at once; with what each flush and its wake-ups cost, many small ones cost more than the messages.
/// Who sends alone waits for nobody.
#[derive(Debug, Default)]
pub(super) struct Company {
    /// Calls that were told, and not followed by others yet.
    told: usize,
    enough: usize,
    /// Until when is waited, and how many there were when that began.
    waiting: Option<(Instant, usize)>,
}

/// What is to be done with the calls that have gathered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Store,
    LookAt(Instant),
    /// Nothing, before another call comes.
    Rest,
}

/// What is to be done because of a call.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// All are there that are waited for.
    Enough,
    /// Somebody has to look for it.
    First,
    OneOfMany,
}

impl Company {
    /// One call more has come: there are `gathered`.
    pub(super) fn came(&mut self, gathered: usize) -> Came {
        self.told = self.told.saturating_sub(1);
        match self.enough {
            enough if gathered >= enough => Came::Enough,
            enough if enough < MANY && gathered == 1 => Came::First,
            _ => Came::OneOfMany,
        }
    }

    /// So many calls have been told what became of them, while others gathered. Of many callers some
    /// are not waited for: they send while the disk is flushed.
    pub(super) fn told(&mut self, calls: usize, gathered: usize) {
        self.told += calls;
        let all = self.told + gathered;
        self.enough = if all < MANY { all } else { all - all / 4 };
        self.waiting = None;
    }

    /// What to do with `gathered` calls that nobody has given to the store yet.
    pub(super) fn look(&mut self, now: Instant, gathered: usize) -> Next {
        if gathered >= self.enough {
            return if gathered == 0 { Next::Rest } else { Next::Store };
        }
        if self.enough >= MANY {
            let missing = self.enough - gathered;
            match self.waiting {
                Some((until, _)) if now < until => return Next::LookAt(until),
                // At this pace they will be there before long.
                Some((_, before)) if gathered.saturating_sub(before) * 2 < missing => {}
                _ => {
                    let until = now + PATIENCE;
                    self.waiting = Some((until, gathered));
                    return Next::LookAt(until);
                }
            }
        } else if gathered == 0 {
            return Next::Rest;
        }
        *self = Self::default();
        if gathered == 0 { Next::Rest } else { Next::Store }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_sends_alone_waits_for_nobody() {
        let mut company = Company::default();
        for _ in 0..3 {
            assert_eq!(company.came(1), Came::Enough);
            company.told(1, 0);
            assert_eq!(company.look(Instant::now(), 0), Next::Rest);
        }
    }

    #[test]
    fn of_many_the_last_who_is_waited_for_begins() {
        let mut company = Company::default();
        company.told(80, 20);
        assert!((21..75).all(|gathered| company.came(gathered) == Came::OneOfMany));
        assert_eq!(company.came(75), Came::Enough);
        assert_eq!(company.came(76), Came::Enough, "that is not forgotten");
        assert_eq!(company.look(Instant::now(), 76), Next::Store);
        // 24 who were told of the flush before still have not sent again.
        company.told(76, 0);
        assert_eq!(company.came(74), Came::OneOfMany);
        assert_eq!(company.came(75), Came::Enough);
    }

    #[test]
    fn who_does_not_come_is_waited_for_once() {
        let (mut company, start) = (Company::default(), Instant::now());
        company.told(100, 0);
        assert_eq!(company.look(start, 0), Next::LookAt(start + PATIENCE));
        assert_eq!(company.came(1), Came::OneOfMany);
        assert_eq!(company.look(start, 1), Next::LookAt(start + PATIENCE));
        assert_eq!(company.look(start + PATIENCE, 1), Next::Store);
        assert_eq!(company.came(1), Came::Enough);
        company.told(100, 0);
        assert_eq!(company.look(start, 0), Next::LookAt(start + PATIENCE));
        assert_eq!(company.look(start + PATIENCE, 0), Next::Rest);
        assert_eq!(company.came(1), Came::Enough);
    }

    #[test]
    fn as_long_as_many_come_they_are_waited_for() {
        let (mut company, start) = (Company::default(), Instant::now());
        company.told(100, 0);
        assert_eq!(company.look(start, 0), Next::LookAt(start + PATIENCE));
        let later = start + PATIENCE;
        assert_eq!(company.look(later, 30), Next::LookAt(later + PATIENCE));
        assert_eq!(company.look(later + PATIENCE, 40), Next::Store);
    }

    #[test]
    fn few_are_taken_as_they_are_there() {
        let mut company = Company::default();
        company.told(4, 0);
        assert_eq!(company.look(Instant::now(), 0), Next::Rest);
        assert_eq!(company.came(1), Came::First);
        assert_eq!(company.came(2), Came::OneOfMany);
        assert_eq!(company.look(Instant::now(), 2), Next::Store);
        company.told(2, 0);
        assert_eq!((company.came(1), company.came(2)), (Came::First, Came::Enough));
    }
}
