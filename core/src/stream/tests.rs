//! Dialogues between the two ends of a component's stream, in memory and on a virtual clock.

mod end;
mod input;
mod login;
mod silence;

use std::time::Duration;

use super::*;
use crate::auth::Secret;
use crate::error::ErrorKind;
use crate::xml::{Limits, XmlErrorKind};

const SERVER_ID: &str = "3BF96D32";

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A component and a server, and the bytes that go between them.
struct Pair {
    now: Duration,
    component: ComponentStream,
    server: AcceptStream,
    /// How many bytes are handed over at once.
    chunk: usize,
    to_server: Vec<u8>,
    to_component: Vec<u8>,
    seen: Vec<Event>,
    served: Vec<AcceptEvent>,
    accept: bool,
}

fn config() -> ComponentConfig {
    ComponentConfig::new("bot.example", Secret::new("test"), "p-")
}

fn accepts(domain: &str, secret: &str) -> AcceptConfig {
    AcceptConfig {
        id: SERVER_ID.into(),
        components: vec![(domain.into(), Secret::new(secret))],
        limits: Limits::default(),
        login_timeout: s(15),
    }
}

impl Pair {
    fn new(config: ComponentConfig, server: AcceptConfig) -> Self {
        Self {
            now: s(0),
            component: ComponentStream::new(config, s(0)),
            server: AcceptStream::new(server, s(0)),
            chunk: usize::MAX,
            to_server: Vec::new(),
            to_component: Vec::new(),
            seen: Vec::new(),
            served: Vec::new(),
            accept: true,
        }
    }

    fn up(config: ComponentConfig) -> Self {
        let mut pair = Self::new(config, accepts("bot.example", "test"));
        pair.exchange();
        assert!(matches!(pair.seen()[..], [Event::Ready]));
        assert!(
            matches!(&pair.served()[..], [AcceptEvent::Authenticated(d)] if d == "bot.example")
        );
        pair
    }

    /// Carries bytes to and fro until nothing moves.
    fn exchange(&mut self) {
        loop {
            self.drain();
            self.component.poll_transmit(&mut self.to_server);
            self.server.poll_transmit(&mut self.to_component);
            if self.to_server.is_empty() && self.to_component.is_empty() {
                return;
            }
            for bytes in std::mem::take(&mut self.to_server).chunks(self.chunk) {
                self.server.handle_input(self.now, bytes);
                self.drain();
            }
            for bytes in std::mem::take(&mut self.to_component).chunks(self.chunk) {
                self.component.handle_input(self.now, bytes);
                self.drain();
            }
        }
    }

    fn drain(&mut self) {
        while let Some(event) = self.component.poll_event() {
            self.seen.push(event);
        }
        while let Some(event) = self.server.poll_event() {
            if self.accept && matches!(event, AcceptEvent::Authenticated(_)) {
                self.server.accept();
            }
            self.served.push(event);
        }
    }

    /// What the component writes to the wire at this time; it does not reach the server.
    fn overhear(&mut self, at: Duration) -> String {
        self.now = at;
        self.component.handle_timeout(at);
        let mut bytes = Vec::new();
        self.component.poll_transmit(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }

    /// The server writes `xml`, whatever it is.
    fn hear(&mut self, xml: impl AsRef<[u8]>) {
        for bytes in xml.as_ref().chunks(self.chunk) {
            self.component.handle_input(self.now, bytes);
            self.drain();
        }
    }

    fn seen(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.seen)
    }

    fn served(&mut self) -> Vec<AcceptEvent> {
        std::mem::take(&mut self.served)
    }

    fn closed(&mut self) -> Closed {
        match self.seen().pop() {
            Some(Event::Closed(closed)) => closed,
            other => panic!("the last event is {other:?}"),
        }
    }
}

fn bodies(events: &[Event]) -> Vec<String> {
    let body = |event: &Event| match event {
        Event::Stanza(stanza) => stanza.body().map(|body| body.into_owned()),
        _ => None,
    };
    events.iter().filter_map(body).collect()
}
