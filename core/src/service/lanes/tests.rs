use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::service::InboundService;
use crate::stanza::Stanza;
use crate::store::Place;
use crate::xml::{Limits, Scope};

fn delivery(id: u64, sender: &str) -> Delivery {
    let stanza = "<message/>".as_bytes().to_vec().into();
    Delivery {
        id,
        path: "/_ah/xmpp/message/chat/",
        fields: vec![("body", format!("{id}"))],
        service: InboundService::Message,
        sender: sender.to_owned(),
        stanza: Stanza::parse(stanza, &Scope::default_ns(crate::ns::COMPONENT), &Limits::default())
            .unwrap(),
        place: Place::default(),
        came: Duration::ZERO,
    }
}

fn ids(claimed: &[(Ticket, Arc<Delivery>)]) -> Vec<u64> {
    claimed.iter().map(|(_, delivery)| delivery.id).collect()
}

/// One that has this turn; an earlier one may wait for another process.
fn placed(id: u64, turn: u64, behind: bool) -> Delivery {
    Delivery { place: Place { turn, behind }, ..delivery(id, "a") }
}

#[test]
fn a_delivery_waits_for_its_turn_and_those_behind_it_too() {
    let mut lanes = Lanes::default();
    lanes.push(placed(1, 10, false)).unwrap();
    lanes.push(placed(2, 20, true)).unwrap();
    lanes.push(placed(3, 30, false)).unwrap();
    lanes.push(delivery(4, "b")).unwrap();
    let claimed = lanes.claim(9);
    assert_eq!(ids(&claimed), [1, 4]);
    assert!(lanes.has_waiting() && lanes.waiting().is_empty(), "its own sender's first is handled");
    lanes.done(&claimed[0].0);
    assert!(!lanes.has_ready() && lanes.claim(9).is_empty());
    assert_eq!(lanes.waiting().iter().map(|it| it.id).collect::<Vec<_>>(), [2]);
    lanes.release(&[2, 99]);
    assert!(!lanes.has_waiting());
    let claimed = lanes.claim(9);
    assert_eq!(ids(&claimed), [2]);
    lanes.done(&claimed[0].0);
    assert_eq!(ids(&lanes.claim(9)), [3]);
}

#[test]
fn what_is_taken_over_goes_before_what_waited_for_it() {
    let mut lanes = Lanes::default();
    lanes.push(placed(1, 10, false)).unwrap();
    lanes.push(placed(3, 30, true)).unwrap();
    // Of several processes, in no order; whose turn it is, is not known yet.
    lanes.restore(placed(7, 25, true));
    lanes.restore(placed(8, 20, true));
    lanes.restore(placed(9, 5, true));
    lanes.push(placed(4, 0, false)).unwrap();
    lanes.restore(placed(6, 40, true));
    let mut order = Vec::new();
    assert!(lanes.claim(9).is_empty(), "something came before what was ready");
    while lanes.has_waiting() {
        let next: Vec<_> = lanes.waiting().iter().map(|it| it.id).collect();
        lanes.release(&next);
        while let [(ticket, delivery)] = &lanes.claim(9)[..] {
            order.push(delivery.id);
            lanes.done(ticket);
        }
    }
    assert_eq!(order, [9, 1, 8, 7, 3, 6, 4], "one without a turn comes last");
    assert!(lanes.is_empty());
}

#[test]
fn who_stops_takes_back_what_waits_for_its_turn() {
    let mut lanes = Lanes::default();
    lanes.push(placed(1, 10, true)).unwrap();
    assert_eq!(lanes.drain().len(), 1);
    assert!(!lanes.has_waiting() && lanes.is_empty());
    lanes.push(placed(2, 20, false)).unwrap();
    assert_eq!(ids(&lanes.claim(9)), [2]);
}

#[test]
fn one_sender_in_order_others_beside_it() {
    let mut lanes = Lanes::new(LaneLimits::default());
    for (id, sender) in [(1, "a"), (2, "a"), (3, "b"), (4, "a"), (5, "b")] {
        lanes.push(delivery(id, sender)).unwrap();
    }
    let first = lanes.claim(10);
    assert_eq!(ids(&first), [1, 3]);
    assert!(lanes.claim(10).is_empty());
    lanes.done(&first[1].0);
    let second = lanes.claim(10);
    assert_eq!(ids(&second), [5]);
    lanes.done(&first[0].0);
    let third = lanes.claim(10);
    assert_eq!(ids(&third), [2]);
    lanes.done(&second[0].0);
    lanes.done(&third[0].0);
    let last = lanes.claim(10);
    assert_eq!(ids(&last), [4]);
    lanes.done(&last[0].0);
    assert!(lanes.is_empty());
    assert_eq!(lanes.bytes(), 0);
    assert!(lanes.lanes.is_empty(), "an idle sender leaves nothing behind");
}

