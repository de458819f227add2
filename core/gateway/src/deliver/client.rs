//! Posts webhooks: connections that are kept alive, no redirects, no decompression, bounded in time
//! and size.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, Method, Request};
use http_body_util::Full;

use super::link::{Link, Lost};
use super::target::{Origin, Target};
use super::trust::Trust;

/// How long an unused connection is kept. Shorter than what common servers allow.
const IDLE: Duration = Duration::from_secs(4);

/// The client of one app's webhooks.
#[derive(Debug)]
pub struct Poster {
    pool: Arc<Pool>,
    trust: RwLock<Arc<Trust>>,
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
    /// The answer was no HTTP, or broke off.
    Broken(String),
    /// It can never be posted, or its answer is too long.
    Unusable(String),
}

impl Failure {
    /// One word for a metric's label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Connect(_) => "unreachable",
            Self::Timeout => "timeout",
            Self::Broken(_) => "broken",
            Self::Unusable(_) => "unusable",
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connect(why) => write!(f, "cannot connect: {why}"),
            Self::Timeout => f.write_str("no answer in time"),
            Self::Broken(why) => write!(f, "unreadable answer: {why}"),
            Self::Unusable(why) => f.write_str(why),
        }
    }
}

impl Poster {
    /// A client that keeps up to `connections` unused ones open, and believes what `trust` does.
    pub fn new(connections: usize, trust: Arc<Trust>) -> Self {
        let pool = Arc::new(Pool { most: connections, state: Mutex::default() });
        Self { pool, trust: RwLock::new(trust) }
    }

    /// Believes others from the next connection on.
    pub fn set_trust(&self, trust: Arc<Trust>) {
        *self.trust.write().unwrap_or_else(PoisonError::into_inner) = trust;
        self.pool.lock().links.clear();
    }

    async fn open(&self, origin: &Origin) -> Result<Link, Failure> {
        let trust = Arc::clone(&self.trust.read().unwrap_or_else(PoisonError::into_inner));
        Link::open(origin, &trust).await
    }

    /// Posts `body`, and gives up after `timeout`.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn post(
        &self,
        target: &Target,
        headers: HeaderMap,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Answer, Failure> {
        self.request(Method::POST, target, headers, body, timeout).await
    }

    /// Asks with `method`, and gives up after `timeout`.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn request(
        &self,
        method: Method,
        target: &Target,
        headers: HeaderMap,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Answer, Failure> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = target.path.clone().into();
        *request.headers_mut() = headers;
        request.headers_mut().insert(HOST, target.host.clone());
        let exchange = self.exchange(&target.origin, request);
        tokio::time::timeout(timeout, exchange).await.unwrap_or(Err(Failure::Timeout))
    }

    async fn exchange(
        &self,
        origin: &Origin,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Answer, Failure> {
        loop {
            let (mut link, is_new) = match self.pool.take(origin).await {
                Some(link) => (link, false),
                None => (self.open(origin).await?, true),
            };
            match link.exchange(request).await {
                Ok(answer) => {
                    self.pool.give(origin, link);
                    return Ok(answer);
                }
                // It was closed in the moment it was taken.
                Err(Lost::Unsent(unsent, _)) if !is_new => request = *unsent,
                Err(Lost::Unsent(_, why) | Lost::Broken(why)) => return Err(Failure::Broken(why)),
                Err(Lost::Unusable(why)) => return Err(Failure::Unusable(why)),
            }
        }
    }
}

/// Connections that nobody uses at the moment.
#[derive(Debug)]
struct Pool {
    most: usize,
    state: Mutex<Unused>,
}

#[derive(Debug, Default)]
struct Unused {
    links: HashMap<Origin, Vec<(Instant, Link)>>,
    /// Whether a task looks after those that were not used for too long.
    is_watched: bool,
}

impl Pool {
    /// The connection that was used last.
    async fn take(&self, origin: &Origin) -> Option<Link> {
        loop {
            let (since, mut link) = self.lock().links.get_mut(origin)?.pop()?;
            if since.elapsed() < IDLE && link.is_usable().await {
                return Some(link);
            }
        }
    }

    fn give(self: &Arc<Self>, origin: &Origin, link: Link) {
        let mut state = self.lock();
        let entry = (Instant::now(), link);
        match state.links.get_mut(origin) {
            Some(links) if links.len() >= self.most => return,
            Some(links) => links.push(entry),
            None => drop(state.links.insert(origin.clone(), vec![entry])),
        }
        if !std::mem::replace(&mut state.is_watched, true) {
            tokio::spawn(watch(Arc::downgrade(self)));
        }
    }

    /// Closes what was not used for too long; whether anything is left.
    fn close_old(&self) -> bool {
        let mut state = self.lock();
        state.links.retain(|_, links| {
            links.retain(|(since, _)| since.elapsed() < IDLE);
            !links.is_empty()
        });
        state.is_watched = !state.links.is_empty();
        state.is_watched
    }

    fn lock(&self) -> MutexGuard<'_, Unused> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn watch(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(IDLE / 2).await;
        if !pool.upgrade().is_some_and(|pool| pool.close_old()) {
            return;
        }
    }
}
