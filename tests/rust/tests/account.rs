//! What goes wrong with other clients' accounts, with a server that provokes it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use appxmpp::ErrorKind;
use appxmpp::net::{App, AppConfig, Connection, ConnectionConfig, Event};
use appxmpp::service::{MessageCall, Status};
use appxmpp_tests::account::{PASSWORD, Server};

const PATIENCE: Duration = Duration::from_secs(20);

/// Opens a connection while `script` plays the server.
fn play<T: Send + 'static>(
    password: &str,
    change: impl FnOnce(&mut ConnectionConfig),
    script: impl FnOnce(Server) -> T + Send + 'static,
) -> (Connection, thread::JoinHandle<T>) {
    let server = Server::start();
    let mut config = server.config(password);
    change(&mut config);
    let script = thread::spawn(move || script(server));
    (Connection::open(config).unwrap(), script)
}

fn unchanged(_: &mut ConnectionConfig) {}

/// The next events that are stanzas, as their bytes.
fn stanzas(connection: &Connection, count: usize) -> Vec<String> {
    let mut found = Vec::new();
    while found.len() < count {
        let events = connection.next_events_blocking(1, PATIENCE).unwrap().expect("an event");
        assert!(
            !events.is_empty(),
            "the connection has ended: {:?}",
            connection.wait_ready(PATIENCE)
        );
        for event in events {
            if let Event::Stanza(stanza) = event {
                found.push(String::from_utf8_lossy(stanza.raw()).into_owned());
            }
        }
    }
    found
}

fn refusal(connection: &Connection) -> (ErrorKind, String) {
    let error = connection.wait_ready(PATIENCE).unwrap_err();
    (error.kind(), error.to_string())
}

#[test]
fn wrong_credentials_are_tried_once() {
    let (connection, script) = play("wrong", unchanged, |server| {
        let mut peer = server.accept();
        assert!(!peer.scram(""));
        peer.rest();
        server
    });
    let (kind, text) = refusal(&connection);
    assert_eq!(kind, ErrorKind::NotAuthorized);
    assert!(text.contains("bot@x.example") && text.contains("not-authorized"), "{text}");
    assert!(!text.contains("wrong"), "the password: {text}");
    assert!(!script.join().unwrap().is_called(), "there is no second attempt");
}

#[test]
fn every_refusal_is_final_that_is_not_temporary() {
    for condition in ["account-disabled", "credentials-expired", "mechanism-too-weak"] {
        let (connection, script) = play(PASSWORD, unchanged, move |server| {
            let mut peer = server.accept();
            peer.scram(condition);
            peer.rest();
        });
        let (kind, text) = refusal(&connection);
        assert_eq!((kind, text.contains(condition)), (ErrorKind::NotAuthorized, true), "{text}");
        script.join().unwrap();
    }
}

#[test]
fn a_temporary_refusal_is_tried_again() {
    let (connection, script) = play(PASSWORD, unchanged, |server| {
        server.accept().scram("temporary-auth-failure");
        let mut peer = server.accept();
        peer.log_in("s1");
        peer
    });
    assert!(connection.wait_ready(PATIENCE).unwrap());
    drop(script.join().unwrap());
}

#[test]
fn the_password_is_never_said_in_the_clear() {
    let (connection, script) = play(
        PASSWORD,
        |config| {
            // However it came about: without TLS there is no PLAIN.
            config.account.as_mut().unwrap().plain = true;
        },
        |server| {
            let mut peer = server.accept();
            let said = peer.offer(&["PLAIN"], "</stream:stream>");
            assert!(!said.contains("<auth"), "{said}");
        },
    );
    let (kind, text) = refusal(&connection);
    assert_eq!((kind, text.contains("PLAIN")), (ErrorKind::Config, true), "{text}");
    script.join().unwrap();
}

#[test]
fn a_server_that_offers_more_binding_than_can_be_done_gets_scram() {
    let (connection, script) = play(PASSWORD, unchanged, |server| {
        let mut peer = server.accept();
        let said = peer.offer(&["SCRAM-SHA-1-PLUS", "PLAIN", "SCRAM-SHA-256"], "</auth>");
        assert!(said.contains("mechanism='SCRAM-SHA-256'"), "{said}");
    });
    script.join().unwrap();
    drop(connection);
}

