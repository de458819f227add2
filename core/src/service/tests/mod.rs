mod account;
mod inbound;
mod rounds;
mod sends;
mod sharing;

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::ns;
use crate::stanza::Stanza;
use crate::store::MemoryStore;
use crate::xml::{Limits, Scope};

const APP: &str = "shop@bot.example.com";
const USER: &str = "user@example.com";
const NOON: Duration = Duration::from_secs(1_250_166_896);

fn config() -> ServiceConfig {
    ServiceConfig::new("shop", "bot.example.com").unwrap()
}

fn service() -> Service {
    service_on(&Arc::new(MemoryStore::new()))
}

/// A service on a store that outlives it.
fn service_on(disk: &Arc<MemoryStore>) -> Service {
    Service::new(config(), Box::new(Arc::clone(disk))).unwrap()
}

fn stanza(xml: &str) -> Stanza {
    let bytes = xml.as_bytes().to_vec().into();
    Stanza::parse(bytes, &Scope::default_ns(ns::COMPONENT), &Limits::default()).unwrap()
}

fn receive(service: &Service, xml: &str) -> Inbound {
    service.handle_stanza(NOON, stanza(xml))
}

fn presence_from(service: &Service, from: &str, type_: &str) -> Vec<String> {
    let type_ = if type_.is_empty() { String::new() } else { format!(" type='{type_}'") };
    texts(&receive(service, &format!("<presence from='{from}' to='{APP}'{type_}/>")).sends)
}

/// Stanzas as text, without their ids.
fn texts(stanzas: &[bytes::Bytes]) -> Vec<String> {
    stanzas.iter().map(|stanza| without_id(std::str::from_utf8(stanza).unwrap())).collect()
}

fn without_id(stanza: &str) -> String {
    let Some(start) = stanza.find(" id=\"") else { return stanza.to_owned() };
    let value = start + " id=\"".len();
    let end = value + stanza[value..].find('"').unwrap() + 1;
    format!("{}{}", &stanza[..start], &stanza[end..])
}

fn available(service: &Service, jid: &str) -> Option<Show> {
    service.get_presence(&[jid], None).unwrap()[0].show
}
