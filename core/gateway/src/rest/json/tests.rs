use super::*;
use proptest::prelude::*;
use serde_json::json;

fn cases() -> Vec<Value> {
    let text = include_str!("../../../../../tests/vectors/rest-json.json");
    let all: Value = serde_json::from_str(text).unwrap();
    all["cases"].as_array().unwrap().clone()
}

fn element(xml: &str) -> Element {
    let scope = Scope::default_ns(ns::CLIENT);
    Element::parse(xml.as_bytes(), &scope, &Limits::default()).unwrap()
}

/// Two trees whose attributes and children may stand in any order.
fn alike(a: &Element, b: &Element) -> bool {
    let attrs = a.attrs().len() == b.attrs().len()
        && a.attrs().iter().all(|attr| b.attr_ns(&attr.name, &attr.ns) == Some(&attr.value));
    let mut rest: Vec<&Element> = b.children().collect();
    let children = a.children().all(|child| {
        let found = rest.iter().position(|other| alike(child, other));
        found.map(|at| rest.remove(at)).is_some()
    });
    a.is(b.name(), b.ns()) && attrs && children && rest.is_empty() && a.text() == b.text()
}

fn strict() -> Mode {
    Mode::json(true)
}

fn lossless() -> Mode {
    Mode::json(false)
}

#[test]
fn every_recorded_json_body_makes_the_recorded_stanza() {
    let mut passed = 0;
    for case in cases() {
        if case["direction"] != "json2xml" || case["verdict"] != "contract" {
            continue;
        }
        let result = parse(case["input"].to_string().as_bytes())
            .and_then(|members| to_stanza(&members, strict()));
        match case["expect"].as_str() {
            None => assert_eq!(
                result.unwrap_err().status,
                case["expect_status"].as_u64().unwrap() as u16,
                "{case}"
            ),
            Some(expected) => {
                let mut made = result.unwrap_or_else(|e| panic!("{case}: {e:?}"));
                // The sender and a missing id are filled in where the stanza is sent.
                made.set_attr("from", "alice@localhost");
                if expected.contains("{ID}") {
                    made.set_attr("id", "{ID}");
                }
                assert!(alike(&made, &element(expected)), "{case}\nmade {made}");
            }
        }
        passed += 1;
    }
    assert_eq!(passed, 51);
}

#[test]
fn every_recorded_stanza_makes_the_recorded_json() {
    let mut passed = 0;
    for case in cases() {
        if case["direction"] != "xml2json" || case["verdict"] != "contract" {
            continue;
        }
        let mut stanza = element(case["input"].as_str().unwrap());
        stanza.set_attr("from", "alice@localhost");
        let made = Value::from(of_stanza(&stanza, strict()));
        assert_eq!(made, case["expect"], "{}", case["input"]);
        // Losslessly, the same members and beside them what they do not say.
        let mut more = of_stanza(&stanza, lossless());
        more.remove(XML);
        assert_eq!(Value::from(more), case["expect"], "{}", case["input"]);
        passed += 1;
    }
    assert_eq!(passed, 22);
}

#[test]
fn nothing_is_lost_from_any_recorded_stanza() {
    for case in cases() {
        for xml in [&case["input"], &case["expect"]].iter().filter_map(|text| text.as_str()) {
            let stanza = element(xml);
            let members = of_stanza(&stanza, lossless());
            let json = Value::from(members).to_string();
            let back = to_stanza(&parse(json.as_bytes()).unwrap(), lossless()).unwrap();
            assert!(alike(&stanza, &back), "{xml}\n{json}\n{back}");
            let form = of_stanza(&stanza, Mode::form(false));
            let back = to_stanza(&form, lossless()).unwrap();
            assert!(alike(&stanza, &back), "{xml}\n{form:?}\n{back}");
        }
    }
}

