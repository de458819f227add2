//! A bot on `net::App`: App Engine's service with its deliveries, in Rust.

use appxmpp::net::{App, AppConfig, Outcome as Handling};
use appxmpp::service::roster::Subscription;
use appxmpp::service::{Delivery, MessageCall, Status};
use appxmpp::store::{Change, ContactKey, Durability, MemoryStore, Store as _};

use crate::connection::{self, PATIENCE};
use crate::settings::{Outcome, say, text, value, wait_for_runner};

const APP_ID: &str = "bot";
const AT_ONCE: usize = 64;

fn config() -> Outcome<AppConfig> {
    Ok(AppConfig::new(APP_ID, connection::config()?)?)
}

fn field<'d>(delivery: &'d Delivery, name: &str) -> Outcome<&'d str> {
    let found = delivery.fields.iter().find(|(known, _)| *known == name);
    found.map(|(_, value)| value.as_str()).ok_or_else(|| format!("no field {name}").into())
}

/// Echoes on one thread: the app's task, the connection's driver and the handler share a runtime.
pub(crate) fn echo() -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let app = App::open_on(runtime.handle(), config()?)?;
        app.connection()?.ready().await?;
        say("ready")?;
        loop {
            for mut claimed in app.next_batch(AT_ONCE).await? {
                let call = MessageCall {
                    jids: &[field(&claimed, "from")?],
                    body: field(&claimed, "body")?,
                    from: Some(field(&claimed, "to")?),
                    type_: "chat",
                    raw_xml: false,
                };
                if app.send_message(&call).await? != [Status::NoError] {
                    return Err("an echo was not written".into());
                }
                claimed.done(Handling::Handled);
            }
        }
    })
}

/// Sends messages from one thread, as a face does: each call returns when its message is written.
pub(crate) fn send() -> Outcome {
    let (count, length) = (value::<usize>("BENCH_COUNT")?, value::<usize>("BENCH_BODY")?);
    let (to, body) = (text("BENCH_TO")?, "x".repeat(length));
    let app = App::open(config()?)?;
    if !app.wait_ready(PATIENCE)? {
        return Err("no stream came up".into());
    }
    say("ready")?;
    let call = MessageCall { jids: &[&to], body: &body, from: None, type_: "chat", raw_xml: false };
    while wait_for_runner()? {
        for _ in 0..count {
            if app.send_message_blocking(&call, PATIENCE)? != [Status::NoError] {
                return Err("a message was not written".into());
            }
        }
        say("done")?;
    }
    app.close_blocking(PATIENCE);
    Ok(())
}

/// Comes online with many contacts who are subscribed: each is told.
pub(crate) fn come_online() -> Outcome {
    let (count, to) = (value::<usize>("BENCH_COUNT")?, text("BENCH_TO")?);
    let (name, domain) = to.split_once('@').ok_or("BENCH_TO has no @")?;
    let own = format!("{APP_ID}@{}", text("BENCH_DOMAIN")?);
    let store = MemoryStore::new();
    let contacts = (0..count).map(|number| {
        let key = ContactKey {
            own: own.as_str().into(),
            contact: format!("{name}{number}@{domain}").into(),
        };
        Change::Subscription(key, Subscription::From)
    });
    store.apply(contacts.collect(), Durability::Now)?;
    let config = AppConfig { store: Box::new(store), ..config()? };
    say("ready")?;
    wait_for_runner()?;
    let app = App::open(config)?;
    // The sink counts; there is nothing to wait for here.
    say("done")?;
    wait_for_runner()?;
    app.close_blocking(PATIENCE);
    Ok(())
}
