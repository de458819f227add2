//! A server for accounts that does what a test tells it to, on a loopback socket.
#![allow(clippy::expect_used, reason = "what does not go as the test wants it ends the test")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use appxmpp::net::{Backend, ConnectionConfig, Secret};

/// What the account's password is to the server.
pub const PASSWORD: &str = "pencil";
const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' from='x.example' id='1' version='1.0'>";
const SALT: &[u8] = b"salt of the account";
/// Longer than anything takes here.
const PATIENCE: Duration = Duration::from_secs(20);

/// Listens; each connection is taken by hand.
pub struct Server {
    listener: TcpListener,
}

impl Server {
    /// On a port of its own.
    pub fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").expect("a loopback port") }
    }

    /// How an account connects to it, without TLS.
    pub fn config(&self, password: &str) -> ConnectionConfig {
        let port = self.listener.local_addr().expect("an address").port();
        let text = format!("client://bot@x.example:{port}?host=127.0.0.1&tls=none");
        let backend = Backend::parse(&text).expect("a backend");
        ConnectionConfig::for_backend(&backend, Some(Secret::new(password))).expect("a config")
    }

    /// The next connection, of which nothing is read.
    pub fn accept(&self) -> Peer {
        let (socket, _) = self.listener.accept().expect("a connection");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Peer { socket, heard: String::new() }
    }

    /// Whether a connection waits to be accepted.
    pub fn is_called(&self) -> bool {
        self.listener.set_nonblocking(true).expect("a socket");
        let called = self.listener.accept().is_ok();
        self.listener.set_nonblocking(false).expect("a socket");
        called
    }
}

/// One connection.
pub struct Peer {
    socket: TcpStream,
    heard: String,
}

impl Peer {
    /// Writes `xml`.
    pub fn say(&mut self, xml: &str) {
        let _ = self.socket.write_all(xml.as_bytes());
    }

