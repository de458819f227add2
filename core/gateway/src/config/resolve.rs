//! From tables to the checked configuration: defaults, secrets, addresses, contradictions.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use appxmpp::net::Backend;
use appxmpp::service::address::{Addresses, Presentation};
use appxmpp::service::{OutboxLimits, Quotas, Resource};
use appxmpp::store::PostgresStore;
use appxmpp::{Jid, Result};
use toml::{Table, Value};

use super::env::leads_to_a_gateway;
use super::keys::{self, Type};
use super::types::{App, Config, Event, Http, Listen, Log, LogFormat, Store};
use super::{Surroundings, apps, config};
use crate::deliver::trust::Trust;
use crate::gateway::host_of;
use crate::rest::auth::Keyring;
use crate::rest::media::Media;
use crate::rest::path::Kind;
use crate::secret::Secret;

/// The scheme of the server inside the gateway.
const DEVELOPMENT: &str = "dev://";
const SERVICES: [&str; 4] = ["xmpp_message", "xmpp_presence", "xmpp_subscribe", "xmpp_error"];

/// Checks a table whose keys and types are known to be right.
pub(super) fn resolve(root: Table, around: &dyn Surroundings) -> Result<Config> {
    let empty = Table::new();
    let section = |name: &'static str| Section {
        name,
        table: root.get(name).and_then(Value::as_table).unwrap_or(&empty),
    };
    let list = apps(&root).map(|table| app(table, around)).collect::<Result<Vec<_>>>()?;
    if list.is_empty() {
        return Err(no_backend("no app is configured: add an [[app]] table with", around));
    }
    distinct(&list)?;
    let top = Section { name: "", table: &root };
    let store = store(&section("store"), around)?;
    let (http, console) = (http(&section("http"))?, console(&section("console"), &list)?);
    apart(&http, console)?;
    Ok(Config {
        console,
        http,
        outbox: outbox(&section("store"), &store)?,
        warnings: forgetful(&section("store"), &store, &list).into_iter().collect(),
        store,
        log: log(&section("log"))?,
        drain: top.seconds("drain_seconds"),
        apps: list,
    })
}

/// A table whose absent keys have the defaults of [`keys::KEYS`].
struct Section<'t> {
    name: &'static str,
    table: &'t Table,
}

impl Section<'_> {
    fn get(&self, name: &str) -> Option<Value> {
        if let Some(value) = self.table.get(name) {
            return Some(value.clone());
        }
        let key = keys::find(self.name, name).filter(|key| key.is_default)?;
        let line = format!("value = {}", key.value);
        line.parse::<Table>().ok().and_then(|mut table| table.remove("value"))
    }

    fn text(&self, name: &str) -> Option<String> {
        debug_assert!(keys::find(self.name, name).is_some_and(|key| key.type_ == Type::Text));
        self.get(name).and_then(|value| value.as_str().map(str::to_owned))
    }

    fn number(&self, name: &str) -> u32 {
        debug_assert!(keys::find(self.name, name).is_some_and(|key| key.type_ == Type::Number));
        let number = self.get(name).and_then(|value| value.as_integer()).unwrap_or_default();
        u32::try_from(number).unwrap_or(u32::MAX)
    }

    /// A number that need not be set.
    fn limit(&self, name: &str) -> Option<u64> {
        debug_assert!(keys::find(self.name, name).is_some_and(|key| key.type_ == Type::Number));
        self.get(name).and_then(|value| value.as_integer()).and_then(|limit| limit.try_into().ok())
    }

    fn size(&self, name: &str) -> usize {
        self.number(name) as usize
    }

    fn seconds(&self, name: &str) -> Duration {
        Duration::from_secs(self.number(name).into())
    }

    fn milliseconds(&self, name: &str) -> Duration {
        Duration::from_millis(self.number(name).into())
    }

    fn flag(&self, name: &str) -> bool {
        self.get(name).and_then(|value| value.as_bool()).unwrap_or_default()
    }

    fn list(&self, name: &str) -> Vec<String> {
        let list = self.get(name).and_then(|value| value.as_array().cloned()).unwrap_or_default();
        list.into_iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
    }

    /// Each item of a list as one of a few words.
    fn words<T>(&self, name: &str, read: impl Fn(&str) -> Option<T>, all: &str) -> Result<Vec<T>> {
        let one = |word: String| {
            read(&word)
                .ok_or_else(|| config(format!("{name} knows no {word:?}; it may hold {all}")))
        };
        self.list(name).into_iter().map(one).collect()
    }
}

