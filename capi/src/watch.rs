//! Looking out for deliveries on behalf of a program that polls a file descriptor.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use engine::net::{App, Claimed};

use crate::bell::Bell;

type Claim = Pin<Box<dyn Future<Output = engine::Result<Vec<Claimed>>> + Send>>;

/// Once started, all deliveries pass through here, one ahead of who takes them: only a claim that
/// succeeds tells that there is one.
#[derive(Default)]
pub(crate) struct Watch {
    started: AtomicBool,
    state: Mutex<Option<State>>,
}

struct State {
    next: Option<Claimed>,
    claim: Claim,
    /// Why none will come.
    over: Option<engine::Error>,
}

fn claim(app: &App) -> Claim {
    let app = app.clone();
    Box::pin(async move { app.next_batch(1).await })
}

impl State {
    /// Looks for the next one, unless it is known; the bell says whether there is one.
    fn look(&mut self, app: &App, bell: &Arc<Bell>) {
        if self.next.is_some() || self.over.is_some() {
            return;
        }
        // What comes from here on rings.
        bell.quiet();
        let waker = Waker::from(Arc::clone(bell));
        match self.claim.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => return,
            Poll::Ready(Ok(claimed)) => {
                self.next = claimed.into_iter().next();
                self.claim = claim(app);
            }
            Poll::Ready(Err(error)) => self.over = Some(error),
        }
        bell.ring();
    }
}

impl Watch {
    /// Starts to look out; a second call does nothing. Threads that wait are sent here.
    pub(crate) fn start(&self, app: &App, bell: &Arc<Bell>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let watching =
            state.get_or_insert_with(|| State { next: None, claim: claim(app), over: None });
        watching.look(app, bell);
        drop(state);
        if !self.started.swap(true, Ordering::Release) {
            bell.wake_waiting();
        }
    }

    pub(crate) fn is_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    /// The next deliveries, up to `max`, if this looks out for them; otherwise `None`.
    pub(crate) fn take(
        &self,
        app: &App,
        bell: &Arc<Bell>,
        max: usize,
    ) -> Option<Poll<engine::Result<Vec<Claimed>>>> {
        if !self.is_started() {
            return None;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = state.as_mut()?;
        let mut taken = Vec::new();
        while taken.len() < max {
            state.look(app, bell);
            let Some(next) = state.next.take() else { break };
            taken.push(next);
        }
        state.look(app, bell);
        if !taken.is_empty() {
            return Some(Poll::Ready(Ok(taken)));
        }
        Some(match &state.over {
            Some(error) => Poll::Ready(Err(engine::Error::new(error.kind(), error.to_string()))),
            None => Poll::Pending,
        })
    }
}
