//! Asks a shared store whose turn has come.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::outbox::closed;
use crate::error::Result;
use crate::service::{Delivery, Service, Turns, turns};

/// Stores what came for the app, before anybody can learn that it came, and notes where it stands.
///
/// # Errors
/// [`ErrorKind::Store`](crate::ErrorKind::Store): none of them is stored.
pub async fn keep_deliveries(service: &Service, deliveries: &mut [Delivery]) -> Result<()> {
    let changes = deliveries.iter().map(|delivery| service.keep_delivery(delivery)).collect();
    let (told, answer) = oneshot::channel();
    let done = move |stored| {
        // Whoever stored it may be gone.
        let _ = told.send(stored);
    };
    service.submit_placed(changes, Box::new(done));
    match answer.await.unwrap_or_else(|_| Err(closed())) {
        Ok(placed) => turns::place(deliveries, &placed),
        Err(error) => {
            service.not_kept(deliveries);
            return Err(error);
        }
    }
    Ok(())
}

/// The ids of those of `waiting` whose turn has come: for [`Lanes::release`](crate::service::Lanes::release).
/// To be called at [`Turns::due`], while anything waits.
pub async fn released(
    service: &Arc<Service>,
    turns: &mut Turns,
    now: Duration,
    waiting: Vec<Arc<Delivery>>,
) -> Vec<u64> {
    let waiting = service.turns(waiting.iter().map(|delivery| &**delivery));
    let (asks, asked) = (Arc::clone(service), waiting.clone());
    let behind = match asked.is_empty() {
        true => Ok(Vec::new()),
        false => tokio::task::spawn_blocking(move || asks.behind(&asked))
            .await
            .unwrap_or_else(|_| Err(closed())),
    };
    match behind {
        Ok(behind) => turns.judge(now, &waiting, &behind),
        Err(error) => {
            tracing::debug!(%error, "the store does not say whose turn it is");
            turns.judge(now, &[], &[])
        }
    }
}