fn app(table: &Table, around: &dyn Surroundings) -> Result<App> {
    let app = Section { name: "app", table };
    let no_url = || no_backend("an [[app]] has no backend: write", around);
    let url = app.text("backend").ok_or_else(no_url)?;
    let (domain, inline) = split_backend(&url)?;
    let version = app.text("version");
    let addresses =
        Addresses::of_own(&Jid::parse(&domain)?, app.text("id").as_deref(), version.as_deref())?;
    let id = app.text("id").unwrap_or_else(|| addresses.app_id().to_owned());
    let name = version.as_ref().map_or_else(|| id.clone(), |it| format!("{it}.latest.{id}"));
    let development = inline.url.starts_with(DEVELOPMENT);
    // The server in here listens on loopback alone, and knows nobody but made-up users.
    let known = inline.secret.or_else(|| development.then(|| Secret::new("dev")));
    let secret = secret(&app, &[&name, &id], "secret", around)?.or(known).ok_or_else(|| {
        config(format!(
            "app {name:?} has no secret: set secret_file, APPXMPP_SECRET, or systemd's \
             LoadCredential=secret:PATH"
        ))
    })?;
    let webhook = self::secret(&app, &[&name, &id], "webhook_secret", around)?;
    let services = app.words("inbound_services", service, &SERVICES.join(", "))?;
    let kinds = app.words("callback_stanzas", Kind::from_name, "message, presence, iq")?;
    Ok(App {
        keyring: Keyring::new(&*domain, Some(secret.clone()), credentials(&app, &[&name], around)?),
        backend: inline.url,
        development,
        hosts: app.list("hosts").iter().map(|host| host.to_ascii_lowercase()).collect(),
        url: app.text("url").map(|url| http_url("url", &url)).transpose()?,
        addresses: Presentation::from_name(&app.text("addresses").unwrap_or_default())?,
        inbound_services: services,
        fallback_paths: app.flag("fallback_paths"),
        callback_url: app
            .text("callback_url")
            .map(|url| http_url("callback_url", &url))
            .transpose()?,
        callback_trust: trust(&app, around)?,
        callback_media: media(&app)?,
        callback_stanzas: kinds,
        callback_events: app.words("callback_events", event, "bare, full, host")?,
        webhook_secret: webhook.unwrap_or_else(|| secret.clone()),
        webhook_timeout: webhook_timeout(&app)?,
        webhook_deadline: app.seconds("webhook_deadline_seconds"),
        webhook_pause: app.milliseconds("webhook_pause_ms"),
        webhook_longest_pause: app.seconds("webhook_longest_pause_seconds"),
        webhook_concurrency: app.size("webhook_concurrency").max(1),
        webhook_queue: app.size("webhook_queue").max(1),
        strict: app.flag("strict_mod_rest"),
        bounce_wait: app.milliseconds("bounce_wait_ms"),
        iq_timeout: app.seconds("iq_timeout_seconds"),
        iq_max_timeout: app.seconds("iq_max_timeout_seconds"),
        keepalive: app.seconds("keepalive_seconds").max(Duration::from_secs(1)),
        keepalive_timeout: app.seconds("keepalive_timeout_seconds").max(Duration::from_secs(1)),
        stanza_size_limit: app.size("stanza_size_limit"),
        quotas: quotas(table),
        id,
        version,
        name,
        domain,
        secret,
    })
}

fn no_backend(what: &str, around: &dyn Surroundings) -> appxmpp::Error {
    let elsewhere = around.var("APPXMPP_BACKEND").is_some_and(|url| leads_to_a_gateway(&url));
    let variable = match elsewhere {
        true => {
            "; APPXMPP_BACKEND in the environment is the way to a gateway, for the app's processes"
        }
        false => ", or set APPXMPP_BACKEND",
    };
    config(format!("{what} backend = \"component://DOMAIN@HOST[:PORT]\"{variable}"))
}

