//! The resource `/rest`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use appxmpp::Jid;
use appxmpp::service::Charge;
use appxmpp::stanza::{Stanza, StanzaKind};
use appxmpp::stream::Batch;
use axum::body::Body;
use bytes::Bytes;
use http::header::{
    ACCEPT, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ALLOW, AUTHORIZATION, CONTENT_LENGTH,
    CONTENT_TYPE, HOST, HeaderName, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body as _, Incoming};

use super::draft::{Address, Draft};
use super::error::RestError;
use super::media::{ErrorMedia, Media};
use super::path::Kind;
use super::request::{self, Route};
use super::{json, stanza};
use crate::app::App;
use crate::app::archive::Query;
use crate::app::waiters::Wait;
use crate::config;
use crate::gateway::Gateway;
use crate::guest::Answer;
use crate::id;

const TIMEOUT: HeaderName = HeaderName::from_static("prosody-rest-timeout");
/// How much of a refused request's body is read, so that its sender gets to read the refusal.
const DRAIN: usize = 1024 * 1024;

/// Answers a request for `/rest` or something below it.
pub async fn handle(gateway: &Arc<Gateway>, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let media = ErrorMedia::of_answer(header(&head.headers, ACCEPT));
    let app = match gateway.app_for(host(&head.headers, &head.uri)) {
        Ok(app) => app,
        Err(error) => {
            let strict = gateway.apps().iter().all(|app| app.config().strict);
            let mut response = refusal_as(None, media, &error);
            cors(strict, response.headers_mut());
            return counted(gateway, response).into();
        }
    };
    let config = app.config();
    // Nobody reads the body of another method's request.
    let is_whole = head.method == Method::POST || body.is_end_stream();
    // Nothing of the request, and of reading it, is kept while its answer is waited for.
    let step = Box::pin(prepare(gateway, app, &config, &head, body)).await;
    drop(head);
    let answer = match step {
        Ok(Step::Answer(response)) => Ok(response),
        Ok(Step::Send(outgoing)) => outgoing.send(app, &config).await,
        Ok(Step::Ask(question)) => match app.ask(question.batch).await {
            Ok(()) => {
                let gateway = Arc::clone(gateway);
                let asker = Asker { gateway, app: Arc::clone(app), config, media };
                let later = question.waiting.respond(asker);
                return if is_whole { Answer::Later(Box::pin(later)) } else { later.await.into() };
            }
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    finished(gateway, app, &config, media, answer).into()
}

fn finished(
    gateway: &Gateway,
    app: &App,
    config: &config::App,
    media: ErrorMedia,
    answer: Result<Response<Body>, RestError>,
) -> Response<Body> {
    let mut response = answer.unwrap_or_else(|error| refusal_as(Some(app), media, &error));
    cors(config.strict, response.headers_mut());
    counted(gateway, response)
}

fn counted(gateway: &Gateway, response: Response<Body>) -> Response<Body> {
    gateway.metrics.request("rest", response.status().as_u16());
    response
}

/// What a request comes to.
enum Step {
    /// Nothing is sent.
    Answer(Response<Body>),
    /// A message or presence goes out.
    Send(Outgoing),
    /// An iq goes out, and its answer is waited for.
    Ask(Question),
}

/// The host that a request is for: of its target, else of its Host header, without the port.
pub(crate) fn host<'h>(headers: &'h HeaderMap, uri: &'h Uri) -> Option<&'h str> {
    let host = uri.host().or_else(|| header(headers, HOST))?;
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => Some(address),
        None => host.split(':').next(),
    }
}

pub(crate) fn header(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

async fn prepare(
    gateway: &Gateway,
    app: &App,
    config: &config::App,
    head: &http::request::Parts,
    body: Incoming,
) -> Result<Step, RestError> {
    let path = head.uri.path().strip_prefix("/rest").unwrap_or_default();
    match head.method {
        Method::OPTIONS => return Ok(Step::Answer(empty(StatusCode::OK))),
        Method::POST => {}
        Method::GET | Method::HEAD if path.is_empty() => return Ok(Step::Answer(moved())),
        // A HEAD is a GET whose response's body is not sent.
        Method::GET | Method::HEAD => {}
        _ if config.strict => return Err(RestError::bare(StatusCode::NOT_FOUND)),
        _ => return Err(RestError::METHOD),
    }
    let path = path.strip_prefix('/').unwrap_or_default();
    if let Err(error) = config.keyring.check(header(&head.headers, AUTHORIZATION)) {
        drain(body, gateway.http.body_timeout).await;
        return Err(error);
    }
    let accept = header(&head.headers, ACCEPT);
    if head.method != Method::POST {
        match path {
            "echo" if config.strict => return Err(RestError::MEDIA_TYPE),
            "echo" => return Ok(Step::Answer(post_only(app, accept))),
            _ => {}
        }
        let draft = request::get(path, head.uri.query(), config.strict)?;
        let route = request::route(&draft, &app.own, app.aliases(), config.strict)?;
        return addressed(app, config, head, &draft, route, Media::of_answer(accept, None));
    }
    let body = read(config, head, body, gateway.http.body_timeout).await?;
    let content_type = header(&head.headers, CONTENT_TYPE);
    let draft = request::post(path, content_type, &body, config.strict)?;
    let lenient = config.strict && Media::of_body(content_type, true) != Some(Media::Xml);
    let route = request::route(&draft, &app.own, app.aliases(), lenient)?;
    let media = Media::of_answer(accept, content_type);
    if path == "echo" {
        return echo(config, &draft, &route, media).map(Step::Answer);
    }
    addressed(app, config, head, &draft, route, media)
}

fn addressed(
    app: &App,
    config: &config::App,
    head: &http::request::Parts,
    draft: &Draft<'_>,
    route: Route,
    media: Media,
) -> Result<Step, RestError> {
    let made;
    let id = match draft.id.as_deref() {
        Some(id) if !id.is_empty() => id,
        _ => {
            made = id::stanza();
            &made
        }
    };
    let type_ = draft.type_.as_deref().filter(|type_| !type_.is_empty());
    let address = Address { to: route.to.as_str(), from: route.from.as_str(), id, type_ };
    let charge = Charge::of(draft.kind.stanza(), type_, &draft.inner);
    if draft.kind == Kind::Iq {
        request::check_iq(draft)?;
        let wait = app.waiters.wait(StanzaKind::Iq, &route.to, id).ok_or(RestError::ID_IN_USE)?;
        let query = app.archives.collect(&route.to, &draft.inner);
        let (batch, limit) = (app.batch_of(draft, &address)?, timeout(config, &head.headers));
        app.charge(charge)?;
        return Ok(Step::Ask(Question { batch, waiting: Waiting { wait, query, limit, media } }));
    }
    let kind = draft.kind.name();
    let to = route.to.as_str();
    let watch = !config.bounce_wait.is_zero()
        && app.is_ready()
        && type_ != Some("error")
        && (config.strict || !app.known.contains(kind, type_, to));
    let batch = app.batch_of(draft, &address)?;
    app.charge(charge)?;
    let wait = if watch { app.waiters.wait(draft.kind.stanza(), &route.to, id) } else { None };
    let watch = wait.map(|wait| Watch { wait, type_: type_.map(str::to_owned), to: route.to });
    Ok(Step::Send(Outgoing { batch, kind, watch, media }))
}

/// A message or presence on its way out.
struct Outgoing {
    batch: Batch,
    kind: &'static str,
    watch: Option<Watch>,
    media: Media,
}

/// Its bounce is waited for.
struct Watch {
    wait: Wait,
    type_: Option<String>,
    to: Jid,
}

impl Outgoing {
    async fn send(self, app: &App, config: &config::App) -> Result<Response<Body>, RestError> {
        app.send(self.batch, self.kind).await?;
        if let Some(watch) = self.watch
            && let Some(bounce) = watch.bounce(app, self.kind, config.bounce_wait).await
        {
            return Ok(document(config, &bounce, self.media));
        }
        Ok(empty(StatusCode::ACCEPTED))
    }
}

impl Watch {
    /// The stanza's bounce, if it comes before the server has dealt with what follows the stanza, and
    /// within `limit`.
    async fn bounce(mut self, app: &App, kind: &str, limit: Duration) -> Option<Stanza> {
        let host = self.to.domainpart();
        let is_late = app.known.is_late(host);
        let settled = async {
            match is_late {
                true => std::future::pending().await,
                false => app.settled().await,
            }
        };
        let bounce = async {
            tokio::select! {
                biased;
                bounce = self.wait.answer() => bounce,
                () = settled => None,
            }
        };
        if let Ok(Some(bounce)) = tokio::time::timeout(limit, bounce).await {
            return Some(bounce);
        }
        if is_late {
            app.known.not_late(host);
        }
        // First this: a bounce that comes after the end takes it back.
        app.known.insert(kind, self.type_.as_deref(), self.to.as_str());
        let last = self.wait.end()?;
        app.known.forget(kind, &self.to, Duration::ZERO);
        Some(last)
    }
}

/// An iq on its way out.
struct Question {
    batch: Batch,
    waiting: Waiting,
}

/// Its answer is waited for.
struct Waiting {
    wait: Wait,
    query: Option<Query>,
    limit: Duration,
    media: Media,
}

/// Who asked, and of whom.
struct Asker {
    gateway: Arc<Gateway>,
    app: Arc<App>,
    config: Arc<config::App>,
    media: ErrorMedia,
}

impl Waiting {
    /// The response, once there is one. Not an `async fn`, which would have room for its arguments
    /// twice.
    fn respond(mut self, asker: Asker) -> impl Future<Output = Response<Body>> + Send {
        let asked = Instant::now();
        async move {
            let answer = tokio::time::timeout(self.limit, self.wait.answer()).await.ok().flatten();
            let Asker { gateway, app, config, media } = &asker;
            let outcome = match &answer {
                Some(answer) if answer.is_error() => "error",
                Some(_) => "result",
                None => "timeout",
            };
            app.metrics.iq_took(outcome, asked.elapsed());
            let late = || RestError::iq_timeout(StatusCode::INTERNAL_SERVER_ERROR);
            let answer = answer.ok_or_else(late).map(|answer| self.written(config, &answer));
            finished(gateway, app, config, *media, answer)
        }
    }

    fn written(&self, config: &config::App, answer: &Stanza) -> Response<Body> {
        let pages = self.query.as_ref().map(Query::take).unwrap_or_default();
        if pages.is_empty() {
            return document(config, answer, self.media);
        }
        documents(config, pages.iter().chain([answer]), self.media)
    }
}

/// How long an iq may wait for its answer.
fn timeout(config: &config::App, headers: &HeaderMap) -> Duration {
    let asked = header(headers, TIMEOUT).and_then(|text| text.trim().parse::<f64>().ok());
    match asked.filter(|seconds| seconds.is_finite()) {
        Some(seconds) => {
            let most = config.iq_max_timeout;
            Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(most).min(most)
        }
        None => config.iq_timeout,
    }
}

fn echo(
    config: &config::App,
    draft: &Draft<'_>,
    route: &Route,
    media: Media,
) -> Result<Response<Body>, RestError> {
    let made = id::stanza();
    let xml = draft.write(&Address {
        to: route.to.as_str(),
        from: route.from.as_str(),
        id: draft.id.as_deref().unwrap_or(&made),
        type_: draft.type_.as_deref(),
    });
    if media == Media::Xml {
        return Ok(response(Media::Xml, xml.into()));
    }
    let scope = appxmpp::xml::Scope::stream(appxmpp::ns::CLIENT);
    let stanza = Stanza::parse(xml.into(), &scope, &super::draft::limits());
    stanza.map(|stanza| document(config, &stanza, media)).map_err(|_| RestError::UNPARSABLE)
}

/// A stanza as the answer's body.
fn document(config: &config::App, answer: &Stanza, media: Media) -> Response<Body> {
    let written = if media == Media::Text { Media::Xml } else { media };
    response(media, stanza::to_media(answer, written, config.strict))
}

/// Several stanzas as the answer's body, as mod_rest wraps them. A form cannot hold them.
fn documents<'s>(
    config: &config::App,
    answers: impl Iterator<Item = &'s Stanza>,
    media: Media,
) -> Response<Body> {
    let body = match media {
        Media::Json => {
            let mode = json::Mode::json(config.strict);
            let members = |answer| json::of_stanza(&stanza::to_client(answer), mode).into();
            let all: Vec<serde_json::Value> = answers.map(members).collect();
            serde_json::json!({ "xmpp": all }).to_string().into()
        }
        Media::Form => Bytes::new(),
        Media::Xml | Media::Text => {
            let mut text = b"<xmpp>".to_vec();
            answers.for_each(|answer| text.extend_from_slice(&stanza::to_xml(answer)));
            text.extend_from_slice(b"</xmpp>");
            text.into()
        }
    };
    response(media, body)
}

fn response(media: Media, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media.name()));
    response
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn moved() -> Response<Body> {
    let mut response = empty(StatusCode::MOVED_PERMANENTLY);
    response.headers_mut().insert(LOCATION, HeaderValue::from_static("/rest/"));
    response
}

