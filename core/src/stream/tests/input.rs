//! Stanzas and whatever else comes, split anywhere.

use proptest::prelude::*;

use super::*;

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
