//! Time per call of the service, best of several runs, and memory per contact with a million of
//! them. `cargo bench -p appxmpp --bench service` (with `--features sqlite` for the store too).

use std::hint::black_box;
use std::time::{Duration, Instant};

use appxmpp::error::Result;
use appxmpp::ns;
use appxmpp::service::lanes::{LaneLimits, Lanes};
use appxmpp::service::roster::Subscription;
use appxmpp::service::{MessageCall, PresenceCall, Service, ServiceConfig, Show};
use appxmpp::stanza::Stanza;
use appxmpp::store::{
    Change, ContactKey, ContactState, DeadLetter, Durability, MemoryStore, Row, Store,
};
use appxmpp::xml::{Limits, Scope};

const APP: &str = "shop@bot.example.com";
const CONTACTS: usize = 1_000_000;

fn time(name: &str, turns: u32, per_turn: u32, mut run: impl FnMut()) {
    let best = (0..7).map(|_| {
        let start = Instant::now();
        for _ in 0..turns {
            run();
        }
        start.elapsed().as_nanos() as f64 / f64::from(turns) / f64::from(per_turn)
    });
    println!("{name:<52}{:>9.0} ns", best.fold(f64::INFINITY, f64::min));
}

fn contact(i: usize) -> String {
    format!("user.name{i}@server{}.example.com", i % 100)
}

/// A store that holds a million contacts without taking memory for them.
#[derive(Debug)]
struct Crowd;

impl Store for Crowd {
    fn load(&self, each: &mut dyn FnMut(ContactKey, ContactState)) -> Result<()> {
        for i in 0..CONTACTS {
            let key = ContactKey { own: APP.into(), contact: contact(i).into() };
            each(key, ContactState { subscription: Subscription::Both, ..ContactState::default() });
        }
        Ok(())
    }

    fn apply(&self, _: Vec<Change>, _: Durability) -> Result<()> {
        Ok(())
    }

    fn load_queue(&self, _: &str, _: &mut dyn FnMut(Row)) -> Result<()> {
        Ok(())
    }

    fn dead_letters(&self, _: &str, _: &mut dyn FnMut(DeadLetter)) -> Result<()> {
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }
}

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4096
}

fn service(store: impl Store + 'static) -> Result<Service> {
    let mut config = ServiceConfig::new("shop", "bot.example.com")?;
    config.id_prefix = "8f3a1c-".to_owned();
    Service::new(config, Box::new(store))
}

fn stanza(xml: &str) -> Option<Stanza> {
    let bytes = xml.as_bytes().to_vec().into();
    Stanza::parse(bytes, &Scope::stream(ns::COMPONENT), &Limits::default()).ok()
}

fn sending(service: &Service) {
    let body = "x".repeat(100);
    let users: Vec<String> = (0..1000).map(contact).collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    let call = |jids, body, raw_xml| MessageCall { jids, body, from: None, type_: "chat", raw_xml };
    let one = call(&users[..1], &body, false);
    time("send_message, one recipient", 20_000, 1, || {
        black_box(service.send_message(black_box(&one)).ok());
    });
    let reply = MessageCall { from: Some("news@bot.example.com/desk"), ..one };
    time("  from an address of its own", 20_000, 1, || {
        black_box(service.send_message(black_box(&reply)).ok());
    });
    let raw = call(&users[..1], "<body>hello</body><x xmlns='urn:example:x'/>", true);
    time("  raw XML", 20_000, 1, || {
        black_box(service.send_message(black_box(&raw)).ok());
    });
    let thousand = call(&users, &body, false);
    time("send_message, each of 1000 recipients", 50, 1000, || {
        black_box(service.send_message(black_box(&thousand)).ok());
    });
    let large = "x".repeat(100 * 1024);
    let thousand = call(&users, &large, false);
    time("  with a body of 100 KB", 20, 1000, || {
        black_box(service.send_message(black_box(&thousand)).ok());
    });
    let presence =
        PresenceCall { jid: users[0], type_: "", show: "away", status: Some("soup"), from: None };
    time("send_presence", 20_000, 1, || {
        black_box(service.send_presence(black_box(&presence)).ok());
    });
}

