use super::*;
use appxmpp::ns;
use appxmpp::xml::{Element, Limits, Scope};
use serde_json::Value;

fn reply(inbound: &Inbound<'_>, outcome: &Outcome<'_>, strict: bool) -> Option<String> {
    super::reply(inbound, outcome, strict).map(|reply| reply.stanza)
}

fn element(xml: &str) -> Element {
    let scope = Scope::default_ns(ns::CLIENT);
    Element::parse(xml.as_bytes(), &scope, &Limits::default()).unwrap()
}

/// Whether `made` is what `expected` describes; `{ID}` is any id.
fn fits(made: &Element, expected: &Element) -> bool {
    let attrs = made.attrs().len() == expected.attrs().len()
        && expected.attrs().iter().all(|attr| {
            let value = made.attr_ns(&attr.name, &attr.ns);
            value == Some(&attr.value)
                || (attr.value == "{ID}" && value.is_some_and(|v| v.len() == 24))
        });
    let mut rest: Vec<&Element> = made.children().collect();
    let children = expected.children().all(|child| {
        rest.iter().position(|other| fits(other, child)).map(|at| rest.remove(at)).is_some()
    });
    made.is(expected.name(), expected.ns())
        && attrs
        && children
        && rest.is_empty()
        && made.text() == expected.text()
}

struct Case {
    name: String,
    stanza: Element,
    from: &'static str,
    response: Value,
    expected: Option<Element>,
}

impl Case {
    fn reply(&self, strict: bool) -> Option<Element> {
        let inbound = Inbound {
            kind: Kind::from_name(self.stanza.name()).unwrap(),
            from: self.from,
            to: self.stanza.attr("to").unwrap(),
            id: self.stanza.attr("id"),
            type_: self.stanza.attr("type"),
            answer_id: "an-id-of-24-characters--",
            wants_receipt: self.stanza.child("request", "urn:xmpp:receipts").is_some(),
        };
        let header = self.response["headers"].as_array().into_iter().flatten();
        let content_type =
            header.filter(|pair| pair[0] == "Content-Type").find_map(|pair| pair[1].as_str());
        let outcome = match self.response["status"].as_u64() {
            Some(status) => Outcome::Answered {
                status: u16::try_from(status).unwrap(),
                content_type,
                body: self.response["body"].as_str().unwrap_or_default().as_bytes(),
            },
            None => Outcome::Unreachable,
        };
        reply(&inbound, &outcome, strict).map(|xml| element(&xml))
    }

    fn passes(&self, strict: bool) -> bool {
        match (&self.reply(strict), &self.expected) {
            (None, None) => true,
            (Some(made), Some(expected)) => fits(made, expected),
            _ => false,
        }
    }
}

/// The recorded answers with this verdict of a component whose callback got the stanza.
fn cases(verdict: &str) -> Vec<Case> {
    let text = include_str!("../../../../../tests/vectors/rest-callback.json");
    let all: Value = serde_json::from_str(text).unwrap();
    let wanted = |case: &&Value| {
        case["verdict"] == verdict
            && case["callback_request"].is_object()
            // Answers below HTTP are read by the client, which has tests of its own.
            && case["callback_response"]["status"].is_u64()
    };
    let list = all["cases"].as_array().unwrap().iter().filter(wanted);
    list.map(|case| {
        let stanza = element(case["inbound"].as_str().unwrap());
        let subscription = stanza.name() == "presence"
            && matches!(stanza.attr("type"), Some("subscribe" | "unsubscribe"));
        Case {
            name: case["name"].as_str().unwrap().to_owned(),
            from: if subscription { "bob@localhost" } else { "bob@localhost/phone" },
            stanza,
            response: case["callback_response"].clone(),
            expected: case["sender_sees"].as_str().map(element),
        }
    })
    .collect()
}

#[test]
fn strictly_every_recorded_answer_becomes_the_recorded_reply() {
    let cases = cases("contract");
    let failed: Vec<&str> =
        cases.iter().filter(|case| !case.passes(true)).map(|case| case.name.as_str()).collect();
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(cases.len(), 156);
}

