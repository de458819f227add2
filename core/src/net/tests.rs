//! Connections to a server in the same process, over real loopback sockets.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::spawn_blocking;

use super::peer::{Peer, Server};
use super::*;
use crate::error::ErrorKind;
use crate::ns;
use crate::stream::{Barrier, Closed};
use crate::xml::Element;

mod reconnecting;
mod timing;

const S: Duration = Duration::from_secs(1);
const MESSAGE: &str = "<message from='x@bot.example' to='a@b'><body>hi</body></message>";

fn open(config: ConnectionConfig) -> Connection {
    Connection::open_on(&tokio::runtime::Handle::current(), config)
}

async fn connected(server: &Server) -> (Connection, Peer) {
    connected_with(server, server.config()).await
}

async fn connected_with(server: &Server, config: ConnectionConfig) -> (Connection, Peer) {
    let connection = open(config);
    let peer = server.accept_ready().await;
    connection.ready().await.unwrap();
    assert!(matches!(connection.next_events(1).await.unwrap()[..], [Event::Ready]));
    (connection, peer)
}

async fn next(connection: &Connection) -> Event {
    connection.next_events(1).await.unwrap().pop().expect("the connection has ended")
}

/// The reason of the next disconnection.
async fn lost(connection: &Connection) -> (String, Option<Duration>) {
    loop {
        if let Event::Disconnected { reason, retry_in, .. } = next(connection).await {
            return (reason, retry_in);
        }
    }
}

/// What the next disconnection is counted as.
async fn cause(connection: &Connection) -> &'static str {
    loop {
        if let Event::Disconnected { cause, .. } = next(connection).await {
            return cause.word();
        }
    }
}

fn ping(to: &str) -> Element {
    let ping = Element::new("ping", ns::PING);
    Element::new("iq", ns::COMPONENT).with_attr("type", "get").with_attr("to", to).with_child(ping)
}

#[tokio::test]
async fn stanzas_go_both_ways() {
    let server = Server::start().await;
    let (connection, mut peer) = connected(&server).await;
    connection.send(MESSAGE).await.unwrap();
    assert_eq!(peer.stanza().await.raw(), MESSAGE);
    peer.send("<message from='a@b/c' to='x@bot.example'><body>ho</body></message>").await;
    match next(&connection).await {
        Event::Stanza(stanza) => assert_eq!(stanza.body().as_deref(), Some("ho")),
        other => panic!("{other:?}"),
    }
    let stats = connection.stats().unwrap();
    assert_eq!((stats.stanzas_in, stats.stanzas_out, stats.connects), (1, 1, 1));
    assert!(stats.ready && stats.bytes_out == MESSAGE.len() as u64);
}