/// The whole body, bounded in size and time.
async fn read(
    config: &config::App,
    head: &http::request::Parts,
    body: Incoming,
    limit: Duration,
) -> Result<Bytes, RestError> {
    let most = config.stanza_size_limit;
    let announced = header(&head.headers, CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok());
    if announced.is_some_and(|length| length > most as u64) {
        drain(body, limit).await;
        return Err(RestError::TOO_LARGE);
    }
    match tokio::time::timeout(limit, Limited::new(body, most).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(RestError::TOO_LARGE)
        }
        Ok(Err(_)) => Err(RestError::UNPARSABLE),
        Err(_) => Err(RestError::bare(StatusCode::REQUEST_TIMEOUT)),
    }
}

/// Reads and forgets a body of reasonable size: who still writes would not read the answer.
async fn drain(body: Incoming, limit: Duration) {
    let mut body = Limited::new(body, DRAIN);
    let all = async { while let Some(Ok(_)) = body.frame().await {} };
    let _ = tokio::time::timeout(limit, all).await;
}

/// A refusal as the caller wants to read it.
pub(crate) fn refusal(
    app: Option<&App>,
    accept: Option<&str>,
    error: &RestError,
) -> Response<Body> {
    refusal_as(app, ErrorMedia::of_answer(accept), error)
}

/// Refuses to GET what only takes a body.
fn post_only(app: &App, accept: Option<&str>) -> Response<Body> {
    let mut response = refusal(Some(app), accept, &RestError::METHOD);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("OPTIONS, POST"));
    response
}

fn refusal_as(app: Option<&App>, media: ErrorMedia, error: &RestError) -> Response<Body> {
    let mut response = Response::new(Body::from(error.render(media)));
    *response.status_mut() = error.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media.content_type()));
    if error.challenge
        && let Some(app) = app
    {
        headers.insert(WWW_AUTHENTICATE, app.challenge.clone());
    }
    if error.status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS, POST"));
    }
    if let Some(seconds) = error.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn cors(strict: bool, headers: &mut HeaderMap) {
    let allowed = if strict { "Content-Type" } else { "Authorization, Content-Type" };
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, OPTIONS, POST"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(allowed));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("7200"));
}