/// Apps that a request, a metric or a command could not tell apart are refused.
fn distinct(apps: &[App]) -> Result<()> {
    for (index, app) in apps.iter().enumerate() {
        for other in &apps[..index] {
            if other.domain == app.domain {
                return Err(config(format!("two apps have the domain {}", app.domain)));
            }
            if other.name == app.name {
                return Err(config(format!(
                    "the apps {} and {} have one id, {:?}: give each an id of its own",
                    other.domain, app.domain, app.name
                )));
            }
            let both = claimed(app, other).or_else(|| claimed(other, app));
            if let Some(host) = both {
                return Err(config(format!(
                    "the apps {:?} and {:?} both answer to the Host {host:?}: leave it out of one's hosts",
                    other.name, app.name
                )));
            }
        }
    }
    Ok(())
}

/// What of the `hosts` of `app` is another one's too.
fn claimed<'a>(app: &'a App, other: &App) -> Option<&'a String> {
    let own = host_of(&other.domain);
    app.hosts.iter().find(|host| other.hosts.contains(host) || host.eq_ignore_ascii_case(own))
}

/// Each address is listened on once.
fn apart(http: &Http, console: Option<SocketAddr>) -> Result<()> {
    let places = [
        ("listen in [http]", Some(http.listen.clone())),
        ("metrics in [http]", http.metrics.clone()),
        ("listen in [console]", console.map(Listen::Tcp)),
    ];
    let is_chosen_later = |place: &Listen| matches!(place, Listen::Tcp(it) if it.port() == 0);
    for (index, (key, place)) in places.iter().enumerate() {
        let Some(place) = place.as_ref().filter(|place| !is_chosen_later(place)) else { continue };
        if let Some((other, _)) = places[..index].iter().find(|(_, it)| it.as_ref() == Some(place))
        {
            return Err(config(format!(
                "{other} and {key} are the same address: give one of them another port"
            )));
        }
    }
    Ok(())
}

fn webhook_timeout(app: &Section<'_>) -> Result<Duration> {
    match app.seconds("webhook_timeout_seconds") {
        Duration::ZERO => Err(config(
            "webhook_timeout_seconds is 0, which no webhook can keep to: give it at least 1 second",
        )),
        timeout => Ok(timeout),
    }
}

fn quotas(app: &Table) -> Quotas {
    let empty = Table::new();
    let table = app.get("quotas").and_then(Value::as_table).unwrap_or(&empty);
    let section = Section { name: "app.quotas", table };
    Resource::ALL.into_iter().fold(Quotas::default(), |quotas, resource| {
        match section.limit(resource.as_str()) {
            Some(limit) => quotas.with(resource, limit),
            None => quotas,
        }
    })
}

/// What a backend URL says beside the domain.
struct Inline {
    url: String,
    secret: Option<Secret>,
}

/// Takes `component://DOMAIN[:SECRET]@HOST` apart, or `client://LOCALPART[:PASSWORD]@DOMAIN`; the URL
/// comes back without its secret. An account's bare address stands for the domain.
fn split_backend(url: &str) -> Result<(String, Inline)> {
    let wrong = |why: &str| {
        // The URL may hold a secret: it is not repeated.
        config(format!(
            "backend {why}; write component://DOMAIN@HOST[:PORT], component+tls://DOMAIN@HOST[:PORT], \
             component+unix://DOMAIN@/PATH or client://LOCALPART@DOMAIN[:PORT]"
        ))
    };
    if let Some(domain) = url.strip_prefix(DEVELOPMENT) {
        let url = url.to_owned();
        return Ok((own_domain(domain, &wrong)?, Inline { url, secret: None }));
    }
    let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("is not a URL"))?;
    let backend = match scheme {
        "component" | "component+unix" | "component+tls" | "client" => Backend::parse(url)?,
        _ => return Err(wrong(&format!("has the scheme {scheme:?}, which a gateway cannot use"))),
    };
    let own = match &backend {
        Backend::Component { domain, .. } => domain.clone(),
        Backend::Client { account, .. } => account.as_str().to_owned(),
        _ => return Err(wrong("is no XMPP server")),
    };
    let secret = backend.secret().map(|secret| Secret::new(secret.expose()));
    let (user, host) = rest.rsplit_once('@').ok_or_else(|| wrong("names no domain"))?;
    let user = user.split_once(':').map_or(user, |(user, _)| user);
    Ok((own, Inline { url: format!("{scheme}://{user}@{host}"), secret }))
}

