//! Random identifiers. They are drawn from the operating system, so that nobody can guess the next.

use std::cell::RefCell;

const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";

// 62 letters and digits, two of them twice: App Engine's boundaries had no `-` and `_`.
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789xx";

/// A stanza id: 24 characters of `A–Z a–z 0–9 _ -`, 144 random bits.
pub(crate) fn stanza() -> String {
    draw::<24>(URL_SAFE)
}

/// `N` random letters and digits.
pub(crate) fn alphanumeric<const N: usize>() -> String {
    draw::<N>(LETTERS)
}

fn draw<const N: usize>(alphabet: &[u8; 64]) -> String {
    let mut bytes = [0u8; N];
    STOCK.with_borrow_mut(|stock| stock.take(&mut bytes));
    let text = bytes.map(|byte| alphabet[usize::from(byte & 63)]);
    String::from_utf8_lossy(&text).into_owned()
}

thread_local! {
    static STOCK: RefCell<Stock> = const { RefCell::new(Stock { bytes: [0; 1024], left: 0 }) };
}

/// Random bytes that nobody has used yet. The system is asked for many at once.
struct Stock {
    bytes: [u8; 1024],
    left: usize,
}

impl Stock {
    fn take(&mut self, out: &mut [u8]) {
        if self.left < out.len() {
            if getrandom::fill(&mut self.bytes).is_err() {
                // No entropy source at all: the time and a counter at least keep identifiers apart.
                return fallback(out);
            }
            self.left = self.bytes.len();
        }
        let used = &mut self.bytes[self.left - out.len()..self.left];
        out.copy_from_slice(used);
        used.fill(0);
        self.left -= out.len();
    }
}

fn fallback(bytes: &mut [u8]) {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let mut seed = now.map_or(0, |d| d.as_nanos() as u64) ^ COUNTER.fetch_add(1, Ordering::Relaxed);
    for byte in bytes {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *byte = (seed >> 56) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_url_safe_and_never_repeat() {
        let ids: std::collections::HashSet<String> = (0..1000).map(|_| stanza()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 24
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')));
    }

    #[test]
    fn the_fallback_still_keeps_ids_apart() {
        let (mut a, mut b) = ([0u8; 24], [0u8; 24]);
        fallback(&mut a);
        fallback(&mut b);
        assert_ne!(a, b);
    }
}
