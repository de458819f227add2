//! The private API of `APPXMPP_BACKEND=http://…`: App Engine's calls, as JSON over one connection
//! to the XMPP server that all worker processes share.
//!
//! | POST | body | 200 |
//! |---|---|---|
//! | `/appxmpp/v1/message` | `{"jids": […], "body", "from", "type", "raw_xml"}` | `{"statuses": [0, 1, 2]}` |
//! | `/appxmpp/v1/presence` | `{"jid", "type", "show", "status", "from"}` | `{}` |
//! | `/appxmpp/v1/invite` | `{"jid", "from"}` | `{}` |
//! | `/appxmpp/v1/get_presence` | `{"jids": […], "from"}` | `{"presence": [{"available", "show", "valid"}]}` |
//! | `/appxmpp/v1/dead_letters` | `{}` | `{"dead_letters": [{"id", "at", "reason", "path", "from"}]}` |
//! | `/appxmpp/v1/replay_dead_letters` | `{"ids": […]}` | `{"done": […], "unknown": […]}` |
//! | `/appxmpp/v1/purge_dead_letters` | `{"ids": […]}` | `{"done": […], "unknown": […]}` |
//!
//! What App Engine's service refuses is 422 with `{"error": {"code", "text"}}`, where `code` is its
//! `XmppServiceError`. A quota that is used up is 429 with `"over_quota": true` beside these. Credentials and the choice of the app are those of `/rest`.

use std::collections::HashSet;
use std::sync::Arc;

use appxmpp::service::{MessageCall, PresenceCall, ServiceError};
use appxmpp::stanza::Stanza;
use appxmpp::xml::{Limits, Scope};
use appxmpp::{ErrorKind, ns};
use axum::body::Body;
use axum::extract::{Path, Request, State};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::App;
use crate::gateway::Gateway;
use crate::rest::error::RestError;
use crate::rest::serve::{header, host, refusal};

/// The longest call: App Engine's 1 MiB, escaped as JSON at its worst.
const MAX_CALL: usize = 8 * 1024 * 1024;

#[derive(Debug, Deserialize)]
struct Message {
    jids: Vec<String>,
    #[serde(default)]
    body: String,
    from: Option<String>,
    #[serde(rename = "type", default = "chat")]
    type_: String,
    #[serde(default)]
    raw_xml: bool,
}

fn chat() -> String {
    "chat".to_owned()
}

