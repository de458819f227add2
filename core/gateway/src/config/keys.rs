//! Every key there is: its type, default and meaning.

use std::fmt::Write as _;

use appxmpp::Result;
use toml::{Table, Value};

use super::config;

/// What a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// A string.
    Text,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Bool,
    /// A list of strings.
    List,
}

/// One key.
#[derive(Debug)]
pub struct Key {
    /// The table it stands in: empty for the top level, `app` for each `[[app]]`.
    pub table: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub type_: Type,
    /// The value as TOML: the default, or an example where there is none.
    pub value: &'static str,
    /// Whether `value` is what holds when the key is absent.
    pub is_default: bool,
    /// What it is, in sentences for the example file.
    pub doc: &'static str,
}

macro_rules! keys {
    ($($table:literal $name:ident $type_:ident $mark:tt $value:literal $doc:literal)*) => {
        /// Every key, in the order of the example file.
        pub const KEYS: &[Key] = &[$(Key {
            table: $table,
            name: stringify!($name),
            type_: Type::$type_,
            value: $value,
            is_default: keys!(@ $mark),
            doc: $doc,
        }),*];
    };
    (@ =) => { true };
    (@ ~) => { false };
}

// `=` gives a default, `~` an example of a key that is absent unless set.
keys! {
    "" drain_seconds Number = "20"
        "How long a stop waits for work in flight. A second SIGTERM stops at once."

    "app" id Text ~ "\"guestbook\""
        "The App Engine application id. Default: the first label of the component's domain, or the account's name."
    "app" version Text ~ "\"beta\""
        "Which version of the app this is, unless it is the default one: it has a table [[app]] of its own with the same id, and its component is called VERSION.latest.DOMAIN."
    "app" backend Text ~ "\"component://bot.example.net@127.0.0.1:5347\""
        "Where the XMPP server listens for components (XEP-0114): component://DOMAIN@HOST[:PORT], component+tls://DOMAIN@HOST[:PORT] or component+unix://DOMAIN@/PATH. Or an ordinary account: client://NAME@DOMAIN[:PORT], with the options host, tls, ca, pin and plain. For development dev://DOMAIN: a server inside the gateway, see [console]."
    "app" secret Text ~ "\"change me\""
        "The component's secret. Better: secret_file, systemd's LoadCredential=secret:…, or APPXMPP_SECRET."
    "app" secret_file Text ~ "\"/etc/appxmpp/secret\""
        "A file that holds the component's secret, readable by the daemon alone."
    "app" hosts List ~ "[\"bot.example.net\", \"localhost\"]"
        "Host header values that choose this app, besides its domain. A lone app also answers to every other, unless strict_mod_rest is set."
    "app" url Text ~ "\"http://127.0.0.1:8080\""
        "App Engine webhooks: form posts go to /_ah/xmpp/… below this URL."
    "app" addresses Text = "\"domain\""
        "In which form the app gets to see its own addresses: domain, as they are, or appengine, as ID@appspot.com and anything@ID.appspotchat.com. What it sends may be from either. Callbacks have them as they are."
    "app" inbound_services List = "[\"xmpp_message\", \"xmpp_presence\", \"xmpp_subscribe\", \"xmpp_error\"]"
        "Which of App Engine's services post to url, as in app.yaml."
    "app" fallback_paths Bool = "true"
        "After a 404 try the path again without its trailing slash, and /_ah/xmpp/message/error/ in place of /_ah/xmpp/error/: what apps copied from a faulty sample listen on."
    "app" callback_url Text ~ "\"http://127.0.0.1:9999/stanzas\""
        "mod_rest callbacks: every stanza is posted here. {kind}, {type}, {to} and {from} are replaced by the stanza's own. With url set as well, this one gets what App Engine's services do not take."
    "app" callback_ca Text ~ "\"/etc/appxmpp/ca.pem\""
        "Certificates in PEM form of the authorities that are believed where url or callback_url are https. Without it, those of the system."
    "app" callback_content_type Text = "\"application/xmpp+xml\""
        "What a callback's body is: application/xmpp+xml, application/json (or json), application/x-www-form-urlencoded or text/plain."
    "app" callback_stanzas List = "[\"message\", \"presence\", \"iq\"]"
        "Which stanzas are posted; a sender of another gets service-unavailable."
    "app" callback_events List = "[\"bare\", \"full\", \"host\"]"
        "For which of the app's addresses: bare (name@domain), full (with a resource) or host (the domain itself)."
    "app" credentials List ~ "[\"Bearer dmVyeSBzZWNyZXQgdG9rZW4K\"]"
        "Authorization values accepted by POST /rest, besides HTTP Basic DOMAIN:SECRET which always works."
    "app" credentials_file Text ~ "\"/etc/appxmpp/credentials\""
        "A file of such values, one on each line."
    "app" webhook_secret Text ~ "\"change me\""
        "The key that signs webhooks: header Appxmpp-Signature, HMAC-SHA256 over time, delivery id and body."
    "app" webhook_secret_file Text ~ "\"/etc/appxmpp/webhook-secret\""
        "A file that holds the key. Without either key the component's secret signs."
    "app" webhook_timeout_seconds Number = "60"
        "How long a webhook may take before it counts as failed."
    "app" webhook_deadline_seconds Number = "600"
        "For how long a delivery is tried again when the webhook cannot be reached, does not answer in time, or answers 502, 503 or 504. Every other answer is final. 0 tries once."
    "app" webhook_pause_ms Number = "1000"
        "The pause after the first attempt; each further one is twice as long, or as Retry-After says."
    "app" webhook_longest_pause_seconds Number = "60"
        "The longest pause between two attempts."
    "app" webhook_concurrency Number = "64"
        "How many deliveries run at once. One sender's never overtake each other."
    "app" webhook_queue Number = "10000"
        "How many deliveries may wait. Beyond it the sender is told to try later (resource-constraint)."
    "app" strict_mod_rest Bool = "false"
        "Behave as Prosody's mod_rest does wherever that neither crashes nor loses a stanza."
    "app" bounce_wait_ms Number = "50"
        "How long POST /rest waits at most for the server to bounce a message or presence, so that the answer can carry the error. It ends as soon as the server answers a ping behind the stanza. 0 never waits."
    "app" iq_timeout_seconds Number = "120"
        "How long POST /rest waits for the answer to an iq, unless Prosody-Rest-Timeout says otherwise."
    "app" iq_max_timeout_seconds Number = "300"
        "The longest wait a Prosody-Rest-Timeout header may ask for."
    "app" keepalive_seconds Number = "60"
        "After so much silence the XMPP server is asked whether it is still there."
    "app" keepalive_timeout_seconds Number = "20"
        "How long it may take to answer that before the stream counts as broken and is made anew."
    "app" stanza_size_limit Number = "196608"
        "The longest request body, in bytes."

    "app.quotas" api_calls Number ~ "1000000"
        "How many calls the app may make in a day, of UTC: each request to /rest and each call of the private API. What is over a limit is refused with 429; what has no limit is counted all the same."
    "app.quotas" data_sent_bytes Number ~ "1000000000"
        "How many bytes of message bodies it may send, counted once for each recipient."
    "app.quotas" recipients_messaged Number ~ "1000000"
        "How many recipients its messages may have."
    "app.quotas" invitations_sent Number ~ "100000"
        "How many invitations it may send: 100000 was App Engine's limit."

    "http" listen Text = "\"127.0.0.1:5280\""
        "Where /rest is served: ADDRESS:PORT or unix:/PATH."
    "http" metrics Text = "\"127.0.0.1:5281\""
        "Where /metrics, /healthz and /readyz are served; \"off\" serves them nowhere. The two health pages are also on listen."
    "http" max_connections Number = "16384"
        "How many HTTP connections may be open, as far as the limit of open files has room for them; more wait in the kernel's queue."
    "http" header_timeout_seconds Number = "15"
        "How long a client may take to send a request's head, or to keep an idle connection."
    "http" body_timeout_seconds Number = "30"
        "How long a client may take to send a request's body."
    "http" write_timeout_seconds Number = "30"
        "How long a client may take to read some of its response before the connection is closed."
    "http" max_header_bytes Number = "16384"
        "The longest request head, in bytes."

    "console" listen Text ~ "\"127.0.0.1:5282\""
        "For development: ADDRESS:PORT of a page on which one plays any user against the apps whose backend is dev://DOMAIN. Not served unless set."
    "console" allow_remote Bool = "false"
        "Let listen be an address that other machines reach. Whoever has the key that the console prints can then play users."

    "store" url Text ~ "\"sqlite:/var/lib/appxmpp/state.db\""
        "Where subscriptions and presence are kept. By default state.db in the folder that systemd, or the container, gives the gateway (STATE_DIRECTORY); without one memory:, which no restart survives. It may be memory:, sqlite:/PATH, or postgresql://USER:PASSWORD@HOST/DATABASE (or postgresql:///DATABASE?host=/FOLDER, the folder of its socket); to another machine by TLS, with sslmode and sslrootcert as PostgreSQL's own programs have them. With the latter two, deliveries that wait survive a stop or a crash, and those that were given up are kept as dead letters. Several gateways may share a PostgreSQL database."
    "store" durable Bool = "true"
        "With sqlite and postgresql (with memory: it cannot be set): a message or presence counts as sent when it is on disk, also while the XMPP server is away, and is kept until the server has read it. Without, it counts as sent when it is written to a live stream. An iq is never kept: whoever asks waits for the answer."
    "store" outbox_messages Number = "100000"
        "How many messages of an app may wait for the XMPP server; more are refused (503)."
    "store" outbox_megabytes Number = "256"
        "How much they may be together."
    "store" outbox_expiry_seconds Number = "86400"
        "How long a message that waits is worth sending."

    "log" level Text = "\"info\""
        "error, warn, info, debug or trace; or directives such as info,appxmpp=debug. Message bodies are never logged below trace."
    "log" format Text = "\"auto\""
        "text, json, or auto: text on a terminal, JSON elsewhere."
}

