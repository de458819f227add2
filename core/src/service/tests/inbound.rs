use std::sync::atomic::AtomicBool;

use proptest::prelude::*;

use super::*;
use crate::error::Error;
use crate::stanza::Condition;
use crate::store::{ContactState, DeadLetter, Row, contract};
use crate::vectors::{self, same};

#[test]
fn route_vectors() {
    vectors::each("route", |case| {
        let mut config = config();
        if case.0.get("inbound").is_some() {
            let names = case.list("inbound").into_iter().filter_map(|name| name.as_str());
            config.inbound = InboundServices::from_names(names).unwrap();
        }
        config.bodiless_messages = case.bool("bodiless_messages");
        let service = Service::new(config, Box::new(MemoryStore::new())).unwrap();
        let utc = Duration::from_secs(case.0.get("utc").and_then(|utc| utc.as_u64()).unwrap_or(0));
        let inbound = service.handle_stanza(utc, stanza(case.str("stanza")));

        let path = inbound.delivery.as_ref().map(|delivery| delivery.path);
        same("path", path, case.optional_str("path"))?;
        let reason = inbound.dropped.map(|(reason, _)| format!("{reason:?}"));
        let reason = reason.as_deref().map(|reason| reason.split('(').next().unwrap());
        same("drop", reason, case.optional_str("drop"))?;
        if let Some(delivery) = inbound.delivery {
            let (last, rest) = delivery.fields.split_last().unwrap();
            let rest: Vec<_> = rest.iter().map(|(name, value)| [*name, value]).collect();
            let expected: Vec<[&str; 2]> = case
                .list("fields")
                .into_iter()
                .map(|field| [field[0].as_str().unwrap(), field[1].as_str().unwrap()])
                .collect();
            same("fields", rest, expected)?;
            same("last field", last.0, "stanza")?;
            if let Some(expected) = case.optional_str("stanza_field") {
                same("stanza", last.1.as_str(), expected)?;
            }
        }
        let answer = inbound.sends.first().map(|answer| std::str::from_utf8(answer).unwrap());
        if let Some(expected) = case.optional_str("answer") {
            same("answer", answer, Some(expected))?;
        }
        for piece in case.list("answer_has").into_iter().filter_map(|piece| piece.as_str()) {
            same(piece, answer.is_some_and(|answer| answer.contains(piece)), true)?;
        }
        Ok(())
    });
}

#[test]
fn presence_vectors() {
    vectors::each("presence", |case| {
        let service = service();
        for step in case.list("steps").into_iter().filter_map(|step| step.as_str()) {
            receive(&service, step);
        }
        for ask in case.list("ask") {
            let text = |key: &str| ask.get(key).and_then(|value| value.as_str());
            let answer = service.get_presence(&[text("jid").unwrap()], text("from")).unwrap()[0];
            let expected = PresenceAnswer {
                available: ask["available"].as_bool().unwrap(),
                show: text("show").and_then(Show::parse),
                valid: ask["valid"].as_bool().unwrap(),
            };
            same(&ask.to_string(), answer, expected)?;
        }
        Ok(())
    });
}

#[test]
fn a_request_is_accepted_returned_and_told_the_presence() {
    let service = service();
    let sends = presence_from(&service, USER, "subscribe");
    let expected = [
        format!("<presence from=\"{APP}\" to=\"{USER}\" type=\"subscribed\"/>"),
        format!("<presence from=\"{APP}\" to=\"{USER}\" type=\"subscribe\"/>"),
        format!("<presence from=\"{APP}/bot\" to=\"{USER}\"/>"),
    ];
    assert_eq!(sends, expected);
    assert!(presence_from(&service, USER, "subscribed").is_empty());
    assert_eq!(service.book().subscription(APP, USER), Subscription::Both);
    // The acceptance was lost, the contact asks again: it is accepted again, and not asked.
    assert_eq!(presence_from(&service, USER, "subscribe"), [&*expected[0], &*expected[2]]);
}

#[test]
fn a_full_address_that_subscribes_is_answered_at_its_bare_one() {
    let sends = presence_from(&service(), "User@Example.com/phone", "subscribe");
    assert!(sends.iter().all(|sent| sent.contains(&format!("to=\"{USER}\""))), "{sends:?}");
}

