//! From the first byte to a proven account: the headers, STARTTLS (RFC 6120 §5) and SASL (§6).

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{ClientEvent, ClientStream, Closed, Encryption, State, StreamError};
use crate::auth::sasl::{Exchange, Mechanism, Reply};
use crate::auth::scram::{SaltedKey, ScramError};
use crate::ns;
use crate::stream::negotiation::Features;
use crate::stream::wire::Header;
use crate::xml::{Element, StreamHeader};

impl ClientStream {
    /// Writes this side's header: the first, or the one that follows TLS or SASL.
    pub(super) fn open(&mut self) {
        self.wire.restart();
        self.state = State::Header;
        let bare = self.config.jid.bare();
        let domain = ("to", self.config.jid.domainpart());
        let version = ("version", "1.0");
        // Who logs in is nobody's business on a connection that can be read (RFC 6120 §4.7.1).
        let named = [domain, ("from", bare), version];
        let attributes = if self.tls.is_some() { &named[..] } else { &[domain, version] };
        self.wire.open(&Header { default_ns: ns::CLIENT, attributes });
    }

    pub(super) fn header(&mut self, header: &StreamHeader) {
        if self.state != State::Header {
            return;
        }
        if header.default_ns() != ns::CLIENT {
            let text = format!("stanzas are in {:?}, not {:?}", header.default_ns(), ns::CLIENT);
            return self.violation(StreamError::new("invalid-namespace").with_text(text));
        }
        if header.version.as_deref().is_none_or(|version| version.starts_with("0.")) {
            return self.violation(StreamError::new("unsupported-version"));
        }
        self.state = State::Features;
    }

    pub(super) fn features(&mut self, features: &Features) {
        if !self.authenticated {
            return match (&self.tls, self.config.encryption) {
                (None, Encryption::StartTls) if features.starttls => {
                    self.wire.write(format!("<starttls xmlns='{}'/>", ns::TLS).as_bytes());
                    self.state = State::Proceed;
                }
                (None, Encryption::StartTls) => self.unsupported(
                    "the server offers no STARTTLS, and nothing is sent over a connection that can be read",
                ),
                (None, _) if features.starttls_required => {
                    self.unsupported("the server requires STARTTLS, which the options turn off");
                }
                _ => self.authenticate(features),
            };
        }
        self.offers_sm = features.sm && self.config.stream_management;
        match &self.resumption {
            Some(resumption) if self.offers_sm => {
                let resume = Element::new("resume", ns::SM)
                    .with_attr("previd", &*resumption.id)
                    .with_attr("h", resumption.counters.h().to_string());
                self.wire.write(resume.to_xml().as_bytes());
                self.state = State::Resume;
            }
            _ => {
                self.give_up();
                self.bind(features.bind);
            }
        }
    }

    fn authenticate(&mut self, features: &Features) {
        let chosen = Mechanism::choose(&features.sasl, self.tls.as_ref(), self.config.plain);
        let Some(mechanism) = chosen else {
            let offered = features.sasl.mechanisms.join(", ");
            return self.unsupported(format!(
                "the server offers no way to log in that is both known and allowed (it offers: {offered}); SCRAM-SHA-256 or SCRAM-SHA-1 is needed, or PLAIN where TLS is used and the options allow it"
            ));
        };
        let name = mechanism.name();
        let username = self.config.jid.localpart().unwrap_or_default();
        let (password, nonce) = (&self.config.password, &self.config.nonce);
        match Exchange::begin(mechanism, username, password, nonce) {
            Err(error) => self.end(Closed::Refused(
                StreamError::new("not-authorized").with_text(error.to_string()),
            )),
            Ok((exchange, first)) => {
                self.exchange = Some(exchange);
                self.state = State::Sasl;
                let first = BASE64.encode(first.as_slice());
                let auth = format!("<auth xmlns='{}' mechanism='{name}'>{first}</auth>", ns::SASL);
                self.wire.write(auth.as_bytes());
            }
        }
    }

    pub(super) fn proceed(&mut self) {
        if self.wire.unread() > 0 {
            return self.injected();
        }
        self.backlog = false;
        self.state = State::Tls;
        self.pending.push_back(ClientEvent::StartTls);
    }

    /// Bytes before the encryption that are meant to be read after it: nobody knows who wrote them.
    pub(super) fn injected(&mut self) {
        let text = "something was written between the consent to STARTTLS and the encryption";
        self.violation(StreamError::new("policy-violation").with_text(text));
    }

    pub(super) fn challenge(&mut self, text: &str) {
        let reply = match (&mut self.exchange, sasl_data(text)) {
            (Some(exchange), Some(data)) => exchange.challenge(&data),
            _ => Err(ScramError::Malformed("bad base64")),
        };
        match reply {
            Ok(Reply::Send(answer)) => self.respond(Ok(answer)),
            Ok(Reply::Derive(job)) => match self.config.salted.take_if(|key| job.gives(key)) {
                Some(key) => self.derived(&key),
                None => self.pending.push_back(ClientEvent::Derive(job)),
            },
            Err(error) => self.distrust(&error),
        }
    }

    pub(super) fn derived(&mut self, key: &SaltedKey) {
        let Some(exchange) = &mut self.exchange else { return };
        let answer = exchange.derived(key);
        self.respond(answer);
    }

    fn respond(&mut self, answer: Result<Vec<u8>, ScramError>) {
        match answer {
            Ok(answer) => {
                let answer = BASE64.encode(answer);
                let xml = format!("<response xmlns='{}'>{answer}</response>", ns::SASL);
                self.wire.write(xml.as_bytes());
            }
            Err(error) => self.distrust(&error),
        }
    }

    pub(super) fn success(&mut self, text: &str) {
        let proved = match (&mut self.exchange, sasl_data(text)) {
            (Some(exchange), Some(data)) => exchange.success(&data),
            _ => Err(ScramError::Malformed("bad base64")),
        };
        match proved {
            Ok(()) => {
                self.exchange = None;
                self.authenticated = true;
                self.open();
            }
            Err(error) => self.distrust(&error),
        }
    }

    /// The server said something that one that knows the password would not say.
    fn distrust(&mut self, error: &ScramError) {
        self.wire.write(format!("<abort xmlns='{}'/>", ns::SASL).as_bytes());
        self.end(match error {
            ScramError::Refused(why) => {
                Closed::Refused(StreamError::new("not-authorized").with_text(why.clone()))
            }
            error => Closed::Unproven(error.to_string()),
        });
    }
}

/// What is in a SASL element: `=` stands for nothing (RFC 6120 §6.4.2).
fn sasl_data(text: &str) -> Option<Vec<u8>> {
    match text.trim_ascii() {
        "=" => Some(Vec::new()),
        text => BASE64.decode(text).ok(),
    }
}

pub(super) fn read_failure(element: &Element) -> StreamError {
    let condition = element.children().find(|c| c.ns() == ns::SASL && c.name() != "text");
    let text = element.child("text", ns::SASL).map(Element::text);
    let condition = condition.map_or("not-authorized", Element::name).to_owned();
    StreamError { condition: condition.into(), text: text.filter(|text| !text.is_empty()) }
}
