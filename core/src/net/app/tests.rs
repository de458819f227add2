//! Apps on the development server, over real loopback sockets.

use std::time::Duration;

use super::*;
use crate::net::dev::{DevConfig, DevEvent, DevServer, Presence, SubscriptionKind};
use crate::service::{InboundServices, LaneLimits, Show};
use crate::stanza::{Stanza, StanzaKind};

mod durable;
#[cfg(feature = "postgres")]
mod takeover;

const S: Duration = Duration::from_secs(1);
const ROMEO: &str = "romeo@example.net/orchard";
const BOT: &str = "app@app.example";

fn start() -> DevServer {
    let runtime = tokio::runtime::Handle::current();
    let server = DevServer::start_on(&runtime, DevConfig::new("app.example")).unwrap();
    server.add_user(ROMEO, true).unwrap();
    server.add_user("juliet@example.net/balcony", false).unwrap();
    server
}

fn config(server: &DevServer) -> AppConfig {
    let backend = server.backend().unwrap();
    AppConfig::for_backend(&backend, None, None, InboundServices::ALL).unwrap()
}

fn open(config: AppConfig) -> App {
    App::open_on(&tokio::runtime::Handle::current(), config).unwrap()
}

async fn up() -> (DevServer, App) {
    let server = start();
    let app = open(config(&server));
    connected(&server, &app).await;
    (server, app)
}

async fn connected(server: &DevServer, app: &App) {
    app.connection().unwrap().ready().await.unwrap();
    assert!(matches!(next(server).await, DevEvent::Connected));
}

async fn next(server: &DevServer) -> DevEvent {
    let event = tokio::time::timeout(20 * S, server.next_events(1)).await;
    event.expect("no event").unwrap().pop().expect("the server has stopped")
}

/// The next stanza a user gets, and which user.
async fn seen(server: &DevServer) -> (String, Stanza) {
    match next(server).await {
        DevEvent::Stanza { user, stanza } => (user, stanza),
        other => panic!("{other:?}"),
    }
}

/// The next message a user gets.
async fn seen_message(server: &DevServer) -> Stanza {
    loop {
        let (_, stanza) = seen(server).await;
        if stanza.kind() == StanzaKind::Message {
            return stanza;
        }
    }
}

async fn claim(app: &App) -> Claimed {
    let batch = tokio::time::timeout(20 * S, app.next_batch(1)).await;
    batch.expect("no delivery").unwrap().pop().unwrap()
}

fn call<'a>(jids: &'a [&'a str], body: &'a str) -> MessageCall<'a> {
    MessageCall { jids, body, from: None, type_: "chat", raw_xml: false }
}

async fn wait(mut condition: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it did not come true");
}

#[tokio::test]
async fn a_message_arrives_and_is_answered() {
    let (server, app) = up().await;
    server.send_message(ROMEO, "app@app.example/bot", "/hi there & more", "chat").unwrap();
    let mut delivery = claim(&app).await;
    assert_eq!(delivery.path, "/_ah/xmpp/message/chat/");
    assert_eq!(delivery.field("from"), Some(ROMEO));
    assert_eq!(delivery.field("to"), Some("app@app.example/bot"));
    assert_eq!(delivery.field("body"), Some("/hi there & more"));
    let from = delivery.field("to");
    let statuses =
        app.send_message(&MessageCall { from, ..call(&[ROMEO], "hello <romeo>") }).await.unwrap();
    assert_eq!(statuses, [Status::NoError]);
    delivery.done(Outcome::Handled);
    let (user, reply) = seen(&server).await;
    assert_eq!(user, "romeo@example.net");
    assert_eq!(reply.from().unwrap().as_str(), "app@app.example/bot");
    assert_eq!(reply.body().as_deref(), Some("hello <romeo>"));
    let stats = app.stats().unwrap();
    assert_eq!((stats.handled, stats.failed, stats.deliveries), (1, 0, 0));
}

#[tokio::test]
async fn each_recipient_has_its_status() {
    let (server, app) = up().await;
    let jids = [ROMEO, "no@address@x", "juliet@example.net", ROMEO];
    let statuses = app.send_message(&call(&jids, "hi")).await.unwrap();
    use Status::{InvalidJid, NoError};
    assert_eq!(statuses, [NoError, InvalidJid, NoError, NoError]);
    let mut users = Vec::new();
    for _ in 0..3 {
        users.push(seen(&server).await.0);
    }
    assert_eq!(users, ["romeo@example.net", "juliet@example.net", "romeo@example.net"]);
    let error = app.send_message(&call(&jids, "")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoBody);
}

