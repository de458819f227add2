//! When the kernel may hold back what it was given, for what is given next.
//!
//! Each small segment that goes out costs its sender more than everything else about a message: on a
//! loopback 2.9 µs of CPU, and 0.4 where the kernel holds it for the next one. What it holds *is*
//! written (it goes out even if this process dies), but it is not under way, so it is held for a
//! moment only, and only where more is sure to follow or much has just been sent. Whoever finds that
//! nothing follows has it go; the driver's timer does when nobody comes. What is encrypted is not held.

use std::time::Duration;

/// How much is held at most.
const MOST_BYTES: usize = 64 * 1024;
/// How long one send after the other is held.
const LONGEST: Duration = Duration::from_micros(250);
/// When the driver lets go what nobody has sent along; some milliseconds later where the thread that
/// drove it has just gone.
const LET_GO: Duration = Duration::from_millis(1);
/// Sends that follow each other this closely are a burst,
const CLOSE: Duration = Duration::from_micros(30);
/// if there are as many,
const BURST: u32 = 8;
/// and if nothing has come in for this long: they are no answers, which may be the last ones.
const SILENCE: Duration = Duration::from_millis(10);

/// What the sender knows of what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing follows, or somebody waits for this.
    Nothing,
    /// Whatever: what was sent before may tell.
    Unknown,
    /// More is about to be sent.
    More,
}

/// What one link's sends look like, and what the kernel holds of them.
#[derive(Debug, Default)]
pub(super) struct Cork {
    last: Option<Duration>,
    /// How many sends in a row may begin a burst.
    close: u32,
    /// The last one is followed by more.
    lively: bool,
    heard: Option<Duration>,
    bytes: usize,
    since: Duration,
}

impl Cork {
    /// Something came in.
    pub(super) fn heard(&mut self, now: Duration) {
        self.heard = Some(now);
    }

    /// `bytes` are about to be given to the kernel: `true` if it is to hold them.
    pub(super) fn hold(&mut self, now: Duration, bytes: usize, next: Next) -> bool {
        let gap = self.last.replace(now).map(|last| now.saturating_sub(last));
        let within = |limit| gap.is_some_and(|gap| gap <= limit);
        let silent = self.heard.is_none_or(|at| now.saturating_sub(at) > SILENCE);
        let close = next == Next::Unknown && silent && within(CLOSE);
        self.close = if close { self.close.saturating_add(1) } else { 0 };
        self.lively = match next {
            Next::Nothing => false,
            Next::Unknown => self.close >= BURST,
            // What comes after a pause goes at once, whatever follows.
            Next::More => within(LET_GO),
        };
        let since = if self.is_holding() { self.since } else { now };
        let small = self.bytes + bytes <= MOST_BYTES && now.saturating_sub(since) <= LONGEST;
        self.lively && small
    }

    /// The kernel holds `bytes` more.
    pub(super) fn held(&mut self, now: Duration, bytes: usize) {
        if !self.is_holding() {
            self.since = now;
        }
        self.bytes += bytes;
    }

    /// The kernel holds nothing any more.
    pub(super) fn let_go(&mut self) {
        self.bytes = 0;
    }

    pub(super) fn is_holding(&self) -> bool {
        self.bytes > 0
    }

    /// Whether it has held for too long.
    pub(super) fn is_overdue(&self, now: Duration) -> bool {
        self.is_holding() && now.saturating_sub(self.since) >= LET_GO
    }

    /// When the driver is to look. While sends follow each other that is soon, held or not: to wake it
    /// costs more than that it looks.
    pub(super) fn poll_timeout(&self, now: Duration) -> Option<Duration> {
        if self.is_holding() {
            return Some(self.since + LET_GO);
        }
        let last = self.last.filter(|_| self.lively)?;
        (now.saturating_sub(last) < LET_GO).then(|| now + LET_GO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_micros(2);

    fn at(us: u64) -> Duration {
        Duration::from_secs(1) + Duration::from_micros(us)
    }

    /// Sends `count` times, close to each other; how many of those were held.
    fn send(cork: &mut Cork, from: Duration, count: u32, next: Next) -> u32 {
        let mut held = 0;
        for index in 0..count {
            let now = from + STEP * index;
            if cork.hold(now, 200, next) {
                cork.held(now, 200);
                held += 1;
            } else {
                cork.let_go();
            }
        }
        held
    }

    #[test]
    fn the_first_of_a_burst_go_at_once() {
        let mut cork = Cork::default();
        assert_eq!(send(&mut cork, at(0), BURST, Next::Unknown), 0);
        assert_eq!(cork.poll_timeout(at(20)), None, "the driver has nothing to look at");
        assert_eq!(send(&mut cork, at(0) + STEP * BURST, 20, Next::Unknown), 20);
        assert_eq!(cork.poll_timeout(at(60)), Some(at(16) + LET_GO));
        assert!(!cork.is_overdue(at(60)));
        assert!(cork.is_overdue(at(16) + LET_GO));
    }

    #[test]
    fn no_more_is_held_than_a_bound_nor_for_longer() {
        let mut cork = Cork::default();
        let sent: u32 = 10_000;
        let held = send(&mut cork, at(0), sent, Next::Unknown);
        let at_once = sent - held - BURST;
        let bound = MOST_BYTES as u32 / 200;
        assert!(at_once >= (sent - BURST) / (bound + 2), "{at_once} let go what was held");

        let mut cork = Cork::default();
        let mut now = at(0);
        while !cork.hold(now, 1, Next::Unknown) {
            now += CLOSE;
        }
        cork.held(now, 1);
        let since = now;
        while cork.hold(now, 1, Next::Unknown) {
            assert!(now - since <= LONGEST);
            now += CLOSE;
        }
    }

    #[test]
    fn sends_apart_from_each_other_go_at_once() {
        let mut cork = Cork::default();
        for step in 0..100 {
            assert!(!cork.hold(at(step * 100), 200, Next::Unknown));
        }
    }

    #[test]
    fn answers_are_held_only_while_more_is_to_come() {
        let mut cork = Cork::default();
        cork.heard(at(0));
        assert_eq!(send(&mut cork, at(0), 100, Next::Unknown), 0, "these may be answers");
        assert_eq!(send(&mut cork, at(200), 20, Next::More), 20);
        assert!(!cork.hold(at(240), 200, Next::Nothing), "the last one takes all along");
        cork.let_go();
        assert!(!cork.hold(at(5_000), 200, Next::More), "after a pause");
        let silent = at(0) + SILENCE + STEP;
        assert_eq!(send(&mut cork, silent, 20, Next::Unknown), 20 - BURST);
    }
}
