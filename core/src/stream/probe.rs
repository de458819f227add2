//! Asking the server whether it is still there, and how far it has read.
//!
//! Both are one question: an iq ping (XEP-0199) written behind everything sent so far. Any input
//! shows that the server is there; the answer to the ping also shows that it has read what was
//! written before.

use std::time::Duration;

/// How a silent stream is kept alive and found dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keepalive {
    /// After this long without input the server is asked.
    pub idle: Duration,
    /// How long it may then stay silent; and how long, six times over, it may owe the answer while it
    /// is not.
    pub answer: Duration,
    /// What it is asked.
    pub question: Question,
}

/// What is written on a silent stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// An iq ping to this address. A component's own domain is an address that every server can
    /// route: the ping comes back as a request, which proves as much as an answer does. Where one
    /// component has several connections (ejabberd's `domain_balancing`) it may come back on another
    /// one, so ask the server's domain there.
    Ping(String),
    /// A space (RFC 6120 §4.6.1). Nobody answers it: the operating system finds out that the other
    /// end is gone, in its own time.
    Whitespace,
}

/// When the server is asked how far it has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Barrier {
    /// At the latest after so many stanzas.
    pub stanzas: u64,
    /// At the latest so long after a stanza was sent.
    pub within: Duration,
}

/// How many times as long a server that says other things may take for its answer.
const PATIENCE: u32 = 6;

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    Ping,
    Whitespace,
    Dead,
}

#[derive(Debug)]
struct Asked {
    serial: u64,
    position: u64,
    at: Duration,
}

/// The clockwork: pings out, answers in, positions acknowledged.
#[derive(Debug)]
pub(super) struct Prober {
    keepalive: Option<Keepalive>,
    barrier: Option<Barrier>,
    serial: u64,
    asked: Option<Asked>,
    heard: Duration,
    spaced: Duration,
    sent: u64,
    acked: u64,
    unacked_since: Duration,
}

impl Prober {
    pub(super) fn new(
        now: Duration,
        keepalive: Option<Keepalive>,
        barrier: Option<Barrier>,
    ) -> Self {
        Self {
            keepalive,
            barrier,
            serial: 0,
            asked: None,
            heard: now,
            spaced: now,
            sent: 0,
            acked: 0,
            unacked_since: now,
        }
    }

    /// Input arrived.
    pub(super) fn heard(&mut self, now: Duration) {
        self.heard = now;
    }

    /// Something of the server's waits to be read here, perhaps its answer: it is not the one who is
    /// silent, and its time does not run.
    pub(super) fn unread(&mut self, now: Duration) {
        self.heard = now;
        if let Some(asked) = &mut self.asked {
            asked.at = now;
        }
    }

    /// A stanza was sent; returns its position, counted from 1.
    pub(super) fn sent(&mut self, now: Duration) -> u64 {
        let covered = self.asked.as_ref().map_or(self.acked, |asked| asked.position);
        if self.sent == covered {
            self.unacked_since = now;
        }
        self.sent += 1;
        self.sent
    }

    /// A ping is about to be written; returns its serial number.
    pub(super) fn ask(&mut self, now: Duration) -> u64 {
        self.serial += 1;
        self.asked = Some(Asked { serial: self.serial, position: self.sent, at: now });
        self.serial
    }

