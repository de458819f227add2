//! A process after one that was killed, on the database that APPXMPP_TEST_POSTGRES names.

use std::time::{SystemTime, UNIX_EPOCH};

use super::*;
use crate::net::peer::{DOMAIN, Peer, Server};
use crate::store::{Change, InboxRow, OutboxRow, postgres_tests};

const TO: &str = "romeo@example.net";

fn message(body: &str) -> String {
    format!("<message from='{ROMEO}' to='app@{DOMAIN}' type='chat'><body>{body}</body></message>")
}

fn sent(first: u64, bodies: &[&str]) -> OutboxRow {
    let head = |body: &&str| {
        format!("<message from='app@{DOMAIN}' to='{TO}'><body>{body}</body></message>").into()
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let heads = bodies.iter().map(head).collect();
    OutboxRow { first, expires: now + 3600 * S, heads, tail: bytes::Bytes::new() }
}

async fn bodies(peer: &mut Peer, count: usize) -> Vec<String> {
    let mut all = Vec::new();
    while all.len() < count {
        let stanza = tokio::time::timeout(20 * S, peer.stanza()).await.expect("nothing came");
        if stanza.kind() == StanzaKind::Message {
            all.push(stanza.body().unwrap().into_owned());
        }
    }
    all
}

#[tokio::test]
async fn what_a_killed_process_left_goes_before_all_that_is_new() {
    let Some(place) = postgres_tests::place() else { return };
    let server = Server::start().await;
    let store = postgres_tests::open(&place);
    // The second one had taken nothing over yet when it was killed too.
    for (number, ids, old) in [(1, [77, 78], ["1", "2"]), (2, [87, 88], ["3", "4"])] {
        postgres_tests::kill_one(&store, DOMAIN, |queue| {
            let delivery = |(id, body): (u64, &str)| {
                let path = "/_ah/xmpp/message/chat/".into();
                let row = InboxRow {
                    id,
                    path,
                    stanza: message(body).into(),
                    lane: 0,
                    came: Duration::ZERO,
                };
                Change::InboxPut(queue.clone(), row)
            };
            let mut rows: Vec<_> = ids.into_iter().zip(old).map(delivery).collect();
            rows.push(Change::OutboxPut(queue.clone(), sent(number, &old)));
            rows
        });
    }
    let mut config = AppConfig::new("app", server.config()).unwrap();
    config.service.inbound = InboundServices::ALL;
    config.store = Box::new(postgres_tests::open(&place));
    config.durable = true;
    let app = open(config);
    assert!(app.connection().unwrap().is_taking_over());
    assert!(app.connection().unwrap().stats().unwrap().taking_over);
    let call = call(&[TO], "too soon");
    assert_eq!(app.send_message(&call).await.unwrap(), [Status::OtherError]);

    let mut peer = server.accept_ready().await;
    assert_eq!(
        app.service().unwrap().fellows().unwrap(),
        [],
        "it came before they were taken over from"
    );
    peer.send(&message("5")).await;
    app.connection().unwrap().ready().await.unwrap();
    assert!(!app.connection().unwrap().is_taking_over());
    assert_eq!(app.send_message(&super::call(&[TO], "5")).await.unwrap(), [Status::NoError]);
    assert_eq!(bodies(&mut peer, 5).await, ["1", "2", "3", "4", "5"]);
    for body in ["1", "2", "3", "4", "5"] {
        let mut claimed = claim(&app).await;
        assert_eq!(claimed.stanza.body().unwrap(), body);
        claimed.done(Outcome::Handled);
    }
}

#[tokio::test]
async fn what_is_new_waits_for_what_a_process_left_that_was_killed_meanwhile() {
    let Some(place) = postgres_tests::place() else { return };
    let server = Server::start().await;
    let store = postgres_tests::open(&place);
    let mut config = AppConfig::new("app", server.config()).unwrap();
    config.service.inbound = InboundServices::ALL;
    config.store = Box::new(postgres_tests::open(&place));
    config.durable = true;
    let app = open(config);
    let mut peer = server.accept_ready().await;
    app.connection().unwrap().ready().await.unwrap();
    let service = app.service().unwrap();
    postgres_tests::kill_one(&store, DOMAIN, |queue| {
        let put = |body: &str| {
            let scope = crate::xml::Scope::stream(crate::ns::COMPONENT);
            let limits = crate::xml::Limits::default();
            let stanza = Stanza::parse(message(body).into(), &scope, &limits).unwrap();
            let delivery = service.handle_stanza(Duration::ZERO, stanza).delivery.unwrap();
            let Change::InboxPut(_, row) = service.keep_delivery(&delivery) else {
                panic!("a delivery is put into the inbox")
            };
            Change::InboxPut(queue.clone(), row)
        };
        vec![put("1"), put("2"), Change::OutboxPut(queue.clone(), sent(1, &["1", "2"]))]
    });
    peer.send(&message("3")).await;
    assert_eq!(app.send_message(&call(&[TO], "3")).await.unwrap(), [Status::NoError]);
    assert_eq!(bodies(&mut peer, 3).await, ["1", "2", "3"]);
    for body in ["1", "2", "3"] {
        let mut claimed = claim(&app).await;
        assert_eq!(claimed.stanza.body().unwrap(), body);
        claimed.done(Outcome::Handled);
    }
}
