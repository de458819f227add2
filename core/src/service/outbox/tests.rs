use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const DAY: Duration = Duration::from_secs(86_400);
const NOW: Duration = Duration::from_secs(1_790_000_000);

fn outgoing(text: &str) -> Outgoing {
    Outgoing { recipient: 0, head: Bytes::copy_from_slice(text.as_bytes()), tail: Bytes::new() }
}

fn outbox() -> Outbox {
    Outbox::new(OutboxLimits::default())
}

/// Accepts and stores one message.
fn put(outbox: &mut Outbox, text: &str) -> OutboxRow {
    let call = [outgoing(text)];
    let accepted = outbox.accept(NOW, &call);
    assert_eq!(accepted.len(), 1);
    let row = outbox.row(NOW, &accepted, &call);
    outbox.stored(&accepted);
    row
}

fn next(outbox: &Outbox) -> Vec<String> {
    outbox
        .next_batch(usize::MAX)
        .map(|(head, tail)| String::from_utf8([&head[..], &tail[..]].concat()).unwrap())
        .collect()
}

#[test]
fn a_message_is_done_when_the_server_has_read_it() {
    let mut outbox = outbox();
    let call = [outgoing("a"), outgoing("b")];
    let accepted = outbox.accept(NOW, &call);
    assert!(!outbox.has_next() && next(&outbox).is_empty(), "the store does not have it");
    assert!(!outbox.has_stored());
    outbox.stored(&accepted);
    assert_eq!(next(&outbox), ["a", "b"]);
    // Something else was sent before and between.
    outbox.written(1, 5);
    assert_eq!(next(&outbox), ["b"]);
    assert!(outbox.has_stored());
    outbox.written(1, 8);
    assert!(!outbox.has_stored());
    assert_eq!((outbox.acked(4), outbox.acked(7)), (None, Some(1)));
    assert_eq!(outbox.stats().in_flight, 1);
    assert_eq!((outbox.acked(8), outbox.acked(8)), (Some(2), None));
    assert!(outbox.is_empty());
    let stats = outbox.stats();
    assert_eq!((stats.accepted, stats.done, stats.repeated, stats.bytes), (2, 2, 0, 0));
}

#[test]
fn what_was_in_flight_is_written_again_first() {
    let mut outbox = outbox();
    for text in ["a", "b", "c", "d"] {
        put(&mut outbox, text);
    }
    outbox.written(3, 3);
    assert_eq!(outbox.acked(1), Some(1));
    assert_eq!(outbox.lost(3, false), None);
    assert_eq!(next(&outbox), ["b", "c", "d"]);
    assert_eq!(outbox.stats().repeated, 2);
    outbox.written(3, 6);
    // An acknowledgement from before says nothing about the new stream.
    assert_eq!(outbox.acked(3), None);
    assert_eq!(outbox.acked(6), Some(4));
}

#[test]
fn nothing_overtakes_what_is_not_yet_stored() {
    let mut outbox = outbox();
    let first = outbox.accept(NOW, &[outgoing("a")]);
    put(&mut outbox, "b");
    assert!(next(&outbox).is_empty());
    assert!(outbox.has_stored(), "though it waits for another");
    let third = outbox.accept(NOW, &[outgoing("c"), outgoing("d")]);
    outbox.stored(&first);
    assert_eq!(next(&outbox), ["a", "b"]);
    outbox.not_stored(&third);
    put(&mut outbox, "e");
    assert_eq!(next(&outbox), ["a", "b", "e"]);
    assert_eq!(outbox.stats().not_stored, 2);
    outbox.written(3, 3);
    assert_eq!(outbox.acked(3), Some(5), "numbers are not used twice");
}

#[test]
fn what_is_over_the_bounds_is_refused_and_counted() {
    let limits = OutboxLimits { stanzas: 3, bytes: 10, expiry: DAY };
    let mut outbox = Outbox::new(limits);
    let call = ["aa", "bb", "cc", "dd"].map(outgoing);
    let accepted = outbox.accept(NOW, &call);
    assert_eq!((accepted.len(), outbox.row(NOW, &accepted, &call).heads.len()), (3, 3));
    outbox.stored(&accepted);
    outbox.written(2, 2);
    outbox.acked(2);
    assert_eq!(outbox.stats().bytes, 2);
    assert!(outbox.accept(NOW, &[outgoing("123456789")]).is_empty(), "2 and 9 bytes");
    assert_eq!(outbox.accept(NOW, &[outgoing("12345678")]).len(), 1);
    assert_eq!(outbox.stats().refused, 2);
    let mut alone = Outbox::new(limits);
    assert_eq!(alone.accept(NOW, &[outgoing("more than all of it")]).len(), 1);
}