#[tokio::test]
async fn a_large_body_reaches_many() {
    let (server, app) = up().await;
    let jids = [ROMEO; 200];
    let body = "x".repeat(90_000);
    let sending = {
        let app = app.clone();
        let body = body.clone();
        tokio::spawn(async move { app.send_message(&call(&jids, &body)).await })
    };
    for _ in 0..200 {
        assert_eq!(seen(&server).await.1.body().unwrap().len(), body.len());
    }
    assert_eq!(sending.await.unwrap().unwrap(), [Status::NoError; 200]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn without_a_server_the_status_says_so() {
    let server = start();
    let config = config(&server);
    server.stop();
    while !server.next_events(9).await.unwrap().is_empty() {}
    let app = open(config);
    let jids = [ROMEO, "@", ROMEO];
    let expected = [Status::OtherError, Status::InvalidJid, Status::OtherError];
    assert_eq!(app.send_message(&call(&jids, "hi")).await.unwrap(), expected);
    let blocking = tokio::task::spawn_blocking(move || {
        let statuses = app.send_message_blocking(&call(&[ROMEO], "hi"), S).unwrap();
        let invited = app.send_invite_blocking(ROMEO, None, S).unwrap();
        (statuses, invited, app.wait_ready(Duration::from_millis(1)).unwrap())
    });
    let expected = (vec![Status::OtherError], Status::OtherError, false);
    assert_eq!(blocking.await.unwrap(), expected);
}

#[tokio::test]
async fn an_invitation_leads_to_presence() {
    let (server, app) = up().await;
    let available = || app.get_presence(&[ROMEO], Some(BOT)).unwrap()[0];
    assert!(!available().available && available().valid);
    assert_eq!(app.send_invite(ROMEO, Some(BOT)).await.unwrap(), Status::NoError);
    wait(|| available().available).await;
    assert_eq!(available().show, Some(Show::Normal));
    server.set_presence(ROMEO, Presence::available("dnd")).unwrap();
    wait(|| available().show == Some(Show::DoNotDisturb)).await;
    server.set_presence(ROMEO, Presence::default()).unwrap();
    wait(|| !available().available).await;
    // How often the contact is asked, and tells, depends on when the stream came up.
    let mut paths = Vec::new();
    while paths.last() != Some(&"/_ah/xmpp/presence/unavailable/") {
        paths.push(claim(&app).await.path);
    }
    let count = |path| paths.iter().filter(|p| **p == path).count();
    assert!(count("/_ah/xmpp/subscription/subscribed/") >= 1, "{paths:?}");
    assert!(count("/_ah/xmpp/presence/available/") >= 2, "{paths:?}");
}

#[tokio::test]
async fn a_request_for_subscription_is_accepted_and_returned() {
    let (server, app) = up().await;
    server.subscription("juliet@example.net", BOT, SubscriptionKind::Subscribe).unwrap();
    let mut delivery = claim(&app).await;
    assert_eq!(delivery.path, "/_ah/xmpp/subscription/subscribe/");
    delivery.done(Outcome::Handled);
    let mut types = Vec::new();
    for _ in 0..3 {
        types.push(seen(&server).await.1.type_().map(str::to_owned));
    }
    types.sort();
    assert_eq!(types, [None, Some("subscribe".into()), Some("subscribed".into())]);
    server.subscription("juliet@example.net", BOT, SubscriptionKind::Subscribed).unwrap();
    wait(|| app.get_presence(&["juliet@example.net"], Some(BOT)).unwrap()[0].available).await;
}

#[tokio::test]
async fn a_server_that_comes_back_is_told_and_asked_again() {
    let (server, app) = up().await;
    let port = server.port().unwrap();
    app.send_invite(ROMEO, Some(BOT)).await.unwrap();
    wait(|| app.get_presence(&[ROMEO], Some(BOT)).unwrap()[0].available).await;
    server.subscription(ROMEO, BOT, SubscriptionKind::Subscribe).unwrap();
    while claim(&app).await.path != "/_ah/xmpp/subscription/subscribe/" {}
    let backend = server.backend().unwrap();
    let crate::net::Backend::Component { secret, .. } = backend else { panic!() };
    server.stop();
    while !server.next_events(99).await.unwrap().is_empty() {}

    let config = DevConfig { port, secret: secret.unwrap(), ..DevConfig::new("app.example") };
    let server = DevServer::start_on(&tokio::runtime::Handle::current(), config).unwrap();
    server.add_user(ROMEO, true).unwrap();
    server.set_presence(ROMEO, Presence::available("xa")).unwrap();
    connected(&server, &app).await;
    let mut types = Vec::new();
    for _ in 0..2 {
        let (user, stanza) = seen(&server).await;
        assert_eq!(user, "romeo@example.net");
        types.push(stanza.type_().map(str::to_owned));
    }
    types.sort();
    assert_eq!(types, [None, Some("probe".into())]);
}

#[tokio::test]
async fn iqs_are_answered_without_the_app() {
    let (server, _app) = up().await;
    server
        .send_raw(
            ROMEO,
            "<iq type='get' id='1' to='app@app.example'><ping xmlns='urn:xmpp:ping'/></iq>",
        )
        .unwrap();
    server
        .send_raw(ROMEO, "<iq type='set' id='2' to='app.example'><x xmlns='urn:x'/></iq>")
        .unwrap();
    for (id, type_) in [("1", "result"), ("2", "error")] {
        let (_, answer) = seen(&server).await;
        assert_eq!((answer.id(), answer.type_()), (Some(id), Some(type_)));
    }
}

#[tokio::test]
async fn a_sender_s_messages_come_one_after_the_other() {
    let (server, app) = up().await;
    for n in 0..3 {
        server.send_message(ROMEO, BOT, &n.to_string(), "chat").unwrap();
    }
    server.send_message("juliet@example.net", BOT, "j", "chat").unwrap();
    let mut first = claim(&app).await;
    assert_eq!(first.field("body"), Some("0"));
    let other = claim(&app).await;
    assert_eq!(other.field("body"), Some("j"));
    wait(|| app.stats().unwrap().deliveries == 4).await;
    let nothing = tokio::time::timeout(S / 50, app.next_batch(9)).await;
    assert!(nothing.is_err(), "romeo's next waits");
    first.done(Outcome::Handled);
    assert_eq!(claim(&app).await.field("body"), Some("1"), "and is dropped without being done");
    assert_eq!(claim(&app).await.field("body"), Some("2"));
    drop(other);
    assert_eq!(app.stats().unwrap().failed, 3);
}

#[tokio::test]
async fn answers_are_under_way_when_nothing_waits_to_be_taken() {
    const SENDERS: usize = 40;
    let (server, app) = up().await;
    for n in 0..SENDERS {
        let user = format!("u{n}@example.net/r");
        server.add_user(&user, true).unwrap();
        server.send_message(&user, BOT, &n.to_string(), "chat").unwrap();
    }
    wait(|| app.stats().unwrap().deliveries == SENDERS).await;
    for n in 0..SENDERS {
        let mut delivery = claim(&app).await;
        let to = delivery.field("from").unwrap();
        // The last one has no answer that could take those before it along.
        if n + 1 < SENDERS {
            app.send_message(&call(&[to], delivery.field("body").unwrap())).await.unwrap();
        }
        delivery.done(Outcome::Handled);
    }
    let waiting = app.next_batch(1);
    tokio::pin!(waiting);
    let mut context = Context::from_waker(Waker::noop());
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    assert!(!app.connection().unwrap().is_holding());
    for n in 0..SENDERS - 1 {
        assert_eq!(seen_message(&server).await.body().as_deref(), Some(&*n.to_string()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn several_threads_take_everything_once() {
    const MESSAGES: usize = 2000;
    let (server, app) = up().await;
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let app = app.clone();
            std::thread::spawn(move || {
                let mut bodies = Vec::new();
                loop {
                    match app.next_batch_blocking(8, 20 * S) {
                        Ok(batch) => {
                            for mut delivery in batch {
                                bodies.push(delivery.field("body").unwrap().to_owned());
                                delivery.done(Outcome::Handled);
                            }
                        }
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::Closed);
                            return bodies;
                        }
                    }
                }
            })
        })
        .collect();
    for n in 0..40 {
        server.add_user(&format!("u{n}@example.net"), true).unwrap();
    }
    for n in 0..MESSAGES {
        let user = format!("u{}@example.net", n % 40);
        server.send_message(&user, BOT, &n.to_string(), "chat").unwrap();
    }
    wait(|| app.stats().unwrap().handled == MESSAGES as u64).await;
    app.close(20 * S).await;
    let mut bodies: Vec<usize> = workers
        .into_iter()
        .flat_map(|worker| worker.join().unwrap())
        .map(|body| body.parse().unwrap())
        .collect();
    bodies.sort_unstable();
    assert_eq!(bodies, (0..MESSAGES).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_sender_who_overdoes_it_is_told_and_others_are_not_held_up() {
    let server = start();
    let lanes = LaneLimits { per_sender: 2, ..LaneLimits::default() };
    let app = open(AppConfig { lanes, ..config(&server) });
    connected(&server, &app).await;
    for n in 0..4 {
        server.send_message(ROMEO, BOT, &n.to_string(), "chat").unwrap();
    }
    server.send_message("juliet@example.net", BOT, "j", "chat").unwrap();
    for _ in 0..2 {
        let (user, bounce) = seen(&server).await;
        assert_eq!((&*user, bounce.type_()), ("romeo@example.net", Some("error")));
    }
    wait(|| app.stats().unwrap().deliveries == 3).await;
    assert_eq!(app.stats().unwrap().refused, 2);
}

#[tokio::test]
async fn a_full_app_makes_the_server_wait_and_then_tells_the_sender() {
    let server = start();
    let lanes = LaneLimits { deliveries: 1, ..LaneLimits::default() };
    let app = open(AppConfig { lanes, ..config(&server) });
    connected(&server, &app).await;
    server.send_message(ROMEO, BOT, "0", "chat").unwrap();
    server.send_message("juliet@example.net", BOT, "1", "chat").unwrap();
    let first = claim(&app).await;
    assert_eq!(first.field("body"), Some("0"));
    drop(first);
    assert_eq!(claim(&app).await.field("body"), Some("1"), "it waited for room");

    let app2 = AppConfig { lanes, room_timeout: S / 50, ..config(&server) };
    app.close(S).await;
    assert!(matches!(next(&server).await, DevEvent::Disconnected));
    let app = open(app2);
    connected(&server, &app).await;
    server.send_message(ROMEO, BOT, "0", "chat").unwrap();
    server.send_message("juliet@example.net", BOT, "1", "chat").unwrap();
    let (user, bounce) = seen(&server).await;
    assert_eq!((&*user, bounce.type_()), ("juliet@example.net", Some("error")));
    let error = bounce.error().unwrap();
    assert_eq!(error.condition.as_str(), "resource-constraint");
}

#[tokio::test]
async fn closing_finishes_what_is_under_way_and_says_goodbye() {
    let (server, app) = up().await;
    server.subscription(ROMEO, BOT, SubscriptionKind::Subscribe).unwrap();
    while claim(&app).await.path != "/_ah/xmpp/presence/available/" {}
    server.send_message(ROMEO, BOT, "last", "chat").unwrap();
    let mut last = claim(&app).await;
    while last.field("body") != Some("last") {
        last.done(Outcome::Handled);
        last = claim(&app).await;
    }
    let closing = {
        let app = app.clone();
        tokio::spawn(async move { app.close(20 * S).await })
    };
    wait(|| app.inner().unwrap().queue().over).await;
    server.send_message(ROMEO, BOT, "too late", "chat").unwrap();
    let bounce = seen_message(&server).await;
    assert_eq!(bounce.type_(), Some("error"));
    assert_eq!(bounce.error().unwrap().condition.as_str(), "recipient-unavailable");
    assert_eq!(app.send_message(&call(&[ROMEO], "bye")).await.unwrap(), [Status::NoError]);
    assert_eq!(seen(&server).await.1.body().as_deref(), Some("bye"));
    last.done(Outcome::Handled);
    // Presence may have come behind it.
    while let Ok(batch) = app.next_batch(9).await {
        drop(batch);
    }
    closing.await.unwrap();
    let (_, farewell) = seen(&server).await;
    assert_eq!(farewell.type_(), Some("unavailable"));
    assert!(matches!(next(&server).await, DevEvent::Disconnected));
    assert_eq!(app.next_batch(1).await.unwrap_err().kind(), ErrorKind::Closed);
    let after = app.send_message(&call(&[ROMEO], "after")).await.unwrap();
    assert_eq!(after, [Status::OtherError]);
}

#[tokio::test]
async fn the_last_handle_closes_the_app() {
    let (server, app) = up().await;
    let other = app.clone();
    drop(app);
    assert_eq!(other.send_message(&call(&[ROMEO], "hi")).await.unwrap(), [Status::NoError]);
    drop(other);
    assert_eq!(seen(&server).await.1.body().as_deref(), Some("hi"));
    assert!(matches!(next(&server).await, DevEvent::Disconnected));
}

#[tokio::test]
async fn a_second_app_of_the_same_domain_waits_its_turn() {
    let (server, app) = up().await;
    let second = open(config(&server));
    let events = second.connection().unwrap();
    wait(|| events.stats().unwrap().disconnects > 0).await;
    assert!(app.connection().unwrap().is_ready() && !events.is_ready());
    app.close(S).await;
    assert!(matches!(next(&server).await, DevEvent::Disconnected));
    connected(&server, &second).await;
}

#[tokio::test]
async fn what_nobody_took_before_the_end_is_sent_back() {
    let (server, app) = up().await;
    server.send_message(ROMEO, BOT, "0", "chat").unwrap();
    server.send_message(ROMEO, BOT, "1", "chat").unwrap();
    let handled = claim(&app).await;
    wait(|| app.stats().unwrap().deliveries == 2).await;
    app.close(S / 10).await;
    let bounce = seen_message(&server).await;
    assert_eq!(bounce.error().unwrap().condition.as_str(), "recipient-unavailable");
    assert_eq!(app.stats().unwrap().deliveries, 1, "the one that is being handled");
    drop(handled);
    assert!(matches!(next(&server).await, DevEvent::Disconnected));
}