    /// Reads up to and with `end`; what was read.
    pub fn hear(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.heard.find(end) {
                return self.heard.drain(..at + end.len()).collect();
            }
            assert!(self.read() > 0, "the end came before {end:?}: {}", self.heard);
        }
    }

    /// Reads to the end.
    pub fn rest(&mut self) -> String {
        while self.read() > 0 {}
        std::mem::take(&mut self.heard)
    }

    fn read(&mut self) -> usize {
        let mut buffer = [0; 4096];
        let count = self.socket.read(&mut buffer).unwrap_or(0);
        self.heard.push_str(&String::from_utf8_lossy(&buffer[..count]).replace('"', "'"));
        count
    }

    /// The first header and the mechanisms; what the client then says, until its `end`.
    pub fn offer(&mut self, mechanisms: &[&str], end: &str) -> String {
        self.hear("version='1.0'>");
        let names: String =
            mechanisms.iter().map(|name| format!("<mechanism>{name}</mechanism>")).collect();
        self.say(&format!(
            "{HEADER}<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{names}</mechanisms></stream:features>"
        ));
        self.hear(end)
    }

    /// The whole of SCRAM-SHA-1; whether the client knows the password. It is answered with
    /// `failure`, or with the server's signature.
    pub fn scram(&mut self, failure: &str) -> bool {
        let auth = self.offer(&["PLAIN", "SCRAM-SHA-1"], "</auth>");
        assert!(auth.contains("mechanism='SCRAM-SHA-1'"), "{auth}");
        let first = decoded(&auth);
        let bare = first.strip_prefix("n,,").expect("no channel binding").to_owned();
        let nonce = bare.split_once("r=").expect("a nonce").1;
        let challenge = format!("r={nonce}server,s={},i=4096", BASE64.encode(SALT));
        self.say(&sasl("challenge", &challenge));
        let answer = decoded(&self.hear("</response>"));
        let (without_proof, proof) = answer.split_once(",p=").expect("a proof");
        let mut salted = [0; 20];
        pbkdf2::pbkdf2_hmac::<Sha1>(PASSWORD.as_bytes(), SALT, 4096, &mut salted);
        let message = format!("{bare},{challenge},{without_proof}");
        let client_key = hmac(&salted, b"Client Key");
        let stored = <Sha1 as sha1::Digest>::digest(&client_key);
        let signature = hmac(&stored, message.as_bytes());
        let expected: Vec<u8> = client_key.iter().zip(signature).map(|(a, b)| a ^ b).collect();
        let right = BASE64.encode(expected) == proof;
        if right && failure.is_empty() {
            let signature = hmac(&hmac(&salted, b"Server Key"), message.as_bytes());
            self.say(&sasl("success", &format!("v={}", BASE64.encode(signature))));
        } else {
            let condition = if failure.is_empty() { "not-authorized" } else { failure };
            self.say(&format!(
                "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><{condition}/></failure>"
            ));
        }
        right
    }

    /// From the first byte to a session with stream management, whose id is `session`.
    pub fn log_in(&mut self, session: &str) {
        assert!(self.scram(""), "the password is wrong");
        self.features();
        self.bind(session);
    }

    /// The features after the log-in.
    pub fn features(&mut self) {
        self.hear("version='1.0'>");
        self.say(&format!(
            "{HEADER}<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/><sm xmlns='urn:xmpp:sm:3'/></stream:features>"
        ));
    }

    /// Binds what is asked for, and enables stream management.
    pub fn bind(&mut self, session: &str) {
        let iq = self.hear("</iq>");
        let id = iq.split_once(" id='").expect("an id").1.split_once('\'').expect("an end").0;
        self.say(&format!(
            "<iq type='result' id='{id}'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>bot@x.example/bot</jid></bind></iq>"
        ));
        self.hear("resume='true'/>");
        self.say(&format!("<enabled xmlns='urn:xmpp:sm:3' id='{session}' resume='true'/>"));
        self.hear("<presence/>");
    }

    /// Logs in, and has the session `session` resumed, of which the client's `h` stanzas were handled;
    /// what the client says that it has handled.
    pub fn resume(&mut self, session: &str, h: u32) -> u32 {
        assert!(self.scram(""), "the password is wrong");
        self.features();
        let asked = self.hear("/>");
        assert!(asked.contains(&format!("previd='{session}'")), "{asked}");
        let told = asked.split_once(" h='").and_then(|(_, rest)| rest.split_once('\''));
        self.say(&format!("<resumed xmlns='urn:xmpp:sm:3' previd='{session}' h='{h}'/>"));
        told.and_then(|(h, _)| h.parse().ok()).expect("a number of stanzas")
    }

    /// Asks what the client has handled.
    pub fn ask_handled(&mut self) -> u32 {
        self.say("<r xmlns='urn:xmpp:sm:3'/>");
        self.hear("<a xmlns='urn:xmpp:sm:3' h='");
        let told = self.hear("'/>");
        told.strip_suffix("'/>").and_then(|h| h.parse().ok()).expect("a number of stanzas")
    }

    /// Reads to the end of the stream, and answers whenever the client asks what was handled; `h` stanzas
    /// were before.
    pub fn acknowledge_all(&mut self, mut h: usize) {
        loop {
            if self.heard.contains("</stream:stream>") {
                return self.say("</stream:stream>");
            }
            while let Some(at) = self.heard.find("<r xmlns='urn:xmpp:sm:3'/>") {
                h += self.heard[..at].matches("<message").count();
                self.heard.drain(..at + 1);
                self.say(&format!("<a xmlns='urn:xmpp:sm:3' h='{h}'/>"));
            }
            if self.read() == 0 {
                return;
            }
        }
    }

    /// The same connection, to write to it while it is read here.
    pub fn second(&self) -> TcpStream {
        self.socket.try_clone().expect("a socket")
    }
}

fn sasl(name: &str, text: &str) -> String {
    format!("<{name} xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{}</{name}>", BASE64.encode(text))
}

/// What is in the last element of `xml`.
fn decoded(xml: &str) -> String {
    let inner = xml.rsplit_once("</").and_then(|(head, _)| head.rsplit_once('>'));
    let bytes = BASE64.decode(inner.expect("an element").1).expect("base64");
    String::from_utf8(bytes).expect("text")
}

fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = <Hmac<Sha1> as KeyInit>::new_from_slice(key).expect("any key");
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}
