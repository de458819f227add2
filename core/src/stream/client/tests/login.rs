//! From the first byte to the session: encryption, passwords, and what a server may get wrong.

use super::*;

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
fn a_server_that_is_silent_during_the_log_in_is_left() {
    let mut d = Dialogue::new(config(), None);
    assert_eq!(d.stream.poll_timeout(), Some(s(15)));
    d.hear(HEADER);
    d.at(s(15));
    assert_eq!(d.closed(), Closed::Silence("the log-in"));
}

#[test]
fn a_resource_that_is_refused_is_an_error_with_its_condition() {
    let mut d = Dialogue::new(config(), None);
    d.log_in();
    d.hear(SESSION);
    d.hear("<iq type='error' id='p-bind'><error type='cancel'><conflict xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>");
    assert_eq!(d.closed().condition(), Some("conflict"));
}