/// The key called `name` in `table`.
pub fn find(table: &str, name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.table == table && key.name == name)
}

/// Refuses keys that do not exist and values of the wrong type.
///
/// # Errors
/// Names the key, where it stands and the nearest one that exists.
pub fn check(root: &Table) -> Result<()> {
    for (name, value) in root {
        match (name.as_str(), value) {
            ("app", Value::Array(list)) => {
                for (index, app) in list.iter().enumerate() {
                    let app = app.as_table().ok_or_else(|| not_a_table("[[app]]"))?;
                    check_table("app", &format!("[[app]] number {}", index + 1), app)?;
                }
            }
            ("app", _) => return Err(config("write [[app]], with two brackets: it is a list")),
            (section @ ("http" | "console" | "store" | "log"), Value::Table(table)) => {
                check_table(section, &format!("[{section}]"), table)?;
            }
            (section @ ("http" | "console" | "store" | "log"), _) => {
                return Err(not_a_table(section));
            }
            (name, value) => check_key("", "the top level", name, value)?,
        }
    }
    Ok(())
}

fn not_a_table(name: &str) -> appxmpp::Error {
    config(format!("{name} is a table: write its keys on lines below [{name}]"))
}

fn check_table(table: &str, place: &str, content: &Table) -> Result<()> {
    content.iter().try_for_each(|(name, value)| {
        match (inner_tables(table).find(|inner| inner == name), value) {
            (None, value) => check_key(table, place, name, value),
            (Some(inner), Value::Table(content)) => {
                let inner = format!("{table}.{inner}");
                check_table(&inner, &format!("[{inner}] of {place}"), content)
            }
            (Some(inner), _) => Err(not_a_table(&format!("{table}.{inner}"))),
        }
    })
}

