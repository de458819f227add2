//! Dialogues with a server whose every word is written here, on a virtual clock.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use proptest::prelude::*;

use super::*;

const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' from='example.com' id='x' version='1.0'>";
const STARTTLS: &str = "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>";
const PROCEED: &str = "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
const SESSION: &str = "<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/><sm xmlns='urn:xmpp:sm:3'/></stream:features>";
const BOUND: &str = "<iq type='result' id='p-bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>user@example.com/r</jid></bind></iq>";
const ENABLED: &str = "<enabled xmlns='urn:xmpp:sm:3' id='s1' resume='true'/>";

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn sasl(name: &str, data: &str) -> String {
    format!("<{name} xmlns='{}'>{}</{name}>", ns::SASL, BASE64.encode(data))
}

/// The server's side of the exchange of RFC 5802 §5.
fn challenge() -> String {
    let first = "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096";
    sasl("challenge", first)
}

fn success() -> String {
    sasl("success", "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=")
}

fn mechanisms(names: &[&str]) -> String {
    let names: String = names.iter().map(|n| format!("<mechanism>{n}</mechanism>")).collect();
    format!(
        "<stream:features><mechanisms xmlns='{}'>{names}</mechanisms></stream:features>",
        ns::SASL
    )
}

fn config() -> ClientConfig {
    let jid = Jid::parse("user@example.com/r").unwrap();
    ClientConfig::new(jid, Secret::new("pencil"), "fyko+d2lbbFgONRv9qkxdawL", "p-")
}

struct Dialogue {
    now: Duration,
    stream: ClientStream,
    chunk: usize,
    seen: Vec<ClientEvent>,
}

impl Dialogue {
    fn new(config: ClientConfig, resumption: Option<Resumption>) -> Self {
        let stream = ClientStream::new(config, resumption, s(0));
        Self { now: s(0), stream, chunk: usize::MAX, seen: Vec::new() }
    }

    fn hear(&mut self, xml: &str) -> String {
        for bytes in xml.as_bytes().chunks(self.chunk) {
            self.stream.handle_input(self.now, bytes);
            self.drain();
        }
        self.said()
    }

    fn drain(&mut self) {
        while let Some(event) = self.stream.poll_event() {
            match event {
                ClientEvent::Derive(job) => self.stream.handle_derived(self.now, &job.run()),
                event => self.seen.push(event),
            }
        }
    }

    fn said(&mut self) -> String {
        let mut out = Vec::new();
        self.stream.poll_transmit(&mut out);
        String::from_utf8(out).unwrap().replace('"', "'")
    }

    fn at(&mut self, now: Duration) -> String {
        self.now = now;
        self.stream.handle_timeout(now);
        self.drain();
        self.said()
    }

    fn seen(&mut self) -> Vec<ClientEvent> {
        std::mem::take(&mut self.seen)
    }

    fn closed(&mut self) -> Closed {
        self.drain();
        match self.seen().pop() {
            Some(ClientEvent::Closed(closed)) => closed,
            other => panic!("the last event is {other:?}"),
        }
    }

