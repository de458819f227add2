//! One HTTP connection, from its first byte to its end.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Method, Request, Response, Version};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::metrics::Metrics;
use crate::patience::Patience;
use crate::server::turned;

/// A response that takes its time.
pub type Later = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// What a request comes to.
pub enum Answer {
    /// A response.
    Now(Response<Body>),
    /// One that takes its time, to a request whose body has been read to its end: until it is there
    /// the connection costs little.
    Later(Later),
}

impl From<Response<Body>> for Answer {
    fn from(response: Response<Body>) -> Self {
        Self::Now(response)
    }
}

/// What answers requests.
pub trait Serve:
    Service<Request<Incoming>, Response: Into<Answer>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + Unpin
    + 'static
{
}

impl<S> Serve for S where
    S: Service<Request<Incoming>, Response: Into<Answer>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + Unpin
        + 'static
{
}

/// A connection's socket.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static {
    /// Waits until there is something to read.
    fn readable(&self) -> impl Future<Output = std::io::Result<()>> + Send;
}

impl Stream for TcpStream {
    fn readable(&self) -> impl Future<Output = std::io::Result<()>> + Send {
        self.readable()
    }
}

impl Stream for UnixStream {
    fn readable(&self) -> impl Future<Output = std::io::Result<()>> + Send {
        self.readable()
    }
}

/// What the connections of a server have in common.
pub(crate) struct House<S> {
    pub(crate) builder: http1::Builder,
    /// How long a connection may say nothing.
    pub(crate) patience: Duration,
    pub(crate) service: S,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) write_timeout: Duration,
}

/// One connection.
pub(crate) struct Guest<S> {
    pub(crate) house: Arc<House<S>>,
    pub(crate) stop: watch::Receiver<bool>,
    pub(crate) place: OwnedSemaphorePermit,
}

/// A connection without its HTTP state, whose next response takes its time.
struct Parked<T> {
    stream: Patience<T>,
    asked: Asked,
    later: Later,
}

impl<S: Serve> Guest<S> {
    /// Serves the connection. Not an `async fn`, which would have room for its arguments twice.
    #[allow(clippy::manual_async_fn)]
    pub(crate) fn serve<T: Stream>(mut self, stream: T) -> impl Future<Output = ()> + Send {
        async move {
            self.house.metrics.connection_opened();
            if self.speaks(&stream).await {
                self.answer(stream).await;
            }
            self.house.metrics.connection_closed();
            drop(self.place);
        }
    }

    /// Whether something comes in time. HTTP's buffers are made only then: who says nothing costs
    /// little.
    async fn speaks<T: Stream>(&mut self, stream: &T) -> bool {
        let said = tokio::time::timeout(self.house.patience, stream.readable());
        tokio::select! {
            said = said => matches!(said, Ok(Ok(()))),
            () = turned(&mut self.stop) => false,
        }
    }

    /// HTTP's state and buffers, 18 KiB, are in a box that is gone while a response takes its time.
    async fn answer<T: Stream>(&mut self, stream: T) {
        let stream = Patience::new(stream, self.house.write_timeout);
        let mut parked = Box::pin(self.converse(stream, None)).await;
        while let Some(waiting) = &mut parked {
            let Some(response) = waiting.response().await else { return };
            let Some(Parked { mut stream, asked, .. }) = parked.take() else { return };
            // HTTP goes on with a request that is like the one that was made to everything but the
            // service, which has answered it.
            stream.unread(&asked.again(*self.stop.borrow()));
            parked = Box::pin(self.converse(stream, Some(response))).await;
        }
    }