#[test]
fn what_the_schema_cannot_express_stands_in_xml() {
    let stanza = element(
        "<message to='a@b'><body>one</body><body xml:lang='fr'>un</body>\
         <x xmlns='urn:unknown'>q</x><request xmlns='urn:xmpp:receipts'/></message>",
    );
    let members = of_stanza(&stanza, lossless());
    assert_eq!(members["body"], "one");
    assert_eq!(
        members[XML],
        "<body>one</body><body xml:lang=\"fr\">un</body><x xmlns=\"urn:unknown\">q</x>\
         <request xmlns=\"urn:xmpp:receipts\"/>"
    );
    assert!(!of_stanza(&stanza, strict()).contains_key(XML));
}

#[test]
fn what_stands_in_xml_takes_the_place_of_its_member() {
    let members = json!({"kind": "message", "body": "one", "subject": "s",
        "xml": "<body xml:lang='fr'>un</body>"});
    let stanza = to_stanza(members.as_object().unwrap(), lossless()).unwrap();
    let expected = "<message><subject>s</subject><body xml:lang='fr'>un</body></message>";
    assert!(alike(&stanza, &element(expected)), "{stanza}");
    let stanza = to_stanza(members.as_object().unwrap(), strict()).unwrap();
    assert!(alike(&stanza, &element("<message><subject>s</subject><body>one</body></message>")));
}

#[test]
fn xml_in_json_cannot_break_out_of_its_stanza() {
    for bad in ["</message><message>", "<a>", "<!-- c -->", "<?p?>", "&nbsp;", "<a:b/>"] {
        let members = json!({"kind": "message", "xml": bad});
        let error = to_stanza(members.as_object().unwrap(), lossless()).unwrap_err();
        assert_eq!(error, RestError::UNPARSABLE, "{bad}");
    }
}

#[test]
fn a_value_of_the_wrong_type_is_refused_and_strictly_an_empty_element() {
    for bad in [json!(5), json!(true), json!({"a": 1}), json!(null)] {
        let members = json!({"kind": "message", "body": bad});
        let members = members.as_object().unwrap();
        assert_eq!(to_stanza(members, lossless()).unwrap_err(), RestError::UNPARSABLE);
        let stanza = to_stanza(members, strict()).unwrap();
        assert!(alike(&stanza, &element("<message><body/></message>")));
    }
    let members = json!({"kind": "message", "to": 5});
    let error = to_stanza(members.as_object().unwrap(), lossless()).unwrap_err();
    assert_eq!(error, RestError::DESTINATION);
}

#[test]
fn names_that_cannot_be_elements_are_refused() {
    for bad in [
        json!({"kind": "message", "state": "a b"}),
        json!({"kind": "message", "state": "x><y"}),
        json!({"kind": "message", "error": {"condition": "a/b"}}),
        json!({"kind": "message", "error": {"type": "cancel"}}),
        json!({"kind": "message", "body": "\u{0}"}),
        json!({"kind": "message", "html": "<b>"}),
        json!({"kind": "xmpp"}),
    ] {
        let error = to_stanza(bad.as_object().unwrap(), lossless()).unwrap_err();
        assert_eq!(error, RestError::UNPARSABLE, "{bad}");
    }
}

#[test]
fn lists_are_lists_not_nests() {
    let members = json!({"kind": "iq", "type": "result", "items": [{"jid": "a"}, "b"]});
    let stanza = to_stanza(members.as_object().unwrap(), strict()).unwrap();
    let expected = "<iq type='result'><query xmlns='http://jabber.org/protocol/disco#items'>\
                    <item jid='a'/><item jid='b'/></query></iq>";
    assert!(alike(&stanza, &element(expected)), "{stanza}");
}

#[test]
fn a_body_must_be_one_object_with_members() {
    for bad in ["", "{}", "[]", "[{}]", "5", "null", "\"hi\"", "{\"kind\":", "{\"a\":1} x"] {
        assert_eq!(parse(bad.as_bytes()).unwrap_err(), RestError::UNPARSABLE, "{bad}");
    }
    let deep = format!("{{\"body\":\"x\",\"a\":{}1{}}}", "[".repeat(5000), "]".repeat(5000));
    assert_eq!(parse(deep.as_bytes()).unwrap()["body"], "x");
    let deep = format!("{{\"body\":{}1{}}}", "[".repeat(5000), "]".repeat(5000));
    assert_eq!(parse(deep.as_bytes()).unwrap_err(), RestError::UNPARSABLE);
}

