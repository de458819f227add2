use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Inner;
use crate::net::runtime::Owned;
use crate::service::{Delivery, Ticket};

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The app handled it.
    Handled,
    /// The app did not: it raised, answered with an error, or went away.
    Failed,
}

/// A delivery handed to the app. Until it is done, by [`Claimed::done`] or because it is dropped,
/// nothing else of the same sender is handed out. A [durable](super::AppConfig::durable) app gets what
/// was dropped again when it is opened again.
pub struct Claimed {
    app: Owned<Inner>,
    ticket: Option<Ticket>,
    delivery: Arc<Delivery>,
}

impl Claimed {
    pub(super) fn new(app: &Arc<Inner>, (ticket, delivery): (Ticket, Arc<Delivery>)) -> Self {
        Self { app: Owned::new(Arc::clone(app)), ticket: Some(ticket), delivery }
    }

    /// The app is done with it; a second call does nothing.
    pub fn done(&mut self, outcome: Outcome) {
        if let Some(ticket) = self.ticket.take() {
            self.end(&ticket, outcome, true);
        }
    }

    fn end(&self, ticket: &Ticket, outcome: Outcome, forget: bool) {
        let Ok(app) = self.app.get() else { return };
        if forget && app.outbox.is_some() {
            app.service.forget_delivery(self.delivery.id);
        }
        let counter = match outcome {
            Outcome::Handled => &app.counters.handled,
            Outcome::Failed => &app.counters.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let mut queue = app.queue();
        queue.lanes.done(ticket);
        queue.claimed -= 1;
        app.note(&queue);
        if queue.lanes.has_ready() {
            queue.wake_puller();
        }
        let over = queue.over && queue.lanes.is_empty();
        queue.wake_others();
        if over {
            queue.wake_all();
        }
    }

    /// The delivery, to be kept.
    pub fn delivery(&self) -> &Arc<Delivery> {
        &self.delivery
    }
}

impl Deref for Claimed {
    type Target = Delivery;

    fn deref(&self) -> &Delivery {
        &self.delivery
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.end(&ticket, Outcome::Failed, false);
        }
    }
}

impl fmt::Debug for Claimed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claimed").field("id", &self.id).field("path", &self.path).finish()
    }
}
