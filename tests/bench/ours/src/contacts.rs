//! The presence book with a million contacts: memory, start, look-up, and what a message costs beside it.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use appxmpp::ns;
use appxmpp::service::presence::Show;
use appxmpp::service::roster::Subscription;
use appxmpp::service::{MessageCall, Service, ServiceConfig};
use appxmpp::stanza::Stanza;
use appxmpp::store::{Change, ContactKey, Durability, MemoryStore, SqliteStore, Store};
use appxmpp::xml::{Limits, Scope};

use crate::settings::{Outcome, say, text, value};

const DOMAIN: &str = "guestbook.example.net";
const OWN: &str = "guestbook@guestbook.example.net";
const AT_ONCE: usize = 10_000;
/// How often what a message costs is measured, of which the median counts.
const TURNS: usize = 7;
const CALLS: usize = 200_000;

fn contact(number: usize) -> String {
    format!("user{number:07}@example.org")
}

fn fill(path: &Path, count: usize) -> Outcome {
    let store = SqliteStore::open(path)?;
    for first in (0..count).step_by(AT_ONCE) {
        let mut changes = Vec::new();
        for number in first..count.min(first + AT_ONCE) {
            let key = ContactKey { own: OWN.into(), contact: contact(number).into() };
            changes.push(Change::Subscription(key.clone(), Subscription::Both));
            changes.push(Change::Presence(key, Some(Show::Normal)));
        }
        store.apply(changes, Durability::Now)?;
    }
    Ok(())
}

/// Resident memory of this process in bytes.
fn resident() -> Outcome<usize> {
    let pages = fs::read_to_string("/proc/self/statm")?;
    let pages = pages.split_whitespace().nth(1).ok_or("statm has no second field")?;
    Ok(pages.parse::<usize>()? * 4096)
}

fn come_online(service: &Service, count: usize) -> Outcome {
    let scope = Scope::stream(ns::COMPONENT);
    for number in 0..count {
        let from = contact(number);
        let presence =
            format!("<presence from='{from}/phone' to='{OWN}'><show>away</show></presence>");
        let stanza = Stanza::parse(presence.into_bytes().into(), &scope, &Limits::default())?;
        service.handle_stanza(Duration::ZERO, stanza);
    }
    Ok(())
}

/// CPU time of this thread in seconds.
fn cpu() -> Outcome<f64> {
    let times = fs::read_to_string("/proc/thread-self/schedstat")?;
    let on_cpu = times.split_whitespace().next().ok_or("schedstat is empty")?;
    Ok(on_cpu.parse::<u64>()? as f64 / 1e9)
}

/// CPU time of one call in microseconds, over many contacts in no order.
fn each(count: usize, mut call: impl FnMut(&str) -> Outcome) -> Outcome<f64> {
    let asked: Vec<String> = (0..CALLS).map(|i| contact(i * 7919 % count)).collect();
    let start = cpu()?;
    for jid in &asked {
        call(jid)?;
    }
    Ok((cpu()? - start) / CALLS as f64 * 1e6)
}

fn look_up(service: &Service, count: usize) -> Outcome<f64> {
    each(count, |jid| {
        let known = service.get_presence(&[jid], None)?;
        known[0].available.then_some(()).ok_or_else(|| format!("{jid} is not available").into())
    })
}

fn median(mut turns: Vec<f64>) -> f64 {
    turns.sort_by(f64::total_cmp);
    turns[turns.len() / 2]
}

fn message(service: &Service, count: usize) -> Outcome<f64> {
    let body = "x".repeat(100);
    each(count, |jid| {
        let call =
            MessageCall { jids: &[jid], body: &body, from: None, type_: "chat", raw_xml: false };
        service.send_message(&call)?;
        Ok(())
    })
}

/// Fills a store, starts on it, lets everybody come online, and asks.
pub(crate) fn run() -> Outcome {
    let (count, path) = (value::<usize>("BENCH_COUNT")?, text("BENCH_STATE")?);
    fill(Path::new(&path), count)?;
    let config = || ServiceConfig::new("guestbook", DOMAIN);

    let few = Service::new(config()?, Box::new(MemoryStore::new()))?;
    let before = resident()?;
    let start = Instant::now();
    let service = Service::new(config()?, Box::new(SqliteStore::open(&path)?))?;
    let started = start.elapsed().as_secs_f64();
    come_online(&service, count)?;
    service.sync()?;
    let bytes = resident()?.saturating_sub(before) as f64 / count as f64;
    if service.contacts() != count {
        return Err(format!("{} contacts of {count} are known", service.contacts()).into());
    }
    let look_up = look_up(&service, count)?;
    // In turn, and on one heap: what differs is the roster alone.
    let mut turns = [Vec::new(), Vec::new()];
    for _ in 0..TURNS {
        for (turns, service) in turns.iter_mut().zip([&few, &service]) {
            turns.push(message(service, count)?);
        }
    }
    let [message_few, message_many] = turns.map(median);
    say(&format!(
        "{{\"start_s\": {started:.3}, \"bytes_per_contact\": {bytes:.1}, \"get_presence_us\": {look_up:.3}, \
         \"message_us\": {message_many:.3}, \"message_alone_us\": {message_few:.3}}}"
    ))
}
