//! A component on `net::Connection` alone, without App Engine's service.

use std::time::Duration;

use appxmpp::net::{Backend, Connection, ConnectionConfig, Event};
use appxmpp::stanza::{MessageType, Stanza, StanzaBuilder, StanzaKind};
use appxmpp::stream::Batch;

use crate::settings::{Outcome, say, text, value, wait_for_runner};

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
const AT_ONCE: usize = 256;

/// The connection that the runner asks for.
pub(crate) fn config() -> Outcome<ConnectionConfig> {
    let (domain, secret, server) =
        (text("BENCH_DOMAIN")?, text("BENCH_SECRET")?, text("BENCH_SERVER")?);
    let backend = Backend::parse(&format!("component://{domain}:{secret}@{server}"))?;
    Ok(ConnectionConfig::for_backend(&backend, None)?)
}

/// The message with its body, sent back to where it came from.
fn reply(stanza: &Stanza) -> Option<StanzaBuilder> {
    if stanza.kind() != StanzaKind::Message || stanza.message_type() == MessageType::Error {
        return None;
    }
    let (from, to, body) = (stanza.from()?, stanza.to()?, stanza.body()?);
    let reply = StanzaBuilder::message().from(to.as_str()).to(from.as_str()).type_("chat");
    let reply = match stanza.id() {
        Some(id) => reply.id(id),
        None => reply,
    };
    Some(reply.body(&body))
}

/// Echoes on one thread: the connection's driver and the handler share a runtime.
pub(crate) fn echo() -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let connection = Connection::open_on(runtime.handle(), config()?);
    runtime.block_on(async {
        connection.ready().await?;
        say("ready")?;
        loop {
            let mut replies = Batch::new();
            let events = connection.next_events(AT_ONCE).await?;
            if events.is_empty() {
                return Err("the connection ended".into());
            }
            for event in events {
                if let Event::Stanza(stanza) = event
                    && let Some(reply) = reply(&stanza)
                {
                    replies.push_built(reply);
                }
            }
            if let Some(error) = connection.send_many(replies).await.error {
                return Err(error.into());
            }
        }
    })
}

/// Sends messages from one thread, each when the one before is written.
pub(crate) fn send() -> Outcome {
    let (count, length) = (value::<usize>("BENCH_COUNT")?, value::<usize>("BENCH_BODY")?);
    let (to, body) = (text("BENCH_TO")?, "x".repeat(length));
    let from = format!("bot@{}/bot", text("BENCH_DOMAIN")?);
    let connection = Connection::open(config()?)?;
    if !connection.wait_ready(PATIENCE)? {
        return Err("no stream came up".into());
    }
    say("ready")?;
    while wait_for_runner()? {
        for _ in 0..count {
            let message = StanzaBuilder::message().from(&from).to(&to).type_("chat").body(&body);
            connection.send_blocking(&message.finish(), PATIENCE)?;
        }
        say("done")?;
    }
    connection.close_blocking(PATIENCE);
    Ok(())
}
