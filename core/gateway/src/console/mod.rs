//! The development console: a page on which one plays any user against a running app, on the
//! embedded development server. It is for development alone, and off unless asked for.

mod act;
mod guard;
mod page;
mod story;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use appxmpp::net::dev::{DevEvent, DevServer};
use appxmpp::{Error, ErrorKind, Result};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::routing::{get, post};
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, LOCATION, REFERRER_POLICY,
    SET_COOKIE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::channel::Channel;
use http_body_util::{BodyExt as _, Limited};
use hyper_util::service::TowerToHyperService;
use tokio::sync::watch;

use crate::config::{Http, Listen};
use crate::rest::serve::header;
use crate::server::Server;
use act::Act;
use guard::Guard;
use story::{Entry, Story, Who};

/// The longest form, in bytes.
const MAX_FORM: usize = 1024 * 1024;
/// How many events are taken at once.
const EVENTS: usize = 64;
const CORP: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// One app that can be talked to.
#[derive(Clone)]
pub struct Stage {
    /// The domain of its component.
    pub domain: String,
    /// The address that the page suggests.
    pub bot: String,
    /// The server it is connected to.
    pub server: DevServer,
}

struct Console {
    stages: Vec<Stage>,
    story: Story,
    guard: Guard,
}

/// A console that is served until this is dropped.
#[derive(Debug)]
pub struct Running {
    /// Its address, with the key that opens it.
    pub url: String,
    _closing: watch::Sender<bool>,
}

/// Serves the console at `listen`, on the runtime of the caller.
///
/// # Errors
/// [`ErrorKind::Config`] if it cannot listen there, or there is nothing to play.
pub async fn start(listen: SocketAddr, stages: Vec<Stage>) -> Result<Running> {
    if stages.is_empty() {
        let text = "the console plays users of the embedded development server, and no app runs on \
                    it: set backend = \"dev://DOMAIN\" in [[app]], or leave out [console]";
        return Err(Error::new(ErrorKind::Config, text));
    }
    let server = Server::bind(&Listen::Tcp(listen)).await?;
    let address = server.address();
    let guard = Guard::new(&address);
    let url = format!("http://{address}/?key={}", guard.key());
    let console = Arc::new(Console { stages, story: Story::default(), guard });
    for stage in &console.stages {
        tokio::spawn(listen_to(Arc::clone(&console), stage.clone()));
    }
    let (closing, closed) = watch::channel(false);
    let service = TowerToHyperService::new(routes(console));
    tokio::spawn(server.serve(service, settings(listen), Arc::default(), closed));
    Ok(Running { url, _closing: closing })
}

/// Bounds like those of `/rest`; the page keeps one connection open for what happens.
fn settings(listen: SocketAddr) -> Http {
    Http {
        listen: Listen::Tcp(listen),
        metrics: None,
        max_connections: 64,
        header_timeout: Duration::from_secs(15),
        body_timeout: Duration::from_secs(30),
        write_timeout: Duration::from_secs(30),
        max_header_bytes: 16 * 1024,
    }
}

/// Writes down what the users of one server see, for as long as it runs.
async fn listen_to(console: Arc<Console>, stage: Stage) {
    while let Ok(events) = stage.server.next_events(EVENTS).await
        && !events.is_empty()
    {
        for event in events {
            let entry = match event {
                DevEvent::Connected => Entry::note(format!("{} is connected", stage.domain)),
                DevEvent::Disconnected => Entry::note(format!("{} is gone", stage.domain)),
                DevEvent::Stanza { user, stanza } => Entry::stanza(Who::App, user, stanza),
                _ => continue,
            };
            console.story.add(entry);
        }
    }
}

fn routes(console: Arc<Console>) -> Router {
    Router::new()
        .route("/", get(show))
        .route("/act", post(act))
        .route("/events", get(events))
        .route("/talk.txt", get(talk))
        .route(
            "/console.js",
            get(|| asset("text/javascript; charset=utf-8", include_str!("console.js"))),
        )
        .route(
            "/console.css",
            get(|| asset("text/css; charset=utf-8", include_str!("console.css"))),
        )
        .layer(middleware::from_fn_with_state(Arc::clone(&console), admit))
        .with_state(console)
}

async fn asset(type_: &'static str, text: &'static str) -> Response<Body> {
    with_type(StatusCode::OK, type_, text.into())
}

fn with_type(status: StatusCode, type_: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(type_));
    response
}

