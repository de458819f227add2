//! Dialogues with a server whose every word is written here, on a virtual clock.

mod login;
mod session;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use proptest::prelude::*;

use super::*;

const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' from='example.com' id='x' version='1.0'>";
const STARTTLS: &str = "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>";
const PROCEED: &str = "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
const SESSION: &str = "<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/><sm xmlns='urn:xmpp:sm:3'/></stream:features>";
const BOUND: &str = "<iq type='result' id='p-bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>user@example.com/r</jid></bind></iq>";
const ENABLED: &str = "<enabled xmlns='urn:xmpp:sm:3' id='s1' resume='true'/>";

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn sasl(name: &str, data: &str) -> String {
    format!("<{name} xmlns='{}'>{}</{name}>", ns::SASL, BASE64.encode(data))
}

/// The server's side of the exchange of RFC 5802 §5.
fn challenge() -> String {
    let first = "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096";
    sasl("challenge", first)
}

fn success() -> String {
    sasl("success", "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=")
}

fn mechanisms(names: &[&str]) -> String {
    let names: String = names.iter().map(|n| format!("<mechanism>{n}</mechanism>")).collect();
    format!(
        "<stream:features><mechanisms xmlns='{}'>{names}</mechanisms></stream:features>",
        ns::SASL
    )
}

fn config() -> ClientConfig {
    let jid = Jid::parse("user@example.com/r").unwrap();
    ClientConfig::new(jid, Secret::new("pencil"), "fyko+d2lbbFgONRv9qkxdawL", "p-")
}

struct Dialogue {
    now: Duration,
    stream: ClientStream,
    chunk: usize,
    seen: Vec<ClientEvent>,
}

impl Dialogue {
    fn new(config: ClientConfig, resumption: Option<Resumption>) -> Self {
        let stream = ClientStream::new(config, resumption, s(0));
        Self { now: s(0), stream, chunk: usize::MAX, seen: Vec::new() }
    }

    fn hear(&mut self, xml: &str) -> String {
        for bytes in xml.as_bytes().chunks(self.chunk) {
            self.stream.handle_input(self.now, bytes);
            self.drain();
        }
        self.said()
    }

    fn drain(&mut self) {
        while let Some(event) = self.stream.poll_event() {
            match event {
                ClientEvent::Derive(job) => self.stream.handle_derived(self.now, &job.run()),
                event => self.seen.push(event),
            }
        }
    }

    fn said(&mut self) -> String {
        let mut out = Vec::new();
        self.stream.poll_transmit(&mut out);
        String::from_utf8(out).unwrap().replace('"', "'")
    }

    fn at(&mut self, now: Duration) -> String {
        self.now = now;
        self.stream.handle_timeout(now);
        self.drain();
        self.said()
    }

    fn seen(&mut self) -> Vec<ClientEvent> {
        std::mem::take(&mut self.seen)
    }

    fn closed(&mut self) -> Closed {
        self.drain();
        match self.seen().pop() {
            Some(ClientEvent::Closed(closed)) => closed,
            other => panic!("the last event is {other:?}"),
        }
    }

    /// To where the second header of the server is awaited, encrypted.
    fn encrypt(&mut self) {
        assert!(!self.said().contains("user@"), "who logs in is not said in the clear");
        assert_eq!(self.hear(HEADER), "");
        let asked = self.hear(STARTTLS);
        assert_eq!(asked, "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
        assert_eq!(self.hear(PROCEED), "");
        assert!(matches!(self.seen()[..], [ClientEvent::StartTls]));
        self.stream.handle_tls(self.now, ChannelBindings::default());
        assert!(self.said().contains("from='user@example.com' version='1.0'>"));
    }

    /// To where the features after the log-in are awaited.
    fn log_in(&mut self) {
        self.encrypt();
        self.hear(HEADER);
        let auth = self.hear(&mechanisms(&["PLAIN", "SCRAM-SHA-1"]));
        assert!(auth.contains("mechanism='SCRAM-SHA-1'"), "{auth}");
        assert!(self.hear(&challenge()).starts_with("<response"));
        let again = self.hear(&success());
        assert!(again.starts_with("<?xml version='1.0'?><stream:stream"), "{again}");
        self.hear(HEADER);
    }

    fn up(config: ClientConfig) -> Self {
        let mut dialogue = Self::new(config, None);
        dialogue.log_in();
        assert!(dialogue.hear(SESSION).contains("<resource>r</resource>"));
        assert_eq!(dialogue.hear(BOUND), "<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
        let first = dialogue.hear(ENABLED);
        assert_eq!(
            first,
            "<iq id='p-roster' type='get'><query xmlns='jabber:iq:roster'/></iq><presence/>"
        );
        match &dialogue.seen()[..] {
            [ClientEvent::Ready { jid, resumed: false }] => {
                assert_eq!(jid.as_str(), "user@example.com/r");
            }
            other => panic!("{other:?}"),
        }
        dialogue
    }

    fn send(&mut self, xml: &str) -> u64 {
        self.stream.send(self.now, xml.as_bytes()).unwrap()
    }

    fn broken(mut self) -> Option<Resumption> {
        self.said();
        self.stream.handle_input(self.now, &[]);
        assert_eq!(self.closed(), Closed::Lost);
        assert_eq!(self.said(), "", "a polite end would end the session");
        self.stream.into_resumption()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn however_the_input_is_split_the_dialogue_is_the_same(chunk in 1_usize..80) {
        let session = format!("{SESSION}{BOUND}{ENABLED}<message from='a@b'><body>é</body></message><r xmlns='urn:xmpp:sm:3'/>");
        let run = |chunk| {
            let mut d = Dialogue::new(config(), None);
            d.chunk = chunk;
            d.log_in();
            let said = d.hear(&session);
            (said, format!("{:?}", d.seen().len()))
        };
        prop_assert_eq!(run(chunk), run(usize::MAX));
    }

    #[test]
    fn no_input_panics(input in proptest::collection::vec(0_usize..12, 0..12)) {
        let words = [
            HEADER, STARTTLS, PROCEED, SESSION, BOUND, ENABLED, "</stream:stream>", "<message/>",
            "<a xmlns='urn:xmpp:sm:3' h='1'/>", "<r xmlns='urn:xmpp:sm:3'/>",
            "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>", "<resumed xmlns='urn:xmpp:sm:3' h='x'/>",
        ];
        let mut d = Dialogue::new(config(), None);
        for at in input {
            d.hear(words[at]);
        }
        prop_assert!(!d.stream.is_ready(), "nobody is logged in without a proof");
    }
}
