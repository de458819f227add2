//! Asks a shared store whether a connection may be made now.

use std::sync::{Mutex, PoisonError, Weak};

use tokio::time::Instant;

use crate::error::Result;
use crate::service::{self, Service, Way};
use crate::store::Fellows;

/// Asks the service's store whether a connection may be made.
#[derive(Debug)]
pub(super) struct Gate {
    /// The store is closed with the service: a connection must not keep it open.
    service: Weak<Service>,
    gate: Mutex<service::Gate>,
    origin: Instant,
}

impl Gate {
    /// `durable`: this process takes over messages.
    pub(super) fn new(service: Weak<Service>, durable: bool) -> Self {
        let gate = Mutex::new(service::Gate::new(durable));
        Self { service, gate, origin: Instant::now() }
    }

    /// Another attempt to connect begins.
    pub(super) fn begin(&self) {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner).begin();
    }

    /// Looks at the others; `standby` says whether the server refused this process because of one.
    pub(super) async fn look(&self, standby: bool) -> Way {
        let Some(service) = self.service.upgrade() else { return Way::Clear };
        let asked = tokio::task::spawn_blocking(move || service.fellows()).await;
        // Without an answer the runtime ends.
        asked.map_or(Way::Clear, |asked| self.judge(asked, standby))
    }

    /// [`Gate::look`] before there is a connection, on this thread.
    pub(super) fn first_look(&self, service: &Service) -> Way {
        self.judge(service.fellows(), false)
    }

    fn judge(&self, asked: Result<Fellows>, standby: bool) -> Way {
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        gate.judge(self.origin.elapsed(), asked, standby)
    }
}