#[tokio::test]
async fn a_unix_socket_does_as_well() {
    let folder = std::env::temp_dir().join(format!("appxmpp-{}-unix", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("s.sock");
    let _ = std::fs::remove_file(&path);
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let config =
        ConnectionConfig::new("bot.example", Secret::new("s"), Endpoint::Unix(path)).unwrap();
    let connection = open(config);
    let (socket, _) = listener.accept().await.unwrap();
    drop(socket);
    let (reason, retry) = lost(&connection).await;
    assert!(reason.contains("lost"), "{reason}");
    assert!(retry.is_some());
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn a_batch_is_written_in_order_and_all_of_it() {
    let server = Server::start().await;
    let (connection, mut peer) = connected(&server).await;
    let mut batch = connection.batch(MESSAGE).unwrap();
    let body = "x".repeat(2000);
    for n in 1..1500 {
        let xml = format!("<message from='bot.example' id='{n}'><body>{body}</body></message>");
        batch.push(xml.as_bytes(), ns::COMPONENT, &crate::xml::Limits::default()).unwrap();
    }
    let reader = tokio::spawn(async move {
        peer.stanza().await;
        for n in 1..1500 {
            assert_eq!(peer.stanza().await.id(), Some(&*n.to_string()));
        }
    });
    let sent = connection.send_many(batch).await;
    assert!(sent.error.is_none());
    assert_eq!(sent.written, 1500);
    reader.await.unwrap();
}

#[tokio::test]
async fn what_would_close_the_stream_is_refused() {
    let server = Server::start().await;
    let (connection, mut peer) = connected(&server).await;
    for (xml, kind) in [
        ("<message from='a@b'/>", ErrorKind::InvalidSender),
        ("<message/>", ErrorKind::InvalidSender),
        ("<message from='bot.example'>", ErrorKind::InvalidXml),
        ("<message from='bot.example'></stream:stream>", ErrorKind::InvalidXml),
        ("<presence from='bot.example'/><presence from='bot.example'/>", ErrorKind::InvalidXml),
    ] {
        assert_eq!(connection.send(xml).await.unwrap_err().kind(), kind, "{xml}");
        assert_eq!(connection.try_send(xml).unwrap_err().kind(), kind, "{xml}");
    }
    connection.send(MESSAGE).await.unwrap();
    assert_eq!(peer.stanza().await.raw(), MESSAGE);
}

#[tokio::test]
async fn what_was_checked_before_keeps_to_the_bounds_of_a_stanza() {
    let server = Server::start().await;
    let connection = open(server.config());
    let deep = |depth: usize| {
        let (start, end) = ("<a>".repeat(depth - 1), "</a>".repeat(depth - 1));
        format!("<message from='bot.example'>{start}{end}</message>")
    };
    let limits = crate::xml::Limits::default();
    let checked =
        |xml: &str, depth| connection.batch_checked(xml.to_owned(), depth).map(|it| it.byte_len());
    let xml = deep(limits.depth);
    assert_eq!(checked(&xml, limits.depth).unwrap(), xml.len());
    let too_deep = deep(limits.depth + 1);
    let too_long = format!("<message><body>{}</body></message>", "x".repeat(limits.stanza_bytes));
    for (xml, depth) in [(too_deep, limits.depth + 1), (too_long, 2)] {
        let (checked, read) = (checked(&xml, depth), connection.batch(&xml));
        let error = checked.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert_eq!(error.to_string(), read.unwrap_err().to_string());
    }
}

#[tokio::test]
async fn without_a_stream_nothing_is_sent_and_it_is_said() {
    let server = Server::start().await;
    let connection = open(server.config());
    let error = connection.send(MESSAGE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    assert!(error.to_string().contains("127.0.0.1"), "{error}");
    assert!(!connection.is_ready());
}

#[tokio::test]
async fn a_slow_reader_s_bytes_wait_within_bounds() {
    let server = Server::start().await;
    let mut config = server.config();
    config.outbound = Bounds { stanzas: 10, bytes: 1 << 20 };
    let (connection, mut peer) = connected_with(&server, config).await;
    let big = format!("<message from='bot.example'><body>{}</body></message>", "x".repeat(300_000));
    // The kernel's buffers fill first.
    let mut taken = 0;
    let error = loop {
        match connection.try_send(&big) {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Backpressure);
    assert!(connection.stats().unwrap().outbound_queue <= 10);
    let waiting = {
        let connection = connection.clone();
        tokio::spawn(async move { connection.send(MESSAGE).await })
    };
    for _ in 0..taken {
        assert_eq!(peer.stanza().await.raw().len(), big.len());
    }
    waiting.await.unwrap().unwrap();
    assert_eq!(peer.stanza().await.raw(), MESSAGE);
    assert_eq!(connection.stats().unwrap().outbound_queue, 0);
}

#[tokio::test]
async fn a_batch_that_is_cut_off_says_how_much_went_out() {
    let server = Server::start().await;
    let (connection, peer) = connected(&server).await;
    let mut batch = connection.batch(MESSAGE).unwrap();
    let xml = format!("<message from='bot.example'><body>{}</body></message>", "x".repeat(100_000));
    for _ in 0..150 {
        batch.push(xml.as_bytes(), ns::COMPONENT, &crate::xml::Limits::default()).unwrap();
    }
    let sending = {
        let connection = connection.clone();
        tokio::spawn(async move { connection.send_many(batch).await })
    };
    while connection.stats().unwrap().outbound_queue == 0 {
        tokio::task::yield_now().await;
    }
    drop(peer);
    let sent = sending.await.unwrap();
    assert!(sent.written >= 1 && sent.written < 151, "{sent:?}");
    assert_eq!(sent.error.unwrap().kind(), ErrorKind::NotConnected);
}

#[tokio::test]
async fn an_application_that_takes_nothing_is_not_read_for() {
    let server = Server::start().await;
    let mut config = server.config();
    config.inbound = Bounds { stanzas: 4, bytes: 1 << 20 };
    let (connection, mut peer) = connected_with(&server, config).await;
    let writer = tokio::spawn(async move {
        let body = "x".repeat(10_000);
        for n in 0..2000 {
            peer.send(&format!("<message from='a@b' id='{n}'><body>{body}</body></message>")).await;
        }
        peer
    });
    while connection.stats().unwrap().inbound_queue < 4 {
        tokio::task::yield_now().await;
    }
    for n in 0..2000 {
        assert!(connection.stats().unwrap().inbound_queue <= 4);
        match next(&connection).await {
            Event::Stanza(stanza) => assert_eq!(stanza.id(), Some(&*n.to_string())),
            other => panic!("{other:?}"),
        }
    }
    writer.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_application_that_takes_nothing_is_logged_in_again() {
    let server = Server::start().await;
    let mut config = server.config();
    config.inbound = Bounds { stanzas: 4, bytes: 1 << 20 };
    let (connection, mut peer) = connected_with(&server, config).await;
    for n in 0..3 {
        peer.send(&format!("<message from='a@b' id='{n}'/>")).await;
    }
    while connection.stats().unwrap().inbound_queue < 3 {
        tokio::task::yield_now().await;
    }
    drop(peer);
    // That the stream is lost takes the last place.
    let mut peer = server.accept_ready().await;
    assert_eq!(connection.stats().unwrap().inbound_queue, 4);
    connection.ready().await.unwrap();
    connection.send(MESSAGE).await.unwrap();
    assert_eq!(peer.stanza().await.raw(), MESSAGE);
    peer.send("<message from='a@b' id='3'/>").await;
    for n in 0..3 {
        assert!(
            matches!(next(&connection).await, Event::Stanza(it) if it.id() == Some(&*n.to_string()))
        );
    }
    assert!(matches!(next(&connection).await, Event::Disconnected { .. }));
    assert!(matches!(next(&connection).await, Event::Ready));
    assert!(matches!(next(&connection).await, Event::Stanza(it) if it.id() == Some("3")));
}

#[tokio::test]
async fn a_request_gets_the_answer_of_whom_it_asked() {
    let server = Server::start().await;
    let (connection, mut peer) = connected(&server).await;
    let asked = {
        let connection = connection.clone();
        tokio::spawn(async move { connection.request(ping("a@b/c"), 10 * S).await })
    };
    let request = peer.stanza().await;
    assert_eq!(request.from().unwrap().as_str(), "bot.example");
    let id = request.id().unwrap().to_owned();
    peer.send(&format!("<iq type='result' from='mallory@b' id='{id}'/>")).await;
    peer.send(&format!("<iq type='result' from='a@b/c' id='{id}x'/>")).await;
    peer.send(&format!("<iq type='error' from='A@b/c' id='{id}'/>")).await;
    let answer = asked.await.unwrap().unwrap();
    assert_eq!(answer.type_(), Some("error"));
    for _ in 0..2 {
        assert!(matches!(next(&connection).await, Event::Stanza(_)));
    }
    assert_eq!(connection.stats().unwrap().requests, 0);
}

#[tokio::test]
async fn a_request_ends_by_time_by_drop_and_with_the_stream() {
    let server = Server::start().await;
    let (connection, mut peer) = connected(&server).await;
    let late = connection.request(ping("a@b"), Duration::from_millis(20)).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Timeout);
    let forgotten = connection.request(ping("a@b"), 10 * S);
    assert_eq!(connection.stats().unwrap().requests, 1);
    drop(forgotten);
    assert_eq!(connection.stats().unwrap().requests, 0);
    let cut = connection.request(ping("a@b"), 10 * S);
    for _ in 0..3 {
        peer.stanza().await;
    }
    drop(peer);
    assert_eq!(cut.await.unwrap_err().kind(), ErrorKind::NotConnected);
    let wrong = connection.request(Element::new("message", ns::COMPONENT), S).await.unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::InvalidXml);
}

#[tokio::test]
async fn closing_writes_what_waits_and_is_polite() {
    let server = Server::start().await;
    let (connection, mut peer) = connected(&server).await;
    connection.try_send(MESSAGE).unwrap();
    let closing = {
        let connection = connection.clone();
        tokio::spawn(async move { connection.close(10 * S).await })
    };
    assert_eq!(peer.stanza().await.raw(), MESSAGE);
    assert_eq!(peer.closed().await, Closed::ByPeer);
    closing.await.unwrap();
    assert_eq!(connection.send(MESSAGE).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(connection.ready().await.unwrap_err().kind(), ErrorKind::Closed);
    assert!(connection.next_events(9).await.unwrap().is_empty());
    connection.close(10 * S).await;
}

#[tokio::test]
async fn a_server_that_does_not_close_its_half_is_left() {
    let server = Server::start().await;
    let (connection, _peer) = connected(&server).await;
    connection.close(Duration::from_millis(50)).await;
    assert_eq!(connection.ready().await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn closing_ends_an_attempt_and_a_pause() {
    let server = Server::start().await;
    let port = server.port;
    let unanswered = open(server.config());
    let _peer = server.accept().await;
    unanswered.close(S).await;
    let config = server.config();
    drop(server);
    let refused = open(ConnectionConfig {
        endpoint: Endpoint::Tcp { host: "127.0.0.1".into(), port },
        ..config
    });
    lost(&refused).await;
    refused.close(100 * S).await;
    assert!(refused.next_events(1).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_last_handle_closes_the_stream() {
    let server = Server::start().await;
    let (connection, mut peer) = connected(&server).await;
    let other = connection.clone();
    drop(connection);
    other.send(MESSAGE).await.unwrap();
    peer.stanza().await;
    drop(other);
    assert_eq!(peer.closed().await, Closed::ByPeer);
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_left_and_tried_again() {
    let server = Server::start().await;
    let (connection, mut peer) = connected(&server).await;
    let ping = peer.stanza().await;
    assert!(String::from_utf8_lossy(ping.raw()).contains("urn:xmpp:ping"));
    let (reason, _) = lost(&connection).await;
    assert!(reason.contains("a ping"), "{reason}");
    let _peer = server.accept_ready().await;
    connection.ready().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_answered_ping_keeps_the_stream_for_hours() {
    let server = Server::start().await;
    let (connection, mut peer) = connected(&server).await;
    for _ in 0..100 {
        let ping = peer.stanza().await;
        peer.send(std::str::from_utf8(ping.raw()).unwrap()).await;
    }
    assert_eq!(connection.stats().unwrap().disconnects, 0);
    assert_eq!(
        connection.stats().unwrap().stanzas_in,
        0,
        "pings are not stanzas for the application"
    );
}

#[tokio::test]
async fn the_barrier_acknowledges() {
    let server = Server::start().await;
    let mut config = server.config();
    config.barrier = Some(Barrier { stanzas: 1000, within: Duration::from_millis(5) });
    let (connection, mut peer) = connected_with(&server, config).await;
    connection.send(MESSAGE).await.unwrap();
    connection.send(MESSAGE).await.unwrap();
    let ping = loop {
        let stanza = peer.stanza().await;
        if stanza.raw() != MESSAGE {
            break stanza;
        }
    };
    peer.send(std::str::from_utf8(ping.raw()).unwrap()).await;
    match next(&connection).await {
        Event::Acked(position) => assert!((1..=2).contains(&position)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn poison_is_left_out() {
    let server = Server::start().await;
    let (connection, mut peer) = connected(&server).await;
    peer.write("<message from='a@b'><body>&nbsp;</body></message>").await;
    peer.write(&format!(
        "<message from='a@b'>{}{}</message>",
        "<a>".repeat(35_000),
        "</a>".repeat(35_000)
    ))
    .await;
    peer.write("<message from='a@b' to='x@bot.example/🎉'><body>ok</body></message>").await;
    assert!(matches!(next(&connection).await, Event::Skipped(_)));
    assert!(matches!(next(&connection).await, Event::Skipped(_)));
    match next(&connection).await {
        Event::Stanza(stanza) => assert_eq!(stanza.to().unwrap().resourcepart(), Some("🎉")),
        other => panic!("{other:?}"),
    }
    assert_eq!(connection.stats().unwrap().skipped, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn threads_use_the_blocking_forms() {
    const THREADS: usize = 8;
    const EACH: usize = 500;
    static RECEIVED: AtomicUsize = AtomicUsize::new(0);
    let server = Server::start().await;
    let mut config = server.config();
    // Room comes and goes all the time, and no timer makes good for a wake-up that is missing.
    config.inbound = Bounds { stanzas: 8, bytes: 1 << 20 };
    config.keepalive = None;
    config.login_timeout = 1000 * S;
    let (connection, mut peer) = connected_with(&server, config).await;
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let connection = connection.clone();
            std::thread::spawn(move || {
                assert!(connection.wait_ready(10 * S).unwrap());
                for n in 0..EACH {
                    let xml = format!("<message from='bot.example' id='{thread}-{n}'/>");
                    connection.send_blocking(&xml, 10 * S).unwrap();
                    while RECEIVED.load(Ordering::Relaxed) < THREADS * EACH {
                        let events = connection.next_events_blocking(3, Duration::ZERO).unwrap();
                        let Some(events) = events else { break };
                        RECEIVED.fetch_add(events.len(), Ordering::Relaxed);
                    }
                }
                while RECEIVED.load(Ordering::Relaxed) < THREADS * EACH {
                    let events = connection.next_events_blocking(3, S / 50).unwrap();
                    RECEIVED.fetch_add(events.map_or(0, |events| events.len()), Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut next_of = [0; THREADS];
    for _ in 0..THREADS * EACH {
        let stanza =
            tokio::time::timeout(60 * S, peer.stanza()).await.expect("a wake-up is missing");
        let (thread, n) = stanza.id().unwrap().split_once('-').unwrap();
        let expected = &mut next_of[thread.parse::<usize>().unwrap()];
        assert_eq!(n.parse::<usize>().unwrap(), *expected, "in order for each thread");
        *expected += 1;
        peer.send("<message from='a@b'/>").await;
    }
    spawn_blocking(move || threads.into_iter().for_each(|thread| thread.join().unwrap()))
        .await
        .unwrap();
    assert_eq!(RECEIVED.load(Ordering::Relaxed), THREADS * EACH);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn blocking_requests_are_answered() {
    let server = Server::start().await;
    let (connection, mut peer) = connected(&server).await;
    let asking = spawn_blocking(move || {
        let late = connection.request_blocking(ping("a@b"), S / 50).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Timeout);
        connection.request_blocking(ping("a@b"), 10 * S)
    });
    peer.stanza().await;
    let request = peer.stanza().await;
    peer.send(&format!("<iq type='result' from='a@b' id='{}'/>", request.id().unwrap())).await;
    assert_eq!(asking.await.unwrap().unwrap().type_(), Some("result"));
}

#[tokio::test]
async fn times_without_end_are_times() {
    let server = Server::start().await;
    let (connection, mut peer) = connected(&server).await;
    drop(connection.request(ping("a@b"), Duration::MAX));
    peer.stanza().await;
    let blocking = connection.clone();
    spawn_blocking(move || blocking.send_blocking(MESSAGE, Duration::MAX)).await.unwrap().unwrap();
    peer.stanza().await;
    let closing = tokio::spawn(async move { connection.close(Duration::MAX).await });
    assert_eq!(peer.closed().await, Closed::ByPeer);
    closing.await.unwrap();
}

#[test]
fn a_runtime_that_ends_leaves_nobody_waiting() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (ours, theirs) = (runtime(), runtime());
    let (connection, _server) = ours.block_on(async {
        let server = Server::start().await;
        let connection = Connection::open_on(theirs.handle(), server.config());
        (connection, server)
    });
    theirs.block_on(tokio::task::yield_now());
    theirs.shutdown_background();
    let error = connection.wait_ready(20 * S).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert_eq!(connection.next_events_blocking(1, 20 * S).unwrap().unwrap().len(), 0);
}
