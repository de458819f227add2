//! Which resource answers what.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract;
use axum::routing::{get, post};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use crate::gateway::Gateway;
use crate::guest::Answer;
use crate::rest::error::RestError;
use crate::rest::serve;
use crate::{api, health};

type Answering = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

/// What is served on `[http] listen`. Nearly every request is for `/rest`, which takes the shorter
/// way.
#[derive(Clone)]
pub struct Main {
    gateway: Arc<Gateway>,
    others: TowerToHyperService<Router>,
}

impl Main {
    /// Serves `gateway`.
    pub fn new(gateway: Arc<Gateway>) -> Self {
        let others = TowerToHyperService::new(others(Arc::clone(&gateway)));
        Self { gateway, others }
    }
}

impl Service<Request<Incoming>> for Main {
    type Response = Answer;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        let below = request.uri().path().strip_prefix("/rest");
        if below.is_none_or(|path| !path.is_empty() && !path.starts_with('/')) {
            let answering = self.others.call(request);
            return Box::pin(async move { answering.await.map(Answer::Now) });
        }
        let gateway = Arc::clone(&self.gateway);
        Box::pin(async move { Ok(serve::handle(&gateway, request).await) })
    }
}

fn others(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/appxmpp/v1/{call}", post(api::call))
        .route("/openapi.json", get(openapi))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .fallback(unknown)
        .with_state(gateway)
}

/// What is served on `[http] metrics`.
pub fn side(gateway: Arc<Gateway>) -> TowerToHyperService<Router> {
    let router = Router::new()
        .route("/metrics", get(health::metrics))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .fallback(unknown)
        .with_state(gateway);
    TowerToHyperService::new(router)
}

async fn unknown(request: extract::Request) -> Response<Body> {
    let accept = serve::header(request.headers(), ACCEPT).map(str::to_owned);
    serve::refusal(None, accept.as_deref(), &RestError::bare(StatusCode::NOT_FOUND))
}

async fn openapi() -> Response<Body> {
    let mut response = Response::new(Body::from(include_str!("openapi.json")));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