#[test]
fn by_default_only_unusable_answers_differ() {
    let mut different = Vec::new();
    for case in cases("contract") {
        if !case.passes(false) {
            let status = case.response["status"].as_u64().unwrap();
            assert!((200..300).contains(&status), "{}: {:?}", case.name, case.reply(false));
            assert_eq!(case.reply(false), None, "{}", case.name);
            different.push(case.name);
        }
    }
    // Each of them is a 2xx that holds no stanza of the kind, which mod_rest mirrors as an empty one.
    let expected = [
        "callback/post-message-type-None",
        "callback/post-message-type-groupchat",
        "callback/post-message-type-bogus",
        "callback/post-message-no-body",
        "callback/message-200-empty-noct",
        "callback/message-200-json-kind-presence",
        "callback/message-200-json-array",
        "callback/message-200-json-null",
        "callback/message-200-json-string",
        "callback/message-201-empty",
        "callback/message-299",
        "callback/presence-200-empty",
        "callback/presence-200-message",
    ];
    assert_eq!(different, expected);
}

fn message<'s>(id: Option<&'s str>, receipt: bool) -> Inbound<'s> {
    let type_ = Some("chat");
    Inbound {
        kind: Kind::Message,
        from: "b@h/p",
        to: "a@c",
        id,
        type_,
        answer_id: "an-id-of-24-characters--",
        wants_receipt: receipt,
    }
}

fn answered<'r>(status: u16, content_type: &'r str, body: &'r str) -> Outcome<'r> {
    Outcome::Answered { status, content_type: Some(content_type), body: body.as_bytes() }
}

#[test]
fn an_error_page_is_never_a_chat_message() {
    for (content_type, body) in [
        ("text/plain", "Traceback…"),
        ("application/json", "{\"detail\": \"no\"}"),
        ("application/json", "{\"error\": \"boom\"}"),
        ("application/json", "{\"body\": \"boom\"}"),
        ("application/json", "{\"id\": \"req-1\", \"status\": 500}"),
        ("text/html", "<p>x</p>"),
    ] {
        let xml =
            reply(&message(Some("m"), false), &answered(500, content_type, body), false).unwrap();
        assert!(xml.contains("<internal-server-error"), "{body}: {xml}");
        assert!(!xml.contains("boom") && !xml.contains("Traceback"), "{xml}");
    }
}

#[test]
fn a_json_object_that_is_no_stanza_says_nothing() {
    for body in ["{\"ok\": true}", "[]", "{", "null"] {
        let answer = answered(200, "application/json", body);
        assert_eq!(reply(&message(Some("m"), false), &answer, false), None, "{body}");
    }
}

#[test]
fn a_receipt_is_sent_with_the_answer_or_alone() {
    let received = "<received xmlns=\"urn:xmpp:receipts\" id=\"m\"/>";
    let asked = message(Some("m"), true);
    let with = reply(&asked, &answered(200, "text/plain", "yes"), false).unwrap();
    assert!(with.contains(&format!("<body>yes</body>{received}</message>")), "{with}");
    let alone = reply(&asked, &answered(204, "", ""), false).unwrap();
    assert!(alone.contains(received) && !alone.contains("<body"), "{alone}");
    let failed = reply(&asked, &answered(404, "", ""), false).unwrap();
    assert!(!failed.contains("received"), "{failed}");
    assert_eq!(reply(&asked, &answered(204, "", ""), true), None);
}

#[test]
fn an_iq_answer_with_an_error_inside_is_an_error() {
    let iq = Inbound { kind: Kind::Iq, type_: Some("get"), ..message(Some("i"), false) };
    let body = "<iq><error type='auth'><forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>";
    let answer = answered(200, "application/xmpp+xml", body);
    let made = element(&reply(&iq, &answer, false).unwrap());
    assert_eq!(made.attr("type"), Some("error"));
    let made = element(&reply(&iq, &answer, true).unwrap());
    assert_eq!(made.attr("type"), Some("result"));
}
