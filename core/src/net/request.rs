//! Requests that wait for their answers.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;

use super::shared::{Shared, Submitted};
use super::wait::bounded;
use crate::error::{Error, ErrorKind, Result};
use crate::jid::WireJid;
use crate::stanza::Stanza;
use crate::stream::{Batch, IqKey};
use crate::xml::{Element, Scope};

type Answer = oneshot::Receiver<Result<Stanza>>;

fn start(shared: &Shared, mut iq: Element, timeout: Duration) -> Result<(IqKey, Answer)> {
    let namespace = shared.config.namespace();
    // An account's server knows who asks, and sets what it knows.
    if iq.attr("from").is_none() && shared.config.account.is_none() {
        iq.set_attr("from", shared.config.domain.clone());
    }
    if iq.attr("id").is_none() {
        iq.set_attr("id", shared.counters.next_id());
    }
    let id = iq.attr("id").unwrap_or_default().to_owned();
    let to = iq.attr("to").map(WireJid::new);
    let mut xml = String::new();
    iq.write_to(&mut xml, &Scope::stream(namespace));
    let mut batch = Batch::new();
    batch.push(xml.as_bytes(), namespace, &shared.config.limits)?;
    if !iq.is("iq", namespace) || !matches!(iq.attr("type"), Some("get" | "set")) || to.is_none() {
        return Err(Error::new(
            ErrorKind::InvalidXml,
            "a request is an <iq/> with a to address and the type get or set",
        ));
    }
    let (sender, receiver) = oneshot::channel();
    let deadline = shared.now() + bounded(timeout);
    let key = shared.lock().iqs.insert(to.as_ref(), &id, deadline, (sender, timeout))?;
    // Submitting without the lock held: the answer cannot come before the request is out.
    match shared.submit(&batch) {
        Ok(Submitted::Taken { .. }) => {
            if shared.lock().armed > deadline {
                shared.wake.notify_one();
            }
            Ok((key, receiver))
        }
        Ok(Submitted::Full) => {
            shared.lock().iqs.cancel(&key);
            Err(Error::new(
                ErrorKind::Backpressure,
                "too many stanzas wait to be written; ask again later",
            ))
        }
        Err(error) => {
            shared.lock().iqs.cancel(&key);
            Err(error)
        }
    }
}

pub(super) fn no_answer(timeout: Duration) -> Error {
    Error::new(ErrorKind::Timeout, format!("no answer came within {timeout:?}"))
}

enum RequestState {
    Failed(Option<Error>),
    Waiting(IqKey, Answer),
}

/// A request that waits for its answer; see [`Connection::request`](crate::net::Connection::request).
pub struct Request<'a> {
    shared: Option<&'a Shared>,
    state: RequestState,
}

impl<'a> Request<'a> {
    pub(super) fn new(shared: Result<&'a Arc<Shared>>, iq: Element, timeout: Duration) -> Self {
        let started = shared.and_then(|shared| Ok((shared, start(shared, iq, timeout)?)));
        match started {
            Ok((shared, (key, answer))) => {
                Self { shared: Some(shared), state: RequestState::Waiting(key, answer) }
            }
            Err(error) => Self { shared: None, state: RequestState::Failed(Some(error)) },
        }
    }
}

impl Future for Request<'_> {
    type Output = Result<Stanza>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.state {
            RequestState::Failed(error) => Poll::Ready(Err(error
                .take()
                .unwrap_or_else(|| Error::new(ErrorKind::Closed, "the request is over")))),
            RequestState::Waiting(_, answer) => {
                let answer = std::task::ready!(Pin::new(answer).poll(context));
                self.state = RequestState::Failed(None);
                Poll::Ready(answer.unwrap_or_else(|_| {
                    Err(Error::new(ErrorKind::Closed, "the connection was closed"))
                }))
            }
        }
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        if let RequestState::Waiting(key, _) = &self.state
            && let Some(shared) = self.shared
        {
            shared.lock().iqs.cancel(key);
        }
    }
}