    /// To where the second header of the server is awaited, encrypted.
    fn encrypt(&mut self) {
        assert!(!self.said().contains("user@"), "who logs in is not said in the clear");
        assert_eq!(self.hear(HEADER), "");
        let asked = self.hear(STARTTLS);
        assert_eq!(asked, "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
        assert_eq!(self.hear(PROCEED), "");
        assert!(matches!(self.seen()[..], [ClientEvent::StartTls]));
        self.stream.handle_tls(self.now, ChannelBindings::default());
        assert!(self.said().contains("from='user@example.com' version='1.0'>"));
    }

    /// To where the features after the log-in are awaited.
    fn log_in(&mut self) {
        self.encrypt();
        self.hear(HEADER);
        let auth = self.hear(&mechanisms(&["PLAIN", "SCRAM-SHA-1"]));
        assert!(auth.contains("mechanism='SCRAM-SHA-1'"), "{auth}");
        assert!(self.hear(&challenge()).starts_with("<response"));
        let again = self.hear(&success());
        assert!(again.starts_with("<?xml version='1.0'?><stream:stream"), "{again}");
        self.hear(HEADER);
    }

    fn up(config: ClientConfig) -> Self {
        let mut dialogue = Self::new(config, None);
        dialogue.log_in();
        assert!(dialogue.hear(SESSION).contains("<resource>r</resource>"));
        assert_eq!(dialogue.hear(BOUND), "<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
        let first = dialogue.hear(ENABLED);
        assert_eq!(
            first,
            "<iq id='p-roster' type='get'><query xmlns='jabber:iq:roster'/></iq><presence/>"
        );
        match &dialogue.seen()[..] {
            [ClientEvent::Ready { jid, resumed: false }] => {
                assert_eq!(jid.as_str(), "user@example.com/r");
            }
            other => panic!("{other:?}"),
        }
        dialogue
    }

    fn send(&mut self, xml: &str) -> u64 {
        self.stream.send(self.now, xml.as_bytes()).unwrap()
    }

    fn broken(mut self) -> Option<Resumption> {
        self.said();
        self.stream.handle_input(self.now, &[]);
        assert_eq!(self.closed(), Closed::Lost);
        assert_eq!(self.said(), "", "a polite end would end the session");
        self.stream.into_resumption()
    }
}

#[test]
fn from_the_header_to_the_roster_and_a_stanza_each_way() {
    let mut d = Dialogue::up(config());
    assert_eq!(d.send("<message to='a@b'/>"), 3);
    assert_eq!(d.said(), "<message to='a@b'/>");
    d.hear("<message from='a@b'><body>hi</body></message>");
    d.hear("<iq type='result' id='p-roster'><query xmlns='jabber:iq:roster'><item jid='a@b' subscription='both' name='A'/></query></iq>");
    match &d.seen()[..] {
        [ClientEvent::Stanza(stanza), ClientEvent::Roster { items, complete: true }] => {
            assert_eq!(stanza.body().unwrap(), "hi");
            assert_eq!((items[0].jid.as_str(), &*items[0].subscription), ("a@b", "both"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(d.hear("<r xmlns='urn:xmpp:sm:3'/>"), "<a xmlns='urn:xmpp:sm:3' h='2'/>");
    d.stream.close(s(1), s(2));
    assert_eq!(d.said(), "<a xmlns='urn:xmpp:sm:3' h='2'/></stream:stream>");
    d.hear("</stream:stream>");
    assert_eq!(d.closed(), Closed::ByUs);
    assert!(d.stream.into_resumption().is_none());
}

#[test]
fn what_is_written_before_the_encryption_is_not_read_after_it() {
    let mut d = Dialogue::new(config(), None);
    d.hear(HEADER);
    d.hear(STARTTLS);
    d.hear(&format!("{PROCEED}{HEADER}"));
    assert!(matches!(d.closed(), Closed::Violation(_)));
    let mut d = Dialogue::new(config(), None);
    d.hear(&format!("{HEADER}{STARTTLS}"));
    d.hear(PROCEED);
    d.hear("<stream:features/>");
    assert!(matches!(d.closed(), Closed::Violation(_)), "bytes that are not TLS");
}

#[test]
fn nothing_is_sent_to_a_server_without_starttls() {
    let mut d = Dialogue::new(config(), None);
    d.said();
    let said = d.hear(&format!("{HEADER}{}", mechanisms(&["PLAIN", "SCRAM-SHA-1"])));
    assert_eq!(said, "</stream:stream>");
    assert!(matches!(d.closed(), Closed::Unsupported(text) if text.contains("STARTTLS")));
}

#[test]
fn plain_is_sent_only_where_it_is_allowed() {
    for (plain, encrypted) in [(false, true), (true, true), (true, false)] {
        let encryption = if encrypted { Encryption::Direct } else { Encryption::None };
        let mut d = Dialogue::new(ClientConfig { plain, encryption, ..config() }, None);
        if encrypted {
            d.stream.handle_tls(s(0), ChannelBindings::default());
        }
        d.hear(HEADER);
        let said = d.hear(&mechanisms(&["PLAIN"]));
        if plain && encrypted {
            assert!(said.ends_with("mechanism='PLAIN'>AHVzZXIAcGVuY2ls</auth>"), "{said}");
        } else {
            assert_eq!(said, "</stream:stream>");
            assert!(matches!(d.closed(), Closed::Unsupported(text) if text.contains("PLAIN")));
        }
    }
}

#[test]
fn channel_binding_that_a_server_cannot_do_does_not_end_in_plain() {
    let config = ClientConfig { plain: true, encryption: Encryption::Direct, ..config() };
    let mut d = Dialogue::new(config, None);
    let exporter = ChannelBindings { exporter: Some(vec![7; 32]), end_point: None };
    d.stream.handle_tls(s(0), exporter);
    d.hear(HEADER);
    let said = d.hear(&mechanisms(&["PLAIN", "SCRAM-SHA-1"]));
    let expected = sasl("x", "y,,n=user,r=fyko+d2lbbFgONRv9qkxdawL").replace("x ", "auth ");
    let expected = expected.split_once('>').unwrap().1.split_once('<').unwrap().0;
    assert!(said.contains(&format!("mechanism='SCRAM-SHA-1'>{expected}</auth>")), "{said}");
}

#[test]
fn wrong_credentials_are_the_end_with_the_server_s_reason() {
    let mut d = Dialogue::new(config(), None);
    d.encrypt();
    d.hear(HEADER);
    d.hear(&mechanisms(&["SCRAM-SHA-1"]));
    d.hear(&challenge());
    d.hear("<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/><text>no</text></failure>");
    let closed = d.closed();
    assert_eq!(closed.condition(), Some("not-authorized"));
    assert_eq!(closed, Closed::Refused(StreamError::new("not-authorized").with_text("no")));
}

#[test]
fn a_server_that_does_not_prove_itself_is_left() {
    let forged = sasl("success", "v=AAAApqV8S7suAoZWja4dJRkFsKQ=");
    let empty = format!("<success xmlns='{}'/>", ns::SASL);
    for success in [forged, empty] {
        let mut d = Dialogue::new(config(), None);
        d.encrypt();
        d.hear(HEADER);
        d.hear(&mechanisms(&["SCRAM-SHA-1"]));
        d.hear(&challenge());
        let said = d.hear(&success);
        assert!(said.starts_with("<abort") && said.ends_with("</stream:stream>"), "{said}");
        assert!(matches!(d.closed(), Closed::Unproven(_)));
    }
    let mut d = Dialogue::new(config(), None);
    d.encrypt();
    d.hear(HEADER);
    d.hear(&mechanisms(&["SCRAM-SHA-1"]));
    d.hear(&format!("<success xmlns='{}'/>", ns::SASL));
    assert!(matches!(d.closed(), Closed::Unproven(_)), "before any exchange");
}

#[test]
fn a_session_is_resumed_and_what_was_not_read_is_sent_again() {
    let mut d = Dialogue::up(config());
    assert_eq!(d.send("<message id='1'/>"), 3);
    assert_eq!(d.send("<message id='2'/>"), 4);
    d.hear("<message/>");
    d.hear("<a xmlns='urn:xmpp:sm:3' h='2'/>");
    assert!(matches!(d.seen().last(), Some(ClientEvent::Acked(2))));
    let resumption = d.broken().unwrap();
    assert_eq!(resumption.unacked().len(), 2);
    let mut d = Dialogue::new(config(), Some(resumption));
    d.log_in();
    assert_eq!(d.hear(SESSION), "<resume xmlns='urn:xmpp:sm:3' previd='s1' h='1'/>");
    let said = d.hear("<resumed xmlns='urn:xmpp:sm:3' previd='s1' h='3'/>");
    assert_eq!(said, "<message id='2'/>", "no roster, no presence, no bind");
    assert!(matches!(
        d.seen()[..],
        [ClientEvent::Ready { resumed: true, .. }, ClientEvent::Acked(3)]
    ));
    assert_eq!(d.at(s(1)), "<r xmlns='urn:xmpp:sm:3'/>", "and it is asked for");
    d.hear("<a xmlns='urn:xmpp:sm:3' h='4'/>");
    assert!(matches!(d.seen()[..], [ClientEvent::Acked(4)]));
    assert_eq!(d.send("<message id='3'/>"), 5);
}

#[test]
fn a_session_that_is_gone_says_what_was_not_read() {
    for failed in ["<failed xmlns='urn:xmpp:sm:3' h='2'/>", "<failed xmlns='urn:xmpp:sm:3'/>"] {
        let mut d = Dialogue::up(config());
        d.send("<message id='1'/>");
        let mut d = Dialogue::new(config(), d.broken());
        d.log_in();
        d.hear(SESSION);
        assert!(d.hear(failed).contains("<bind"));
        match &d.seen()[..] {
            [ClientEvent::Unacked(stanzas)] => {
                let known = if failed.contains("h='2'") { 1 } else { 3 };
                assert_eq!(stanzas.len(), known);
                assert_eq!(stanzas[known - 1], "<message id='1'/>");
            }
            other => panic!("{other:?}"),
        }
        d.hear(BOUND);
        d.hear(ENABLED);
        assert!(matches!(d.seen()[..], [ClientEvent::Ready { resumed: false, .. }]));
    }
}

#[test]
fn a_cut_while_resuming_keeps_the_session_for_the_next_attempt() {
    let mut d = Dialogue::up(config());
    d.send("<message id='1'/>");
    let mut d = Dialogue::new(config(), d.broken());
    d.log_in();
    d.hear(SESSION);
    assert_eq!(d.broken().unwrap().unacked().len(), 3);
}

#[test]
fn before_the_session_nothing_comes_of_stanzas() {
    let mut d = Dialogue::new(config(), None);
    d.log_in();
    d.seen();
    d.hear("<message><body>&nbsp;</body></message><message from='a@b'/>");
    d.hear(SESSION);
    assert!(d.stream.is_logging_in());
    assert!(d.seen().is_empty());
    assert_eq!(d.stream.stats(), Stats { skipped: 1, ignored: 1 });
    d.hear(BOUND);
    d.hear(ENABLED);
    assert!(!d.stream.is_logging_in());
    assert!(matches!(d.seen()[..], [ClientEvent::Ready { resumed: false, .. }]));
}

/// The ids of the stanzas that were handed out.
fn ids(events: &[ClientEvent]) -> Vec<&str> {
    let stanzas = events.iter().filter_map(|event| match event {
        ClientEvent::Stanza(stanza) => stanza.id(),
        _ => None,
    });
    stanzas.collect()
}

#[test]
fn what_comes_between_the_address_and_the_session_is_handed_out_and_not_counted() {
    let mut d = Dialogue::new(ClientConfig { confirm: true, ..config() }, None);
    d.log_in();
    d.hear(SESSION);
    d.hear(&format!("{BOUND}<message id='1'/><message id='2'/>"));
    assert!(d.seen().is_empty());
    d.hear(&format!("{ENABLED}<message id='3'/>"));
    let seen = d.seen();
    assert!(matches!(seen[0], ClientEvent::Ready { .. }));
    assert_eq!(ids(&seen), ["1", "2", "3"]);
    d.stream.confirm(1);
    assert_eq!(d.hear("<r xmlns='urn:xmpp:sm:3'/>"), "<a xmlns='urn:xmpp:sm:3' h='1'/>");
}

#[test]
fn what_comes_before_the_session_is_bounded() {
    let mut d = Dialogue::new(config(), None);
    d.log_in();
    d.hear(SESSION);
    d.hear(BOUND);
    d.hear(&"<message/>".repeat(EARLY_STANZAS));
    assert!(d.seen().is_empty());
    d.hear("<message/>");
    assert!(matches!(d.closed(), Closed::Violation(_)));
}

#[test]
fn what_comes_after_the_last_acknowledgement_is_left_to_the_next_session() {
    let mut d = Dialogue::up(config());
    d.hear("<message id='1'/>");
    d.stream.close(s(1), s(2));
    assert!(d.said().contains("h='1'"));
    d.hear("<message id='2'/></stream:stream>");
    assert_eq!(ids(&d.seen()), ["1"]);

    let mut d = Dialogue::new(ClientConfig { stream_management: false, ..config() }, None);
    d.log_in();
    d.hear(SESSION);
    d.hear(BOUND);
    d.stream.close(s(1), s(2));
    d.hear("<message id='2'/></stream:stream>");
    assert_eq!(ids(&d.seen()), ["2"], "a server without it keeps nothing");
}

#[test]
fn a_poisonous_stanza_counts_as_handled() {
    let mut d = Dialogue::up(config());
    let deep = format!("<message>{}{}</message>", "<a>".repeat(16_000), "</a>".repeat(16_000));
    for poison in ["<message><body>&nbsp;</body></message>", "<message x:y=''/>", &*deep] {
        d.hear(poison);
        let seen = d.seen();
        assert!(matches!(seen[..], [ClientEvent::Skipped(_)]), "{poison:.40}: {seen:?}");
    }
    let long = format!("<message from='a@b'><x a='{}'/></message>", "x".repeat(9_000));
    d.hear(&long);
    assert!(matches!(d.seen()[..], [ClientEvent::Stanza(_)]), "a long attribute is none");
    assert_eq!(d.hear("<r xmlns='urn:xmpp:sm:3'/>"), "<a xmlns='urn:xmpp:sm:3' h='4'/>");
    d.hear(&format!("<message a='{}'/>", "x".repeat(600 * 1024)));
    let seen = d.seen();
    assert!(matches!(seen[..], [ClientEvent::Skipped(_)]), "too large: {seen:?}");
    d.hear("<message><!-- this ends the stream --></message>");
    assert!(matches!(d.closed(), Closed::Violation(_)));
    let resumption = d.stream.into_resumption().unwrap();
    assert_eq!(resumption.counters.h(), 6, "what broke the stream is not asked for again");
}

#[test]
fn a_stanza_that_the_server_ends_the_stream_for_is_not_sent_again() {
    let mut d = Dialogue::up(config());
    d.send("<message to='a@b'><poison/></message>");
    d.hear("<stream:error><policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>");
    assert_eq!(d.closed().condition(), Some("policy-violation"));
    assert!(d.stream.into_resumption().is_none(), "a new session, without it");
}

#[test]
fn the_server_is_told_of_a_stanza_when_it_is_dealt_with() {
    let h = |h: u32| format!("<a xmlns='urn:xmpp:sm:3' h='{h}'/>");
    let ask = "<r xmlns='urn:xmpp:sm:3'/>";
    let mut d = Dialogue::up(ClientConfig { confirm: true, ..config() });
    d.hear("<message id='1'/><message id='2'/><message id='3'/>");
    assert_eq!((d.stream.received(), d.hear(ask)), (3, h(0)));
    d.stream.confirm(2);
    assert_eq!(d.hear(ask), h(2));
    d.stream.confirm(1);
    assert_eq!(d.hear(ask), h(2));
    let mut resumption = d.broken().unwrap();
    resumption.confirm(2);
    let mut d = Dialogue::new(ClientConfig { confirm: true, ..config() }, Some(resumption));
    d.log_in();
    assert_eq!(d.hear(SESSION), "<resume xmlns='urn:xmpp:sm:3' previd='s1' h='2'/>");
    d.hear("<resumed xmlns='urn:xmpp:sm:3' previd='s1' h='2'/><message id='3'/>");
    assert_eq!(d.stream.received(), 3, "it came again");
    d.stream.confirm(3);
    assert_eq!(d.hear(ask), h(3));
}

#[test]
fn a_password_is_hashed_once_for_one_salt() {
    let job = |config: ClientConfig| {
        let mut d = Dialogue::new(config, None);
        d.encrypt();
        d.hear(HEADER);
        d.hear(&mechanisms(&["SCRAM-SHA-1"]));
        d.stream.handle_input(d.now, challenge().as_bytes());
        let event = d.stream.poll_event();
        (event, d.said())
    };
    let (Some(ClientEvent::Derive(first)), said) = job(config()) else { panic!("no work") };
    assert_eq!(said, "", "nothing is said before the password is hashed");
    let (event, said) = job(ClientConfig { salted: Some(first.run()), ..config() });
    assert!(event.is_none() && said.starts_with("<response"), "{said}");
}

#[test]
fn an_exchange_that_the_server_calls_off_is_a_refusal() {
    let mut d = Dialogue::new(config(), None);
    d.encrypt();
    d.hear(HEADER);
    d.hear(&mechanisms(&["SCRAM-SHA-1"]));
    d.hear(&sasl("challenge", "e=unknown-user"));
    assert_eq!(
        d.closed(),
        Closed::Refused(StreamError::new("not-authorized").with_text("unknown-user"))
    );
}

#[test]
fn a_push_of_the_roster_comes_from_the_account_only() {
    let push = |from: &str| {
        format!(
            "<iq type='set' id='7'{from}><query xmlns='jabber:iq:roster'><item jid='evil@x' subscription='both'/></query></iq>"
        )
    };
    let mut d = Dialogue::up(config());
    for from in ["", " from='user@example.com'"] {
        assert_eq!(d.hear(&push(from)), "<iq id='7' type='result'/>");
        assert!(matches!(d.seen()[..], [ClientEvent::Roster { complete: false, .. }]));
    }
    for from in [" from='evil@x'", " from='example.com'", " from='user@example.com/other'"] {
        assert_eq!(d.hear(&push(from)), "");
        assert!(d.seen().is_empty(), "{from}");
    }
    d.hear("<iq type='result' id='p-roster' from='evil@x'><query xmlns='jabber:iq:roster'/></iq>");
    assert!(matches!(d.seen()[..], [ClientEvent::Stanza(_)]), "an answer that nobody asked for");
}

#[test]
fn an_account_sends_as_itself_only() {
    let d = Dialogue::up(config());
    for good in ["", " from='user@example.com'", " from='USER@example.com/r'"] {
        d.stream.check(format!("<message{good}/>").as_bytes()).expect(good);
    }
    for bad in [" from='other@example.com'", " from='user@example.com/s'", " from=''"] {
        let error = d.stream.check(format!("<message{bad}/>").as_bytes()).expect_err(bad);
        assert_eq!(error.kind(), ErrorKind::InvalidSender);
    }
}

#[test]
fn a_silent_server_is_asked_and_then_left_for_resumption() {
    let mut d = Dialogue::up(config());
    assert_eq!(d.at(s(1)), "<r xmlns='urn:xmpp:sm:3'/>", "what was sent is asked for");
    d.hear("<a xmlns='urn:xmpp:sm:3' h='2'/>");
    assert_eq!(d.at(s(60)), "");
    assert_eq!(d.at(s(61)), "<r xmlns='urn:xmpp:sm:3'/>");
    assert_eq!(d.at(s(80)), "");
    assert_eq!(d.at(s(81)), "");
    assert_eq!(d.closed(), Closed::Silence("a ping"));
    assert!(d.stream.into_resumption().is_some());
}

#[test]
fn a_server_that_is_silent_during_the_log_in_is_left() {
    let mut d = Dialogue::new(config(), None);
    assert_eq!(d.stream.poll_timeout(), Some(s(15)));
    d.hear(HEADER);
    d.at(s(15));
    assert_eq!(d.closed(), Closed::Silence("the log-in"));
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_ends_the_session() {
    let mut d = Dialogue::up(config());
    d.hear("<a xmlns='urn:xmpp:sm:3' h='3'/>");
    assert!(matches!(d.closed(), Closed::Violation(_)));
    assert!(d.stream.into_resumption().is_none());
}

#[test]
fn what_the_server_does_not_acknowledge_is_bounded() {
    let mut d = Dialogue::up(config());
    let sent =
        (0..UNACKED_STANZAS + 1).take_while(|_| d.stream.send(s(0), b"<message/>").is_ok()).count();
    assert_eq!(sent, UNACKED_STANZAS - 2, "the roster and the presence count too");
    let error = d.stream.send(s(0), b"<message/>").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Backpressure);
    d.hear("<a xmlns='urn:xmpp:sm:3' h='10'/>");
    d.send("<message/>");
}

#[test]
fn without_stream_management_the_server_is_pinged() {
    let mut d = Dialogue::new(ClientConfig { stream_management: false, ..config() }, None);
    d.log_in();
    d.hear(SESSION);
    assert!(d.hear(BOUND).ends_with("<presence/>"));
    assert!(d.at(s(60)).contains("<ping"));
    d.hear("<iq type='result' id='p-ping' from='example.com'/>");
    assert_eq!(d.at(s(80)), "");
    assert!(matches!(d.seen()[..], [ClientEvent::Ready { .. }]));
}

#[test]
fn a_resource_that_is_refused_is_an_error_with_its_condition() {
    let mut d = Dialogue::new(config(), None);
    d.log_in();
    d.hear(SESSION);
    d.hear("<iq type='error' id='p-bind'><error type='cancel'><conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>");
    assert_eq!(d.closed().condition(), Some("conflict"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn however_the_input_is_split_the_dialogue_is_the_same(chunk in 1_usize..80) {
        let session = format!("{SESSION}{BOUND}{ENABLED}<message from='a@b'><body>é</body></message><r xmlns='urn:xmpp:sm:3'/>");
        let run = |chunk| {
            let mut d = Dialogue::new(config(), None);
            d.chunk = chunk;
            d.log_in();
            let said = d.hear(&session);
            (said, format!("{:?}", d.seen().len()))
        };
        prop_assert_eq!(run(chunk), run(usize::MAX));
    }

    #[test]
    fn no_input_panics(input in proptest::collection::vec(0_usize..12, 0..12)) {
        let words = [
            HEADER, STARTTLS, PROCEED, SESSION, BOUND, ENABLED, "</stream:stream>", "<message/>",
            "<a xmlns='urn:xmpp:sm:3' h='1'/>", "<r xmlns='urn:xmpp:sm:3'/>",
            "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>", "<resumed xmlns='urn:xmpp:sm:3' h='x'/>",
        ];
        let mut d = Dialogue::new(config(), None);
        for at in input {
            d.hear(words[at]);
        }
        prop_assert!(!d.stream.is_ready(), "nobody is logged in without a proof");
    }
}