fn own_domain(domain: &str, wrong: &dyn Fn(&str) -> appxmpp::Error) -> Result<String> {
    let jid = Jid::parse(domain)?;
    if jid.localpart().is_some() || jid.resourcepart().is_some() {
        return Err(wrong("must name a domain, not an account"));
    }
    Ok(jid.domainpart().to_owned())
}

/// What the app at `backend` is called unless it says so, if it is a backend.
pub(super) fn default_id(backend: &str, version: Option<&str>) -> Option<String> {
    let (own, _) = split_backend(backend).ok()?;
    let addresses = Addresses::of_own(&Jid::parse(&own).ok()?, None, version).ok()?;
    Some(addresses.app_id().to_owned())
}

/// A secret from its key, its file, or systemd's credentials directory, where it may be that of one of
/// `names`.
fn secret(
    app: &Section<'_>,
    names: &[&str],
    name: &str,
    around: &dyn Surroundings,
) -> Result<Option<Secret>> {
    let file_key = format!("{name}_file");
    let (plain, file) = (app.text(name), app.text(&file_key));
    match (plain, file) {
        (Some(_), Some(_)) => Err(config(format!("set {name} or {file_key}, not both"))),
        (Some(text), None) if text.is_empty() => {
            let own = names.first().unwrap_or(&"");
            Err(config(format!("{name} of app {own:?} is empty: write it, or leave the key out")))
        }
        (Some(text), None) => Ok(Some(Secret::new(text))),
        (None, Some(path)) => read_secret(&file_key, Path::new(&path), around).map(Some),
        (None, None) => {
            let found = credential_of(name, names, around);
            found.map(|(path, text)| of_file("the credential", &path, &text)).transpose()
        }
    }
}

/// What systemd's credentials directory has for an app under `name.ID`, or for a lone one under `name`.
fn credential_of(name: &str, ids: &[&str], around: &dyn Surroundings) -> Option<(PathBuf, String)> {
    let own = ids.iter().find_map(|id| credential(&format!("{name}.{id}"), around));
    own.or_else(|| credential(name, around))
}

/// What systemd's credentials directory has under `name`.
fn credential(name: &str, around: &dyn Surroundings) -> Option<(PathBuf, String)> {
    let path = Path::new(&around.var("CREDENTIALS_DIRECTORY")?).join(name);
    around.read(&path).ok().map(|text| (path, text))
}

fn read_secret(key: &str, path: &Path, around: &dyn Surroundings) -> Result<Secret> {
    let text = around
        .read(path)
        .map_err(|error| config(format!("cannot read {key} {}: {error}", path.display())))?;
    of_file(key, path, &text)
}

fn of_file(what: &str, path: &Path, text: &str) -> Result<Secret> {
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err(config(format!("{what} {} is empty", path.display())));
    }
    Ok(Secret::new(text))
}

fn credentials(app: &Section<'_>, ids: &[&str], around: &dyn Surroundings) -> Result<Vec<Secret>> {
    let mut values = app.list("credentials");
    let lines =
        |text: &str| -> Vec<_> { text.lines().map(|line| line.trim().to_owned()).collect() };
    if let Some(path) = app.text("credentials_file") {
        let text = around
            .read(Path::new(&path))
            .map_err(|error| config(format!("cannot read credentials_file {path}: {error}")))?;
        values.extend(lines(&text));
    } else if let Some((_, text)) = credential_of("credentials", ids, around) {
        values.extend(lines(&text));
    }
    values.retain(|value| !value.is_empty());
    let whole = |value: &String| value.split_once(' ').is_some_and(|(_, rest)| !rest.is_empty());
    if let Some(index) = values.iter().position(|value| !whole(value)) {
        return Err(config(format!(
            "credentials number {} must be a whole Authorization value, like \"Bearer TOKEN\"",
            index + 1
        )));
    }
    Ok(values.into_iter().map(Secret::new).collect())
}

