//! `appxmpp send`: a message through a running gateway.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use appxmpp::{Error, ErrorKind, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::config::{self, App, Config, Listen};
use crate::terminal;

const PATIENCE: Duration = Duration::from_secs(30);

/// Sends `body` to each of `to`, and says what became of it.
///
/// # Errors
/// The gateway cannot be reached, or refuses.
pub fn run(
    config: &Config,
    app: Option<&str>,
    from: Option<&str>,
    to: &[String],
    body: &str,
) -> Result<()> {
    let app = choose(config, app)?;
    let body = match body {
        "-" => std::io::read_to_string(std::io::stdin())
            .map_err(|error| failed(format!("cannot read standard input: {error}")))?,
        body => body.to_owned(),
    };
    let answer = call(config, app, "message", &json!({"jids": to, "body": body, "from": from}))?;
    let statuses = answer["statuses"].as_array().cloned().unwrap_or_default();
    let mut failures = 0;
    for (jid, status) in to.iter().zip(&statuses) {
        let words = match status.as_u64() {
            Some(0) => "sent",
            Some(1) => "not sent: no address",
            _ => "not sent: the XMPP server cannot be reached",
        };
        failures += usize::from(status.as_u64() != Some(0));
        terminal::line(&format!("{jid}: {words}"));
    }
    if failures == 0 {
        Ok(())
    } else {
        Err(failed(format!("{failures} of {} were not sent", to.len())))
    }
}

/// Makes a call of the private API on the running gateway.
///
/// # Errors
/// The gateway cannot be reached, or refuses.
pub(crate) fn call(config: &Config, app: &App, name: &str, body: &Value) -> Result<Value> {
    let (status, answer) = post(&config.http.listen, app, &format!("/appxmpp/v1/{name}"), body)?;
    if status == 200 {
        return Ok(answer);
    }
    let text = answer["error"]["text"].as_str().unwrap_or("the gateway's log says why");
    Err(failed(format!("the gateway refused with {status}: {text}")))
}

pub(crate) fn choose<'c>(config: &'c Config, name: Option<&str>) -> Result<&'c App> {
    let apps = &config.apps;
    let names = || apps.iter().map(|app| app.name.as_str()).collect::<Vec<_>>().join(", ");
    match name {
        None => config::lone(apps, |app| app.version.is_some())
            .and_then(|index| apps.get(index))
            .ok_or_else(|| {
                failed(format!("there are several apps; choose one with --app: {}", names()))
            }),
        Some(name) => apps
            .iter()
            .find(|app| app.name == name)
            .ok_or_else(|| failed(format!("no app has the id {name:?}; there are: {}", names()))),
    }
}

fn failed(text: String) -> Error {
    Error::new(ErrorKind::NotConnected, text)
}

/// One HTTP/1.0 exchange, so that the answer ends with the connection.
fn post(listen: &Listen, app: &App, path: &str, call: &Value) -> Result<(u16, Value)> {
    let unreachable = |error: std::io::Error| {
        failed(format!("cannot reach the gateway: {error}; is `appxmpp gateway` running?"))
    };
    let body = call.to_string();
    let credentials = STANDARD.encode(format!("{}:{}", app.domain, app.secret.expose()));
    let request = format!(
        "POST {path} HTTP/1.0\r\nHost: {}\r\nAuthorization: Basic {credentials}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        crate::gateway::host_of(&app.domain),
        body.len()
    );
    let (status, body) = exchange_at(listen, &request, PATIENCE).map_err(unreachable)?;
    Ok((status, serde_json::from_str(&body).unwrap_or_default()))
}

/// What a gateway answers to an HTTP/1.0 request, status and body.
pub(crate) fn exchange_at(
    listen: &Listen,
    request: &str,
    patience: Duration,
) -> std::io::Result<(u16, String)> {
    match listen {
        Listen::Tcp(address) => {
            let stream = TcpStream::connect_timeout(address, patience)?;
            stream.set_read_timeout(Some(patience))?;
            exchange(stream, request)
        }
        Listen::Unix(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(patience))?;
            exchange(stream, request)
        }
    }
}

fn exchange(mut stream: impl Read + Write, request: &str) -> std::io::Result<(u16, String)> {
    stream.write_all(request.as_bytes())?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
    }
    let mut body = String::new();
    reader.read_to_string(&mut body)?;
    Ok((status, body))
}
