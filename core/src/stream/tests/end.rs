//! How streams end.

use super::*;

#[test]
fn closing_is_polite_from_either_side() {
    let mut pair = Pair::up(config());
    pair.component.close(s(1), s(6));
    assert_eq!(pair.component.poll_timeout(), Some(s(6)));
    assert!(pair.component.send(s(1), b"<message from='bot.example'/>").is_err());
    pair.hear("<message from='a@b'><body>late</body></message>");
    assert_eq!(bodies(&pair.seen()), ["late"], "the server's half is still open");
    pair.exchange();
    assert_eq!(pair.closed(), Closed::ByUs);
    assert!(matches!(pair.served()[..], [AcceptEvent::Closed(Closed::ByPeer)]));

    let mut pair = Pair::up(config());
    pair.server.close(s(5), None);
    pair.exchange();
    assert_eq!(pair.closed(), Closed::ByPeer);
    assert!(matches!(pair.served()[..], [AcceptEvent::Closed(Closed::ByUs)]));
}

#[test]
fn closing_does_not_wait_for_ever() {
    let mut pair = Pair::up(config());
    pair.component.close(s(1), s(6));
    pair.component.close(s(2), s(60));
    assert_eq!(pair.overhear(s(5)), "</stream:stream>", "once");
    pair.component.handle_timeout(s(6));
    pair.drain();
    assert_eq!(pair.closed(), Closed::ByUs);
    assert_eq!(pair.overhear(s(7)), "");
}

#[test]
fn an_end_without_a_close_is_a_loss() {
    let mut pair = Pair::up(config());
    pair.hear("<message from='a@b'><body>half");
    pair.component.handle_input(s(1), &[]);
    pair.drain();
    assert_eq!(pair.closed(), Closed::Lost);
    pair.component.handle_input(s(1), b"<message/>");
    assert!(pair.component.poll_event().is_none());
}

#[test]
fn a_stream_error_carries_condition_and_text() {
    let mut pair = Pair::up(config());
    pair.hear(
        "<message from='a@b'><body>before</body></message>\
         <stream:error><text xmlns='urn:ietf:params:xml:ns:xmpp-streams'>bye</text>\
         <system-shutdown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>",
    );
    let seen = pair.seen();
    assert_eq!(bodies(&seen), ["before"]);
    let expected = StreamError::new("system-shutdown").with_text("bye");
    assert!(
        matches!(&seen[..], [_, Event::Closed(Closed::PeerError(error))] if *error == expected)
    );
}

#[test]
fn a_broken_stream_ends() {
    for bad in [
        "text",
        "</message>",
        "<message></stream:stream>",
        "<message from='<'/>",
        "<!DOCTYPE x>",
        "<?pi?>",
    ] {
        let mut pair = Pair::up(config());
        pair.hear(bad);
        pair.hear("<message from='a@b'/></stream:stream>");
        let seen = pair.seen();
        // Where the end of an element can still be told, the element alone is left out.
        match &seen[..] {
            [Event::Closed(Closed::Violation(_))] => {
                assert!(pair.overhear(s(0)).ends_with("</stream:stream>"), "{bad}");
            }
            [Event::Skipped(_), Event::Stanza(_), Event::Closed(Closed::ByPeer)] => {}
            other => panic!("{bad}: {other:?}"),
        }
    }
}