fn service(word: &str) -> Option<String> {
    SERVICES.contains(&word).then(|| word.to_owned())
}

fn event(word: &str) -> Option<Event> {
    match word {
        "bare" => Some(Event::Bare),
        "full" => Some(Event::Full),
        "host" => Some(Event::Host),
        _ => None,
    }
}

fn media(app: &Section<'_>) -> Result<Media> {
    let text = app.text("callback_content_type").unwrap_or_default();
    let name = if text == "json" { "application/json" } else { &text };
    Media::of_body(Some(name), false).ok_or_else(|| {
        config(format!(
            "callback_content_type knows no {text:?}; it may be application/xmpp+xml, \
             application/json, application/x-www-form-urlencoded or text/plain"
        ))
    })
}

fn trust(app: &Section<'_>, around: &dyn Surroundings) -> Result<Arc<Trust>> {
    let Some(path) = app.text("callback_ca") else { return Ok(Arc::default()) };
    let text = around
        .read(Path::new(&path))
        .map_err(|error| config(format!("cannot read callback_ca {path}: {error}")))?;
    let trust =
        Trust::only(&text).map_err(|error| config(format!("callback_ca {path}: {error}")))?;
    Ok(Arc::new(trust))
}

/// A webhook's URL, without a trailing slash.
fn http_url(key: &str, url: &str) -> Result<String> {
    // Names in braces stand for percent-encoded text; they are no part of the URL's grammar.
    let plain = url.replace(['{', '}'], "");
    let wrong = || {
        config(format!(
            "{key} must be an http:// or https:// URL with a host, like http://127.0.0.1:8080, not {url:?}"
        ))
    };
    let parsed: http::Uri = plain.parse().map_err(|_| wrong())?;
    let ok = matches!(parsed.scheme_str(), Some("http" | "https"))
        && parsed.host().is_some_and(|h| !h.is_empty());
    let plain_authority = parsed.authority().is_some_and(|a| !a.as_str().contains('@'));
    if ok && plain_authority { Ok(url.trim_end_matches('/').to_owned()) } else { Err(wrong()) }
}

fn listen(key: &str, text: &str) -> Result<Listen> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Ok(Listen::Unix(PathBuf::from(path)));
    }
    text.parse().map(Listen::Tcp).map_err(|_| {
        config(format!(
            "{key} in [http] must be ADDRESS:PORT, like 127.0.0.1:5280 or [::1]:5280, or \
             unix:/PATH, not {text:?}"
        ))
    })
}

fn http(http: &Section<'_>) -> Result<Http> {
    let metrics = http.text("metrics").unwrap_or_default();
    Ok(Http {
        listen: listen("listen", &http.text("listen").unwrap_or_default())?,
        metrics: match metrics.as_str() {
            "off" | "" => None,
            text => Some(listen("metrics", text)?),
        },
        max_connections: http.size("max_connections").max(1),
        header_timeout: http.seconds("header_timeout_seconds").max(Duration::from_secs(1)),
        body_timeout: http.seconds("body_timeout_seconds").max(Duration::from_secs(1)),
        write_timeout: http.seconds("write_timeout_seconds").max(Duration::from_secs(1)),
        // hyper cannot work with less than a page.
        max_header_bytes: http.size("max_header_bytes").max(8192),
    })
}