#[test]
fn a_shared_body_counts_once() {
    let mut outbox = outbox();
    let tail = Bytes::from(vec![b'x'; 1000]);
    let call: Vec<_> =
        (0..10).map(|i| Outgoing { recipient: i, head: "h".into(), tail: tail.clone() }).collect();
    let accepted = outbox.accept(NOW, &call);
    assert_eq!(outbox.stats().bytes, 1010);
    let row = outbox.row(NOW, &accepted, &call);
    let mut again = Outbox::new(OutboxLimits::default());
    again.restore([row], 4);
    assert_eq!((again.stats().waiting, again.stats().bytes), (6, 1006));
    again.written(6, 6);
    assert_eq!(again.acked(6), Some(10));
    assert_eq!(again.stats().bytes, 0);
}

#[test]
fn a_restart_goes_on_where_the_store_says() {
    let mut outbox = outbox();
    let rows = ["a", "b", "c"].map(|text| put(&mut outbox, text));
    let mut again = Outbox::new(OutboxLimits::default());
    again.restore(rows, 1);
    assert_eq!(next(&again), ["b", "c"]);
    assert_eq!(put(&mut again, "d").first, 4);
    let mut empty = Outbox::new(OutboxLimits::default());
    empty.restore([], 41);
    assert_eq!(put(&mut empty, "e").first, 42);
}

#[test]
fn what_is_taken_over_goes_before_what_is_held() {
    let mut outbox = outbox();
    let others = |first, heads: &[&'static str]| OutboxRow {
        first,
        expires: NOW + DAY,
        heads: heads.iter().map(|head| Bytes::from_static(head.as_bytes())).collect(),
        tail: Bytes::new(),
    };
    let adopt = |outbox: &mut Outbox, row| {
        let rows = outbox.adopt(vec![row]);
        Accepted::calls(&rows).iter().for_each(|call| outbox.stored(call));
        rows[0].first
    };
    let a = put(&mut outbox, "a").first;
    outbox.written(1, 1);
    outbox.leave_room();
    let b = put(&mut outbox, "b").first;
    outbox.leave_room();
    put(&mut outbox, "c");
    outbox.hold(b);
    assert!(!outbox.has_next() && next(&outbox).is_empty());
    let first = adopt(&mut outbox, others(7, &["1", "2"]));
    let second = adopt(&mut outbox, others(1, &["3"]));
    assert!(a < first && second == first + 2 && second < b, "{a} {first} {second} {b}");
    assert_eq!(next(&outbox), ["1", "2", "3"]);
    outbox.written(3, 4);
    assert!(!outbox.has_next());
    assert_eq!(outbox.acked(4), Some(second));
    assert_eq!(outbox.handle_timeout(NOW + DAY), None, "others may still go before");
    outbox.release();
    assert_eq!(next(&outbox), ["b", "c"]);
    let last = adopt(&mut outbox, others(5, &["4"]));
    assert!(last > b, "nothing is held: it comes last");
    assert_eq!(next(&outbox), ["b", "c", "4"]);
    // Nor is what the store does not have yet before what others had there.
    outbox.leave_room();
    let unstored = outbox.accept(NOW, &[outgoing("6")]);
    assert!(adopt(&mut outbox, others(5, &["5"])) < unstored.first());
    outbox.stored(&unstored);
    assert_eq!(next(&outbox), ["b", "c", "4", "5", "6"]);
    // What does not fit between comes last, too.
    let d = put(&mut outbox, "d").first;
    outbox.hold(d);
    assert!(adopt(&mut outbox, others(9, &["5"])) > d);
}

