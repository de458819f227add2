//! A session: what is counted, what is resumed, and what is left to the next one.

use super::*;

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
