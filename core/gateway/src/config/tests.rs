use super::*;
use crate::secret::Secret;
use appxmpp::service::Resource;
use std::collections::HashMap;
use std::time::Duration;

use appxmpp::service::address::Presentation;

#[derive(Default)]
struct Fake {
    vars: HashMap<String, String>,
    files: HashMap<String, String>,
}

impl Fake {
    fn file(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.into(), text.into());
        self
    }

    fn var(mut self, name: &str, value: &str) -> Self {
        self.vars.insert(name.into(), value.into());
        self
    }

    fn load(&self) -> Result<Config> {
        let path = Path::new("/c.toml");
        load(self.files.contains_key("/c.toml").then_some(path), self)
    }

    fn refusal(&self) -> String {
        let error = self.load().expect_err("a bad configuration");
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    }
}

impl Surroundings for Fake {
    fn var(&self, name: &str) -> Option<String> {
        self.vars.get(name).cloned()
    }

    fn read(&self, path: &Path) -> std::io::Result<String> {
        let found = path.to_str().and_then(|path| self.files.get(path));
        found.cloned().ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }
}

fn toml(text: &str) -> Fake {
    Fake::default().file("/c.toml", text)
}

const AUTHORITY: &str = include_str!("test-ca.pem");

const SMALL: &str = r#"
[[app]]
backend = "component://bot.example.net@127.0.0.1:5347"
secret = "s"
"#;

const OTHER: &str = r#"
[[app]]
backend = "component://other.example@127.0.0.1:5347"
secret = "s"
"#;

