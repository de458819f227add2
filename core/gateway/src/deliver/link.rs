//! One connection to a webhook, and one exchange at a time over it.
//!
//! Whoever waits for an answer drives the connection meanwhile: no task of its own, and no wake-up
//! from one to the other. Between exchanges nobody looks at it; what happened in the meantime (the
//! other side closed it) shows when it is taken into use again.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Collected, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::client::{Answer, Failure};
use super::target::Origin;
use super::trust::Trust;

/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 10 * 1024 * 1024;
/// How many header lines an answer may have.
const MAX_HEADERS: usize = 128;
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(10);

/// What bytes go over.
#[derive(Debug)]
pub(super) enum Conn {
    /// TCP.
    Plain(TcpStream),
    /// TLS over it.
    Secure(Box<TlsStream<TcpStream>>),
}

impl Conn {
    async fn open(origin: &Origin, trust: &Trust) -> Result<Self, Failure> {
        let failed = |why: &dyn std::fmt::Display| Failure::Connect(format!("{origin}: {why}"));
        let dial = async {
            let stream = TcpStream::connect((origin.host.as_str(), origin.port)).await;
            let stream = stream.map_err(|error| failed(&error))?;
            stream.set_nodelay(true).map_err(|error| failed(&error))?;
            if !origin.is_secure {
                return Ok(Self::Plain(stream));
            }
            let secured = trust.connect(&origin.host, stream).await;
            secured.map(|stream| Self::Secure(Box::new(stream))).map_err(|why| failed(&why))
        };
        tokio::time::timeout(CONNECT, dial)
            .await
            .unwrap_or_else(|_| Err(failed(&format_args!("no connection within {CONNECT:?}"))))
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Secure(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Secure(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Secure(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Secure(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

type Driver = Box<http1::Connection<TokioIo<Conn>, Full<Bytes>>>;

/// A connection that speaks HTTP/1.1.
#[derive(Debug)]
pub(super) struct Link {
    sender: http1::SendRequest<Full<Bytes>>,
    /// Gone once the connection has ended.
    driver: Option<Driver>,
}

/// Why an exchange has no answer.
pub(super) enum Lost {
    /// Nothing of the request was sent: it may go over another connection.
    Unsent(Box<Request<Full<Bytes>>>, String),
    /// Some of it may have been.
    Broken(String),
    /// The answer is too long.
    Unusable(String),
}

impl Link {
    pub(super) async fn open(origin: &Origin, trust: &Trust) -> Result<Self, Failure> {
        let conn = TokioIo::new(Conn::open(origin, trust).await?);
        // One write for head and body; bodies are small.
        let (sender, driver) = http1::Builder::new()
            .max_headers(MAX_HEADERS)
            .writev(false)
            .handshake(conn)
            .await
            .map_err(|error| Failure::Broken(chain(&error)))?;
        Ok(Self { sender, driver: Some(Box::new(driver)) })
    }

    /// Whether it takes another request: the other side has neither closed it nor said anything.
    pub(super) async fn is_usable(&mut self) -> bool {
        poll_fn(|context| {
            self.poll_driver(context);
            Poll::Ready(self.driver.is_some() && self.sender.is_ready())
        })
        .await
    }

    /// Sends `request` and reads the whole answer.
    pub(super) async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, Lost> {
        let response = self.sender.try_send_request(request);
        let response = self.drive(response).await.map_err(|mut error| {
            let why = chain(error.error());
            match error.take_message() {
                Some(request) => Lost::Unsent(Box::new(request), why),
                None => Lost::Broken(why),
            }
        })?;
        self.answer(response).await
    }

    async fn answer(&mut self, response: Response<Incoming>) -> Result<Answer, Lost> {
        let (head, body) = response.into_parts();
        let body = if body.is_end_stream() { Bytes::new() } else { self.collect(body).await? };
        let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
        Ok(Answer {
            status: head.status.as_u16(),
            content_type: text(CONTENT_TYPE).map(str::to_owned),
            retry_after: text(RETRY_AFTER)
                .and_then(|value| value.trim().parse().ok())
                .map(Duration::from_secs),
            accept: text(ACCEPT).map(str::to_owned),
            body,
        })
    }

    async fn collect(&mut self, body: Incoming) -> Result<Bytes, Lost> {
        let body = self.drive(Limited::new(body, MAX_ANSWER).collect()).await;
        body.map(Collected::to_bytes).map_err(|error| match error.is::<LengthLimitError>() {
            true => Lost::Unusable(format!("the answer is over {MAX_ANSWER} bytes long")),
            false => Lost::Broken(chain(&*error)),
        })
    }

    /// Runs `work`, which waits for the connection, and the connection with it.
    async fn drive<F: Future>(&mut self, work: F) -> F::Output {
        let mut work = pin!(work);
        poll_fn(|context| {
            self.poll_driver(context);
            work.as_mut().poll(context)
        })
        .await
    }

    fn poll_driver(&mut self, context: &mut Context<'_>) {
        // How it ended shows in what waits for it, as soon as it is dropped.
        if let Some(driver) = &mut self.driver
            && Pin::new(driver).poll(context).is_ready()
        {
            self.driver = None;
        }
    }
}

/// An error with its causes, in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
