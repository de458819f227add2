//! Sends from many callers at once, with the outbox or without it.

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use appxmpp::net::{App, AppConfig};
use appxmpp::service::{MessageCall, Status};
use appxmpp::store::SqliteStore;
use tokio::task::LocalSet;

use crate::connection::{self, PATIENCE};
use crate::settings::{Outcome, say, text, value, wait_for_runner};

/// How often is looked whether all is sent: looking is not what is measured.
const LOOK: Duration = Duration::from_millis(50);

/// With `BENCH_STATES`, a folder, the app is durable.
fn config() -> Outcome<AppConfig> {
    let mut config = AppConfig::new("bot", connection::config()?)?;
    if let Ok(folder) = text("BENCH_STATES") {
        let file = PathBuf::from(folder).join(format!("{}.db", std::process::id()));
        config.store = Box::new(SqliteStore::open(file)?);
        config.durable = true;
    }
    Ok(config)
}

/// `BENCH_CALLERS` send to `BENCH_RECIPIENTS` at a time: each waits for its call and makes the next.
pub(crate) fn send() -> Outcome {
    let app = App::open(config()?)?;
    if !app.wait_ready(PATIENCE)? {
        return Err("no stream came up".into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    say("ready")?;
    while wait_for_runner()? {
        runtime.block_on(LocalSet::new().run_until(all(&app)))?;
        say("done")?;
    }
    app.close_blocking(PATIENCE);
    Ok(())
}

async fn all(app: &App) -> Outcome {
    let left = Rc::new(Cell::new(value::<usize>("BENCH_COUNT")?));
    let callers: Vec<_> = (0..value("BENCH_CALLERS")?)
        .map(|_| tokio::task::spawn_local(caller(app.clone(), Rc::clone(&left))))
        .collect();
    for caller in callers {
        caller.await?.map_err(|error| error.to_string())?;
    }
    // Sent means for the outbox that the server is known to have read it.
    while app.stats()?.outbox.is_some_and(|outbox| outbox.waiting > 0) {
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

async fn caller(app: App, left: Rc<Cell<usize>>) -> Outcome {
    let (to, length) = (text("BENCH_TO")?, value::<usize>("BENCH_BODY")?);
    let (body, most) = ("x".repeat(length), value::<usize>("BENCH_RECIPIENTS")?);
    while left.get() > 0 {
        let recipients = most.min(left.get());
        left.set(left.get() - recipients);
        let jids = vec![to.as_str(); recipients];
        let call =
            MessageCall { jids: &jids, body: &body, from: None, type_: "chat", raw_xml: false };
        if app.send_message(&call).await?.iter().any(|status| *status != Status::NoError) {
            return Err("a message was not taken".into());
        }
    }
    Ok(())
}
