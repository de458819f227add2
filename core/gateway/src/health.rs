//! Is the daemon alive, is it ready, and what has it done.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};

use crate::app::App;
use crate::gateway::Gateway;

/// What is said of an app without a stream.
pub(crate) const DOWN: &str = "no stream to the XMPP server";

/// `/healthz`: the process answers.
pub async fn alive() -> Response<Body> {
    text(StatusCode::OK, "text/plain", "ok\n".to_owned())
}

/// `/readyz`: every app's stream is up; 503 and which are not otherwise.
pub async fn ready(State(gateway): State<Arc<Gateway>>) -> Response<Body> {
    let mut lines = String::new();
    for app in gateway.apps() {
        lines.push_str(&format!("{}: {}\n", app.config().name, state(app)));
    }
    let status = if gateway.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    text(status, "text/plain", lines)
}

fn state(app: &App) -> &'static str {
    match app.is_ready() {
        true => "ready",
        false if app.is_standby() => "standby: another process has the stream to the XMPP server",
        false if app.is_taking_over() => {
            "taking over: what another process left comes first, within some seconds"
        }
        false => DOWN,
    }
}

/// How the streams are, in one line.
pub fn summary(gateway: &Gateway) -> String {
    let down = gateway.apps().iter().filter(|app| !app.is_ready());
    let down: Vec<_> = down.map(|app| format!("{}: {}", app.config().name, state(app))).collect();
    match down.is_empty() {
        true => "every stream is up".to_owned(),
        false => down.join("; "),
    }
}

/// `/metrics`: OpenMetrics text.
pub async fn metrics(State(gateway): State<Arc<Gateway>>) -> Response<Body> {
    gateway.apps().iter().for_each(|app| app.measure());
    let type_ = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    text(StatusCode::OK, type_, gateway.metrics.render())
}

fn text(status: StatusCode, type_: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(type_));
    response
}
