//! Deliveries that wait for their turn: another process with the same store still has an earlier one
//! of the same sender.

use std::collections::HashMap;
use std::time::Duration;

use super::route::Delivery;
use super::{Service, Waiting};
use crate::error::Result;
use crate::store::{Behind, Change, Place, Placed, Placing, Turn};

/// How soon the store is asked whether a turn has come; the pause doubles while none does.
const PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(160);
/// How long a process that is not at work is waited for: what it has, others take over if it is gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// When the store is asked for the turns of deliveries, and what its answers mean. All times are the
/// driver's `now`.
#[derive(Debug, Default)]
pub struct Turns {
    next: Duration,
    pause: Duration,
    /// Since when the process before each has not been at work.
    idle: HashMap<u64, Duration>,
}

impl Turns {
    /// When the store is to be asked next, while anything [waits](super::Lanes::waiting).
    pub fn due(&self) -> Duration {
        self.next
    }

    /// Of those that `waited`, whichever may go: the store says which are still `behind`.
    pub fn judge(&mut self, now: Duration, waited: &[Turn], behind: &[Behind]) -> Vec<u64> {
        let mut idle = HashMap::new();
        let mut held = HashMap::new();
        for &Behind { id, living } in behind {
            *held.entry(id).or_insert(false) |= living;
        }
        let mut free = Vec::new();
        for turn in waited {
            match held.get(&turn.id) {
                Some(true) => {}
                Some(false) => {
                    let since = self.idle.get(&turn.id).copied().unwrap_or(now);
                    if now < since + PATIENCE {
                        idle.insert(turn.id, since);
                    } else {
                        tracing::warn!(
                            id = turn.id,
                            "a delivery goes before earlier ones that another process has and does nothing with"
                        );
                        free.push(turn.id);
                    }
                }
                None => free.push(turn.id),
            }
        }
        self.idle = idle;
        self.pause = match free.is_empty() {
            true => (self.pause * 2).clamp(PAUSE, LONGEST_PAUSE),
            false => PAUSE,
        };
        self.next = now + self.pause;
        free
    }
}

impl Delivery {
    /// Where it stands among those of its sender, whichever process they wait for.
    pub(super) fn turn(&self, lane: u64) -> Turn {
        Turn { id: self.id, lane, turn: self.place.turn }
    }
}

/// A lane's number: the same in every process and version (FNV-1a, 64 bits). That two senders may have
/// the same makes one wait for the other now and then.
fn number(app: &str, sender: &str) -> u64 {
    let bytes = app.bytes().chain([0]).chain(sender.bytes());
    let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.fold(0xcbf2_9ce4_8422_2325, hash).max(1)
}

impl Service {
    /// The number of the lane of what `sender` sends.
    pub(super) fn lane(&self, sender: &str) -> u64 {
        number(self.addresses.store_key(), sender)
    }

    /// [`Service::submit`], which says where what was put stands among what waits for other processes.
    pub fn submit_placed(&self, changes: Vec<Change>, done: Placing) {
        match (&self.sharing, self.store.shared()) {
            (Some(sharing), Some(shared)) => {
                shared.place(self.addresses.store_key(), &sharing.member, changes, done);
            }
            _ => {
                let placed = |stored: Result<()>| done(stored.map(|()| Placed::default()));
                self.store.submit(changes, Box::new(placed));
            }
        }
    }

    /// Deliveries could not be stored, as far as is known. Others would wait for the rows of those that
    /// are there all the same.
    pub fn not_kept(&self, deliveries: &[Delivery]) {
        if self.is_shared() {
            deliveries.iter().for_each(|delivery| self.forget_delivery(delivery.id));
        }
    }

    /// The turns of deliveries that wait.
    pub fn turns<'d>(&self, waiting: impl IntoIterator<Item = &'d Delivery>) -> Vec<Turn> {
        waiting.into_iter().map(|delivery| delivery.turn(self.lane(&delivery.sender))).collect()
    }

    /// Those of `turns` before which another process still has a delivery.
    ///
    /// # Errors
    /// [`ErrorKind::Store`](crate::ErrorKind::Store) if that cannot be read.
    pub fn behind(&self, turns: &[Turn]) -> Result<Vec<Behind>> {
        match (&self.sharing, self.store.shared()) {
            (Some(sharing), Some(shared)) => shared.behind(&sharing.member, turns),
            _ => Ok(Vec::new()),
        }
    }
}

/// Notes where deliveries stand that were stored with one call, in order.
pub fn place(deliveries: &mut [Delivery], placed: &Placed) {
    for (delivery, place) in deliveries.iter_mut().zip(&placed.deliveries) {
        delivery.place = *place;
    }
}

impl Waiting {
    /// The place of a delivery that waited: whether it is its turn, the store has to be asked.
    pub(super) fn place(&self, id: u64) -> Place {
        let turn = self.turns.get(&id).copied().unwrap_or_default();
        Place { turn, behind: turn > 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn turns(ids: &[u64]) -> Vec<Turn> {
        ids.iter().map(|&id| Turn { id, lane: 1, turn: id }).collect()
    }

    #[test]
    fn a_turn_has_come_when_nobody_has_an_earlier_one() {
        let mut it = Turns::default();
        let behind = [Behind { id: 2, living: true }];
        assert_eq!(it.judge(SECOND, &turns(&[1, 2]), &behind), [1]);
        assert_eq!(it.due(), SECOND + PAUSE);
        let mut now = SECOND;
        for _ in 0..10 {
            now = it.due();
            assert_eq!(it.judge(now, &turns(&[2]), &behind), [0; 0]);
        }
        assert_eq!(it.due(), now + LONGEST_PAUSE);
        let patient = it.judge(now + SECOND * 3600, &turns(&[2]), &behind);
        assert_eq!(patient, [0; 0], "who is at work is waited for");
        assert_eq!(it.judge(now, &turns(&[2]), &[]), [2]);
        assert!(it.idle.is_empty());
    }

    #[test]
    fn a_process_that_does_nothing_is_not_waited_for_without_end() {
        let mut it = Turns::default();
        let stands = [Behind { id: 1, living: false }];
        let both = [stands[0], Behind { id: 1, living: true }];
        assert_eq!(it.judge(SECOND, &turns(&[1]), &stands), [0; 0]);
        assert_eq!(
            it.judge(SECOND + PATIENCE, &turns(&[1]), &both),
            [0; 0],
            "one of two is at work"
        );
        assert_eq!(it.judge(SECOND + PATIENCE * 2, &turns(&[1]), &stands), [0; 0]);
        assert_eq!(it.judge(SECOND + PATIENCE * 3, &turns(&[1]), &stands), [1]);
    }

    #[test]
    fn lanes_have_numbers_that_every_version_agrees_on() {
        assert_eq!(number("", ""), 0xaf63_bd4c_8601_b7df);
        assert_ne!(number("a", "bc"), number("ab", "c"));
    }
}
