//! What is held back or read late must not be lost.

use super::*;

#[tokio::test(start_paused = true)]
async fn an_answer_that_came_while_this_process_slept_is_read_first() {
    let server = Server::start().await;
    let (connection, mut peer) = connected(&server).await;
    for _ in 0..30 {
        let ping = peer.stanza().await;
        peer.send(std::str::from_utf8(ping.raw()).unwrap()).await;
        tokio::time::advance(600 * S).await;
    }
    assert_eq!(connection.stats().unwrap().disconnects, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_burst_arrives_in_order_and_whole_although_nothing_follows() {
    let server = Server::start().await;
    let mut config = server.config();
    config.keepalive = None;
    let (connection, mut peer) = connected_with(&server, config).await;
    for burst in [1, 20, 5_000] {
        let connection = connection.clone();
        let sent = spawn_blocking(move || {
            for n in 0..burst {
                let xml = format!("<message from='bot.example' id='{n}'/>");
                connection.send_blocking(&xml, 60 * S).unwrap();
            }
        });
        for n in 0..burst {
            let stanza = tokio::time::timeout(60 * S, peer.stanza()).await.expect("it is held");
            assert_eq!(stanza.id(), Some(&*n.to_string()));
        }
        sent.await.unwrap();
    }
}
