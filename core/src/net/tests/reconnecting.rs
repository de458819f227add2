//! What follows the end of a stream: another attempt, standing by, or the end.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_restarted_server_has_us_back() {
    let server = Server::start().await;
    let (connection, mut peer) = connected(&server).await;
    let port = server.port;
    peer.refuse("system-shutdown").await;
    drop((server, peer));
    let (reason, retry) = lost(&connection).await;
    assert!(reason.contains("system-shutdown"), "{reason}");
    assert!(retry.unwrap() <= 2 * S);
    let (reason, _) = lost(&connection).await;
    assert!(reason.contains("cannot connect"), "{reason}");
    let server = Server::start_on(port).await;
    let mut peer = server.accept_ready().await;
    connection.ready().await.unwrap();
    connection.send(MESSAGE).await.unwrap();
    assert_eq!(peer.stanza().await.raw(), MESSAGE);
    let stats = connection.stats().unwrap();
    assert_eq!((stats.connects, stats.disconnects), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn each_end_has_its_cause() {
    let server = Server::start().await;
    let (connection, mut peer) = connected(&server).await;
    for (condition, word) in [
        ("system-shutdown", "server_shutdown"),
        ("conflict", "conflict"),
        ("policy-violation", "stream_error"),
        ("not-authorized", "not_authorized"),
    ] {
        peer.refuse(condition).await;
        assert_eq!(cause(&connection).await, word);
        peer = server.accept_ready().await;
    }
    drop(peer);
    assert_eq!(cause(&connection).await, "lost");
    let _silent = server.accept_ready().await;
    assert_eq!(cause(&connection).await, "timeout");
    drop(server);
    while cause(&connection).await != "refused" {}
}

#[tokio::test(start_paused = true)]
async fn conflict_and_its_like_are_tried_again() {
    let server = Server::start().await;
    let connection = open(server.config());
    for condition in ["conflict", "host-unknown", "invalid-namespace"] {
        let mut peer = server.accept().await;
        peer.next().await;
        peer.refuse(condition).await;
        let (reason, retry) = lost(&connection).await;
        assert!(reason.contains(condition), "{reason}");
        assert!(retry.is_some());
    }
    let _peer = server.accept_ready().await;
    connection.ready().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_second_connection_stands_by_and_takes_over_within_a_second() {
    let server = Server::start().await;
    let connection = open(server.config());
    let mut peer = server.accept().await;
    for attempt in 0..5 {
        peer.next().await;
        let refused = tokio::time::Instant::now();
        peer.refuse("conflict").await;
        if attempt == 0 {
            lost(&connection).await;
        }
        peer = server.accept().await;
        assert!(refused.elapsed() <= S);
        assert!(connection.is_standby() && connection.stats().unwrap().standby);
        let error = connection.send(MESSAGE).await.unwrap_err();
        assert!(error.to_string().contains("stands by"), "{error}");
    }
    drop(peer);
    let _peer = server.accept_ready().await;
    connection.ready().await.unwrap();
    assert!(!connection.is_standby() && connection.is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_wrong_secret_is_final_the_second_time() {
    let server = Server::start().await;
    let connection = open(server.config());
    for last in [false, true] {
        let mut peer = server.accept_with("other").await;
        assert!(matches!(peer.closed().await, Closed::Violation(_)));
        let (reason, retry) = lost(&connection).await;
        assert!(reason.contains("not-authorized"), "{reason}");
        assert_eq!(retry.is_none(), last);
    }
    let error = connection.ready().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAuthorized);
    let text = error.to_string();
    assert!(text.contains("bot.example") && text.contains("secret is not the one"), "{text}");
    assert!(text.contains("no component of this name"), "{text}");
    assert!(!text.contains("test"), "the secret is not in {text:?}");
    assert_eq!(connection.send(MESSAGE).await.unwrap_err().kind(), ErrorKind::NotAuthorized);
    assert!(connection.next_events(9).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn one_refusal_between_others_is_not_final() {
    let server = Server::start().await;
    let connection = open(server.config());
    server.accept_with("other").await.closed().await;
    let mut peer = server.accept().await;
    peer.next().await;
    peer.refuse("conflict").await;
    server.accept_with("other").await.closed().await;
    let _peer = server.accept_ready().await;
    connection.ready().await.unwrap();
}
