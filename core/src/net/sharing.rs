//! What a process takes over from another one with the same store.

use std::sync::Arc;

use super::connection::Connection;
use super::outbox::LiveOutbox;
use crate::service::gate::LOOK;
use crate::service::{Delivery, Legacy, Service};
use crate::store::Durability;

/// Takes over what processes that are gone left: their messages go into `outbox`, and their deliveries
/// are returned, in order, to be delivered. To be called whenever [`Service::on_news`] says so.
///
/// None is returned while `connection` [waits](Connection::is_taking_over): others may have to be taken
/// over from first, and an app could not send an answer yet.
pub async fn take_over(
    service: &Arc<Service>,
    outbox: Option<&Arc<LiveOutbox>>,
    connection: &Connection,
) -> Vec<Delivery> {
    let mut deliveries = adopt(service, outbox).await;
    while !deliveries.is_empty() && connection.is_taking_over() {
        let _ = tokio::time::timeout(LOOK, connection.taken_over()).await;
        deliveries.extend(adopt(service, outbox).await);
    }
    deliveries
}

async fn adopt(service: &Arc<Service>, outbox: Option<&Arc<LiveOutbox>>) -> Vec<Delivery> {
    if let Some(outbox) = outbox {
        outbox.wake_up();
    }
    let mut deliveries = Vec::new();
    loop {
        let reader = Arc::clone(service);
        let legacy = tokio::task::spawn_blocking(move || reader.next_legacy()).await;
        let Legacy { messages, deliveries: left, changes } = match legacy {
            Ok(Ok(Some(legacy))) => legacy,
            Ok(Err(error)) => {
                tracing::error!(
                    "what a process left could not be read and is taken later: {error}"
                );
                return deliveries;
            }
            Ok(Ok(None)) | Err(_) => return deliveries,
        };
        let counts = (messages.len(), left.len());
        let stored = match outbox {
            Some(outbox) => outbox.adopt(messages, changes).await.error.map_or(Ok(()), Err),
            None if messages.is_empty() => service.keep(changes, Durability::Now),
            None => {
                tracing::warn!(
                    "messages of a process that is gone wait for one that sends durably"
                );
                continue;
            }
        };
        match stored {
            Ok(()) => {
                tracing::info!(
                    rows = counts.0,
                    deliveries = counts.1,
                    "took over from a process that is gone"
                );
                deliveries.extend(left);
            }
            Err(error) => tracing::error!("what a process left is taken over later: {error}"),
        }
    }
}