/// Lets in who has the key and speaks to this server by a name that is surely its own.
async fn admit(
    State(console): State<Arc<Console>>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let admitted = console.guard.admit(request.method(), request.uri(), request.headers());
    let mut response = match admitted {
        Ok(None) => next.run(request).await,
        Ok(Some(cookie)) => opened(cookie),
        Err(why) => with_type(StatusCode::FORBIDDEN, "text/plain; charset=utf-8", why.into()),
    };
    protect(response.headers_mut());
    response
}

/// The key was in the address: it becomes a cookie, and leaves the address bar.
fn opened(cookie: HeaderValue) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    response.headers_mut().insert(LOCATION, HeaderValue::from_static("/"));
    response.headers_mut().insert(SET_COOKIE, cookie);
    response
}

/// What a page may do: use its own style and script, speak to its own server, and nothing else.
fn protect(headers: &mut HeaderMap) {
    let policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                  form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CORP, HeaderValue::from_static("same-origin"));
}

async fn show(State(console): State<Arc<Console>>, request: Request) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default();
    html(StatusCode::OK, &console, &Act::parse(query.as_bytes()), None)
}

fn html(status: StatusCode, console: &Console, act: &Act, wrong: Option<&str>) -> Response<Body> {
    let entries = console.story.after(0).0;
    let page = page::whole(&console.stages, act, wrong, &entries);
    with_type(status, "text/html; charset=utf-8", page.into())
}

/// Does what the form says. A script gets 204 or the reason as text; a plain form the page.
async fn act(State(console): State<Arc<Console>>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let scripted = header(&head.headers, http::header::ACCEPT) == Some("text/plain");
    let plain = "text/plain; charset=utf-8";
    let Ok(body) = Limited::new(body, MAX_FORM).collect().await else {
        return with_type(StatusCode::PAYLOAD_TOO_LARGE, plain, "the form is too large".into());
    };
    let act = Act::parse(&body.to_bytes());
    match act.perform(&console.stages) {
        Ok(entry) => {
            console.story.add(entry);
            if scripted {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::NO_CONTENT;
                return response;
            }
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::SEE_OTHER;
            let place = HeaderValue::from_str(&act.place());
            let place = place.unwrap_or(HeaderValue::from_static("/"));
            response.headers_mut().insert(LOCATION, place);
            response
        }
        Err(error) if scripted => {
            with_type(StatusCode::UNPROCESSABLE_ENTITY, plain, error.to_string().into())
        }
        Err(error) => {
            html(StatusCode::UNPROCESSABLE_ENTITY, &console, &act, Some(&error.to_string()))
        }
    }
}

/// What happens from now on, or after `Last-Event-ID`, as server-sent events of HTML.
async fn events(State(console): State<Arc<Console>>, request: Request) -> Response<Body> {
    let query = request.uri().query().and_then(|query| query.strip_prefix("after="));
    let last = header(request.headers(), HeaderName::from_static("last-event-id")).or(query);
    let mut after = last.and_then(|text| text.parse().ok()).unwrap_or(0);
    let (mut sender, body) = Channel::<Bytes, std::convert::Infallible>::new(8);
    tokio::spawn(async move {
        let mut grown = console.story.watch();
        loop {
            let (entries, newest) = console.story.after(after);
            let mut text = String::new();
            for entry in &entries {
                let lines =
                    page::entry(entry).trim_end().replace('\n', "\ndata: ").replace('\r', "");
                text.push_str(&format!("id: {}\ndata: {lines}\n\n", entry.number));
            }
            after = newest;
            if !text.is_empty() && sender.send(Frame::data(text.into())).await.is_err() {
                return;
            }
            // A comment now and then shows whether anybody still reads.
            match tokio::time::timeout(Duration::from_secs(20), grown.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_) => {
                    if sender.send(Frame::data(Bytes::from_static(b":\n\n"))).await.is_err() {
                        return;
                    }
                }
            }
        }
    });
    with_type(StatusCode::OK, "text/event-stream", Body::new(body))
}

/// The conversation with one user, to be played again by `appxmpp dev --talk`.
async fn talk(State(console): State<Arc<Console>>, request: Request) -> Response<Body> {
    let act = Act::parse(request.uri().query().unwrap_or_default().as_bytes());
    let text = console.story.talk(act.user());
    with_type(StatusCode::OK, "text/plain; charset=utf-8", text.into())
}