#[test]
fn a_cancellation_is_confirmed_and_the_app_goes_dark() {
    let service = service();
    presence_from(&service, USER, "subscribe");
    presence_from(&service, USER, "subscribed");
    let expected = [
        format!("<presence from=\"{APP}\" to=\"{USER}\" type=\"unsubscribed\"/>"),
        format!("<presence from=\"{APP}/bot\" to=\"{USER}\" type=\"unavailable\"/>"),
    ];
    assert_eq!(presence_from(&service, USER, "unsubscribe"), expected);
    assert_eq!(service.book().subscription(APP, USER), Subscription::To);
    presence_from(&service, USER, "unsubscribed");
    assert_eq!(service.contacts(), 0);
}

#[test]
fn subscriptions_are_kept_even_if_the_app_does_not_want_to_hear_of_them() {
    let config = ServiceConfig { inbound: InboundServices::NONE, ..config() };
    let service = Service::new(config, Box::new(MemoryStore::new())).unwrap();
    let inbound =
        receive(&service, &format!("<presence from='{USER}' to='{APP}' type='subscribe'/>"));
    assert_eq!(inbound.sends.len(), 3);
    assert!(inbound.lasting, "nobody asks for a subscription twice");
    let probe = receive(&service, &format!("<presence from='{USER}' to='{APP}' type='probe'/>"));
    assert_eq!((probe.sends.len(), probe.lasting), (1, false));
    let dropped = inbound.dropped.map(|dropped| dropped.0);
    assert_eq!(dropped, Some(DropReason::Disabled(InboundService::Subscribe)));
}

#[test]
fn a_probe_is_answered_with_what_the_contact_was_told() {
    let service = service();
    presence_from(&service, USER, "subscribe");
    let probe = |from| presence_from(&service, from, "probe");
    let to = format!("{USER}/phone");
    assert_eq!(probe(&to), [format!("<presence from=\"{APP}/bot\" to=\"{to}\"/>")]);
    let call = PresenceCall {
        jid: USER,
        type_: "",
        show: "dnd",
        status: Some("cooking"),
        from: Some("shop@appspot.com"),
    };
    service.send_presence(&call).unwrap();
    let told = "<show>dnd</show><status>cooking</status></presence>";
    assert_eq!(probe(&to), [format!("<presence from=\"{APP}/bot\" to=\"{to}\">{told}")]);
    service
        .send_presence(&PresenceCall { type_: "unavailable", show: "", status: None, ..call })
        .unwrap();
    let gone = format!("<presence from=\"{APP}/bot\" to=\"{to}\" type=\"unavailable\"/>");
    assert_eq!(probe(&to), [gone]);
    // Somebody unknown asks: the app would accept a subscription, so it tells its presence.
    let stranger = "stranger@example.com/x";
    assert_eq!(probe(stranger), [format!("<presence from=\"{APP}/bot\" to=\"{stranger}\"/>")]);
    assert_eq!(service.contacts(), 1);
}

#[test]
fn subscriptions_and_presence_survive_a_restart() {
    let disk = Arc::new(MemoryStore::new());
    let service = service_on(&disk);
    presence_from(&service, USER, "subscribe");
    presence_from(&service, USER, "subscribed");
    receive(
        &service,
        &format!("<presence from='{USER}/a' to='{APP}'><show>away</show></presence>"),
    );
    drop(service);

    let service = service_on(&disk);
    assert_eq!(service.book().subscription(APP, USER), Subscription::Both);
    assert_eq!(available(&service, USER), Some(Show::Away));
    let available = Some(Show::Away);
    let state = ContactState { subscription: Subscription::Both, available, told: None };
    let expected = [(contract::key(APP, USER), state)];
    assert_eq!(contract::contents(&*disk), expected.into_iter().collect());
}

#[test]
fn what_contacts_were_told_survives_a_restart() {
    let disk = Arc::new(MemoryStore::new());
    let service = service_on(&disk);
    let resource = format!("{USER}/a");
    // The app tells somebody who is no contact yet, but there.
    presence_from(&service, &resource, "");
    let call = PresenceCall { jid: USER, type_: "", show: "dnd", status: Some("soup"), from: None };
    service.send_presence(&call).unwrap();
    presence_from(&service, USER, "subscribe");
    let told = |service: &Service| presence_from(service, &resource, "probe").remove(0);
    let expected = told(&service);
    assert!(expected.contains("dnd") && expected.contains("soup"), "{expected}");
    drop(service);

    let service = service_on(&disk);
    assert_eq!(told(&service), expected);
    service.send_presence(&PresenceCall { type_: "unavailable", show: "", ..call }).unwrap();
    drop(service);
    let service = service_on(&disk);
    assert!(told(&service).contains("type=\"unavailable\""));
    service.send_presence(&PresenceCall { show: "", status: None, ..call }).unwrap();
    drop(service);
    let plain = format!("<presence from=\"{APP}/bot\" to=\"{resource}\"/>");
    assert_eq!(told(&service_on(&disk)), plain);
}

