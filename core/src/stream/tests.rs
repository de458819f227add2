//! Dialogues between the two ends of a component's stream, in memory and on a virtual clock.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::auth::Secret;
use crate::error::ErrorKind;
use crate::xml::{Limits, XmlErrorKind};

const SERVER_ID: &str = "3BF96D32";

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A component and a server, and the bytes that go between them.
struct Pair {
    now: Duration,
    component: ComponentStream,
    server: AcceptStream,
    /// How many bytes are handed over at once.
    chunk: usize,
    to_server: Vec<u8>,
    to_component: Vec<u8>,
    seen: Vec<Event>,
    served: Vec<AcceptEvent>,
    accept: bool,
}

fn config() -> ComponentConfig {
    ComponentConfig::new("bot.example", Secret::new("test"), "p-")
}

fn accepts(domain: &str, secret: &str) -> AcceptConfig {
    AcceptConfig {
        id: SERVER_ID.into(),
        components: vec![(domain.into(), Secret::new(secret))],
        limits: Limits::default(),
        login_timeout: s(15),
    }
}

impl Pair {
    fn new(config: ComponentConfig, server: AcceptConfig) -> Self {
        Self {
            now: s(0),
            component: ComponentStream::new(config, s(0)),
            server: AcceptStream::new(server, s(0)),
            chunk: usize::MAX,
            to_server: Vec::new(),
            to_component: Vec::new(),
            seen: Vec::new(),
            served: Vec::new(),
            accept: true,
        }
    }

    fn up(config: ComponentConfig) -> Self {
        let mut pair = Self::new(config, accepts("bot.example", "test"));
        pair.exchange();
        assert!(matches!(pair.seen()[..], [Event::Ready]));
        assert!(
            matches!(&pair.served()[..], [AcceptEvent::Authenticated(d)] if d == "bot.example")
        );
        pair
    }

    /// Carries bytes to and fro until nothing moves.
    fn exchange(&mut self) {
        loop {
            self.drain();
            self.component.poll_transmit(&mut self.to_server);
            self.server.poll_transmit(&mut self.to_component);
            if self.to_server.is_empty() && self.to_component.is_empty() {
                return;
            }
            for bytes in std::mem::take(&mut self.to_server).chunks(self.chunk) {
                self.server.handle_input(self.now, bytes);
                self.drain();
            }
            for bytes in std::mem::take(&mut self.to_component).chunks(self.chunk) {
                self.component.handle_input(self.now, bytes);
                self.drain();
            }
        }
    }

    fn drain(&mut self) {
        while let Some(event) = self.component.poll_event() {
            self.seen.push(event);
        }
        while let Some(event) = self.server.poll_event() {
            if self.accept && matches!(event, AcceptEvent::Authenticated(_)) {
                self.server.accept();
            }
            self.served.push(event);
        }
    }