    /// Speaks HTTP until the connection ends, or a response takes its time. `ready` is the response to
    /// the first request that `stream` has to say.
    async fn converse<T: Stream>(
        &mut self,
        stream: Patience<T>,
        ready: Option<Response<Body>>,
    ) -> Option<Parked<T>> {
        let blocked = stream.blocked();
        let desk = Arc::new(Desk(Mutex::new(ready.map_or(Slot::Empty, Slot::Ready))));
        let service = {
            let (desk, service) = (Arc::clone(&desk), self.house.service.clone());
            service_fn(move |request| desk.answer(&service, request))
        };
        let mut connection = self.house.builder.serve_connection(TokioIo::new(stream), service);
        let mut stopping = false;
        let left = loop {
            let progress = std::future::poll_fn(|cx| {
                if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
                    ended.unwrap_or_else(debug);
                    return Poll::Ready(None);
                }
                // What hyper still has to write would go with it.
                let left = if blocked.load(Ordering::Relaxed) { None } else { desk.take_left() };
                left.map_or(Poll::Pending, |left| Poll::Ready(Some(left)))
            });
            tokio::select! {
                // Before its first turn there is nothing that would end gracefully.
                biased;
                left = progress => break left,
                () = turned(&mut self.stop), if !stopping => {
                    stopping = true;
                    Pin::new(&mut connection).graceful_shutdown();
                }
            }
        };
        let (asked, later) = left?;
        let parts = connection.into_parts();
        let mut stream = parts.io.into_inner();
        stream.unread(&parts.read_buf);
        Some(Parked { stream, asked, later })
    }
}

impl<T: Stream> Parked<T> {
    /// Waits for the response; `None` if its reader leaves first.
    async fn response(&mut self) -> Option<Response<Body>> {
        std::future::poll_fn(|cx| {
            if let Poll::Ready(response) = self.later.as_mut().poll(cx) {
                return Poll::Ready(Some(response));
            }
            self.stream.poll_closed(cx).map(|()| None)
        })
        .await
    }
}

/// Where a connection meets what answers its requests.
struct Desk(Mutex<Slot>);

enum Slot {
    Empty,
    /// The next request has its response already.
    Ready(Response<Body>),
    /// The response to the request that was made takes its time.
    Left(Asked, Later),
}

impl Desk {
    fn answer<S: Serve>(
        self: &Arc<Self>,
        service: &S,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Body>, Infallible>> + Send + use<S> {
        let desk = Arc::clone(self);
        let step = match self.take_ready() {
            Some(response) => Err(response),
            None => Ok((Asked::of(&request), service.call(request))),
        };
        async move {
            let (asked, answering) = match step {
                Ok(step) => step,
                Err(response) => return Ok(response),
            };
            let answer: Answer = answering.await.map(Into::into)?;
            match answer {
                Answer::Now(response) => Ok(response),
                Answer::Later(later) => {
                    *desk.lock() = Slot::Left(asked, later);
                    std::future::pending().await
                }
            }
        }
    }

    fn take_ready(&self) -> Option<Response<Body>> {
        let mut slot = self.lock();
        match std::mem::replace(&mut *slot, Slot::Empty) {
            Slot::Ready(response) => Some(response),
            _ => None,
        }
    }

    fn take_left(&self) -> Option<(Asked, Later)> {
        let mut slot = self.lock();
        match std::mem::replace(&mut *slot, Slot::Empty) {
            Slot::Left(asked, later) => Some((asked, later)),
            other => {
                *slot = other;
                None
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a request says about the form of its response.
struct Asked {
    method: Method,
    version: Version,
    connection: Vec<HeaderValue>,
}

impl Asked {
    fn of<B>(request: &Request<B>) -> Self {
        Self {
            method: request.method().clone(),
            version: request.version(),
            connection: request.headers().get_all(CONNECTION).iter().cloned().collect(),
        }
    }

    /// A request that says the same, without a body. The connection ends after it if it is the `last`.
    fn again(&self, last: bool) -> Bytes {
        let mut head = format!("{} / {:?}\r\n", self.method, self.version).into_bytes();
        let close = last.then_some(&b"close"[..]);
        for value in self.connection.iter().map(HeaderValue::as_bytes).chain(close) {
            head.extend_from_slice(b"connection: ");
            head.extend_from_slice(value);
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        head.into()
    }
}

fn debug(error: hyper::Error) {
    tracing::debug!("an HTTP connection ended: {error}");
}

#[cfg(test)]
mod tests;
