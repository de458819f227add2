//! Messages are handed over to the process that has the stream.

use std::sync::Arc;

use tokio::time::Instant;

use super::{LiveOutbox, State, closed};
use crate::error::Result;

impl LiveOutbox {
    /// Hands over what waits if this process stands by for another one; says when to look again.
    pub(super) async fn hand_over(self: &Arc<Self>) -> Option<Instant> {
        if !self.service.is_shared() {
            return None;
        }
        let (due, undecided) = {
            let mut state = self.lock();
            self.note_standby(&mut state);
            let undecided = state.outbox.is_undecided();
            let can = undecided || state.outbox.can_hand_over();
            (state.bequest.due(undecided).filter(|_| can)?, undecided)
        };
        if due > self.origin.elapsed() {
            return Some(self.origin + due);
        }
        let hands_over = undecided || self.look_for_another().await;
        let mut state = self.lock();
        state.bequest.looked(self.origin.elapsed());
        let numbers = if hands_over { state.outbox.hand_over() } else { None };
        let before = state.outbox.stats().handed_over;
        let again = state.bequest.due(undecided).map(|due| self.origin + due);
        drop(state);
        if let Some(numbers) = numbers {
            let this = Arc::clone(self);
            let done = move |stored: Result<()>| this.handed_over(before, stored);
            self.service.submit(self.service.bequeath(&numbers), Box::new(done));
        }
        again
    }

    fn note_standby(&self, state: &mut State) {
        state.bequest.note(self.origin.elapsed(), self.connection.is_standby());
    }

    async fn look_for_another(&self) -> bool {
        let service = Arc::clone(&self.service);
        let asked = tokio::task::spawn_blocking(move || service.fellows()).await;
        let mut state = self.lock();
        self.note_standby(&mut state);
        let asked = asked.unwrap_or_else(|_| Err(closed()));
        state.bequest.finds_heir(&asked) && self.service.holds()
    }

    fn handed_over(&self, before: u64, stored: Result<()>) {
        let mut state = self.lock();
        state.outbox.given_up(stored.is_ok());
        let count = state.outbox.stats().handed_over - before;
        state.wake_if_drained();
        drop(state);
        self.wake.notify_one();
        match stored {
            Ok(()) => tracing::info!(
                messages = count,
                "handed over to the process that has the stream, for which this one stands by"
            ),
            Err(error) => {
                tracing::error!(%error, "messages could not be handed over yet, and wait")
            }
        }
    }
}
