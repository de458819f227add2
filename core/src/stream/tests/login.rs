//! Handshakes, and what refuses them.

use super::*;

#[test]
fn a_handshake_and_a_stanza_each_way() {
    let mut pair = Pair::up(config());
    let sent = "<message from='x@bot.example' to='a@b'><body>hi</body></message>";
    assert_eq!(pair.component.send(pair.now, sent.as_bytes()).unwrap(), 1);
    pair.server
        .send(b"<message to='x@bot.example' from='a@b/c'><body>ho</body></message>")
        .unwrap();
    pair.exchange();
    assert_eq!(bodies(&pair.seen()), ["ho"]);
    match &pair.served()[..] {
        [AcceptEvent::Stanza(stanza)] => assert_eq!(stanza.raw(), sent),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_bytes_are_those_of_xep_0114() {
    let mut stream = ComponentStream::new(config(), s(0));
    let mut out = Vec::new();
    assert!(stream.poll_transmit(&mut out));
    assert_eq!(
        String::from_utf8(std::mem::take(&mut out)).unwrap(),
        "<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' \
         xmlns:stream='http://etherx.jabber.org/streams' to='bot.example'>"
    );
    stream.handle_input(
        s(0),
        b"<stream:stream xmlns:stream='http://etherx.jabber.org/streams' \
          xmlns='jabber:component:accept' from='bot.example' id='3BF96D32'>",
    );
    assert!(stream.poll_event().is_none());
    assert!(stream.poll_transmit(&mut out));
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "<handshake>aaee83c26aeeafcbabeabfcbcd50df997e0a2a1e</handshake>"
    );
}

#[test]
fn nothing_is_sent_before_the_stream_is_ready() {
    let mut stream = ComponentStream::new(config(), s(0));
    let error = stream.send(s(0), b"<message from='bot.example'/>").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConnected);
}

#[test]
fn a_wrong_secret_is_not_authorized() {
    let mut pair = Pair::new(config(), accepts("bot.example", "other"));
    pair.exchange();
    let closed = pair.closed();
    assert_eq!(closed.condition(), Some("not-authorized"));
    assert!(matches!(closed, Closed::PeerError(StreamError { text: Some(_), .. })));
    assert!(pair.component.poll_timeout().is_none());
}

#[test]
fn an_unknown_domain_is_host_unknown() {
    let mut pair = Pair::new(config(), accepts("other.example", "test"));
    pair.exchange();
    assert_eq!(pair.closed().condition(), Some("host-unknown"));
}

#[test]
fn a_second_connection_is_a_conflict() {
    let mut pair = Pair::new(config(), accepts("bot.example", "test"));
    pair.accept = false;
    pair.exchange();
    assert!(pair.seen().is_empty());
    pair.server.close(s(5), Some(StreamError::new("conflict")));
    pair.exchange();
    assert_eq!(pair.closed().condition(), Some("conflict"));
    assert!(matches!(pair.served().last(), Some(AcceptEvent::Closed(Closed::ByUs))));
}

#[test]
fn a_server_for_clients_is_the_wrong_port() {
    let mut pair = Pair::new(config(), accepts("bot.example", "test"));
    pair.hear("<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' id='1' version='1.0'>");
    match pair.closed() {
        Closed::Violation(error) => assert_eq!(error.condition, "invalid-namespace"),
        other => panic!("{other:?}"),
    }
    assert!(pair.overhear(s(0)).ends_with("</stream:error></stream:stream>"));
}

#[test]
fn a_header_without_an_id_cannot_be_answered() {
    let mut pair = Pair::new(config(), accepts("bot.example", "test"));
    pair.hear("<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams'>");
    assert!(matches!(pair.closed(), Closed::Violation(error) if error.condition == "bad-format"));
}

#[test]
fn what_is_not_xmpp_at_all_ends_the_stream() {
    for hello in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00",
        b"<html>",
        b"SSH-2.0-x\r\n",
    ] {
        let mut pair = Pair::new(config(), accepts("bot.example", "test"));
        pair.hear(hello);
        assert!(matches!(pair.closed(), Closed::Violation(_)), "{hello:?}");
    }
}

#[test]
fn log_in_has_its_time() {
    let mut pair = Pair::new(config(), accepts("bot.example", "test"));
    assert_eq!(pair.component.poll_timeout(), Some(s(15)));
    pair.component.handle_timeout(s(15));
    pair.drain();
    assert_eq!(pair.closed(), Closed::Silence("its stream header"));

    let mut pair = Pair::new(config(), accepts("bot.example", "test"));
    pair.accept = false;
    pair.exchange();
    pair.component.handle_timeout(s(15));
    pair.drain();
    assert_eq!(pair.closed(), Closed::Silence("the handshake"));
}

#[test]
fn nothing_but_its_end_comes_of_a_log_in() {
    let mut pair = Pair::new(config(), accepts("bot.example", "test"));
    assert!(pair.component.is_logging_in());
    pair.hear("<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' id='1'>");
    assert!(pair.component.is_logging_in());
    pair.hear("<message><b:c/></message><message from='a@b'/>");
    assert!(pair.seen().is_empty());
    assert_eq!(pair.component.stats(), Stats { skipped: 1, ignored: 1 });
    pair.hear("<handshake/>");
    assert!(!pair.component.is_logging_in());
    assert!(matches!(pair.seen()[..], [Event::Ready]));
    pair.hear("<message><b:c/></message>");
    assert!(matches!(pair.seen()[..], [Event::Skipped(_)]));
}

#[test]
fn the_server_gives_a_silent_component_its_time_too() {
    let mut server = AcceptStream::new(accepts("bot.example", "test"), s(0));
    assert_eq!(server.poll_timeout(), Some(s(15)));
    server.handle_timeout(s(15));
    assert!(
        matches!(server.poll_event(), Some(AcceptEvent::Closed(Closed::Violation(error))) if error.condition == "connection-timeout")
    );
}

#[test]
fn the_server_takes_no_stanza_before_the_handshake() {
    let mut server = AcceptStream::new(accepts("bot.example", "test"), s(0));
    server.handle_input(s(0), b"<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' to='bot.example'><message/>");
    assert!(
        matches!(server.poll_event(), Some(AcceptEvent::Closed(Closed::Violation(error))) if error.condition == "not-authorized")
    );
}