fn receiving(service: &Service) {
    let message = format!(
        "<message from='{}/phone' to='{APP}/bot' type='chat' id='x1'><body>hello there</body></message>",
        contact(1)
    );
    let presence = format!("<presence from='{}/phone' to='{APP}'/>", contact(1));
    for (name, xml) in [("message", message), ("presence", presence)] {
        let Some(stanza) = stanza(&xml) else { continue };
        time(&format!("handle_stanza, {name}"), 20_000, 1, || {
            black_box(service.handle_stanza(Duration::ZERO, black_box(stanza.clone())));
        });
    }
}

fn lanes(service: &Service) {
    let mut lanes = Lanes::new(LaneLimits::default());
    let xml = format!("<message from='a@b/c' to='{APP}'><body>hello</body></message>");
    let delivery = stanza(&xml).and_then(|xml| service.handle_stanza(Duration::ZERO, xml).delivery);
    let Some(delivery) = delivery else { return };
    time("lanes: push, claim, done (and a copy)", 20_000, 1, || {
        black_box(lanes.push(delivery.clone()).ok());
        for (ticket, _) in lanes.claim(1) {
            lanes.done(&ticket);
        }
    });
}

fn crowd() -> Result<()> {
    let before = resident_bytes();
    let start = Instant::now();
    let service = service(Crowd)?;
    println!("{CONTACTS} contacts: {:.2} s to load", start.elapsed().as_secs_f64());
    let per_contact = |now: usize| now.saturating_sub(before) as f64 / CONTACTS as f64;
    println!("  {:<50}{:>9.0} bytes", "each, all gone", per_contact(resident_bytes()));
    for i in 0..CONTACTS {
        let xml = format!("<presence from='{}/phone.x3DF{i}' to='{APP}'/>", contact(i));
        if let Some(stanza) = stanza(&xml) {
            black_box(service.handle_stanza(Duration::ZERO, stanza));
        }
    }
    println!("  {:<50}{:>9.0} bytes", "each, all available", per_contact(resident_bytes()));
    let names: Vec<String> = (0..CONTACTS).step_by(101).map(contact).collect();
    let mut next = names.iter().cycle();
    time("  get_presence", 20_000, 1, || {
        if let Some(name) = next.next() {
            let answer = service.get_presence(black_box(&[name]), None);
            assert!(answer.is_ok_and(|answer| answer[0].show == Some(Show::Normal)));
        }
    });
    receiving(&service);

    service.handle_ready(Duration::ZERO);
    let (start, mut told) = (Instant::now(), 0);
    while told < 100_000 {
        told += service.handle_timeout(Duration::ZERO, 1024).len();
    }
    let each = start.elapsed().as_nanos() as f64 / told as f64;
    println!("  {:<50}{each:>9.0} ns", "presence to each subscriber after connecting");
    Ok(())
}

#[cfg(feature = "sqlite")]
fn sqlite() -> Result<()> {
    use appxmpp::store::SqliteStore;

    let path = std::env::temp_dir().join(format!("appxmpp-bench-{}.db", std::process::id()));
    let store = SqliteStore::open(&path)?;
    let key = |i| ContactKey { own: APP.into(), contact: contact(i).into() };
    let start = Instant::now();
    for first in (0..CONTACTS).step_by(1000) {
        let changes =
            (first..first + 1000).map(|i| Change::Subscription(key(i), Subscription::Both));
        store.apply(changes.collect(), Durability::Soon)?;
    }
    store.sync()?;
    let each = start.elapsed().as_micros() as f64 / CONTACTS as f64;
    println!("SQLite, {CONTACTS} contacts\n  {:<50}{each:>9.1} us", "written, each");
    let mut i = 0;
    time("  one change, waited for", 200, 1, || {
        i += 1;
        let change = Change::Subscription(key(i), Subscription::From);
        black_box(store.apply(vec![change], Durability::Now).ok());
    });
    time("  one change, not waited for", 20_000, 1, || {
        i += 1;
        let change = Change::Presence(key(i % CONTACTS), Some(Show::Away));
        black_box(store.apply(vec![change], Durability::Soon).ok());
    });
    drop(store);
    let start = Instant::now();
    let service = service(SqliteStore::open(&path)?)?;
    let seconds = start.elapsed().as_secs_f64();
    println!("  {:<50}{seconds:>9.2} s", "start with all of them");
    drop(service);
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", path.display()));
    }
    Ok(())
}

fn main() -> Result<()> {
    let service = service(MemoryStore::new())?;
    sending(&service);
    receiving(&service);
    lanes(&service);
    crowd()?;
    #[cfg(feature = "sqlite")]
    sqlite()?;
    Ok(())
}
