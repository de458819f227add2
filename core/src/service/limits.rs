//! Sizes that the service holds callers and senders to, and what it counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// The sizes App Engine documented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceLimits {
    /// A message's body or raw XML in either direction, in bytes of UTF-8: 100 KB.
    pub body_bytes: usize,
    /// All the arguments of one call, in bytes of UTF-8: 1 MiB.
    pub call_bytes: usize,
    /// A presence status, in characters: 1024.
    pub status_chars: usize,
    /// How many people without any subscription the presence book remembers.
    pub strangers: usize,
}

impl Default for ServiceLimits {
    fn default() -> Self {
        Self {
            body_bytes: 100 * 1024,
            call_bytes: 1024 * 1024,
            status_chars: 1024,
            strangers: 10_000,
        }
    }
}

macro_rules! counters {
    ($($name:ident: $doc:literal),* $(,)?) => {
        /// What the service has done since it was made. Each number only grows.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct Stats {
            $(#[doc = $doc] pub $name: u64,)*
        }

        impl Stats {
            /// Every number with its name, for metrics.
            pub fn each(&self) -> [(&'static str, u64); [$($doc),*].len()] {
                [$((stringify!($name), self.$name)),*]
            }
        }

        /// The counters behind [`Stats`].
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
        }

        impl Counters {
            pub(crate) fn stats(&self) -> Stats {
                Stats { $($name: self.$name.get(),)* }
            }
        }
    };
}

counters! {
    api_calls: "Calls of an app: messages, presence, invitations and look-ups.",
    data_sent_bytes: "Bytes of message bodies, once for each recipient.",
    recipients_messaged: "Recipients of messages to whom one was made.",
    invitations_sent: "Invitations.",
    presence_sent: "Presence that the app sent.",
    recipients_refused: "Recipients that were no addresses.",
    delivered: "Stanzas handed to the app.",
    answered: "Stanzas that the service answered itself.",
    dropped: "Stanzas that were not for the app.",
    subscriptions_accepted: "Requests for a subscription that were accepted.",
    store_errors: "Changes that the store did not take.",
}

/// One number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: usize) {
        self.0.fetch_add(more as u64, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stats_carry_their_names() {
        let counters = Counters::default();
        counters.api_calls.add(2);
        counters.store_errors.add(1);
        let stats = counters.stats();
        assert_eq!(stats.each()[0], ("api_calls", 2));
        assert_eq!(stats.each().last(), Some(&("store_errors", 1)));
    }
}
