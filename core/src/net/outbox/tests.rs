//! What happens on the connection while a batch is being written.

use super::*;
use crate::net::{Backend, ConnectionConfig};
use crate::service::ServiceConfig;
use crate::store::MemoryStore;

/// An outbox with three stored messages, whose connection is never up.
async fn outbox() -> Arc<LiveOutbox> {
    outbox_with(OutboxLimits::default()).await
}

async fn outbox_with(limits: OutboxLimits) -> Arc<LiveOutbox> {
    let backend = Backend::parse("component://app.example:secret@127.0.0.1:1").unwrap();
    let config = ConnectionConfig::for_backend(&backend, None).unwrap();
    let connection = Connection::open_on(&tokio::runtime::Handle::current(), config);
    let config = ServiceConfig::new("app", "app.example").unwrap();
    let service = Arc::new(Service::new(config, Box::new(MemoryStore::new())).unwrap());
    let outbox = LiveOutbox::new(connection, service, limits);
    let stanzas = ["<message/>"; 3].map(|it| Outgoing::whole(Bytes::from_static(it.as_bytes())));
    assert_eq!(outbox.keep_reply(&stanzas, Vec::new()).await.stored, 3);
    outbox
}

#[tokio::test]
async fn an_answer_to_a_subscription_has_room_where_messages_have_none() {
    let outbox = outbox_with(OutboxLimits { stanzas: 3, ..OutboxLimits::default() }).await;
    let message = [Outgoing::whole(Bytes::from_static(b"<message/>"))];
    let refused = outbox.keep_reply(&message, Vec::new()).await;
    assert_eq!(refused.error.unwrap().kind(), ErrorKind::Backpressure);
    let answer = || vec![Bytes::from_static(b"<presence type='subscribed'/>")];
    assert!(outbox.keep_lasting(answer()).await.is_empty(), "it is stored");
    assert_eq!(outbox.stats().waiting, 4);
    // That room has a bound too.
    assert_eq!(outbox.keep_lasting(answer()).await, answer());
}

fn counts(outbox: &LiveOutbox) -> (usize, usize, u64) {
    let stats = outbox.stats();
    (stats.waiting, stats.in_flight, stats.done)
}

#[tokio::test]
async fn what_is_acknowledged_before_it_is_known_to_be_written_is_done() {
    let outbox = outbox().await;
    outbox.handle_event(&Event::Acked(2));
    outbox.written(2, 2, 0);
    assert_eq!(counts(&outbox), (1, 0, 2));
    outbox.written(1, 3, 0);
    assert_eq!(counts(&outbox), (1, 1, 2));
}

#[tokio::test]
async fn what_a_stream_took_with_it_before_it_is_known_to_be_written_waits() {
    let outbox = outbox().await;
    outbox.written(1, 1, 0);
    outbox.handle_event(&Event::Cut { position: 3, blamed: true });
    outbox.written(2, 3, 0);
    assert_eq!(counts(&outbox), (3, 0, 0));
    outbox.written(3, 6, 3);
    outbox.handle_event(&Event::Acked(6));
    assert_eq!(counts(&outbox), (0, 0, 3));
}