#[test]
fn the_issue_form_loads() {
    let config = toml(
        r#"
        [[app]]
        id       = "guestbook"
        backend  = "component://bot.example.net@127.0.0.1:5347"
        secret_file = "/etc/appxmpp/secret"
        url      = "http://127.0.0.1:8080/"
        inbound_services = ["xmpp_message", "xmpp_presence", "xmpp_subscribe", "xmpp_error"]
        callback_url = "http://127.0.0.1:9999/stanzas"
        callback_content_type = "application/xmpp+xml"
        credentials  = ["Bearer dmVyeSBzZWNyZXQgdG9rZW4K"]
        [http]
        listen  = "127.0.0.1:5280"
        metrics = "127.0.0.1:5281"
        [store]
        url = "sqlite:/var/lib/appxmpp/state.db"
        "#,
    )
    .file("/etc/appxmpp/secret", "s3cret\n")
    .load()
    .unwrap();
    let app = &config.apps[0];
    assert_eq!((app.id.as_str(), app.domain.as_str()), ("guestbook", "bot.example.net"));
    assert_eq!(app.secret.expose(), "s3cret");
    assert_eq!(app.webhook_secret.expose(), "s3cret");
    assert_eq!(app.url.as_deref(), Some("http://127.0.0.1:8080"));
    assert_eq!(app.iq_timeout, Duration::from_secs(120));
    assert_eq!(app.keyring.check(Some("Bearer dmVyeSBzZWNyZXQgdG9rZW4K")), Ok(()));
    assert_eq!(config.store, Store::Sqlite("/var/lib/appxmpp/state.db".into()));
    assert_eq!(config.http.listen, Listen::Tcp("127.0.0.1:5280".parse().unwrap()));
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest() {
    let text = toml(&format!("{SMALL}calback_url = \"http://h\"")).refusal();
    assert!(text.contains("\"calback_url\"") && text.contains("\"callback_url\""), "{text}");
    let text = toml(&format!("{SMALL}[htpp]\nlisten = \"x\"")).refusal();
    assert!(text.contains("\"http\""), "{text}");
    let text = toml(&format!("{SMALL}listen = \"x\"")).refusal();
    assert!(text.contains("belongs in [http]"), "{text}");
    let text = toml(&format!("{SMALL}[app]\n")).refusal();
    assert!(text.contains("/c.toml"), "{text}");
}

#[test]
fn a_value_of_the_wrong_type_is_refused_with_an_example() {
    let text = toml(&format!("{SMALL}hosts = \"a\"")).refusal();
    assert!(text.contains("hosts") && text.contains("list of strings"), "{text}");
    let text = toml(&format!("{SMALL}bounce_wait_ms = -1")).refusal();
    assert!(text.contains("bounce_wait_ms") && text.contains("not negative"), "{text}");
}

fn on_the_development_server(text: &str) -> String {
    text.replace("component://bot.example.net@127.0.0.1:5347", "dev://bot.example.net")
}

#[test]
fn a_console_needs_the_development_server_and_stays_on_this_machine() {
    const CONSOLE: &str = "[console]\nlisten = \"127.0.0.1:5282\"";
    let small = on_the_development_server(SMALL).replace("secret = \"s\"", "");
    let config = toml(&format!("{small}{CONSOLE}")).load().unwrap();
    assert_eq!(config.console.map(|address| address.port()), Some(5282));
    let app = &config.apps[0];
    assert_eq!((app.domain.as_str(), app.secret.expose()), ("bot.example.net", "dev"));
    assert!(app.development && toml(&small).load().unwrap().console.is_none());
    assert!(toml(&format!("{SMALL}{CONSOLE}")).refusal().contains("dev://DOMAIN"));
    let remote = format!("{small}{}", CONSOLE.replace("127.0.0.1", "0.0.0.0"));
    assert!(toml(&remote).refusal().contains("allow_remote"));
    assert!(toml(&format!("{remote}\nallow_remote = true")).load().is_ok());
    assert!(toml(&small.replace("dev://bot", "dev://a@bot")).refusal().contains("not an account"));
}

#[test]
fn an_authority_is_a_certificate() {
    let text = format!("{SMALL}url = \"https://app.example\"\ncallback_ca = \"/ca.pem\"");
    let with = |pem| toml(&text).file("/ca.pem", pem);
    let (own, again) = (with(AUTHORITY).load().unwrap(), with(AUTHORITY).load().unwrap());
    let of_the_system = toml(&text.replace("callback_ca", "#")).load().unwrap();
    assert_eq!(diff::app(&own.apps[0], &again.apps[0]), diff::Changes::default());
    assert_eq!(diff::app(&own.apps[0], &of_the_system.apps[0]).live, ["callback_ca"]);
    assert!(with("x").refusal().contains("callback_ca /ca.pem: it holds no certificate"));
    assert!(toml(&text).refusal().contains("cannot read callback_ca /ca.pem"));
}

#[test]
fn every_key_has_a_variable_that_wins_over_the_file() {
    for key in keys::KEYS {
        let name = match key.table.split_once('.') {
            None if key.table == "app" => env::variable(&["app", "guest-book", key.name]),
            None => env::variable(&[key.table, key.name]),
            Some((_, inner)) => env::variable(&["app", "guest-book", inner, key.name]),
        };
        let text = match (key.table, key.name) {
            (_, "backend") => "component://other.example.net@h".to_owned(),
            (_, "callback_ca") => "/ca.pem".to_owned(),
            (_, "secret_file" | "credentials_file" | "webhook_secret_file") => "/f".to_owned(),
            _ => key.value.trim_matches(['"', '[', ']']).replace('"', ""),
        };
        let small = SMALL.replace("[[app]]", "[[app]]\nid = \"guest-book\"");
        let small = match key.name {
            "version" => small.replace("//bot.", "//beta.latest.bot."),
            _ => small,
        };
        let small = if key.table == "console" { on_the_development_server(&small) } else { small };
        let fake = toml(&small).file("/f", "Bearer x").file("/ca.pem", AUTHORITY);
        let config = fake.var("STATE_DIRECTORY", "/state").var(&name, &text).load();
        let config = config.unwrap_or_else(|error| panic!("{name}={text}: {error}"));
        match key.name {
            "backend" => assert_eq!(config.apps[0].domain, "other.example.net"),
            "secret_file" => assert_eq!(config.apps[0].secret.expose(), "Bearer x"),
            "id" => assert_eq!(config.apps[0].id, "guestbook"),
            "version" => assert_eq!(config.apps[0].name, "beta.latest.guest-book"),
            _ => {}
        }
    }
    let bad = toml(SMALL).var("APPXMPP_BOUNCE_WAIT_MS", "soon").refusal();
    assert!(bad.contains("APPXMPP_BOUNCE_WAIT_MS") && bad.contains("soon"), "{bad}");
}

#[test]
fn quotas_are_of_an_app_and_none_is_set_by_default() {
    let limits = |config: &Config| Resource::ALL.map(|it| config.apps[0].quotas.limit(it));
    assert_eq!(limits(&toml(SMALL).load().unwrap()), [None; 4]);
    let some =
        format!("{SMALL}[app.quotas]\ninvitations_sent = 100000\ndata_sent_bytes = 5_000_000_000");
    let config = toml(&some).var("APPXMPP_QUOTAS_API_CALLS", "7000000000").load().unwrap();
    assert_eq!(limits(&config), [Some(7_000_000_000), Some(5_000_000_000), None, Some(100_000)]);
    let without = toml(SMALL).load().unwrap();
    assert_eq!(diff::app(&without.apps[0], &config.apps[0]).restart, ["quotas"]);
    let text = toml(&format!("{SMALL}[app.quotas]\ninvitation_sent = 1")).refusal();
    assert!(text.contains("did you mean \"invitations_sent\"?"), "{text}");
    assert!(text.contains("[app.quotas] of [[app]] number 1"), "{text}");
    assert!(toml(&format!("{SMALL}quota = 1")).refusal().contains("did you mean \"quotas\"?"));
    assert!(toml(&format!("{SMALL}quotas = 1")).refusal().contains("app.quotas is a table"));
    let text = toml(&format!("{SMALL}[app.quotas]\napi_calls = \"many\"")).refusal();
    assert!(text.contains("api_calls in [app.quotas]") && text.contains("whole number"), "{text}");
    let text = toml(&format!("{SMALL}api_calls = 1")).refusal();
    assert!(text.contains("it belongs in [app.quotas]"), "{text}");
    assert!(toml(SMALL).var("APPXMPP_QUOTAS_API_CALLS", "-1").refusal().contains("not negative"));
}

#[test]
fn state_is_kept_where_the_service_manager_says_unless_a_url_does() {
    let config =
        toml(SMALL).var("STATE_DIRECTORY", "/var/lib/appxmpp:/var/lib/other").load().unwrap();
    assert_eq!(config.store, Store::Sqlite("/var/lib/appxmpp/state.db".into()));
    assert!(config.outbox.is_some() && config.warnings.is_empty());
    let elsewhere = format!("{SMALL}[store]\nurl = \"sqlite:/srv/bot.db\"\ndurable = false");
    let config = toml(&elsewhere).var("STATE_DIRECTORY", "/var/lib/appxmpp").load().unwrap();
    assert_eq!(config.store, Store::Sqlite("/srv/bot.db".into()));
    assert!(config.outbox.is_none() && config.warnings.is_empty());
}

#[test]
fn memory_is_not_taken_for_durable() {
    let config = toml(SMALL).load().unwrap();
    assert_eq!((&config.store, config.outbox), (&Store::Memory, None));
    let [warning] = &config.warnings[..] else { panic!("{:?}", config.warnings) };
    assert!(warning.contains("nothing survives a restart") && warning.contains("url in [store]"));
    let chosen = toml(&format!("{SMALL}[store]\nurl = \"memory:\"")).load().unwrap();
    assert_eq!((chosen.store, chosen.warnings), (Store::Memory, Vec::new()));
    assert!(toml(&on_the_development_server(SMALL)).load().unwrap().warnings.is_empty());
    for memory in ["", "url = \"memory:\""] {
        let text = toml(&format!("{SMALL}[store]\n{memory}\ndurable = true")).refusal();
        assert!(text.contains("durable in [store]") && text.contains("sqlite:/"), "{text}");
    }
    assert!(toml(&format!("{SMALL}[store]\ndurable = false")).load().is_ok());
}

#[test]
fn the_environment_alone_is_enough() {
    let config = Fake::default()
        .var("APPXMPP_BACKEND", "component://bot.example.net@127.0.0.1")
        .var("APPXMPP_SECRET", "s")
        .var("APPXMPP_HTTP_LISTEN", "unix:/run/appxmpp/appxmpp.sock")
        .var("APPXMPP_CREDENTIALS", "Bearer a, Bearer b")
        .load()
        .unwrap();
    assert_eq!(config.apps[0].id, "bot");
    assert_eq!(config.http.listen, Listen::Unix("/run/appxmpp/appxmpp.sock".into()));
    assert_eq!(config.apps[0].keyring.check(Some("Bearer b")), Ok(()));
}

#[test]
fn secrets_come_from_systemd_credentials_too() {
    let no_secret = SMALL.replace("secret = \"s\"", "");
    let fake = toml(&no_secret)
        .var("CREDENTIALS_DIRECTORY", "/run/credentials/appxmpp")
        .file("/run/credentials/appxmpp/secret.bot", "from systemd\n")
        .file("/run/credentials/appxmpp/secret", "of another\n");
    assert_eq!(fake.load().unwrap().apps[0].secret.expose(), "from systemd");
    let fake = toml(SMALL)
        .var("CREDENTIALS_DIRECTORY", "/c")
        .file("/c/credentials", "Bearer one\n\nBearer two\n")
        .file("/c/store_url", "postgresql://u:hidden@127.0.0.1/d\n");
    let config = fake.load().unwrap();
    assert_eq!(config.apps[0].keyring.check(Some("Bearer two")), Ok(()));
    let url = Secret::new("postgresql://u:hidden@127.0.0.1/d");
    assert_eq!(config.store, Store::Postgres(url));
    let config =
        fake.file("/c.toml", &format!("{SMALL}[store]\nurl = \"memory:\"")).load().unwrap();
    assert_eq!(config.store, Store::Memory, "what is written wins");
    let empty = toml(&no_secret).var("CREDENTIALS_DIRECTORY", "/c").file("/c/secret", "\n");
    assert!(empty.refusal().contains("the credential /c/secret is empty"));
    let text = toml(&no_secret).refusal();
    assert!(text.contains("secret_file") && text.contains("APPXMPP_SECRET"), "{text}");
}

#[test]
fn no_secret_is_ever_printed() {
    let text = SMALL.replace("bot.example.net@", "bot.example.net:hidden1@").replace(
        "secret = \"s\"",
        "secret = \"hidden2\"\nwebhook_secret = \"hidden3\"\ncredentials = [\"Bearer hidden4\"]",
    );
    let config = toml(&text).load().unwrap();
    assert!(!format!("{config:?}").contains("hidden"), "{config:?}");
    assert_eq!(config.apps[0].secret.expose(), "hidden2");
    for bad in ["component//b:hidden@h", "tcp://b:hidden@h", "component://a@b:hidden@h"] {
        let text =
            toml(&SMALL.replace("component://bot.example.net@127.0.0.1:5347", bad)).refusal_any();
        assert!(!text.contains("hidden"), "{text}");
    }
}

impl Fake {
    fn refusal_any(&self) -> String {
        self.load().expect_err("a bad configuration").to_string()
    }
}

const VERSIONS: &str = r#"
[[app]]
id = "guest-book"
backend = "component://bot.example.net@127.0.0.1:5347"
secret = "s"
[[app]]
id = "guest-book"
version = "beta"
backend = "component://beta.latest.bot.example.net@127.0.0.1:5347"
secret = "t"
addresses = "appengine"
"#;

#[test]
fn a_version_is_an_app_of_its_own() {
    let config = toml(VERSIONS).load().unwrap();
    let names: Vec<_> = config.apps.iter().map(|app| app.name.as_str()).collect();
    assert_eq!(names, ["guest-book", "beta.latest.guest-book"]);
    let forms: Vec<_> = config.apps.iter().map(|app| app.addresses).collect();
    assert_eq!(forms, [Presentation::Domain, Presentation::AppEngine]);
    // Without an id it is called as the default version would be.
    let config = toml(&VERSIONS.replace("id = \"guest-book\"\n", "")).load().unwrap();
    assert_eq!((config.apps[1].id.as_str(), &*config.apps[1].name), ("bot", "beta.latest.bot"));
}

#[test]
fn a_version_is_called_as_its_component() {
    for (from, to, words) in [
        (
            "//beta.latest.bot",
            "//bot.beta",
            "must be called beta.latest.DOMAIN, not bot.beta.example",
        ),
        ("\"beta\"", "\"a.b\"", "must be called a.b.latest.DOMAIN"),
        (
            "component://beta.latest.bot.example.net@127.0.0.1:5347",
            "client://bot@example.net",
            "cannot be the version \"beta\"",
        ),
        ("\"appengine\"", "\"gae\"", "\"appengine\" for APP_ID@appspot.com"),
    ] {
        let text = toml(&VERSIONS.replace(from, to)).refusal();
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn a_version_has_variables_and_credentials_of_its_own() {
    let config = toml(VERSIONS)
        .var("APPXMPP_APP_GUEST_BOOK_VERSION_BETA_URL", "http://127.0.0.1:8081")
        .var("APPXMPP_APP_GUEST_BOOK_CALLBACK_URL", "http://127.0.0.1:9999")
        .var("APPXMPP_URL", "http://127.0.0.1:8080")
        .load()
        .unwrap();
    let urls: Vec<_> = config.apps.iter().map(|app| app.url.as_deref().unwrap()).collect();
    assert_eq!(urls, ["http://127.0.0.1:8080", "http://127.0.0.1:8081"]);
    assert_eq!(config.apps[1].callback_url, None);
    let text = VERSIONS.replace("secret = \"s\"\n", "").replace("secret = \"t\"\n", "");
    let config = toml(&text)
        .var("CREDENTIALS_DIRECTORY", "/c")
        .file("/c/secret.beta.latest.guest-book", "of beta\n")
        .file("/c/secret.guest-book", "of the app\n")
        .load()
        .unwrap();
    assert_eq!(config.apps[0].secret.expose(), "of the app");
    assert_eq!(config.apps[1].secret.expose(), "of beta");
    let text = toml(&text.replace("[[app]]\nid = \"guest-book\"\nb", "[[app]]\nsecret = \"s\"\nb"))
        .refusal();
    assert!(text.contains("\"beta.latest.guest-book\" has no secret"), "{text}");
}

#[test]
fn what_a_version_is_only_a_restart_changes() {
    let (old, new) = (toml(VERSIONS).load().unwrap(), VERSIONS.replace("appengine", "domain"));
    let changes = diff::app(&old.apps[1], &toml(&new).load().unwrap().apps[1]);
    assert_eq!(changes.restart, ["addresses"]);
    let alone = VERSIONS.rsplit_once("[[app]]").unwrap().1.replace("version = \"beta\"\n", "");
    let mut new = toml(&format!("[[app]]{alone}")).load().unwrap().apps.remove(0);
    assert_eq!(diff::app(&old.apps[1], &new).restart, ["version"]);
    diff::keep(&old.apps[1], &mut new);
    assert_eq!(
        (new.name.as_str(), new.version.as_deref()),
        ("beta.latest.guest-book", Some("beta"))
    );
}

#[test]
fn contradictions_are_named() {
    for (addition, words) in [
        ("secret_file = \"/f\"", "not both"),
        ("url = \"ftp://h\"", "http://"),
        ("url = \"http://user:pw@h\"", "http://"),
        ("callback_url = \"127.0.0.1\"", "http://"),
        ("callback_content_type = \"text/xml\"", "application/xmpp+xml"),
        ("callback_stanzas = [\"mesage\"]", "mesage"),
        ("callback_events = [\"all\"]", "bare, full, host"),
        ("inbound_services = [\"mail\"]", "xmpp_message"),
        ("credentials = [\"token\"]", "Bearer TOKEN"),
        ("[http]\nlisten = \"5280\"", "127.0.0.1:5280"),
        ("[store]\nurl = \"mysql://h\"", "sqlite:"),
        (
            "[store]\nurl = \"postgresql://u:word@db.example/d?sslmode=bogus\"",
            "say disable, prefer",
        ),
        ("[store]\nurl = \"postgresql://u:word@db.example/d?sslmode=prefer\"", "verify-full"),
        ("[log]\nformat = \"xml\"", "auto, text or json"),
        ("[log]\nlevel = \"loud\"", "loud"),
        (SMALL, "two apps"),
        (&OTHER.replace("other.", "bot."), "one id, \"bot\""),
        (&format!("hosts = [\"A.example\"]\n{OTHER}hosts = [\"a.example\"]"), "\"a.example\""),
        (&format!("{OTHER}hosts = [\"BOT.example.net\"]"), "\"bot.example.net\""),
        ("webhook_timeout_seconds = 0", "at least 1 second"),
        ("webhook_secret = \"\"", "webhook_secret of app \"bot\" is empty"),
        ("[http]\nmetrics = \"127.0.0.1:5280\"", "the same address"),
        ("[http]\nlisten = \"unix:/s\"\nmetrics = \"unix:/s\"", "the same address"),
    ] {
        let text = toml(&format!("{SMALL}{addition}")).refusal();
        assert!(text.contains(words), "{addition}: {text}");
        assert!(!text.contains("word@"), "{text}");
    }
    assert!(Fake::default().refusal().contains("APPXMPP_BACKEND"));
    assert!(toml("[[app]]\nid = \"x\"").refusal().contains("backend"));
    let empty = toml(&SMALL.replace("\"s\"", "\"\"")).refusal();
    assert!(empty.contains("secret of app \"bot\" is empty"), "{empty}");
    let free = "[http]\nlisten = \"127.0.0.1:0\"\nmetrics = \"127.0.0.1:0\"";
    assert!(toml(&format!("{SMALL}{free}")).load().is_ok(), "the system chooses two ports");
}

#[test]
fn an_app_without_an_id_has_the_variables_of_its_domains_first_label() {
    let config = toml(&format!("{SMALL}{OTHER}"))
        .var("APPXMPP_APP_OTHER_URL", "http://127.0.0.1:8081")
        .var("APPXMPP_APP_BOT_URL", "http://127.0.0.1:8080")
        .load()
        .unwrap();
    let urls: Vec<_> = config.apps.iter().map(|app| app.url.as_deref()).collect();
    assert_eq!(urls, [Some("http://127.0.0.1:8080"), Some("http://127.0.0.1:8081")]);
}

#[test]
fn a_backend_for_the_apps_processes_is_none_for_the_gateway() {
    for backend in
        ["http://bot:s@127.0.0.1:5280/", "http+unix://bot:s@/run/s", "https://b:s@h/rest"]
    {
        let config = toml(SMALL).var("APPXMPP_BACKEND", backend).load().unwrap();
        assert_eq!(config.apps[0].domain, "bot.example.net");
        let text = Fake::default().var("APPXMPP_BACKEND", backend).refusal();
        assert!(text.contains("is the way to a gateway") && !text.contains(":s@"), "{text}");
    }
    let text = toml(&SMALL.replace("component://", "http://")).refusal_any();
    assert!(text.contains("which a gateway cannot use"), "{text}");
}

#[test]
fn the_example_file_is_current_and_loads_with_every_key_set() {
    let example = keys::example();
    let kept = include_str!("../../dist/appxmpp.toml");
    assert!(example == kept, "write dist/appxmpp.toml anew: appxmpp example");
    let all: String = example
        .lines()
        .map(|line| line.strip_prefix('#').filter(|l| !l.starts_with(' ')).unwrap_or(line))
        .filter(|line| {
            !["version =", "secret =", "webhook_secret ="].iter().any(|key| line.starts_with(key))
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let fake = toml(&on_the_development_server(&all))
        .file("/etc/appxmpp/secret", "s")
        .file("/etc/appxmpp/webhook-secret", "w")
        .file("/etc/appxmpp/credentials", "Bearer x\n")
        .file("/etc/appxmpp/ca.pem", AUTHORITY);
    fake.load().unwrap_or_else(|error| panic!("{error}"));
    toml(&example).file("/etc/appxmpp/secret", "s").load().unwrap();
}
