//! Which resource answers what.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::routing::{any, get, post};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};

use crate::gateway::Gateway;
use crate::rest::error::RestError;
use crate::rest::serve;
use crate::{api, health};

/// What is served on `[http] listen`.
pub fn main(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/rest", any(rest))
        .route("/rest/", any(rest))
        .route("/rest/{*path}", any(rest))
        .route("/appxmpp/v1/{call}", post(api::call))
        .route("/openapi.json", get(openapi))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .fallback(unknown)
        .with_state(gateway)
}

/// What is served on `[http] metrics`.
pub fn side(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/metrics", get(health::metrics))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .fallback(unknown)
        .with_state(gateway)
}

async fn rest(State(gateway): State<Arc<Gateway>>, request: Request) -> Response<Body> {
    let response = serve::handle(&gateway, request).await;
    gateway.metrics.request("rest", response.status().as_u16());
    response
}

async fn unknown(request: Request) -> Response<Body> {
    let accept = serve::header(request.headers(), ACCEPT).map(str::to_owned);
    serve::refusal(None, accept.as_deref(), &RestError::bare(StatusCode::NOT_FOUND))
}

async fn openapi() -> Response<Body> {
    let mut response = Response::new(Body::from(include_str!("openapi.json")));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