    /// The ping with this serial number was answered: everything up to the returned position has
    /// been read by the server, if that is news.
    pub(super) fn answered(&mut self, serial: u64) -> Option<u64> {
        let asked = self.asked.take_if(|asked| asked.serial == serial)?;
        if self.barrier.is_none() || asked.position <= self.acked {
            return None;
        }
        self.acked = asked.position;
        // Sent while the ping was under way: its barrier's time starts to count with the next poll.
        self.unacked_since = self.unacked_since.max(asked.at);
        Some(self.acked)
    }

    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        [self.keepalive_at(), self.barrier_at()].into_iter().flatten().min()
    }

    pub(super) fn handle_timeout(&mut self, now: Duration) -> Due {
        if self.barrier_at().is_some_and(|at| at <= now) {
            return Due::Ping;
        }
        if self.keepalive_at().is_none_or(|at| at > now) {
            return Due::Nothing;
        }
        match &self.keepalive {
            Some(Keepalive { question: Question::Whitespace, .. }) => {
                self.spaced = now;
                Due::Whitespace
            }
            _ if self.asked.is_some() => Due::Dead,
            _ => Due::Ping,
        }
    }

    fn keepalive_at(&self) -> Option<Duration> {
        let keepalive = self.keepalive.as_ref()?;
        Some(match (&keepalive.question, &self.asked) {
            (Question::Whitespace, _) => self.heard.max(self.spaced) + keepalive.idle,
            (Question::Ping(_), None) => self.heard + keepalive.idle,
            (Question::Ping(_), Some(asked)) => {
                // A busy server may take its time for the answer while it says other things; but
                // what it says does not show that it hears.
                let silent = self.heard.max(asked.at) + keepalive.answer;
                silent.min(asked.at + keepalive.answer * PATIENCE)
            }
        })
    }

    fn barrier_at(&self) -> Option<Duration> {
        let barrier = self.barrier?;
        if self.asked.is_some() || self.sent == self.acked {
            return None;
        }
        if self.sent - self.acked >= barrier.stanzas {
            return Some(self.unacked_since);
        }
        Some(self.unacked_since + barrier.within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn keepalive(question: Question) -> Option<Keepalive> {
        Some(Keepalive { idle: s(60), answer: s(20), question })
    }

    fn ping() -> Option<Keepalive> {
        keepalive(Question::Ping("bot.example".into()))
    }

    #[test]
    fn silence_is_asked_about_and_then_fatal() {
        let mut prober = Prober::new(s(0), ping(), None);
        assert_eq!(prober.poll_timeout(), Some(s(60)));
        assert_eq!(prober.handle_timeout(s(59)), Due::Nothing);
        assert_eq!(prober.handle_timeout(s(60)), Due::Ping);
        prober.ask(s(60));
        assert_eq!(prober.poll_timeout(), Some(s(80)));
        assert_eq!(prober.handle_timeout(s(79)), Due::Nothing);
        assert_eq!(prober.handle_timeout(s(80)), Due::Dead);
    }

    #[test]
    fn any_input_is_a_sign_of_life() {
        let mut prober = Prober::new(s(0), ping(), None);
        prober.ask(s(60));
        prober.heard(s(70));
        assert_eq!(prober.handle_timeout(s(80)), Due::Nothing);
        assert_eq!(prober.poll_timeout(), Some(s(90)));
        assert_eq!(prober.answered(1), None, "nothing had been sent");
        assert_eq!(prober.poll_timeout(), Some(s(130)));
    }

    #[test]
    fn a_server_that_talks_but_does_not_hear_is_given_up() {
        let mut prober = Prober::new(s(0), ping(), None);
        prober.ask(s(60));
        for now in 61..180 {
            prober.heard(s(now));
            assert_eq!(prober.handle_timeout(s(now)), Due::Nothing);
        }
        assert_eq!(prober.poll_timeout(), Some(s(180)));
        assert_eq!(prober.handle_timeout(s(180)), Due::Dead);
    }

    #[test]
    fn an_answer_that_waits_here_to_be_read_is_not_late() {
        let mut prober = Prober::new(s(0), ping(), None);
        let serial = prober.ask(s(60));
        for now in 61..1000 {
            prober.unread(s(now));
            assert_eq!(prober.handle_timeout(s(now)), Due::Nothing);
        }
        prober.answered(serial);
        assert_eq!(prober.poll_timeout(), Some(s(999 + 60)));
    }

    #[test]
    fn whitespace_is_repeated_and_never_fatal() {
        let mut prober = Prober::new(s(0), keepalive(Question::Whitespace), None);
        assert_eq!(prober.handle_timeout(s(60)), Due::Whitespace);
        assert_eq!(prober.handle_timeout(s(60)), Due::Nothing);
        assert_eq!(prober.poll_timeout(), Some(s(120)));
        assert_eq!(prober.handle_timeout(s(500)), Due::Whitespace);
    }

    #[test]
    fn a_barrier_acknowledges_what_was_sent_before_it() {
        let barrier = Barrier { stanzas: 3, within: s(1) };
        let mut prober = Prober::new(s(0), None, Some(barrier));
        assert_eq!(prober.poll_timeout(), None);
        assert_eq!(prober.sent(s(5)), 1);
        assert_eq!(prober.poll_timeout(), Some(s(6)));
        assert_eq!(prober.handle_timeout(s(6)), Due::Ping);
        let serial = prober.ask(s(6));
        assert_eq!(prober.sent(s(6)), 2);
        assert_eq!(prober.answered(serial + 1), None);
        assert_eq!(prober.answered(serial), Some(1));
        assert_eq!(prober.answered(serial), None);
        assert_eq!(prober.poll_timeout(), Some(s(7)), "the second stanza waits for its own");
    }

    #[test]
    fn many_stanzas_do_not_wait_for_the_clock() {
        let barrier = Barrier { stanzas: 3, within: s(10) };
        let mut prober = Prober::new(s(0), None, Some(barrier));
        for _ in 0..3 {
            prober.sent(s(5));
        }
        assert_eq!(prober.handle_timeout(s(5)), Due::Ping);
    }

    #[test]
    fn an_unanswered_barrier_is_as_fatal_as_an_unanswered_keepalive() {
        let barrier = Barrier { stanzas: 1, within: s(1) };
        let mut prober = Prober::new(s(0), ping(), Some(barrier));
        prober.sent(s(5));
        assert_eq!(prober.handle_timeout(s(5)), Due::Ping);
        prober.ask(s(5));
        assert_eq!(prober.handle_timeout(s(25)), Due::Dead);
    }
}