#[derive(Debug, Deserialize)]
struct Presence {
    jid: String,
    #[serde(rename = "type", default)]
    type_: String,
    #[serde(default)]
    show: String,
    status: Option<String>,
    from: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Invite {
    jid: String,
    from: Option<String>,
}

#[derive(Debug, Deserialize)]
struct GetPresence {
    jids: Vec<String>,
    from: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Nothing {}

/// Numbers of up to 64 bits, as text: JSON's are not that long everywhere.
#[derive(Debug, Deserialize)]
struct Letters {
    ids: Vec<String>,
}

/// Why a call has no result.
enum Refused {
    /// Before the service was asked.
    Rest(RestError),
    /// By the service.
    Service(appxmpp::Error),
}

impl From<RestError> for Refused {
    fn from(error: RestError) -> Self {
        Self::Rest(error)
    }
}

impl From<appxmpp::Error> for Refused {
    fn from(error: appxmpp::Error) -> Self {
        Self::Service(error)
    }
}

/// Answers a call.
pub async fn call(
    State(gateway): State<Arc<Gateway>>,
    Path(call): Path<String>,
    request: Request,
) -> Response<Body> {
    let accept = header(request.headers(), ACCEPT).unwrap_or("application/json").to_owned();
    let (response, app) = match gateway.app_for(host(request.headers(), request.uri())) {
        Ok(app) => (answer(&gateway, app, &call, request).await, Some(app)),
        Err(error) => (Err(error.into()), None),
    };
    let response = match response {
        Ok(value) => json_response(StatusCode::OK, &value),
        Err(Refused::Rest(error)) => refusal(app.map(Arc::as_ref), Some(&accept), &error),
        Err(Refused::Service(error)) => service_error(&error),
    };
    gateway.metrics.request("api", response.status().as_u16());
    response
}

async fn answer(
    gateway: &Gateway,
    app: &App,
    call: &str,
    request: Request,
) -> Result<Value, Refused> {
    app.config().keyring.check(header(request.headers(), AUTHORIZATION))?;
    let body = Limited::new(request.into_body(), MAX_CALL).collect();
    let body = tokio::time::timeout(gateway.http.body_timeout, body)
        .await
        .map_err(|_| RestError::bare(StatusCode::REQUEST_TIMEOUT))?
        .map_err(|_| RestError::TOO_LARGE)?
        .to_bytes();
    match call {
        "message" => message(app, &parse(&body)?).await,
        "presence" => presence(app, &parse(&body)?).await,
        "invite" => invite(app, &parse(&body)?).await,
        "get_presence" => get_presence(app, &parse(&body)?),
        "dead_letters" => {
            parse::<Nothing>(&body)?;
            dead_letters(app)
        }
        "replay_dead_letters" => settle(app, &parse(&body)?, App::replay),
        "purge_dead_letters" => settle(app, &parse(&body)?, App::purge),
        _ => Err(RestError::bare(StatusCode::NOT_FOUND).into()),
    }
}

fn parse<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, Refused> {
    let unreadable = |why: String| {
        let text = format!("The call's JSON cannot be read: {why}").into();
        RestError { text, ..RestError::UNPARSABLE }.into()
    };
    // A list of the values would do for serde.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(unreadable("it is no object".to_owned()));
    }
    serde_json::from_slice(body).map_err(|error| unreadable(error.to_string()))
}

async fn message(app: &App, call: &Message) -> Result<Value, Refused> {
    let jids: Vec<&str> = call.jids.iter().map(String::as_str).collect();
    let statuses = app
        .send_message(&MessageCall {
            jids: &jids,
            body: &call.body,
            from: call.from.as_deref(),
            type_: &call.type_,
            raw_xml: call.raw_xml,
        })
        .await?;
    let numbers: Vec<u8> = statuses.into_iter().map(|status| status as u8).collect();
    Ok(json!({"statuses": numbers}))
}

async fn presence(app: &App, call: &Presence) -> Result<Value, Refused> {
    let stanza = app.service().send_presence(&PresenceCall {
        jid: &call.jid,
        type_: &call.type_,
        show: &call.show,
        status: call.status.as_deref(),
        from: call.from.as_deref(),
    })?;
    app.send(app.batch(&String::from_utf8_lossy(&stanza))?, "presence").await?;
    Ok(json!({}))
}

async fn invite(app: &App, call: &Invite) -> Result<Value, Refused> {
    let stanza = app.service().send_invite(&call.jid, call.from.as_deref())?;
    app.send(app.batch(&String::from_utf8_lossy(&stanza))?, "presence").await?;
    Ok(json!({}))
}

fn get_presence(app: &App, call: &GetPresence) -> Result<Value, Refused> {
    let jids: Vec<&str> = call.jids.iter().map(String::as_str).collect();
    let answers = app.service().get_presence(&jids, call.from.as_deref())?;
    let list: Vec<Value> = answers
        .into_iter()
        .map(|answer| {
            let show = answer.show.map(|show| show as i64);
            json!({"available": answer.available, "show": show, "valid": answer.valid})
        })
        .collect();
    Ok(json!({"presence": list}))
}

fn dead_letters(app: &App) -> Result<Value, Refused> {
    let scope = Scope::stream(ns::COMPONENT);
    let letters = app.dead_letters()?.into_iter().map(|letter| {
        let stanza = Stanza::parse(letter.row.stanza, &scope, &Limits::default()).ok();
        let from = stanza.as_ref().and_then(|stanza| stanza.from()).map(|from| from.as_str());
        json!({
            "id": letter.row.id.to_string(),
            "at": letter.at.as_secs(),
            "reason": letter.reason,
            "path": letter.row.path,
            "from": from,
        })
    });
    Ok(json!({"dead_letters": letters.collect::<Vec<_>>()}))
}

fn settle(
    app: &App,
    call: &Letters,
    act: impl Fn(&App, &HashSet<u64>) -> appxmpp::Result<Vec<u64>>,
) -> Result<Value, Refused> {
    let wanted = call.ids.iter().filter_map(|id| id.parse().ok()).collect();
    let acted: HashSet<u64> = act(app, &wanted)?.into_iter().collect();
    let is_done = |id: &&String| id.parse().is_ok_and(|id| acted.contains(&id));
    let (done, unknown): (Vec<_>, Vec<_>) = call.ids.iter().partition(is_done);
    Ok(json!({"done": done, "unknown": unknown}))
}

fn service_error(error: &appxmpp::Error) -> Response<Body> {
    let status = match error.kind() {
        ErrorKind::NotConnected | ErrorKind::Closed | ErrorKind::NotAuthorized => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        ErrorKind::Backpressure | ErrorKind::OverQuota => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::Internal | ErrorKind::Store | ErrorKind::Config => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    };
    let code = ServiceError::from(error.kind()) as i32;
    let mut value = json!({"error": {"code": code, "text": error.to_string()}});
    if error.kind() != ErrorKind::OverQuota {
        return json_response(status, &value);
    }
    value["error"]["over_quota"] = true.into();
    let mut response = json_response(status, &value);
    let refusal = RestError::from_core(error);
    response.headers_mut().extend(refusal.retry_after.map(|it| (RETRY_AFTER, it.into())));
    response
}

fn json_response(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
