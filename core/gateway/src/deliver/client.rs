//! Posts webhooks: one pool of kept-alive connections, no redirects, no decompression, bounded in
//! time and size.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 10 * 1024 * 1024;
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an unused connection is kept. Shorter than what common servers allow.
const IDLE: Duration = Duration::from_secs(4);

/// The client of one app's webhooks.
#[derive(Debug, Clone)]
pub struct Poster {
    client: Client<HttpConnector, Full<Bytes>>,
}

/// What a webhook answered.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Retry-After`, if it is in seconds.
    pub retry_after: Option<Duration>,
    /// `Accept`, for the probe.
    pub accept: Option<String>,
    /// The body.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// No connection: nothing was sent.
    Connect(String),
    /// No whole answer in the time allowed.
    Timeout,
    /// The answer was no HTTP, broke off, or was too long.
    Broken(String),
    /// The daemon stops before the next attempt.
    Stopped,
}

impl Failure {
    /// One word for a metric's label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Connect(_) => "unreachable",
            Self::Timeout => "timeout",
            Self::Broken(_) => "broken",
            Self::Stopped => "stopped",
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connect(why) => write!(f, "cannot connect: {why}"),
            Self::Timeout => f.write_str("no answer in time"),
            Self::Broken(why) => write!(f, "unreadable answer: {why}"),
            Self::Stopped => f.write_str("the gateway stops"),
        }
    }
}

impl Poster {
    /// A client that keeps up to `connections` open.
    pub fn new(connections: usize) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_keepalive(Some(Duration::from_secs(60)));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(connections)
            .http1_max_headers(128)
            .build(connector);
        Self { client }
    }

    /// Posts `body`, and gives up after `timeout`.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn post(
        &self,
        uri: Uri,
        headers: HeaderMap,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Answer, Failure> {
        self.request(Method::POST, uri, headers, body, timeout).await
    }

    /// Asks with `method`, and gives up after `timeout`.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn request(
        &self,
        method: Method,
        uri: Uri,
        headers: HeaderMap,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Answer, Failure> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        tokio::time::timeout(timeout, self.exchange(request)).await.unwrap_or(Err(Failure::Timeout))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer, Failure> {
        let response = self.client.request(request).await.map_err(|error| {
            let text = chain(&error);
            if error.is_connect() { Failure::Connect(text) } else { Failure::Broken(text) }
        })?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body.map_err(|error| Failure::Broken(chain(&*error)))?.to_bytes();
        let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
        Ok(Answer {
            status: head.status.as_u16(),
            content_type: text(CONTENT_TYPE).map(str::to_owned),
            retry_after: text(RETRY_AFTER)
                .and_then(|value| value.trim().parse().ok())
                .map(Duration::from_secs),
            accept: text(http::header::ACCEPT).map(str::to_owned),
            body,
        })
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
