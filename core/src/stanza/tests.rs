use proptest::prelude::*;

use super::*;
use crate::xml::XmlErrorKind;

fn read(xml: &str) -> Stanza {
    try_read(xml).unwrap_or_else(|error| panic!("{xml:.200}: {error}"))
}

fn try_read(xml: &str) -> Result<Stanza, XmlError> {
    read_in(&[("", ns::COMPONENT), ("stream", ns::STREAM), ("db", "jabber:server:dialback")], xml)
}

fn read_in(bindings: &[(&'static str, &str)], xml: &str) -> Result<Stanza, XmlError> {
    let scope = Scope::new(bindings.iter().copied());
    // Deeper than a stanza usually may be.
    let limits = Limits { depth: 1_000, ..Limits::default() };
    Stanza::parse(Bytes::copy_from_slice(xml.as_bytes()), &scope, &limits)
}

#[test]
fn the_header_is_read_and_the_bytes_are_kept() {
    let xml = "<message from='a@b/c' to=\"x@y\" type='chat' id='&lt;1&gt;' xml:lang='en' foo='bar'>\
               <thread>t</thread><body>hi</body></message>";
    let stanza = read(xml);
    assert_eq!(stanza.kind(), StanzaKind::Message);
    assert_eq!(stanza.from().map(WireJid::as_str), Some("a@b/c"));
    assert_eq!(stanza.to().map(WireJid::as_str), Some("x@y"));
    assert_eq!(stanza.message_type(), MessageType::Chat);
    assert_eq!(stanza.id(), Some("<1>"));
    assert_eq!(stanza.lang(), Some("en"));
    assert_eq!(stanza.body().as_deref(), Some("hi"));
    assert_eq!(stanza.child_text("thread").as_deref(), Some("t"));
    assert_eq!(stanza.child_text("subject"), None);
    assert_eq!(stanza.raw(), xml);
    assert_eq!(stanza.element().unwrap().attr("foo"), Some("bar"));
}

#[test]
fn white_space_around_a_stanza_is_no_part_of_it() {
    let stanza = read(" \n<message><body>x&amp;y</body></message>\r\n");
    assert_eq!(stanza.raw(), "<message><body>x&amp;y</body></message>");
    assert_eq!(stanza.body().as_deref(), Some("x&y"));
    assert_eq!(read("\n<message><body>xy</body></message>").body().as_deref(), Some("xy"));
}

#[test]
fn what_a_stanza_is_depends_on_its_namespace_not_its_prefix() {
    for (xml, kind) in [
        ("<x:message xmlns:x='jabber:component:accept'/>", StanzaKind::Message),
        ("<presence xmlns='jabber:client'/>", StanzaKind::Presence),
        ("<iq/>", StanzaKind::Iq),
        ("<message xmlns='urn:x'/>", StanzaKind::Other),
        ("<message xmlns=''/>", StanzaKind::Other),
        ("<handshake/>", StanzaKind::Other),
        ("<stream:error/>", StanzaKind::Other),
    ] {
        assert_eq!(read(xml).kind(), kind, "{xml}");
    }
    assert!(read("<stream:error/>").is("error", ns::STREAM));
}

#[test]
fn types_have_the_defaults_of_the_rfc() {
    let type_of = |xml: &str| read(xml).message_type();
    assert_eq!(type_of("<message/>"), MessageType::Normal);
    assert_eq!(type_of("<message type='foo'/>"), MessageType::Normal);
    assert_eq!(type_of("<message type='groupchat'/>"), MessageType::GroupChat);
    assert_eq!(read("<message type='foo'/>").type_(), Some("foo"));
    assert_eq!(read("<presence/>").presence_type(), Some(PresenceType::Available));
    assert_eq!(read("<presence type='probe'/>").presence_type(), Some(PresenceType::Probe));
    assert_eq!(read("<presence type='available'/>").presence_type(), None);
    assert_eq!(read("<iq type='set'/>").iq_type(), Some(IqType::Set));
    assert_eq!(read("<iq/>").iq_type(), None);
    assert!(read("<message type='error'/>").is_error());
    for type_ in ["unavailable", "subscribe", "subscribed", "unsubscribe", "unsubscribed", "error"]
    {
        let parsed = PresenceType::parse(type_).unwrap();
        assert_eq!(parsed.as_str(), Some(type_));
        assert_eq!(kind::known_type(type_.into()), type_);
    }
}

#[test]
fn the_body_is_the_text_of_the_first_one() {
    for (inside, expected) in [
        ("<body>a</body><body xml:lang='de'>b</body>", Some("a")),
        ("<body/>", Some("")),
        ("<body></body>", Some("")),
        ("", None),
        ("<body xmlns='urn:x'>a</body>", None),
        ("<x xmlns='urn:x'><body xmlns='jabber:component:accept'>a</body></x>", None),
        ("<x xmlns='urn:x'>a</x><body>b</body>", Some("b")),
        ("<body>a &lt;b&gt; &#x1f389;</body>", Some("a <b> \u{1f389}")),
        ("<body>a\r\nb\rc</body>", Some("a\nb\nc")),
        ("<body><![CDATA[<a>]]></body>", Some("<a>")),
        ("<body>a<b>c</b>d</body>", Some("ad")),
        ("<body><b>c</b></body>", Some("")),
        ("<body>é\u{1f389}</body>", Some("é\u{1f389}")),
    ] {
        let stanza = read(&format!("<message>{inside}</message>"));
        assert_eq!(stanza.body().as_deref(), expected, "{inside}");
        assert_eq!(stanza.child_text("body").as_deref(), expected, "{inside}");
    }
    assert_eq!(read("<presence><body>x</body></presence>").body(), None);
}

/// Each of these, sent by any stranger, ends or aborts a process built on an XMPP library of today.
#[test]
fn what_ends_others_is_read_here() {
    let wide = "y".repeat(9_000);
    let stanzas = [
        "<message from='a@b/\u{1f389}' to='x@y/\u{1f389}'><body>x</body></message>".to_owned(),
        "<message type='foo'><body>x</body></message>".to_owned(),
        "<message><thread>a</thread><thread>b</thread><body>x</body></message>".to_owned(),
        "<message>stray<body>x</body>text</message>".to_owned(),
        "<presence><priority>300</priority></presence>".to_owned(),
        "<presence><priority/><show>online</show></presence>".to_owned(),
        format!("<message a='{wide}'><body>x</body></message>"),
        format!("<message><x xmlns='urn:x' a='{wide}'/><body>x</body></message>"),
        "<message from='' to='@/'><body>x</body></message>".to_owned(),
    ];
    for xml in stanzas {
        let stanza = read(&xml);
        assert_eq!(stanza.raw(), &xml);
        if stanza.kind() == StanzaKind::Message {
            assert_eq!(stanza.body().as_deref(), Some("x"));
        }
        for form in [Form::Cli, Form::Client] {
            let xml = present(&stanza, form);
            Element::parse(xml.as_bytes(), &Scope::empty(), &Limits::default()).expect(&xml);
        }
    }
    let jid = read("<message from='Room@Conf.Example/Nick \u{1f389}'/>");
    let from = jid.from().unwrap();
    assert_eq!(from.as_str(), "Room@Conf.Example/Nick \u{1f389}");
    assert_eq!(from.bare_key(), "room@conf.example");

    let deep = format!("<message>{}{}</message>", "<a>".repeat(35_000), "</a>".repeat(35_000));
    let wide = format!("<message a='{}'/>", "y".repeat(600_000));
    for xml in [deep, wide] {
        assert_eq!(try_read(&xml).unwrap_err().kind(), XmlErrorKind::PolicyViolation);
    }
}

#[test]
fn an_error_is_data() {
    let stanza = read(
        "<message type='error' from='a@b'><body>x</body><error type='wait' by='b'>\
         <text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>later &amp; so</text>\
         <resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><x xmlns='urn:x'/></error></message>",
    );
    let expected = StanzaError::new(Condition::ResourceConstraint).with_text("later & so");
    assert_eq!(stanza.error(), Some(expected));

    let unknown = read(
        "<iq type='error'><error><new xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>",
    );
    assert_eq!(unknown.error(), Some(StanzaError::new(Condition::UndefinedCondition)));
    assert_eq!(read("<iq type='error'/>").error(), None);
    assert_eq!(read("<message><error/></message>").error(), None);
    for condition in Condition::ALL {
        assert_eq!(Condition::parse(condition.as_str()), Some(*condition));
    }
}

#[test]
fn an_answer_goes_back_with_the_same_id() {
    let iq = read("<iq type='get' from='a@b/&quot;c' to='x@y' id='&amp;1'><q xmlns='urn:q'/></iq>");
    let error = StanzaError::new(Condition::ServiceUnavailable).with_text("no <q/>");
    let answer = iq.error_reply(&error).unwrap();
    assert_eq!(
        answer,
        "<iq to=\"a@b/&quot;c\" from=\"x@y\" id=\"&amp;1\" type=\"error\"><error type=\"cancel\">\
         <service-unavailable xmlns=\"urn:ietf:params:xml:ns:xmpp-stanzas\"/>\
         <text xmlns=\"urn:ietf:params:xml:ns:xmpp-stanzas\">no &lt;q/&gt;</text></error></iq>"
    );
    assert_eq!(read(&answer).error(), Some(error.clone()));

    let payload = Element::new("query", ns::VERSION)
        .with_child(Element::new("name", ns::VERSION).with_text("a&b"));
    assert_eq!(
        iq.result_reply(Some(&payload)).unwrap(),
        "<iq to=\"a@b/&quot;c\" from=\"x@y\" id=\"&amp;1\" type=\"result\">\
         <query xmlns=\"jabber:iq:version\"><name>a&amp;b</name></query></iq>"
    );
    assert!(iq.result_reply(None).unwrap().ends_with("type=\"result\"/>"));

    for mute in [
        "<iq type='error' from='a@b' id='1'/>",
        "<iq type='result' from='a@b' id='1'/>",
        "<message type='error' from='a@b'/>",
        "<message/>",
        "<handshake from='a@b'/>",
    ] {
        assert_eq!(read(mute).error_reply(&error), None, "{mute}");
        assert_eq!(read(mute).result_reply(None), None, "{mute}");
    }
}

#[test]
fn a_stanza_is_built_escaped() {
    let xml = StanzaBuilder::message()
        .from("a@b/'\"")
        .to("c@d")
        .type_("chat")
        .id("1")
        .body("<&>\r\u{0}")
        .child_text("thread", "t")
        .element(&Element::new("x", "urn:x"), &Scope::default_ns(ns::COMPONENT))
        .xml("<raw/>")
        .finish();
    assert_eq!(
        xml,
        "<message from=\"a@b/&apos;&quot;\" to=\"c@d\" type=\"chat\" id=\"1\">\
         <body>&lt;&amp;&gt;&#xD;\u{fffd}</body><thread>t</thread><x xmlns=\"urn:x\"/><raw/></message>"
    );
    assert_eq!(StanzaBuilder::presence().finish(), "<presence/>");
}

/// The stanza, and what is expected in each form; the second only where it is not the first with
/// `cli` taken away.
#[test]
fn the_presented_form_stands_alone() {
    let cases = [
        (
            "<message from='a@b/c' to='x@y' type=\"chat\"><body>a &amp; b</body></message>",
            "<cli:message xmlns:cli=\"jabber:client\" from='a@b/c' to='x@y' type=\"chat\"><cli:body>a &amp; b</cli:body></cli:message>",
            "<message xmlns=\"jabber:client\" from='a@b/c' to='x@y' type=\"chat\"><body>a &amp; b</body></message>",
        ),
        (
            "<presence xmlns='jabber:client' from='a@b'/>",
            "<cli:presence xmlns:cli=\"jabber:client\" from='a@b'/>",
            "<presence xmlns='jabber:client' from='a@b'/>",
        ),
        (
            "<presence from='a@b' xmlns=\"jabber:component:accept\" ><show>xa</show ></presence\n>",
            "<cli:presence xmlns:cli=\"jabber:client\" from='a@b' ><cli:show>xa</cli:show ></cli:presence\n>",
            "<presence from='a@b' xmlns=\"jabber:client\" ><show>xa</show ></presence\n>",
        ),
        (
            "<message> <x xmlns='urn:x' b='1'  a=\"2\"><![CDATA[<]]><y/> </x>\n</message>",
            "<cli:message xmlns:cli=\"jabber:client\"> <x xmlns='urn:x' b='1'  a=\"2\"><![CDATA[<]]><y/> </x>\n</cli:message>",
            "<message xmlns=\"jabber:client\"> <x xmlns='urn:x' b='1'  a=\"2\"><![CDATA[<]]><y/> </x>\n</message>",
        ),
        (
            "<message><f xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'><body>in</body></message></f></message>",
            "<cli:message xmlns:cli=\"jabber:client\"><f xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'><body>in</body></message></f></cli:message>",
            "<message xmlns=\"jabber:client\"><f xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'><body>in</body></message></f></message>",
        ),
        (
            "<x:message xmlns:x='jabber:component:accept' x:a='1'><x:body>b</x:body></x:message>",
            "<cli:message xmlns:cli=\"jabber:client\" xmlns:x='jabber:client' x:a='1'><cli:body>b</cli:body></cli:message>",
            "<x:message xmlns:x='jabber:client' x:a='1'><x:body>b</x:body></x:message>",
        ),
        (
            "<message><p:w xmlns:p='urn:p'><body>b</body></p:w></message>",
            "<cli:message xmlns:cli=\"jabber:client\"><p:w xmlns:p='urn:p'><cli:body>b</cli:body></p:w></cli:message>",
            "<message xmlns=\"jabber:client\"><p:w xmlns:p='urn:p'><body>b</body></p:w></message>",
        ),
        (
            "<message><db:verify id='1'/></message>",
            "<cli:message xmlns:cli=\"jabber:client\" xmlns:db=\"jabber:server:dialback\"><db:verify id='1'/></cli:message>",
            "<message xmlns=\"jabber:client\" xmlns:db=\"jabber:server:dialback\"><db:verify id='1'/></message>",
        ),
        (
            "<message><body>b</body><x xmlns='urn:x'>c</x><subject>d</subject></message>",
            "<cli:message xmlns:cli=\"jabber:client\"><cli:body>b</cli:body><x xmlns='urn:x'>c</x><cli:subject>d</cli:subject></cli:message>",
            "<message xmlns=\"jabber:client\"><body>b</body><x xmlns='urn:x'>c</x><subject>d</subject></message>",
        ),
        (
            "<message><cli:x xmlns:cli='urn:other'/><body>b</body></message>",
            "<message xmlns=\"jabber:client\"><cli:x xmlns:cli='urn:other'/><body>b</body></message>",
            "<message xmlns=\"jabber:client\"><cli:x xmlns:cli='urn:other'/><body>b</body></message>",
        ),
        (
            "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
            "<stream:error xmlns:stream=\"http://etherx.jabber.org/streams\"><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
            "<stream:error xmlns:stream=\"http://etherx.jabber.org/streams\"><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
        ),
    ];
    for (xml, cli, client) in cases {
        let stanza = read(xml);
        assert_eq!(present(&stanza, Form::Cli), cli);
        assert_eq!(present(&stanza, Form::Client), client);
        for form in [cli, client] {
            Element::parse(form.as_bytes(), &Scope::empty(), &Limits::default()).expect(form);
        }
    }
}

/// Elements as they stand in stanzas, and as nobody would write them.
fn elements() -> impl Strategy<Value = String> {
    const NAMES: [&str; 9] =
        ["body", "x", "é", "message", "own:x", "p:x", "db:x", "cli:x", "xml:x"];
    const ATTRIBUTES: [&str; 13] = [
        "",
        "",
        "",
        " a='>'",
        " xml:lang='en'",
        " db:a='1'",
        " p:a='1'",
        " xmlns='urn:x'",
        " xmlns=''",
        " xmlns='jabber:client'",
        " xmlns:p=\"jabber:component:accept\"",
        " xmlns:p='urn:p'",
        " xmlns:cli='urn:cli'",
    ];
    let text = prop::sample::select(vec!["", "t", "&lt;", "<![CDATA[<a>]]>", "é\u{1f389}", "\n"]);
    let tag = || {
        let attributes = prop::collection::vec(prop::sample::select(&ATTRIBUTES[..]), 2);
        (prop::sample::select(&NAMES[..]), attributes)
    };
    text.prop_map(str::to_owned).prop_recursive(6, 24, 4, move |inside| {
        (tag(), prop::collection::vec(inside, 0..4), any::<bool>()).prop_map(
            |((name, attributes), inside, is_open)| {
                let (attributes, inside) = (attributes.concat(), inside.concat());
                match is_open || !inside.is_empty() {
                    true => format!("<{name}{attributes}>{inside}</{name} >"),
                    false => format!("<{name}{attributes}/>"),
                }
            },
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_was_noted_while_reading_is_what_reading_again_finds(
        binding in prop::sample::select(vec![
            ("own", ns::CLIENT), ("cli", "urn:cli"), ("p", "urn:p"), ("db", "urn:db"),
        ]),
        name in prop::sample::select(vec!["message", "presence", "p:message", "own:message", "iq"]),
        declared in prop::sample::select(vec![
            "", "", "", " xmlns='jabber:client'", " xmlns:p='jabber:client'", " xmlns:p='urn:p'"
        ]),
        inside in prop::collection::vec(elements(), 0..4),
        space in prop::sample::select(vec!["", "\n "]),
    ) {
        let inside = inside.concat();
        let xml = format!("{space}<{name}{declared} from='a@b'>{inside}</{name}>{space}");
        if let Ok(stanza) = read_in(&[("", ns::COMPONENT), binding], &xml) {
            prop_assert_eq!(present(&stanza, Form::Cli), present::rewritten(&stanza, Form::Cli));
        }
    }
}

#[test]
fn most_messages_need_not_be_read_again() {
    let chat = "<message from='a@b/c' to='x@y' type='chat' id='1' xml:lang='en'><body>hi</body>\
                <active xmlns='http://jabber.org/protocol/chatstates'/>\
                <request xmlns='urn:xmpp:receipts'/><origin-id id='1' xmlns='urn:xmpp:sid:0'/></message>";
    assert!(read(chat).seams.is_some());
    assert!(
        read("<presence from='a@b'><c xmlns='urn:c' hash='sha-1'/></presence>").seams.is_some()
    );
    let carbon = "<message><f xmlns='urn:f'><message xmlns='jabber:client'/></f></message>";
    assert!(read(carbon).seams.is_none());
    let many = read(&format!("<message>{}</message>", "<body></body>".repeat(200)));
    assert!(many.seams.is_none(), "they take memory");
    for depth in [125, 126, 127, 200] {
        let (start, end) = ("<a xmlns='urn:x'>", "</a>");
        let deep = format!("<a>{}{}</a>", start.repeat(depth), end.repeat(depth));
        let stanza = read(&format!("<message>{deep}</message>"));
        assert_eq!(present(&stanza, Form::Cli), present::rewritten(&stanza, Form::Cli), "{depth}");
    }
}