#[test]
fn all_or_nothing_is_handed_over_and_nothing_is_written_meanwhile() {
    let mut outbox = outbox();
    assert_eq!(outbox.hand_over(), None, "there is nothing");
    let first = put(&mut outbox, "a").first;
    outbox.leave_room();
    let call = [outgoing("b")];
    let later = outbox.accept(NOW, &call);
    assert_eq!(outbox.hand_over(), None, "the store does not have all");
    outbox.stored(&later);
    outbox.hold(later.first());
    assert_eq!(outbox.hand_over(), None, "others go before");
    outbox.release();
    outbox.written(1, 1);
    assert_eq!(outbox.hand_over(), None, "the server may have it");
    outbox.lost(1, false);
    assert_eq!(outbox.hand_over(), Some(first..=later.first()));
    let third = put(&mut outbox, "c").first;
    assert!(!outbox.has_next() && !outbox.can_hand_over());
    assert_eq!(outbox.handle_timeout(NOW + DAY), None);
    assert_eq!((outbox.hand_over(), outbox.is_undecided()), (None, false), "the store is asked");
    outbox.given_up(false);
    assert!(outbox.is_undecided() && !outbox.has_next(), "others may have them all the same");
    assert_eq!(outbox.hand_over(), Some(first..=later.first()), "the same again");
    outbox.given_up(true);
    assert_eq!(next(&outbox), ["c"], "that came later");
    assert!(third > later.first() && !outbox.is_undecided());
    assert_eq!((outbox.stats().handed_over, outbox.stats().expired), (2, 0));
    outbox.written(1, 2);
    outbox.lost(2, true);
    assert_eq!(outbox.hand_over(), None, "it may be what the server does not bear");
}

#[test]
fn what_expires_is_given_up_unless_it_is_in_flight() {
    let mut outbox = outbox();
    let row = put(&mut outbox, "a");
    assert_eq!(row.expires, NOW + DAY);
    assert_eq!(outbox.poll_timeout(), Some(NOW + DAY));
    assert_eq!(outbox.handle_timeout(NOW + DAY - Duration::from_millis(1)), None);
    outbox.written(1, 1);
    assert_eq!((outbox.poll_timeout(), outbox.handle_timeout(NOW + DAY)), (None, None));
    outbox.lost(1, false);
    assert_eq!(outbox.handle_timeout(NOW + DAY), Some(1));
    outbox.given_up(true);
    assert!(outbox.is_empty());
    assert_eq!(outbox.stats().expired, 1);
}

#[test]
fn nothing_overtakes_what_is_given_up_before_the_store_has_forgotten_it() {
    let mut outbox = outbox();
    let rows = ["a", "b"].map(|text| put(&mut outbox, text));
    let call = [outgoing("c")];
    let later = outbox.accept(NOW + DAY, &call);
    outbox.stored(&later);
    assert_eq!(outbox.handle_timeout(NOW + DAY), Some(2));
    assert!(!outbox.has_next() && next(&outbox).is_empty(), "a restart would bring a and b back");
    assert_eq!((outbox.handle_timeout(NOW + DAY), outbox.poll_timeout()), (None, None));
    // The store has a fault, and the clock is set back: they are sent in their turn after all.
    outbox.given_up(false);
    assert_eq!(outbox.handle_timeout(NOW), None);
    assert_eq!(next(&outbox), ["a", "b", "c"]);
    assert_eq!(outbox.handle_timeout(NOW + DAY), Some(2));
    outbox.given_up(true);
    assert_eq!((next(&outbox), outbox.stats().expired), (vec!["c".to_owned()], 2));
    let row = outbox.row(NOW + DAY, &later, &call);
    let mut again = Outbox::new(OutboxLimits::default());
    again.restore(rows.into_iter().chain([row]), 2);
    assert_eq!(next(&again), ["c"]);
}

#[test]
fn nothing_follows_a_poisonous_message_before_the_store_has_forgotten_it() {
    let mut outbox = outbox();
    put(&mut outbox, "poison");
    for position in 1..=u64::from(SUSPICIOUS) {
        outbox.written(1, position);
        assert_eq!(outbox.lost(position, true), None);
    }
    put(&mut outbox, "fine");
    outbox.written(1, 4);
    assert_eq!(outbox.lost(4, true), Some(1));
    assert!(next(&outbox).is_empty());
    outbox.given_up(false);
    assert_eq!(next(&outbox), ["poison"], "it waits as before");
    outbox.written(1, 5);
    assert_eq!(outbox.lost(5, false), None, "the network did that");
    outbox.written(1, 6);
    assert_eq!(outbox.lost(6, true), Some(1));
    outbox.given_up(true);
    assert_eq!((next(&outbox), outbox.stats().poisonous), (vec!["fine".to_owned()], 1));
}