    /// What the component writes to the wire at this time; it does not reach the server.
    fn overhear(&mut self, at: Duration) -> String {
        self.now = at;
        self.component.handle_timeout(at);
        let mut bytes = Vec::new();
        self.component.poll_transmit(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    /// The server writes `xml`, whatever it is.
    fn hear(&mut self, xml: impl AsRef<[u8]>) {
        for bytes in xml.as_ref().chunks(self.chunk) {
            self.component.handle_input(self.now, bytes);
            self.drain();
        }
    }

    fn seen(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.seen)
    }

    fn served(&mut self) -> Vec<AcceptEvent> {
        std::mem::take(&mut self.served)
    }

    fn closed(&mut self) -> Closed {
        match self.seen().pop() {
            Some(Event::Closed(closed)) => closed,
            other => panic!("the last event is {other:?}"),
        }
    }
}

fn bodies(events: &[Event]) -> Vec<String> {
    let body = |event: &Event| match event {
        Event::Stanza(stanza) => stanza.body().map(|body| body.into_owned()),
        _ => None,
    };
    events.iter().filter_map(body).collect()
}

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
fn a_foreign_or_missing_sender_is_refused_and_the_stream_lives() {
    let mut pair = Pair::up(config());
    for xml in ["<message from='a@b'/>", "<message/>"] {
        let error = pair.component.send(s(0), xml.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSender);
    }
    pair.exchange();
    assert!(pair.served().is_empty());
    assert_eq!(pair.component.send(s(0), b"<message from='bot.example'/>").unwrap(), 1);
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
fn input_may_be_split_anywhere() {
    for chunk in [1, 2, 3, 7] {
        let mut pair = Pair::new(config(), accepts("bot.example", "test"));
        pair.chunk = chunk;
        pair.exchange();
        pair.server
            .send("<message from='a@b/c'><body>é &amp; ☺</body></message>".as_bytes())
            .unwrap();
        pair.server
            .send(b"<x:iq xmlns:x='jabber:component:accept' from='a@b' type='get' id='1'/>")
            .unwrap();
        pair.component.send(s(0), b"<presence from='bot.example'/>").unwrap();
        pair.exchange();
        let seen = pair.seen();
        assert!(
            matches!(&seen[..], [Event::Ready, Event::Stanza(_), Event::Stanza(iq)] if iq.id() == Some("1"))
        );
        assert_eq!(bodies(&seen), ["é & ☺"]);
        assert_eq!(pair.served().len(), 2);
    }
}

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
fn unacceptable_stanzas_are_left_out_and_the_stream_goes_on() {
    let deep = "<a>".repeat(35_000) + &"</a>".repeat(35_000);
    let long = format!("<message from='a@b' x='{}'/>", "y".repeat(600_000));
    for (bad, kind) in [
        ("<message from='a@b'><body>&nbsp;</body></message>", XmlErrorKind::RestrictedXml),
        ("<message from='a@b'><x:y/></message>", XmlErrorKind::BadNamespacePrefix),
        ("<message from='a@b' from='c@d'/>", XmlErrorKind::NotWellFormed),
        (&format!("<message from='a@b'>{deep}</message>"), XmlErrorKind::PolicyViolation),
        (&long, XmlErrorKind::PolicyViolation),
    ] {
        let mut pair = Pair::up(config());
        pair.hear(format!("{bad}<message from='a@b'><body>next</body></message>"));
        let seen = pair.seen();
        let shown = &bad[..bad.len().min(80)];
        match &seen[..] {
            [Event::Skipped(error), Event::Stanza(_)] => assert_eq!(error.kind(), kind, "{shown}"),
            other => panic!("{shown}: {other:?}"),
        }
        assert_eq!(pair.component.stats(), Stats { skipped: 1, ignored: 0 });
    }
}

#[test]
fn what_strangers_send_is_delivered() {
    let attribute = "y".repeat(9000);
    for xml in [
        "<message type='foo' from='a@b'><body>x</body></message>",
        "<presence from='a@b'><priority>300</priority></presence>",
        "<presence from='a@b'><show>online</show></presence>",
        "<message from='a@b' to='x@bot.example/🎉'><body>x</body></message>",
        "<message from='a@b'>stray<thread/><thread/></message>",
        &format!("<message from='a@b'><x xmlns='urn:x' y='{attribute}'/></message>"),
        "<x:message xmlns:x='jabber:component:accept' from='a@b'><x:body>x</x:body></x:message>",
    ] {
        let mut pair = Pair::up(config());
        pair.hear(xml);
        match &pair.seen()[..] {
            [Event::Stanza(stanza)] => assert_eq!(stanza.raw(), xml),
            other => panic!("{xml}: {other:?}"),
        };
    }
}

#[test]
fn other_elements_are_ignored_and_counted() {
    let mut pair = Pair::up(config());
    pair.hear("<stream:features/><foo xmlns='urn:x'/><handshake/><message xmlns='urn:x'/>");
    assert!(pair.seen().is_empty());
    assert_eq!(pair.component.stats(), Stats { skipped: 0, ignored: 4 });
    pair.hear("<message from='a@b'/>");
    assert_eq!(pair.seen().len(), 1);
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

fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "<message from='a@b'>",
        "</message>",
        "<body>",
        "</body>",
        "<iq type='result' id='p-1'/>",
        "<stream:error>",
        "</stream:error>",
        "</stream:stream>",
        "<stream:stream>",
        "<handshake/>",
        "<![CDATA[",
        "]]>",
        "<!--",
        "-->",
        "<?x?>",
        "<!DOCTYPE",
        "&amp;",
        "&lol;",
        "&#0;",
        "'",
        "\"",
        "<",
        ">",
        "/",
        " ",
        "é",
        "\u{0}",
        "<presence/>",
        "<a b='",
        "x",
        "<x:y xmlns:x='u'/>",
    ])
    .prop_map(|text| text.as_bytes().to_vec());
    let noise = prop::collection::vec(any::<u8>(), 1..4);
    prop::collection::vec(prop_oneof![9 => piece, 1 => noise], 0..30).prop_map(|v| v.concat())
}

proptest! {
    #[test]
    fn hostile_input_ends_the_same_however_it_is_split(bytes in hostile(), chunk in 1usize..9) {
        let mut whole = Pair::up(config());
        whole.hear(&bytes);
        let mut split = Pair::up(config());
        split.chunk = chunk;
        split.hear(&bytes);
        let expected = format!("{:?}", whole.seen());
        prop_assert_eq!(format!("{:?}", split.seen()), expected);
        prop_assert_eq!(split.component.stats(), whole.component.stats());
    }
}