#[test]
fn a_busy_sender_does_not_starve_another() {
    let mut lanes = Lanes::new(LaneLimits::default());
    for id in 0..100 {
        lanes.push(delivery(id, "busy")).unwrap();
    }
    lanes.push(delivery(100, "quiet")).unwrap();
    let mut order = Vec::new();
    while !lanes.is_empty() {
        let claimed = lanes.claim(1);
        order.extend(ids(&claimed));
        lanes.done(&claimed[0].0);
    }
    assert_eq!(order.iter().position(|&id| id == 100), Some(1));
}

#[test]
fn room_is_bounded_in_all_and_for_each_sender() {
    let limits = LaneLimits { deliveries: 3, per_sender: 2, ..LaneLimits::default() };
    let mut lanes = Lanes::new(limits);
    lanes.push(delivery(1, "a")).unwrap();
    lanes.push(delivery(2, "a")).unwrap();
    assert_eq!(lanes.push(delivery(3, "a")).unwrap_err().id, 3);
    lanes.push(delivery(4, "b")).unwrap();
    assert_eq!(lanes.push(delivery(5, "c")).unwrap_err().id, 5);
    // What is being handled takes room until it is done.
    let claimed = lanes.claim(1);
    assert_eq!(lanes.push(delivery(6, "c")).unwrap_err().id, 6);
    lanes.done(&claimed[0].0);
    lanes.push(delivery(7, "c")).unwrap();
    assert_eq!(lanes.len(), 3);
}

#[test]
fn bytes_are_bounded_but_one_delivery_always_passes() {
    let size = delivery(1, "a").size();
    let mut lanes = Lanes::new(LaneLimits { bytes: size * 2, ..LaneLimits::default() });
    lanes.push(delivery(1, "a")).unwrap();
    lanes.push(delivery(2, "b")).unwrap();
    assert!(lanes.push(delivery(3, "c")).is_err());
    let mut tight = Lanes::new(LaneLimits { bytes: 1, ..LaneLimits::default() });
    tight.push(delivery(1, "a")).unwrap();
    assert!(tight.push(delivery(2, "b")).is_err());
}

#[test]
fn a_used_ticket_does_nothing() {
    let mut lanes = Lanes::new(LaneLimits::default());
    for id in 0..3 {
        lanes.push(delivery(id, "a")).unwrap();
    }
    let first = lanes.claim(1).remove(0).0;
    lanes.done(&first);
    let second = lanes.claim(1).remove(0).0;
    lanes.done(&first);
    assert!(lanes.claim(1).is_empty(), "the second is still being handled");
    lanes.done(&second);
    assert_eq!(ids(&lanes.claim(1)), [2]);
}

proptest! {
    /// Whatever the order of arrivals, claims and ends: each sender's deliveries are handled one at
    /// a time and in order, and none is lost.
    #[test]
    fn order_holds_and_nothing_is_lost(steps in proptest::collection::vec((0..3_u8, 0..4_u8, 1..4_usize), 0..200)) {
        let mut lanes = Lanes::new(LaneLimits::default());
        let (mut pushed, mut handled): (HashMap<u8, Vec<u64>>, HashMap<u8, Vec<u64>>) = Default::default();
        let mut open: Vec<(Ticket, Arc<Delivery>)> = Vec::new();
        let mut next = 0;
        let mut claim = |lanes: &mut Lanes, open: &mut Vec<(Ticket, Arc<Delivery>)>, max| {
            for claimed in lanes.claim(max) {
                let sender: u8 = claimed.1.sender.parse().unwrap();
                prop_assert!(open.iter().all(|(_, other)| other.sender != claimed.1.sender));
                handled.entry(sender).or_default().push(claimed.1.id);
                open.push(claimed);
            }
            Ok(())
        };
        for (what, sender, max) in steps {
            match what {
                0 => {
                    lanes.push(delivery(next, &sender.to_string())).unwrap();
                    pushed.entry(sender).or_default().push(next);
                    next += 1;
                }
                1 => claim(&mut lanes, &mut open, max)?,
                _ if open.is_empty() => {}
                _ => lanes.done(&open.remove(usize::from(sender) % open.len()).0),
            }
        }
        while !lanes.is_empty() {
            claim(&mut lanes, &mut open, 2)?;
            lanes.done(&open.remove(0).0);
        }
        prop_assert_eq!(pushed, handled);
        prop_assert_eq!(lanes.bytes(), 0);
    }
}

#[test]
fn what_waits_can_be_taken_back() {
    let mut lanes = Lanes::new(LaneLimits::default());
    for (id, sender) in [(1, "a"), (2, "a"), (3, "b"), (4, "a")] {
        lanes.push(delivery(id, sender)).unwrap();
    }
    let handled = lanes.claim(1);
    let mut drained: Vec<_> = lanes.drain().iter().map(|delivery| delivery.id).collect();
    drained.sort_unstable();
    assert_eq!((ids(&handled), drained), (vec![1], vec![2, 3, 4]));
    assert!(lanes.len() == 1 && !lanes.has_ready() && lanes.claim(9).is_empty());
    lanes.done(&handled[0].0);
    assert_eq!((lanes.len(), lanes.bytes(), lanes.lanes.len()), (0, 0, 0));
}