#[test]
fn a_message_that_ends_every_stream_is_found_and_given_up() {
    let mut outbox = outbox();
    for text in ["fine", "poison", "fine too", "and this"] {
        put(&mut outbox, text);
    }
    let mut position = 0;
    let mut seen = Vec::new();
    for _ in 0..50 {
        let batch = next(&outbox);
        if batch.is_empty() {
            break;
        }
        position += batch.len() as u64;
        outbox.written(batch.len(), position);
        // The server reads up to the poison and then ends the stream.
        let good = batch.iter().take_while(|text| *text != "poison").count();
        seen.extend(batch[..good].iter().cloned());
        if good == batch.len() {
            outbox.acked(position);
        } else if outbox.lost(position, true).is_some() {
            outbox.given_up(true);
        }
    }
    assert!(outbox.is_empty());
    assert_eq!(outbox.stats().poisonous, 1);
    for text in ["fine", "fine too", "and this"] {
        assert!(seen.iter().any(|it| it == text), "{text} was lost: {seen:?}");
    }
}

#[test]
fn cuts_by_the_network_make_nobody_suspicious() {
    let mut outbox = outbox();
    put(&mut outbox, "a");
    for position in 1..1000 {
        outbox.written(1, position);
        assert_eq!(outbox.lost(position, false), None);
    }
    assert_eq!(next(&outbox), ["a"]);
}

/// One thing that happens.
#[derive(Debug, Clone)]
enum Step {
    /// A call to these recipients.
    Send(Vec<u8>),
    /// The store answers the oldest or the newest call that waits.
    Stored {
        newest: bool,
        kept: bool,
    },
    /// Up to so many messages are written.
    Write(usize),
    /// Presence or the like goes out.
    Other,
    /// The server reads so much more of what was written.
    Read(u64),
    /// The server's word about what it has read arrives.
    Ack,
    Cut,
    /// The clock is set, to so many days from the beginning on.
    Clock(u32),
    /// A look for what has expired.
    Expire,
    /// The process dies and comes back. What nobody waited for the disk to have may not be on it.
    Crash {
        forgets: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => proptest::collection::vec(0..4_u8, 1..4).prop_map(Step::Send),
        5 => (any::<bool>(), proptest::bool::weighted(0.9))
            .prop_map(|(newest, kept)| Step::Stored { newest, kept }),
        4 => (1..6_usize).prop_map(Step::Write),
        1 => Just(Step::Other),
        4 => (1..6_u64).prop_map(Step::Read),
        3 => Just(Step::Ack),
        1 => Just(Step::Cut),
        1 => (0..3_u32).prop_map(Step::Clock),
        2 => Just(Step::Expire),
        1 => any::<bool>().prop_map(|forgets| Step::Crash { forgets }),
    ]
}

fn texts(row: &OutboxRow) -> Vec<String> {
    row.heads.iter().map(|head| String::from_utf8(head.to_vec()).unwrap()).collect()
}

/// A disk, a network and a server around an outbox.
#[derive(Default)]
struct World {
    disk: BTreeMap<u64, OutboxRow>,
    done: u64,
    /// What is soon on the disk as done.
    soon: u64,
    /// Up to where the disk is to forget what is given up.
    giving_up: Option<u64>,
    given_up: BTreeSet<String>,
    days: u32,
    storing: Vec<(Accepted, OutboxRow)>,
    /// Messages whose sender was told that they are safe.
    promised: Vec<String>,
    /// What is on the present stream, with positions; empty for what is no message.
    wire: Vec<(u64, String)>,
    position: u64,
    read: usize,
    received: Vec<String>,
    /// What was on a stream and not acknowledged when it was cut: it may come twice.
    may_repeat: BTreeSet<String>,
    next_id: u32,
}

impl World {
    fn run(&mut self, outbox: &mut Outbox, step: Step) {
        match step {
            Step::Send(recipients) => self.send(outbox, &recipients),
            Step::Stored { newest, kept } => self.stored(outbox, newest, kept),
            Step::Write(count) => {
                let batch: Vec<_> = next(outbox).into_iter().take(count).collect();
                for text in &batch {
                    self.position += 1;
                    self.wire.push((self.position, text.clone()));
                }
                if !batch.is_empty() {
                    outbox.written(batch.len(), self.position);
                }
            }
            Step::Other => {
                self.position += 1;
                self.wire.push((self.position, String::new()));
            }
            Step::Read(count) => {
                for _ in 0..count {
                    let Some((_, text)) = self.wire.get(self.read) else { break };
                    if !text.is_empty() {
                        self.received.push(text.clone());
                    }
                    self.read += 1;
                }
            }
            Step::Ack => {
                if let Some((position, _)) = self.wire[..self.read].last() {
                    self.soon = outbox.acked(*position).unwrap_or(self.soon);
                    // What is known to be read is not in flight, and must not come again.
                    self.wire.drain(..self.read);
                    self.read = 0;
                }
            }
            Step::Cut => {
                self.cut();
                assert_eq!(outbox.lost(self.position, false), None);
            }
            Step::Clock(days) => self.days = days,
            Step::Expire => self.giving_up = outbox.handle_timeout(self.utc()).or(self.giving_up),
            Step::Crash { forgets } => {
                self.cut();
                self.storing.clear();
                if forgets {
                    (self.soon, self.giving_up) = (self.done, None);
                    self.may_repeat.extend(self.disk.values().flat_map(texts));
                }
                self.forget();
                self.position = 0;
                *outbox = Outbox::new(OutboxLimits::default());
                outbox.restore(self.disk.values().cloned(), self.done);
            }
        }
    }