#[test]
fn a_store_that_serves_several_apps_gives_each_its_own() {
    let disk = Arc::new(MemoryStore::new());
    let change = |own| Change::Subscription(contract::key(own, USER), Subscription::Both);
    let changes = vec![change(APP), change("shop@other.example"), change("bot.example.com")];
    disk.apply(changes, Durability::Now).unwrap();
    let service = service_on(&disk);
    assert_eq!(service.contacts(), 2);
}

/// A store whose disk is full, or becomes so.
#[derive(Debug, Default)]
struct Filling {
    rows: MemoryStore,
    full: AtomicBool,
}

impl Filling {
    fn full() -> Self {
        Self { full: true.into(), ..Self::default() }
    }
}

impl Store for Filling {
    fn load(&self, contact: &mut dyn FnMut(ContactKey, ContactState)) -> Result<()> {
        self.rows.load(contact)
    }

    fn apply(&self, changes: Vec<Change>, durability: Durability) -> Result<()> {
        if self.full.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Store, "the disk is full"));
        }
        self.rows.apply(changes, durability)
    }

    fn load_queue(&self, _: &str, _: &mut dyn FnMut(Row)) -> Result<()> {
        Ok(())
    }

    fn dead_letters(&self, _: &str, _: &mut dyn FnMut(DeadLetter)) -> Result<()> {
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }
}

#[test]
fn what_the_store_did_not_take_is_not_promised() {
    let service = Service::new(config(), Box::new(Filling::full())).unwrap();
    assert!(presence_from(&service, USER, "subscribe").is_empty());
    assert_eq!(service.send_invite(USER, None).unwrap_err().kind(), ErrorKind::Store);
    assert_eq!(service.contacts(), 0);
    // Messages and presence go on.
    presence_from(&service, &format!("{USER}/a"), "");
    assert_eq!(available(&service, USER), Some(Show::Normal));
    assert_eq!(service.stats().store_errors, 2);
}

#[test]
fn what_a_contact_says_only_once_counts_though_the_store_did_not_take_it() {
    let disk = Arc::new(Filling::default());
    let service = Service::new(config(), Box::new(Arc::clone(&disk))).unwrap();
    service.send_invite(USER, None).unwrap();
    disk.full.store(true, Ordering::Relaxed);
    let state = || service.book().subscription(APP, USER);
    assert!(presence_from(&service, USER, "subscribed").is_empty());
    assert_eq!(state(), Subscription::To);
    assert!(presence_from(&service, USER, "unsubscribed").is_empty());
    assert_eq!(state(), Subscription::None);
    // What comes next is written whole.
    presence_from(&service, USER, "subscribed");
    disk.full.store(false, Ordering::Relaxed);
    service.send_invite(USER, None).unwrap();
    presence_from(&service, USER, "subscribed");
    let mut kept = Vec::new();
    disk.load(&mut |_, state| kept.push(state.subscription)).unwrap();
    assert_eq!(kept, [Subscription::To]);
}

#[test]
fn a_body_over_the_limit_is_refused_to_its_sender() {
    let service = service();
    let at = |size: usize| {
        let body = "x".repeat(size);
        receive(
            &service,
            &format!("<message from='{USER}/a' to='{APP}' id='m1'><body>{body}</body></message>"),
        )
    };
    assert!(at(100 * 1024).delivery.is_some());
    let over = at(100 * 1024 + 1);
    assert!(over.delivery.is_none());
    let answer = std::str::from_utf8(&over.sends[0]).unwrap();
    assert!(answer.contains("policy-violation") && answer.contains("id=\"m1\""), "{answer}");
}