fn console(console: &Section<'_>, apps: &[App]) -> Result<Option<SocketAddr>> {
    let Some(text) = console.text("listen") else { return Ok(None) };
    let address: SocketAddr = text.parse().map_err(|_| {
        config(format!(
            "listen in [console] must be ADDRESS:PORT, like 127.0.0.1:5282, not {text:?}"
        ))
    })?;
    if !address.ip().is_loopback() && !console.flag("allow_remote") {
        return Err(config(format!(
            "listen in [console] is {address}, which other machines can reach: take 127.0.0.1, or set \
             allow_remote = true"
        )));
    }
    if !apps.iter().any(|app| app.development) {
        return Err(config(
            "[console] plays users of the development server, and no app is on it: set backend = \
             \"dev://DOMAIN\", or remove [console]",
        ));
    }
    Ok(Some(address))
}

/// The folder that systemd gives a service for its state, the first one if there are several.
const STATE: &str = "STATE_DIRECTORY";

fn default_store(around: &dyn Surroundings) -> Store {
    let folders = around.var(STATE).unwrap_or_default();
    match folders.split(':').next() {
        Some(folder) if !folder.is_empty() => Store::Sqlite(Path::new(folder).join("state.db")),
        _ => Store::Memory,
    }
}

/// What somebody should know who never said where to keep state.
fn forgetful(section: &Section<'_>, store: &Store, apps: &[App]) -> Option<String> {
    let is_told = section.text("url").is_some() || apps.iter().all(|app| app.development);
    (*store == Store::Memory && !is_told).then(|| {
        format!(
            "nothing survives a restart, neither subscriptions nor messages under way: url in [store] \
             is not set, and there is no {STATE} (systemd gives one to the service, not to a shell). Set \
             url = \"sqlite:/var/lib/appxmpp/state.db\", or url = \"memory:\" if that is meant"
        )
    })
}

fn store(store: &Section<'_>, around: &dyn Surroundings) -> Result<Store> {
    let url = match (store.text("url"), credential("store_url", around)) {
        (Some(url), _) => url,
        (None, Some((path, text))) => of_file("the credential", &path, &text)?.expose().to_owned(),
        (None, None) => return Ok(default_store(around)),
    };
    match url.split_once(':') {
        Some(("memory", _)) => Ok(Store::Memory),
        Some(("sqlite", path)) if !path.trim_start_matches('/').is_empty() => {
            let path = path.strip_prefix("//").unwrap_or(path);
            Ok(Store::Sqlite(PathBuf::from(path)))
        }
        Some(("postgresql" | "postgres", rest)) if rest.starts_with("//") => {
            PostgresStore::check(&url)?;
            Ok(Store::Postgres(Secret::new(url)))
        }
        // It may hold a password that was put in the wrong place.
        _ => Err(config(
            "url in [store] must be memory:, sqlite:/PATH or postgresql://USER@HOST/DATABASE"
                .to_owned(),
        )),
    }
}

fn outbox(section: &Section<'_>, store: &Store) -> Result<Option<OutboxLimits>> {
    let lasts = *store != Store::Memory;
    if !lasts && section.table.contains_key("durable") && section.flag("durable") {
        return Err(config(
            "durable in [store] is true, and in memory nothing is: set url in [store] to \
             \"sqlite:/var/lib/appxmpp/state.db\" or a PostgreSQL database, or leave durable out",
        ));
    }
    Ok((lasts && section.flag("durable")).then(|| OutboxLimits {
        stanzas: section.size("outbox_messages"),
        bytes: section.size("outbox_megabytes").saturating_mul(1024 * 1024),
        expiry: section.seconds("outbox_expiry_seconds"),
    }))
}

fn log(log: &Section<'_>) -> Result<Log> {
    let format = log.text("format").unwrap_or_default();
    let format = match format.as_str() {
        "auto" => LogFormat::Auto,
        "text" => LogFormat::Text,
        "json" => LogFormat::Json,
        _ => {
            return Err(config(format!(
                "format in [log] must be auto, text or json, not {format:?}"
            )));
        }
    };
    let level = log.text("level").unwrap_or_default();
    let directive = |word: &str| {
        let level = word.trim().rsplit('=').next().unwrap_or_default();
        level.parse::<tracing::level_filters::LevelFilter>().is_ok()
    };
    if !level.split(',').all(directive) {
        return Err(config(format!(
            "level in [log] must be error, warn, info, debug or trace, not {level:?}"
        )));
    }
    Ok(Log { level, format })
}