#[test]
fn a_kind_is_implied_by_type_and_then_by_members() {
    for (members, name) in [
        (json!({"type": "get"}), "iq"),
        (json!({"type": "subscribe"}), "presence"),
        (json!({"type": "chat", "show": "away"}), "message"),
        (json!({"disco": true}), "iq"),
        (json!({"show": "away"}), "presence"),
        (json!({"body": "x"}), "message"),
        (json!({"archive": {}}), "iq"),
        (json!({"to": "a"}), "message"),
    ] {
        let stanza = to_stanza(members.as_object().unwrap(), lossless()).unwrap();
        assert_eq!(stanza.name(), name, "{members}");
    }
}

fn any_element() -> impl Strategy<Value = Element> {
    let leaf =
        (name(), namespace(), attributes(), "[ -~é👍]{0,6}").prop_map(|(name, ns, attrs, text)| {
            attrs
                .into_iter()
                .fold(Element::new(name, ns), |e, (k, v)| e.with_attr(&k, v))
                .with_text(&text)
        });
    leaf.prop_recursive(3, 12, 3, |inner| {
        (name(), namespace(), attributes(), prop::collection::vec(inner, 0..3)).prop_map(
            |(name, ns, attrs, children)| {
                let start =
                    attrs.into_iter().fold(Element::new(name, ns), |e, (k, v)| e.with_attr(&k, v));
                children.into_iter().fold(start, Element::with_child)
            },
        )
    })
}

fn name() -> impl Strategy<Value = String> {
    let known = prop::sample::select(
        FIELDS
            .iter()
            .map(|field| field.element_name())
            .filter(|n| !n.is_empty())
            .collect::<Vec<_>>(),
    );
    prop_oneof![
        known.prop_map(str::to_owned),
        "[a-z]{1,6}",
        Just("item".to_owned()),
        Just("url".to_owned())
    ]
}

fn namespace() -> impl Strategy<Value = String> {
    let known =
        prop::sample::select(FIELDS.iter().map(|field| field.namespace()).collect::<Vec<_>>());
    prop_oneof![known.prop_map(str::to_owned), Just("urn:x".to_owned())]
}

fn attributes() -> impl Strategy<Value = Vec<(String, String)>> {
    let known =
        prop::sample::select(vec!["id", "jid", "node", "type", "var", "stamp", "max", "port"]);
    prop::collection::vec((known.prop_map(str::to_owned), "[ -~é]{0,5}"), 0..3)
}

proptest! {
    /// Whatever a stanza holds, its JSON makes the same stanza again.
    #[test]
    fn xml_to_json_to_xml_loses_nothing(
        kind in prop::sample::select(vec!["message", "presence", "iq"]),
        children in prop::collection::vec(any_element(), 0..4),
        flat in any::<bool>(),
    ) {
        let mut stanza = Element::new(kind, ns::CLIENT).with_attr("id", "i").with_attr("type", "result");
        children.into_iter().for_each(|child| stanza.push(child));
        let mode = if flat { Mode::form(false) } else { lossless() };
        let json = Value::from(of_stanza(&stanza, mode)).to_string();
        let back = to_stanza(&parse(json.as_bytes()).unwrap(), lossless());
        let back = back.unwrap_or_else(|e| panic!("{stanza}\n{json}\n{e:?}"));
        prop_assert!(alike(&stanza, &back), "{}\n{}\n{}", stanza, json, back);
    }

    #[test]
    fn no_json_text_does_more_than_fail(text in "\\PC{0,60}") {
        if let Ok(members) = parse(text.as_bytes()) {
            let _ = to_stanza(&members, lossless());
        }
    }
}