/// The tables that stand inside `table`.
fn inner_tables(table: &str) -> impl Iterator<Item = &'static str> {
    let inside = move |key: &'static Key| key.table.strip_prefix(table)?.strip_prefix('.');
    KEYS.iter().filter_map(inside)
}

fn check_key(table: &str, place: &str, name: &str, value: &Value) -> Result<()> {
    let Some(key) = find(table, name) else {
        return Err(config(unknown(table, place, name)));
    };
    let right = match key.type_ {
        Type::Text => value.is_str(),
        Type::Number => value.as_integer().is_some_and(|n| n >= 0),
        Type::Bool => value.is_bool(),
        Type::List => value.as_array().is_some_and(|list| list.iter().all(Value::is_str)),
    };
    if right {
        return Ok(());
    }
    let wanted = match key.type_ {
        Type::Text => "a string",
        Type::Number => "a whole number, not negative",
        Type::Bool => "true or false",
        Type::List => "a list of strings",
    };
    Err(config(format!("{name} in {place} must be {wanted}, like {name} = {}", key.value)))
}

fn unknown(table: &str, place: &str, name: &str) -> String {
    let tables =
        ["app", "http", "console", "store", "log"].into_iter().filter(|_| table.is_empty());
    let names = KEYS.iter().filter(|key| key.table == table).map(|key| key.name);
    let names = names.chain(tables).chain(inner_tables(table));
    let nearest = names
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(2));
    let elsewhere = KEYS.iter().find(|key| key.name == name);
    match (nearest, elsewhere) {
        (_, Some(key)) if key.table.is_empty() => {
            format!("{place} has no key {name:?}: it belongs above all tables")
        }
        (_, Some(key)) => format!("{place} has no key {name:?}: it belongs in [{}]", key.table),
        (Some((_, near)), None) => {
            format!("{place} has no key {name:?}; did you mean {near:?}?")
        }
        (None, None) => format!("{place} has no key {name:?}"),
    }
}

/// The example file: every key with its meaning, all of them commented out but what an app needs.
pub fn example() -> String {
    let mut out = String::from(
        "# Configuration of `appxmpp gateway`. A key that is commented out shows its default,\n\
         # or an example where there is none (marked so). Each can also be set in the\n\
         # environment: APPXMPP_HTTP_LISTEN for listen in [http], and so on; for a lone app\n\
         # APPXMPP_URL sets url, for one of several APPXMPP_APP_GUESTBOOK_URL, and for\n\
         # its version beta APPXMPP_APP_GUESTBOOK_VERSION_BETA_URL.\n",
    );
    let mut table = "";
    for key in KEYS {
        if key.table != table {
            table = key.table;
            let (open, close) = if table == "app" { ("[[", "]]") } else { ("[", "]") };
            let _ = write!(out, "\n{open}{table}{close}\n");
        } else {
            out.push('\n');
        }
        for line in wrap(key.doc, 96) {
            let _ = writeln!(out, "# {line}");
        }
        let needed = matches!((key.table, key.name), ("app", "backend" | "secret_file" | "url"));
        let comment = if needed { "" } else { "#" };
        let mark = if needed || key.is_default { "" } else { "  # an example; not set by default" };
        let _ = writeln!(out, "{comment}{} = {}{mark}", key.name, key.value);
    }
    out
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().map_or(0, |line| line.len());
        if last > 0 && last + 1 + word.len() > width {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