    fn send(&mut self, outbox: &mut Outbox, recipients: &[u8]) {
        let call: Vec<_> = recipients
            .iter()
            .map(|to| {
                self.next_id += 1;
                outgoing(&format!("{to}:{:06}", self.next_id))
            })
            .collect();
        let accepted = outbox.accept(self.utc(), &call);
        let row = outbox.row(self.utc(), &accepted, &call);
        self.storing.push((accepted, row));
    }

    fn utc(&self) -> Duration {
        NOW + DAY * self.days
    }

    fn stored(&mut self, outbox: &mut Outbox, newest: bool, kept: bool) {
        if self.giving_up.is_some() && (newest || self.storing.is_empty()) {
            self.giving_up = self.giving_up.filter(|_| kept);
            self.forget();
            return outbox.given_up(kept);
        }
        if self.storing.is_empty() {
            return;
        }
        let index = if newest { self.storing.len() - 1 } else { 0 };
        let (accepted, row) = self.storing.remove(index);
        if !kept {
            return outbox.not_stored(&accepted);
        }
        self.promised.extend(texts(&row));
        self.disk.insert(row.first, row);
        outbox.stored(&accepted);
    }

    /// The disk has what was to be there soon, and forgets what is given up.
    fn forget(&mut self) {
        assert!(self.soon >= self.done, "the number goes up");
        self.done = self.soon;
        if let Some(up_to) = self.giving_up.take() {
            let numbered = self.disk.values().flat_map(|row| (row.first..).zip(texts(row)));
            let given_up = numbered.filter(|(number, _)| (self.done + 1..=up_to).contains(number));
            self.given_up.extend(given_up.map(|(_, text)| text));
            (self.done, self.soon) = (up_to, up_to);
        }
        self.disk.retain(|_, row| row.last() > self.done);
    }

    fn cut(&mut self) {
        self.may_repeat.extend(self.wire.drain(..).map(|(_, text)| text));
        self.read = 0;
    }

    fn check(&self) {
        let mut first_seen = Vec::new();
        let mut seen = BTreeSet::new();
        for text in &self.received {
            if seen.insert(text) {
                first_seen.push(text);
            } else {
                assert!(self.may_repeat.contains(text), "{text} came twice without a cut");
            }
        }
        for to in 0..4 {
            let of = |text: &&&String| text.starts_with(&format!("{to}:"));
            let ids: Vec<_> = first_seen.iter().filter(of).collect();
            assert!(ids.is_sorted(), "out of order for {to}: {ids:?}");
        }
        assert!(seen.iter().all(|text| self.promised.contains(text)), "sent without a promise");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_promised_is_lost_nor_out_of_order(steps in proptest::collection::vec(step(), 0..120)) {
        let mut world = World::default();
        let mut outbox = outbox();
        for step in steps {
            world.run(&mut outbox, step);
            world.check();
        }
        // At last everything works.
        world.run(&mut outbox, Step::Cut);
        while !world.storing.is_empty() || world.giving_up.is_some() {
            world.run(&mut outbox, Step::Stored { newest: true, kept: true });
        }
        for step in [Step::Write(usize::MAX), Step::Read(u64::MAX), Step::Ack] {
            world.run(&mut outbox, step);
        }
        world.check();
        for text in &world.promised {
            let is_over = world.received.contains(text) || world.given_up.contains(text);
            prop_assert!(is_over, "{} was lost", text);
        }
        world.forget();
        prop_assert!(outbox.is_empty() && world.disk.is_empty());
        prop_assert_eq!(outbox.stats().bytes, 0);
    }
}
