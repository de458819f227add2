//! How long to wait before the next attempt.

use std::time::Duration;

/// Growing, jittered delays between attempts to connect: 1–2 s at first, half as much again each
/// time, 15–30 s in the end. A link that stayed up for [`Backoff::STABLE`] starts over.
#[derive(Debug)]
pub struct Backoff {
    seed: u64,
    ceiling: Duration,
}

impl Backoff {
    /// The shortest delay.
    pub const FLOOR: Duration = Duration::from_secs(1);
    /// The longest delay.
    pub const CEILING: Duration = Duration::from_secs(30);
    /// How long a link must have been up for the delays to start over: a server that takes the
    /// connection and drops it again is not hammered.
    pub const STABLE: Duration = Duration::from_secs(30);
    const FIRST: Duration = Duration::from_secs(2);

    /// The delays that follow from `seed`; two processes take two seeds, so that they do not come
    /// back at the same moment.
    pub fn new(seed: u64) -> Self {
        Self { seed, ceiling: Self::FIRST }
    }

    /// A link that was up for `up` is gone.
    pub fn lost_after(&mut self, up: Duration) {
        if up >= Self::STABLE {
            self.ceiling = Self::FIRST;
        }
    }

    /// The time to wait before the next attempt.
    pub fn delay(&mut self) -> Duration {
        let half = self.ceiling / 2;
        let jitter = half.mul_f64(self.random());
        self.ceiling = (self.ceiling * 3 / 2).min(Self::CEILING);
        (half + jitter).max(Self::FLOOR)
    }

    /// The next number in 0..1.
    fn random(&mut self) -> f64 {
        (spread(&mut self.seed) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The next number after `seed` (SplitMix64: spreads any seed evenly, which is all that is asked).
pub(super) fn spread(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(seed: u64, count: usize) -> Vec<Duration> {
        let mut backoff = Backoff::new(seed);
        (0..count).map(|_| backoff.delay()).collect()
    }

    #[test]
    fn delays_grow_from_one_second_to_thirty_and_stay_there() {
        for seed in 0..200 {
            let delays = delays(seed, 40);
            assert!(delays[0] >= Backoff::FLOOR && delays[0] <= Duration::from_secs(2));
            assert!(delays.iter().all(|d| (Backoff::FLOOR..=Backoff::CEILING).contains(d)));
            assert!(delays[10..].iter().all(|d| *d >= Backoff::CEILING / 2));
            assert!(delays.iter().take(3).sum::<Duration>() < Duration::from_secs(10));
        }
    }

    #[test]
    fn the_same_seed_waits_the_same_and_another_does_not() {
        assert_eq!(delays(7, 10), delays(7, 10));
        assert_ne!(delays(7, 10), delays(8, 10));
    }

    #[test]
    fn only_a_stable_link_starts_over() {
        let mut backoff = Backoff::new(1);
        let grown = (0..20).map(|_| backoff.delay()).last().unwrap();
        backoff.lost_after(Duration::from_secs(29));
        assert!(backoff.delay() >= grown / 2);
        assert!(backoff.delay() > Duration::from_secs(10));
        backoff.lost_after(Duration::from_secs(30));
        assert!(backoff.delay() <= Duration::from_secs(2));
    }
}