#[test]
fn a_delivery_without_room_is_refused_once() {
    let service = service();
    let message = format!("<message from='{USER}/a' to='{APP}' id='m1'><body>hi</body></message>");
    let delivery = receive(&service, &message).delivery.unwrap();
    let refusal = service.refuse(&delivery, Condition::ResourceConstraint).unwrap();
    let text = std::str::from_utf8(&refusal).unwrap();
    assert!(text.contains("<resource-constraint") && text.contains("type=\"wait\""), "{text}");
    let error = format!("<message from='{USER}' to='{APP}' type='error'/>");
    let delivery = receive(&service, &error).delivery.unwrap();
    assert!(service.refuse(&delivery, Condition::ResourceConstraint).is_none());
    let presence = format!("<presence from='{USER}/a' to='{APP}'/>");
    let delivery = receive(&service, &presence).delivery.unwrap();
    assert!(service.refuse(&delivery, Condition::ResourceConstraint).is_none());
}

#[test]
fn lanes_are_of_the_senders_bare_address() {
    let service = service();
    let sender = |from: &str| {
        let xml = format!("<message from='{from}' to='{APP}'><body>x</body></message>");
        receive(&service, &xml).delivery.unwrap().sender
    };
    assert_eq!(sender("User@Example.com/a"), USER);
    assert_eq!(sender("user@example.com./b"), USER);
    assert_eq!(sender("room@conf.example/\u{1f389}"), "room@conf.example");
}

#[test]
fn names_of_inbound_services() {
    let some = InboundServices::from_names(["xmpp_message", "mail", "xmpp_error"]).unwrap();
    let has = InboundService::ALL.map(|service| some.contains(service));
    assert_eq!(has, [true, false, false, true]);
    let error = InboundServices::from_names(["xmpp_messages"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

proptest! {
    /// Errors and results are never answered, whatever else they say: two bots that answer each
    /// other's bounces would never stop.
    #[test]
    fn bounces_are_never_answered(
        kind in "message|presence|iq",
        type_ in "error|result",
        from in "[a-z]{1,4}@example\\.com(/[a-z]{1,3})?",
        child in "|<body>x</body>|<error type='cancel'/>|<ping xmlns='urn:xmpp:ping'/>|<show>away</show>",
    ) {
        // To a message or presence, 'result' is no type.
        prop_assume!(kind == "iq" || type_ == "error");
        let inbound = receive(&service(), &format!("<{kind} from='{from}' to='{APP}' type='{type_}'>{child}</{kind}>"));
        prop_assert!(inbound.sends.is_empty());
    }

    /// Whatever is answered goes back to who sent it, from who was addressed, and parses.
    #[test]
    fn answers_go_back(
        kind in "message|presence|iq",
        type_ in "get|set|subscribe|unsubscribe|probe|chat|foo|",
        from in "\\PC{1,12}@example\\.com/\\PC{1,6}",
        id in "\\PC{0,8}",
    ) {
        let escape = |text: &str| {
            let mut out = String::new();
            crate::xml::writer::escape_attr(&mut out, text);
            out
        };
        let xml = format!(
            "<{kind} from='{}' to='{APP}/x' type='{type_}' id='{}'><ping xmlns='urn:xmpp:ping'/></{kind}>",
            escape(&from), escape(&id)
        );
        let sent = stanza(&xml);
        let from = sent.from().unwrap().clone();
        for answer in service().handle_stanza(NOON, sent).sends {
            let answer = stanza(std::str::from_utf8(&answer).unwrap());
            let to = answer.to().unwrap();
            prop_assert!(*to == from || to.as_str() == from.bare_key(), "{} for {}", to, from);
            prop_assert!(answer.from().unwrap().as_str().starts_with(APP));
        }
    }
}

#[test]
fn an_app_may_see_its_addresses_as_app_engine_gave_them() {
    let mut config = config();
    config.addresses =
        config.addresses.with_presentation(crate::service::address::Presentation::AppEngine);
    let service = Service::new(config, Box::new(MemoryStore::new())).unwrap();
    let xml =
        "<message from='romeo@example.net/x' to='news@bot.example.com/y'><body>hi</body></message>";
    let delivery = service.handle_stanza(Duration::ZERO, stanza(xml)).delivery.unwrap();
    assert_eq!(delivery.field("from"), Some("romeo@example.net/x"));
    assert_eq!(delivery.field("to"), Some("news@shop.appspotchat.com/y"));
    // The reply goes out from the address that was written to.
    let jids = ["romeo@example.net/x"];
    let from = delivery.field("to");
    let call = MessageCall { jids: &jids, body: "ho", from, type_: "chat", raw_xml: false };
    let reply = service.send_message(&call).unwrap().stanzas.remove(0).to_bytes();
    let reply = String::from_utf8(reply.to_vec()).unwrap();
    assert!(reply.contains("from=\"news@bot.example.com/y\""), "{reply}");
}
