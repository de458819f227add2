//! An app with an ordinary account: what its server does is not done twice.

use super::*;

const ACCOUNT: &str = "bot@x.example/bot";

fn account_on(disk: &Arc<MemoryStore>) -> Service {
    let addresses = Addresses::of_account("shop", &crate::Jid::parse(ACCOUNT).unwrap()).unwrap();
    Service::new(ServiceConfig::at(addresses), Box::new(Arc::clone(disk))).unwrap()
}

fn account() -> Service {
    account_on(&Arc::new(MemoryStore::new()))
}

fn arrives(service: &Service, xml: &str) -> Inbound {
    let bytes = xml.as_bytes().to_vec().into();
    let scope = Scope::stream(ns::CLIENT);
    service.handle_stanza(NOON, Stanza::parse(bytes, &scope, &Limits::default()).unwrap())
}

fn roster(service: &Service, items: &[(&str, &str, bool)], complete: bool) {
    let contacts: Vec<_> = items
        .iter()
        .map(|(jid, state, asked)| ((*jid).to_owned(), Subscription::of_item(state, *asked)))
        .collect();
    service.handle_roster(&contacts, complete);
}

fn everything(service: &Service, now: Duration) -> Vec<String> {
    let mut said = Vec::new();
    while service.poll_timeout().is_some_and(|due| due <= now) {
        said.extend(texts(&service.handle_timeout(now, 100)));
    }
    said
}

#[test]
fn nobody_is_named_as_the_sender() {
    let service = account();
    let call = MessageCall { jids: &[USER], body: "hi", from: None, type_: "chat", raw_xml: false };
    let sent = service.send_message(&call).unwrap();
    let text = String::from_utf8(sent.stanzas[0].to_bytes().to_vec()).unwrap();
    let expected = "<message type=\"chat\" to=\"user@example.com\"><body>hi</body></message>";
    assert_eq!(without_id(&text), expected);
    let invite = service.send_invite(USER, Some("bot@x.example")).unwrap();
    assert_eq!(texts(&[invite]), ["<presence to=\"user@example.com\" type=\"subscribe\"/>"]);
    let raw = MessageCall { body: "<body xmlns='jabber:client'>x</body>", raw_xml: true, ..call };
    assert!(service.send_message(&raw).is_ok());
}

#[test]
fn another_address_is_a_foreign_sender() {
    let service = account();
    for from in ["shop@x.example", "x.example", USER] {
        let call =
            MessageCall { jids: &[USER], body: "x", from: Some(from), type_: "", raw_xml: false };
        let error = service.send_message(&call).unwrap_err();
        assert_eq!(ServiceError::from(error.kind()), ServiceError::InvalidJid, "{from}");
        assert!(error.to_string().contains("bot@x.example"), "{error}");
    }
}

#[test]
fn a_request_is_accepted_and_returned_and_the_server_keeps_note() {
    let disk = Arc::new(MemoryStore::new());
    let service = account_on(&disk);
    let ask = "<presence from='user@example.com' to='bot@x.example' type='subscribe'/>";
    let inbound = arrives(&service, ask);
    assert_eq!(inbound.delivery.unwrap().path, "/_ah/xmpp/subscription/subscribe/");
    let (yes, too) = (
        "<presence to=\"user@example.com\" type=\"subscribed\"/>",
        "<presence to=\"user@example.com\" type=\"subscribe\"/>",
    );
    assert_eq!(texts(&inbound.sends), [yes, too]);
    roster(&service, &[(USER, "both", false)], false);
    assert_eq!(texts(&arrives(&service, ask).sends), [yes], "it is subscribed already");
    let gone = arrives(&service, &ask.replace("'subscribe'", "'unsubscribe'"));
    assert!(gone.sends.is_empty(), "the server has said so");
    let mut kept = 0;
    disk.load(&mut |_, _| kept += 1).unwrap();
    assert_eq!(kept, 0, "the roster is the server's");
}

#[test]
fn the_roster_is_what_the_server_says() {
    let service = account();
    roster(&service, &[(USER, "both", false), ("a@b", "none", true), ("c@d", "to", false)], true);
    let state = |jid| service.book().subscription("bot@x.example", jid);
    assert_eq!(state(USER), Subscription::Both);
    assert_eq!((state("a@b"), state("c@d")), (Subscription::NonePendingOut, Subscription::To));
    roster(&service, &[("c@d", "remove", false)], false);
    assert_eq!((state("c@d"), state(USER)), (Subscription::None, Subscription::Both));
    roster(&service, &[("a@b", "from", true)], true);
    assert_eq!((state("a@b"), state(USER)), (Subscription::FromPendingOut, Subscription::None));
}

#[test]
fn presence_is_what_this_session_heard() {
    let service = account();
    let here =
        "<presence from='user@example.com/phone' to='bot@x.example'><show>away</show></presence>";
    service.handle_session(Duration::ZERO, false);
    roster(&service, &[(USER, "both", false)], true);
    assert!(everything(&service, Duration::ZERO).is_empty(), "the server asks and tells");
    arrives(&service, here);
    assert_eq!(available(&service, USER), Some(Show::Away));
    service.handle_disconnected();
    service.handle_session(Duration::from_secs(50), true);
    everything(&service, Duration::from_secs(100));
    assert_eq!(available(&service, USER), Some(Show::Away), "the session is the same");
    service.handle_disconnected();
    service.handle_session(Duration::from_secs(100), false);
    assert_eq!(available(&service, USER), Some(Show::Away), "until the server had its time");
    everything(&service, Duration::from_secs(200));
    assert_eq!(available(&service, USER), None, "nothing was heard in this one");
}

#[test]
fn what_one_contact_was_told_is_told_again_in_another_session() {
    let service = account();
    roster(&service, &[(USER, "both", false), ("a@b", "both", false)], true);
    let call = PresenceCall { jid: USER, type_: "", show: "dnd", status: Some("busy"), from: None };
    service.send_presence(&call).unwrap();
    service.handle_session(Duration::ZERO, false);
    let said = everything(&service, Duration::ZERO);
    assert_eq!(
        said,
        ["<presence to=\"user@example.com\"><show>dnd</show><status>busy</status></presence>"]
    );
    service.handle_session(Duration::ZERO, true);
    assert!(everything(&service, Duration::ZERO).is_empty());
    service.handle_closing();
    assert_eq!(service.poll_timeout(), None, "the server says goodbye");
}

#[test]
fn only_what_is_for_the_account_arrives() {
    let service = account();
    for (xml, reason) in [
        ("<message from='a@b' to='alice@x.example'><body>x</body></message>", DropReason::NotOurs),
        ("<presence from='bot@x.example/other' to='bot@x.example'/>", DropReason::OwnPresence),
        ("<message to='bot@x.example'><body>x</body></message>", DropReason::NoSender),
    ] {
        let dropped = arrives(&service, xml).dropped.map(|dropped| dropped.0);
        assert_eq!(dropped, Some(reason), "{xml}");
    }
    assert_eq!(available(&service, "bot@x.example"), None);
    let ping = "<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>";
    let answer = arrives(&service, ping).sends;
    assert_eq!(
        &answer[0][..],
        b"<iq id=\"1\" type=\"result\"/>",
        "its server leaves addresses out"
    );
}
