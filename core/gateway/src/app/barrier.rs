//! When no bounce can come any more.
//!
//! A server deals with a stream in order: what it bounces itself comes back before the answer to an iq
//! ping (XEP-0199) that was written behind it. One ping is under way at a time, and stands for all
//! requests that were waiting when it was written.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use appxmpp::ns;
use appxmpp::stanza::{Stanza, StanzaBuilder, StanzaKind};
use appxmpp::xml::{Element, Scope};
use tokio::sync::watch;

use crate::id;

/// After so long a ping is taken for lost, and another one is written.
const LOST: Duration = Duration::from_secs(1);

/// The pings of one stream.
#[derive(Debug)]
pub struct Barrier {
    /// Who asks; an account's server knows that.
    from: Option<String>,
    to: String,
    /// Nobody else knows it, so nobody else can answer.
    prefix: String,
    state: Mutex<State>,
    /// Up to which ping all were answered.
    passed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    /// The last ping.
    asked: u64,
    /// Since when it has been under way.
    since: Option<Instant>,
    /// Somebody has come since.
    again: bool,
}

impl Barrier {
    /// The barrier of a component, which asks its own domain: every server routes that back.
    pub fn of_component(domain: &str) -> Self {
        Self::new(Some(domain.to_owned()), domain.to_owned())
    }

    /// The barrier of an account on the server `domain`.
    pub fn of_account(domain: &str) -> Self {
        Self::new(None, domain.to_owned())
    }

    fn new(from: Option<String>, to: String) -> Self {
        let prefix = format!("{}-", id::alphanumeric::<12>());
        Self { from, to, prefix, state: Mutex::default(), passed: watch::Sender::new(0) }
    }

    /// Waits until the server has dealt with what was written before. `ask` writes a ping; whether it
    /// did.
    pub async fn pass(&self, ask: impl Fn(&str) -> bool) {
        let mut passed = self.passed.subscribe();
        let (awaited, is_ours) = self.join();
        if is_ours {
            self.ask(awaited, ask);
        }
        let _ = passed.wait_for(|passed| *passed >= awaited).await;
    }

    /// Whether `stanza` is the answer to a ping; if it is, writes another one for who came meanwhile.
    pub fn answered(&self, stanza: &Stanza, ask: impl Fn(&str) -> bool) -> bool {
        let is_iq = stanza.kind() == StanzaKind::Iq;
        let id = stanza.id().filter(|_| is_iq).and_then(|id| id.strip_prefix(&self.prefix));
        let Some(serial) = id.and_then(|id| id.parse().ok()) else { return false };
        let next = self.lock().answered(serial);
        self.passed.send_if_modified(|passed| {
            let is_news = serial > *passed;
            *passed = serial.max(*passed);
            is_news
        });
        if let Some(next) = next {
            self.ask(next, ask);
        }
        true
    }

    /// The number of the ping that stands for who comes now, and whether they have to write it.
    fn join(&self) -> (u64, bool) {
        let mut state = self.lock();
        let is_under_way = state.since.is_some_and(|since| since.elapsed() < LOST);
        if is_under_way {
            state.again = true;
            return (state.asked + 1, false);
        }
        (state.next(), true)
    }

    fn ask(&self, serial: u64, ask: impl Fn(&str) -> bool) {
        if !ask(&self.ping(serial)) {
            self.lock().since = None;
        }
    }

    fn ping(&self, serial: u64) -> String {
        let id = format!("{}{serial}", self.prefix);
        let mut iq = StanzaBuilder::iq().id(&id).type_("get").to(&self.to);
        if let Some(from) = &self.from {
            iq = iq.from(from);
        }
        let scope = Scope::stream(ns::CLIENT);
        iq.element(&Element::new("ping", ns::PING), &scope).finish()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next(&mut self) -> u64 {
        self.asked += 1;
        self.since = Some(Instant::now());
        self.again = false;
        self.asked
    }

    fn answered(&mut self, serial: u64) -> Option<u64> {
        if serial != self.asked {
            return None;
        }
        self.since = None;
        self.again.then(|| self.next())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use appxmpp::xml::Limits;

    /// A barrier whose pings are kept, and a task that waits to pass it.
    struct Stream {
        barrier: Barrier,
        pings: Mutex<Vec<String>>,
    }

    impl Stream {
        fn new() -> Arc<Self> {
            let barrier = Barrier::of_component("bot.example");
            Arc::new(Self { barrier, pings: Mutex::default() })
        }

        fn write(&self, ping: &str) -> bool {
            self.pings.lock().unwrap().push(ping.to_owned());
            true
        }

        async fn waiter(self: &Arc<Self>) -> tokio::task::JoinHandle<()> {
            let this = Arc::clone(self);
            let waiter = tokio::spawn(async move { this.barrier.pass(|it| this.write(it)).await });
            tokio::task::yield_now().await;
            waiter
        }

        fn written(&self) -> usize {
            self.pings.lock().unwrap().len()
        }

        /// The server gives ping number `index` back.
        fn give_back(&self, index: usize) -> bool {
            let ping = self.pings.lock().unwrap()[index].clone();
            let scope = Scope::stream(ns::COMPONENT);
            let ping = Stanza::parse(ping.into(), &scope, &Limits::default()).unwrap();
            self.barrier.answered(&ping, |it| self.write(it))
        }
    }

    #[tokio::test]
    async fn one_ping_stands_for_all_who_wait_when_it_is_written() {
        let stream = Stream::new();
        let first = stream.waiter().await;
        let later = [stream.waiter().await, stream.waiter().await];
        assert_eq!(stream.written(), 1);
        assert!(stream.give_back(0));
        first.await.unwrap();
        assert!(later.iter().all(|waiter| !waiter.is_finished()), "they came behind that ping");
        assert_eq!(stream.written(), 2, "one for both");
        assert!(stream.give_back(1));
        for waiter in later {
            waiter.await.unwrap();
        }
        assert_eq!(stream.written(), 2, "nobody waits any more");
    }

    #[tokio::test]
    async fn a_ping_that_was_not_written_is_not_waited_for_by_others() {
        let stream = Stream::new();
        let unwritten = stream.barrier.pass(|_| false);
        assert!(tokio::time::timeout(Duration::ZERO, unwritten).await.is_err());
        let waiter = stream.waiter().await;
        assert_eq!(stream.written(), 1);
        assert!(stream.give_back(0));
        waiter.await.unwrap();
    }

    #[tokio::test]
    async fn what_is_no_answer_passes_nobody() {
        let stream = Stream::new();
        let waiter = stream.waiter().await;
        let scope = Scope::stream(ns::COMPONENT);
        for other in [
            "<iq from='bot.example' to='bot.example' id='1' type='get'/>",
            "<iq from='bot.example' to='bot.example' type='get'/>",
        ] {
            let other = Stanza::parse(other.into(), &scope, &Limits::default()).unwrap();
            assert!(!stream.barrier.answered(&other, |_| true));
        }
        assert!(!waiter.is_finished());
        waiter.abort();
    }
}
