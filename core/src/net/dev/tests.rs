use std::time::Duration;

use super::world::World;
use super::*;
use crate::ns;
use crate::xml::{Limits, Scope};

const BOT: &str = "bot@app.example";
const ROMEO: &str = "romeo@example.net";

fn world() -> World {
    let mut world = World::new("app.example".into());
    world.add_user("romeo@example.net/orchard", false).unwrap();
    world.add_user("nurse@example.net", true).unwrap();
    world
}

fn stanza(xml: &str) -> Stanza {
    let scope = Scope::stream(ns::COMPONENT);
    Stanza::parse(xml.to_owned().into(), &scope, &Limits::default()).unwrap()
}

/// What comes back to the component, as (type, from), and who sees the stanza.
fn route(world: &mut World, xml: &str) -> (Vec<(String, String)>, Option<String>) {
    let routed = world.route(&stanza(xml));
    let told = |xml: &String| {
        let back = stanza(xml);
        (back.type_().unwrap_or("available").to_owned(), back.from().unwrap().to_string())
    };
    (routed.back.iter().map(told).collect(), routed.user)
}

fn presence(type_: &str, to: &str) -> String {
    format!("<presence type='{type_}' from='{BOT}' to='{to}'/>")
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn messages_reach_users_and_bounce_from_nobody() {
    let mut world = world();
    let to = |to: &str| format!("<message from='{BOT}' to='{to}' id='1'><body>x</body></message>");
    assert_eq!(route(&mut world, &to("Romeo@example.net/any")), (vec![], Some(ROMEO.into())));
    for (address, condition) in [
        ("paris@example.net", "service-unavailable"),
        ("a@elsewhere.example", "remote-server-not-found"),
    ] {
        let routed = world.route(&stanza(&to(address)));
        let bounce = stanza(&routed.back[0]);
        assert_eq!(bounce.error().unwrap().condition.as_str(), condition);
        assert_eq!((bounce.id(), routed.user), (Some("1"), None));
    }
    let own = to("other@app.example");
    assert_eq!(world.route(&stanza(&own)).back, [own], "the component's own come back to it");
}

#[test]
fn servers_answer_and_users_do_not() {
    let mut world = world();
    let iq = |to: &str, payload: &str| {
        format!("<iq type='get' id='1' from='{BOT}' to='{to}'>{payload}</iq>")
    };
    let ping = "<ping xmlns='urn:xmpp:ping'/>";
    let disco = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
    let version = "<query xmlns='jabber:iq:version'/>";
    for (to, payload, type_) in [
        ("example.net", ping, "result"),
        ("example.net", disco, "result"),
        ("example.net", version, "error"),
        (ROMEO, ping, "error"),
        ("nowhere.example", ping, "error"),
    ] {
        let (back, user) = route(&mut world, &iq(to, payload));
        assert_eq!((back, user), (pairs(&[(type_, to)]), None), "{to} {payload}");
    }
}

#[test]
fn a_user_who_accepts_answers_at_once_and_another_is_asked() {
    let mut world = world();
    let nurse = "nurse@example.net";
    let (back, user) = route(&mut world, &presence("subscribe", nurse));
    let expected = [("subscribed", nurse), ("available", "nurse@example.net/dev")];
    assert_eq!((back, user), (pairs(&expected), Some(nurse.into())));
    let (back, user) = route(&mut world, &presence("subscribe", ROMEO));
    assert_eq!((back, user), (vec![], Some(ROMEO.into())));
    let told = world.subscription(ROMEO, BOT, SubscriptionKind::Subscribed).unwrap();
    assert_eq!(told.len(), 2, "accepted, and the presence with it: {told:?}");
    let told = world.set_presence(ROMEO, Presence::available("away")).unwrap();
    assert!(told.len() == 1 && told[0].contains("<show>away</show>"), "{told:?}");
    let told = world.subscription(ROMEO, BOT, SubscriptionKind::Unsubscribed).unwrap();
    assert!(told[1].contains("unavailable"), "{told:?}");
    assert!(world.set_presence(ROMEO, Presence::default()).unwrap().is_empty());
}

#[test]
fn probes_are_answered_for_subscribers_only() {
    let mut world = world();
    let (back, _) = route(&mut world, &presence("probe", ROMEO));
    assert_eq!(back, pairs(&[("unsubscribed", ROMEO)]));
    world.subscription(ROMEO, BOT, SubscriptionKind::Subscribed).unwrap();
    let (back, _) = route(&mut world, &presence("probe", ROMEO));
    assert_eq!(back, pairs(&[("available", "romeo@example.net/orchard")]));
    world.set_presence(ROMEO, Presence::default()).unwrap();
    let (back, _) = route(&mut world, &presence("probe", ROMEO));
    assert_eq!(back, pairs(&[("unavailable", "romeo@example.net/orchard")]));
    let (back, _) = route(&mut world, &presence("probe", "paris@example.net"));
    assert_eq!(back, pairs(&[("unsubscribed", "paris@example.net")]));
}

#[test]
fn who_comes_back_asks_for_the_presence_subscribed_to() {
    let mut world = world();
    world.subscription(ROMEO, BOT, SubscriptionKind::Subscribe).unwrap();
    world.set_presence(ROMEO, Presence::default()).unwrap();
    assert!(world.set_presence(ROMEO, Presence::available("")).unwrap().is_empty(), "only asked");
    route(&mut world, &presence("subscribed", ROMEO));
    world.set_presence(ROMEO, Presence::default()).unwrap();
    let told = world.set_presence(ROMEO, Presence::available("")).unwrap();
    assert!(told.len() == 1 && told[0].contains("probe"), "{told:?}");
    route(&mut world, &presence("unsubscribed", ROMEO));
    world.set_presence(ROMEO, Presence::default()).unwrap();
    assert!(world.set_presence(ROMEO, Presence::available("")).unwrap().is_empty());
}

#[test]
fn a_user_writes_in_the_user_s_own_name() {
    let mut world = world();
    let raw = |world: &mut World, xml: &str| world.raw(ROMEO, xml).map(|out| stanza(&out[0]));
    let forged =
        raw(&mut world, "<message from='x@y' to='bot@app.example'><a xmlns='urn:x'/></message>");
    assert_eq!(forged.unwrap().from().unwrap().as_str(), "romeo@example.net/orchard");
    let asks = raw(&mut world, "<presence type='subscribe' to='bot@app.example'/>").unwrap();
    assert_eq!(asks.from().unwrap().as_str(), ROMEO);
    for bad in ["<message>", "</stream:stream>", "<message xmlns='urn:x'/>"] {
        assert_eq!(raw(&mut world, bad).unwrap_err().kind(), ErrorKind::InvalidXml, "{bad}");
    }
}

#[test]
fn what_cannot_be_is_said() {
    let mut world = world();
    for user in ["example.net", "x@app.example", "@"] {
        assert_eq!(world.add_user(user, true).unwrap_err().kind(), ErrorKind::InvalidJid);
    }
    for (user, to) in [("paris@example.net", BOT), (ROMEO, "a@example.net"), (ROMEO, "@")] {
        let error = world.message(user, to, "x", "chat").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidJid, "{user} {to}");
    }
    let error = world.message(ROMEO, BOT, "\u{1}", "chat").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidXml);
}

#[tokio::test]
async fn without_a_component_there_is_nobody_to_talk_to() {
    let runtime = tokio::runtime::Handle::current();
    let server = DevServer::start_on(&runtime, DevConfig::new("app.example")).unwrap();
    server.add_user(ROMEO, true).unwrap();
    let error = server.send_message(ROMEO, BOT, "x", "chat").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    server.set_presence(ROMEO, Presence::default()).unwrap();
    let taken = DevConfig { port: server.port().unwrap(), ..DevConfig::new("app.example") };
    let error = DevServer::start_on(&runtime, taken).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains(&server.port().unwrap().to_string()), "{error}");
    server.stop();
    let end = tokio::time::timeout(Duration::from_secs(20), server.next_events(1)).await;
    assert!(end.unwrap().unwrap().is_empty());
}
