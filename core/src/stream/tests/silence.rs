//! Keepalives, and the barrier that says what the server has read.

use super::*;

#[test]
fn a_silent_server_is_pinged_and_its_answer_is_not_a_stanza() {
    let mut pair = Pair::up(config());
    assert_eq!(pair.component.poll_timeout(), Some(s(60)));
    assert_eq!(pair.overhear(s(59)), "");
    assert_eq!(
        pair.overhear(s(60)),
        "<iq type='get' id='p-1' from='bot.example' to='bot.example'><ping xmlns='urn:xmpp:ping'/></iq>"
    );
    pair.now = s(61);
    pair.hear("<iq type='get' id='p-1' from='bot.example' to='bot.example'><ping xmlns='urn:xmpp:ping'/></iq>");
    assert!(pair.seen().is_empty());
    assert_eq!(pair.component.poll_timeout(), Some(s(121)));
    let again = pair.overhear(s(121));
    assert!(again.contains("id='p-2'"), "{again}");
    pair.hear("<iq type='result' id='p-2' from='bot.example' to='bot.example'/>");
    assert!(pair.seen().is_empty());
}

#[test]
fn a_ping_of_somebody_else_s_is_a_stanza() {
    let mut pair = Pair::up(config());
    pair.overhear(s(60));
    pair.hear(
        "<iq type='get' id='p-1' from='a@b' to='bot.example'><ping xmlns='urn:xmpp:ping'/></iq>",
    );
    pair.hear("<iq type='result' id='p-1' from='a@b' to='bot.example'/>");
    pair.hear("<iq type='get' id='other' from='bot.example' to='bot.example'/>");
    assert_eq!(pair.seen().len(), 3);
}

#[test]
fn a_server_that_stays_silent_is_gone() {
    let mut pair = Pair::up(config());
    pair.overhear(s(60));
    assert_eq!(pair.component.poll_timeout(), Some(s(80)));
    pair.component.handle_timeout(s(80));
    pair.drain();
    assert_eq!(pair.closed(), Closed::Silence("a ping"));
    assert_eq!(pair.overhear(s(80)), "</stream:stream>");
}

#[test]
fn a_server_is_not_silent_while_its_input_waits_to_be_taken() {
    let mut pair = Pair::up(config());
    pair.component.handle_input(s(1), b"<message from='a@b'/>");
    assert!(pair.component.has_backlog());
    pair.component.handle_timeout(s(200));
    let mut out = Vec::new();
    assert!(!pair.component.poll_transmit(&mut out));
    pair.drain();
    assert!(!pair.component.has_backlog());
    assert!(pair.overhear(s(260)).contains("urn:xmpp:ping"));
}

#[test]
fn a_keepalive_can_be_a_space_or_nothing() {
    let space = Keepalive { idle: s(10), answer: s(1), question: Question::Whitespace };
    let mut pair = Pair::up(ComponentConfig { keepalive: Some(space), ..config() });
    assert_eq!(pair.overhear(s(10)), " ");
    assert_eq!(pair.overhear(s(500)), " ");
    assert!(pair.seen().is_empty());
    let pair = Pair::up(ComponentConfig { keepalive: None, ..config() });
    assert_eq!(pair.component.poll_timeout(), None);
}

#[test]
fn the_barrier_says_what_the_server_has_read() {
    let barrier = Barrier { stanzas: 100, within: s(1) };
    let mut pair = Pair::up(ComponentConfig { barrier: Some(barrier), ..config() });
    for _ in 0..3 {
        pair.component.send(s(5), b"<message from='bot.example' to='a@b'/>").unwrap();
    }
    assert_eq!(pair.component.poll_timeout(), Some(s(6)));
    let ping = pair.overhear(s(6));
    assert!(ping.ends_with("<ping xmlns='urn:xmpp:ping'/></iq>"), "{ping}");
    pair.component.send(s(6), b"<message from='bot.example' to='a@b'/>").unwrap();
    pair.hear("<iq type='error' id='p-1' from='mallory@example.com'/>");
    assert!(!pair.seen().iter().any(|event| matches!(event, Event::Acked(_))));
    pair.hear("<iq type='error' id='p-1' from='bot.example'/>");
    assert!(matches!(pair.seen()[..], [Event::Acked(3)]));
    assert!(pair.overhear(s(7)).contains("p-2"));
    pair.hear("<iq type='result' id='p-2' from='bot.example'/>");
    assert!(matches!(pair.seen()[..], [Event::Acked(4)]));
    assert_eq!(pair.component.poll_timeout(), Some(s(66) + s(1)));
}

#[test]
fn one_of_several_connections_asks_what_is_answered_on_it() {
    let barrier = Barrier { stanzas: 100, within: s(1) };
    let config = ComponentConfig { barrier: Some(barrier), one_of_several: true, ..config() };
    let mut pair = Pair::up(config);
    for (number, answer) in [
        (1, "<iq type='error' id='p-1' from='bot.example' to='bot.example'/>"),
        (
            2,
            "<iq type='ask' id='p-2' from='bot.example' to='bot.example'><ping xmlns='urn:xmpp:ping'/></iq>",
        ),
    ] {
        pair.component.send(s(number), b"<message from='bot.example' to='a@b'/>").unwrap();
        let asked = pair.overhear(s(number + 1));
        assert!(asked.contains("<iq type='ask'"), "{asked}");
        pair.hear(answer);
        assert!(matches!(pair.seen()[..], [Event::Acked(position)] if position == number));
    }
}