#[test]
fn success_without_the_server_s_signature_is_not_believed() {
    let (connection, script) = play(PASSWORD, unchanged, |server| {
        let mut peer = server.accept();
        peer.offer(&["SCRAM-SHA-1"], "</auth>");
        peer.say("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
        assert!(peer.rest().contains("<abort"));
    });
    let (kind, text) = refusal(&connection);
    assert_eq!((kind, text.contains("not to be trusted")), (ErrorKind::Config, true), "{text}");
    script.join().unwrap();
}

#[test]
fn a_lost_connection_is_told_and_nobody_hangs() {
    let (connection, script) = play(PASSWORD, unchanged, |server| {
        server.accept().log_in("s1");
        server
    });
    loop {
        let events = connection.next_events_blocking(8, PATIENCE).unwrap().expect("an event");
        if events.iter().any(|event| matches!(event, Event::Disconnected { retry_in: Some(_), .. }))
        {
            break;
        }
    }
    let error = connection.send_blocking("<message to='a@b'/>", PATIENCE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    drop(script.join().unwrap());
}

#[test]
fn odd_stanzas_are_only_stanzas() {
    let odd = [
        "<message from='a@b/🎉' to='bot@x.example/bot' type='foo'><body>x</body></message>"
            .to_owned(),
        "<presence from='a@b/c'><priority>300</priority><show>online</show></presence>".to_owned(),
        format!("<message from='a@b'><x xmlns='u' y='{}'/></message>", "z".repeat(9000)),
        "<message from='a@b'><thread/><thread/>stray</message>".to_owned(),
    ];
    let said = odd.concat();
    let (connection, script) = play(PASSWORD, unchanged, move |server| {
        let mut peer = server.accept();
        peer.log_in("s1");
        peer.say(&said);
        peer.ask_handled()
    });
    assert_eq!(stanzas(&connection, odd.len()), odd);
    assert_eq!(script.join().unwrap(), 4);
}

#[test]
fn a_stanza_that_cannot_be_read_does_not_come_back_with_the_session() {
    let (connection, script) = play(PASSWORD, unchanged, |server| {
        let mut peer = server.accept();
        peer.log_in("s1");
        let deep = "<a>".repeat(16_000) + &"</a>".repeat(16_000);
        peer.say("<message from='a@b'><x:y/></message>");
        peer.say(&format!("<message from='a@b'>{deep}</message>"));
        peer.say("<message from='a@b' id='last'/>");
        assert_eq!(peer.ask_handled(), 3);
        drop(peer);
        let mut peer = server.accept();
        let handled = peer.resume("s1", 2);
        peer.say("<message from='a@b' id='after'/>");
        peer.ask_handled();
        (handled, server.is_called())
    });
    let seen = stanzas(&connection, 2);
    assert!(seen[0].contains("last") && seen[1].contains("after"), "{seen:?}");
    assert_eq!(script.join().unwrap(), (3, false), "all three, and no loop");
    assert_eq!(connection.stats().unwrap().skipped, 2);
}

#[test]
fn what_the_server_had_not_read_goes_out_again_with_the_session() {
    let (connection, script) = play(PASSWORD, unchanged, |server| {
        let mut peer = server.accept();
        peer.log_in("s1");
        peer.hear("id='2'/>");
        drop(peer);
        let mut peer = server.accept();
        // Roster, presence, and the first message.
        peer.resume("s1", 3);
        let again = peer.hear("id='2'/>");
        assert!(!again.contains("id='1'"), "{again}");
        peer.hear("id='3'/>");
        peer
    });
    assert!(connection.wait_ready(PATIENCE).unwrap());
    for id in [1, 2] {
        connection.send_blocking(&format!("<message to='a@b' id='{id}'/>"), PATIENCE).unwrap();
    }
    loop {
        let events = connection.next_events_blocking(8, PATIENCE).unwrap().expect("an event");
        if events.iter().any(|event| matches!(event, Event::Bound { resumed: true, .. })) {
            break;
        }
    }
    assert!(connection.wait_ready(PATIENCE).unwrap());
    connection.send_blocking("<message to='a@b' id='3'/>", PATIENCE).unwrap();
    drop(script.join().unwrap());
}

#[test]
fn a_session_that_is_gone_loses_nothing_of_a_durable_app() {
    let server = Server::start();
    let connection = server.config(PASSWORD);
    let script = thread::spawn(move || {
        let mut peer = server.accept();
        peer.log_in("s1");
        peer.hear("kept</body></message>");
        drop(peer);
        let mut peer = server.accept();
        assert!(peer.scram(""));
        peer.features();
        peer.hear("/>");
        peer.say("<failed xmlns='urn:xmpp:sm:3'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>");
        peer.bind("s2");
        let again = peer.hear("kept</body></message>");
        assert!(again.contains("to='a@b'") && !again.contains("from="), "{again}");
        peer
    });
    let mut config = AppConfig::new("bot", connection).unwrap();
    config.durable = true;
    let app = App::open(config).unwrap();
    assert!(app.wait_ready(PATIENCE).unwrap());
    let call =
        MessageCall { jids: &["a@b"], body: "kept", from: None, type_: "chat", raw_xml: false };
    assert_eq!(app.send_message_blocking(&call, PATIENCE).unwrap(), [Status::NoError]);
    drop(script.join().unwrap());
}

#[test]
fn the_server_keeps_what_the_app_has_not_confirmed() {
    let confirm = |config: &mut ConnectionConfig| config.confirm = true;
    let (connection, script) = play(PASSWORD, confirm, |server| {
        let mut peer = server.accept();
        peer.log_in("s1");
        peer.say("<message from='a@b' id='1'/><message from='a@b' id='2'/>");
        let before = peer.ask_handled();
        peer.say("<message from='a@b' id='3'/>");
        peer.hear("<message to='a@b' id='confirmed'/>");
        (before, peer.ask_handled())
    });
    assert_eq!(stanzas(&connection, 3).len(), 3);
    connection.confirm(1).unwrap();
    connection.send_blocking("<message to='a@b' id='confirmed'/>", PATIENCE).unwrap();
    assert_eq!(script.join().unwrap(), (0, 1));
}

#[test]
fn a_close_waits_for_what_the_app_deals_with_and_leaves_the_rest() {
    let confirm = |config: &mut ConnectionConfig| config.confirm = true;
    let (connection, script) = play(PASSWORD, confirm, |server| {
        let mut peer = server.accept();
        peer.log_in("s1");
        peer.say(
            "<message from='a@b' id='1'/><message from='a@b' id='2'/><message from='a@b' id='3'/>",
        );
        let before = peer.hear("</stream:stream>");
        peer.say("</stream:stream>");
        before
    });
    assert_eq!(stanzas(&connection, 2).len(), 2);
    let closing = thread::spawn({
        let connection = connection.clone();
        move || connection.close_blocking(PATIENCE)
    });
    // Time enough to close, for one that does not wait.
    thread::sleep(Duration::from_millis(100));
    connection.confirm(2).unwrap();
    closing.join().unwrap();
    while let Ok(Some(events)) = connection.next_events_blocking(1, PATIENCE) {
        if events.is_empty() {
            break;
        }
        assert!(!events.iter().any(|event| matches!(event, Event::Stanza(_))), "{events:?}");
    }
    let said = script.join().unwrap();
    let told = said.rfind("<a xmlns='urn:xmpp:sm:3' h=").map(|at| &said[at..]);
    assert!(told.is_some_and(|told| told.contains("h='2'")), "{said}");
}

#[test]
fn a_close_does_not_wait_for_an_app_that_takes_nothing() {
    let confirm = |config: &mut ConnectionConfig| config.confirm = true;
    let (connection, script) = play(PASSWORD, confirm, |server| {
        let mut peer = server.accept();
        peer.log_in("s1");
        peer.say("<message from='a@b' id='1'/>");
        peer.hear("</stream:stream>");
        peer.say("</stream:stream>");
    });
    assert!(connection.wait_ready(PATIENCE).unwrap());
    let since = std::time::Instant::now();
    connection.close_blocking(PATIENCE);
    assert!(since.elapsed() < PATIENCE / 2, "it waited");
    script.join().unwrap();
}

#[test]
fn a_busy_sender_does_not_keep_stanzas_from_arriving() {
    const COUNT: usize = 2000;
    let (connection, script) = play(PASSWORD, unchanged, |server| {
        let mut peer = server.accept();
        peer.log_in("s1");
        let mut socket = peer.second();
        let writer = thread::spawn(move || {
            for id in 0..COUNT {
                write!(socket, "<message from='a@b' id='{id}'/>").unwrap();
            }
        });
        peer.acknowledge_all(2);
        writer.join().unwrap();
    });
    assert!(connection.wait_ready(PATIENCE).unwrap());
    let (sender, over) = (connection.clone(), Arc::new(AtomicBool::new(false)));
    let stop = Arc::clone(&over);
    let busy = thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            let _ = sender.try_send("<message to='a@b'><body>busy</body></message>");
        }
    });
    assert_eq!(stanzas(&connection, COUNT).len(), COUNT);
    over.store(true, Ordering::Relaxed);
    busy.join().unwrap();
    connection.close_blocking(PATIENCE);
    script.join().unwrap();
}

#[test]
fn who_sends_more_than_was_acknowledged_waits() {
    let (connection, script) = play(PASSWORD, unchanged, |server| {
        let mut peer = server.accept();
        peer.log_in("s1");
        peer.acknowledge_all(2);
    });
    assert!(connection.wait_ready(PATIENCE).unwrap());
    for _ in 0..10_000 {
        connection.send_blocking("<message to='a@b'/>", PATIENCE).unwrap();
    }
    connection.close_blocking(PATIENCE);
    script.join().unwrap();
}
