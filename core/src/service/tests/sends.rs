use std::collections::HashSet;

use super::*;
use crate::vectors::{self, Case, same};

fn repeated(case: &Case, key: &str) -> Option<String> {
    let times = case.0.get(format!("{key}_times")).and_then(|times| times.as_u64()).unwrap_or(1);
    Some(case.optional_str(key)?.repeat(times as usize))
}

fn call(service: &Service, case: &Case) -> Result<(Vec<Status>, Vec<String>)> {
    let jids: Vec<&str> = case.list("jids").into_iter().filter_map(|jid| jid.as_str()).collect();
    let (from, type_) = (case.optional_str("from"), case.optional_str("type"));
    let one = |stanza| (Vec::new(), texts(&[stanza]));
    match case.str("call") {
        "send_message" => {
            let body = repeated(case, "body").unwrap_or_default();
            let call = MessageCall {
                jids: &jids,
                body: &body,
                from,
                type_: type_.unwrap_or("chat"),
                raw_xml: case.bool("raw_xml"),
            };
            let sending = service.send_message(&call)?;
            let stanzas: Vec<_> = sending.stanzas.iter().map(Outgoing::to_bytes).collect();
            Ok((sending.statuses, texts(&stanzas)))
        }
        "send_presence" => {
            let status = repeated(case, "status");
            let call = PresenceCall {
                jid: jids[0],
                type_: type_.unwrap_or_default(),
                show: case.optional_str("show").unwrap_or_default(),
                status: status.as_deref(),
                from,
            };
            service.send_presence(&call).map(one)
        }
        "send_invite" => service.send_invite(jids[0], from).map(one),
        other => panic!("no call {other:?}"),
    }
}

#[test]
fn vectors() {
    vectors::each("send", |case| {
        let done = call(&service(), case);
        if let Some(expected) = case.optional_str("error") {
            let kind = done.err().map(|error| format!("{:?}", error.kind()));
            return same("error", kind.as_deref(), Some(expected));
        }
        let (statuses, stanzas) = done.map_err(|error| error.to_string())?;
        let numbers: Vec<u64> = statuses.iter().map(|status| *status as u64).collect();
        let list = |key| case.list(key).into_iter();
        same("statuses", numbers, list("statuses").filter_map(|n| n.as_u64()).collect())?;
        if case.0.get("stanzas").is_none() {
            return Ok(());
        }
        let expected: Vec<&str> = list("stanzas").filter_map(|stanza| stanza.as_str()).collect();
        same("stanzas", stanzas.iter().map(String::as_str).collect::<Vec<_>>(), expected)
    });
}

fn message<'a>(jids: &'a [&'a str], body: &'a str) -> MessageCall<'a> {
    MessageCall { jids, body, from: None, type_: "chat", raw_xml: false }
}

#[test]
fn a_large_body_is_shared_by_its_recipients() {
    let body = "x".repeat(90_000);
    let jids: Vec<String> = (0..1000).map(|i| format!("user{i}@example.com")).collect();
    let jids: Vec<&str> = jids.iter().map(String::as_str).collect();
    let sending = service().send_message(&message(&jids, &body)).unwrap();
    let first = sending.stanzas[0].tail.as_ptr();
    assert!(sending.stanzas.iter().all(|stanza| stanza.tail.as_ptr() == first));
    let last = sending.stanzas[999].to_bytes();
    assert_eq!(last.len(), sending.stanzas[999].len());
    let parsed = stanza(std::str::from_utf8(&last).unwrap());
    assert_eq!(parsed.body().as_deref(), Some(body.as_str()));
    assert_eq!(parsed.to().unwrap().as_str(), "user999@example.com");
}

#[test]
fn ids_are_unique_and_begin_with_the_prefix() {
    let config = ServiceConfig { id_prefix: "k3-".to_owned(), ..config() };
    let service = Service::new(config, Box::new(MemoryStore::new())).unwrap();
    let mut ids = HashSet::new();
    for _ in 0..3 {
        let sending = service.send_message(&message(&["a@b", "c@d"], "x")).unwrap();
        for outgoing in sending.stanzas {
            let parsed = stanza(std::str::from_utf8(&outgoing.head).unwrap());
            let id = parsed.id().unwrap().to_owned();
            assert!(id.starts_with("k3-"), "{id}");
            assert!(ids.insert(id));
        }
    }
    let prefix = ServiceConfig { id_prefix: "a'b".to_owned(), ..super::config() };
    let error = Service::new(prefix, Box::new(MemoryStore::new())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[test]
fn a_stanza_that_was_not_written_is_told_at_its_recipient() {
    let mut sending = service().send_message(&message(&["a@b", "@", "c@d"], "x")).unwrap();
    sending.fail(1);
    assert_eq!(sending.statuses, [Status::NoError, Status::InvalidJid, Status::OtherError]);
}

#[test]
fn calls_are_counted() {
    let service = service();
    service.send_message(&message(&["a@b", "@", "c@d"], "1234")).unwrap();
    service.send_message(&message(&["a@b"], "")).unwrap_err();
    service.send_invite("a@b", None).unwrap();
    service.get_presence(&["a@b"], None).unwrap();
    let stats = service.stats();
    assert_eq!((stats.api_calls, stats.recipients_messaged, stats.recipients_refused), (4, 2, 1));
    assert_eq!((stats.data_sent_bytes, stats.invitations_sent), (8, 1));
}

#[test]
fn an_invitation_can_be_repeated_and_survives() {
    let disk = Arc::new(MemoryStore::new());
    let service = service_on(&disk);
    let expected = format!("<presence from=\"{APP}\" to=\"{USER}\" type=\"subscribe\"/>");
    for _ in 0..2 {
        let sent = service.send_invite(USER, None).unwrap();
        assert_eq!(texts(&[sent]), [expected.as_str()]);
    }
    drop(service);
    let service = service_on(&disk);
    assert_eq!(service.book().subscription(APP, USER), Subscription::NonePendingOut);
    presence_from(&service, USER, "subscribed");
    assert_eq!(service.book().subscription(APP, USER), Subscription::To);
}

#[test]
fn nobody_asked_for_is_an_error_and_each_entry_speaks_for_itself() {
    let service = service();
    assert_eq!(service.get_presence(&[], None).unwrap_err().kind(), ErrorKind::InvalidJid);
    let answers = service.get_presence(&[""], None).unwrap();
    assert!(!answers[0].valid);
    let foreign = service.get_presence(&["a@b"], Some("a@b")).unwrap_err();
    assert_eq!(foreign.kind(), ErrorKind::InvalidSender);
}

#[test]
fn kinds_have_app_engines_numbers() {
    for (kind, number) in [
        (ErrorKind::InvalidJid, 2),
        (ErrorKind::InvalidSender, 2),
        (ErrorKind::NoBody, 3),
        (ErrorKind::InvalidXml, 4),
        (ErrorKind::InvalidType, 5),
        (ErrorKind::InvalidShow, 6),
        (ErrorKind::TooLarge, 7),
        (ErrorKind::InvalidStatus, 1),
        (ErrorKind::NotConnected, 1),
    ] {
        assert_eq!(ServiceError::from(kind) as i32, number, "{kind:?}");
    }
}
