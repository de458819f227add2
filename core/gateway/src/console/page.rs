//! The page: one form and what happened, as HTML that works without its script.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use appxmpp::stanza::{Condition, Stanza, StanzaKind};
use appxmpp::xml::writer::escape_attr;

use super::Stage;
use super::act::Act;
use super::story::{Entry, What, Who};

/// Who the user is until somebody else is chosen.
const ROMEO: &str = "romeo@example.net/console";
const MESSAGE_TYPES: [&str; 4] = ["chat", "normal", "headline", "groupchat"];
const SHOWS: [&str; 6] = ["available", "chat", "away", "xa", "dnd", "unavailable"];
const SUBSCRIPTIONS: [(&str, &str); 4] = [
    ("subscribe", "Ask to see the app's presence"),
    ("unsubscribe", "Stop seeing the app's presence"),
    ("subscribed", "Let the app see mine"),
    ("unsubscribed", "Stop the app from seeing mine"),
];

/// The whole page, with the form filled in as it was sent and why it was refused, if it was.
pub(super) fn whole(stages: &[Stage], act: &Act, wrong: Option<&str>, entries: &[Entry]) -> String {
    let mut users: Vec<&str> = entries.iter().filter_map(user_of).chain([ROMEO]).collect();
    users.sort_unstable();
    users.dedup();
    let bots: Vec<&str> = stages.iter().map(|stage| stage.bot.as_str()).collect();
    let or = |text: &str, default: &str| {
        if text.is_empty() { default.to_owned() } else { text.to_owned() }
    };
    let user = or(act.user(), ROMEO);
    let to = or(act.to(), bots.first().copied().unwrap_or_default());
    let mut talk =
        form_urlencoded::Serializer::for_suffix(String::from("/talk.txt?"), "/talk.txt?".len());
    let talk = talk.append_pair("user", &user).finish();
    let newest = entries.last().map_or(0, |entry| entry.number);
    let mut out = String::with_capacity(16 * 1024);
    let _ = write!(
        out,
        include_str!("page.html"),
        connected = connected(stages),
        wrong = text(wrong.unwrap_or_default()),
        hidden = if wrong.is_some() { "" } else { " hidden" },
        user = text(&user),
        users = options(&users),
        to = text(&to),
        bots = options(&bots),
        body = text(if wrong.is_some() { act.get("body") } else { "" }),
        types = select(&MESSAGE_TYPES, or(act.get("type"), "chat").as_str()),
        shows = select(&SHOWS, act.get("show")),
        status = text(act.get("status")),
        subscriptions = subscriptions(),
        conditions = select(&conditions(), "service-unavailable"),
        error_text = text(act.get("error_text")),
        xml = text(if wrong.is_some() { act.get("xml") } else { "" }),
        talk = text(&talk),
        newest = newest,
        entries = entries.iter().map(entry).collect::<String>(),
    );
    out
}

fn conditions() -> Vec<&'static str> {
    Condition::ALL.iter().map(|condition| condition.as_str()).collect()
}

fn connected(stages: &[Stage]) -> String {
    let one = |stage: &Stage| {
        let state = if stage.server.is_connected() { "is connected" } else { "is not connected" };
        format!("{} {state}", text(&stage.domain))
    };
    stages.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn options(values: &[&str]) -> String {
    values.iter().map(|value| format!("<option value=\"{}\">", text(value))).collect()
}

fn select(values: &[&str], chosen: &str) -> String {
    let one = |value: &&str| {
        let selected = if *value == chosen { " selected" } else { "" };
        format!("<option{selected}>{value}</option>")
    };
    values.iter().map(one).collect()
}

fn subscriptions() -> String {
    let one = |(word, meaning): &(&str, &str)| {
        format!("<button name=\"do\" value=\"{word}\" title=\"{meaning}\">{word}</button>\n")
    };
    SUBSCRIPTIONS.iter().map(one).collect()
}

fn user_of(entry: &Entry) -> Option<&str> {
    match &entry.what {
        What::Stanza { user, .. } => Some(user),
        What::Note(_) => None,
    }
}

/// One thing that happened, as an item of the list.
pub(super) fn entry(entry: &Entry) -> String {
    let time = time(entry.at);
    match &entry.what {
        What::Note(note) => {
            format!("<li class=\"note\"><time>{time}</time> {}</li>\n", text(note))
        }
        What::Stanza { who, user, stanza } => {
            let class = if *who == Who::User { "user" } else { "app" };
            let jid = |jid: Option<&appxmpp::WireJid>| {
                jid.map_or(String::new(), |jid| text(jid.as_str()))
            };
            let from = stanza.from().map_or_else(|| text(user), |from| text(from.as_str()));
            format!(
                "<li class=\"{class}\"><p><time>{time}</time> <b>{from}</b> to {to} \
                 <span class=\"kind\">{kind}</span></p>{what}\
                 <details><summary>XML</summary><pre>{raw}</pre></details></li>\n",
                to = jid(stanza.to()),
                kind = text(&kind(stanza)),
                what = what(stanza),
                raw = text(&String::from_utf8_lossy(stanza.raw())),
            )
        }
    }
}

/// Name and type, such as `message chat`.
fn kind(stanza: &Stanza) -> String {
    match stanza.type_() {
        Some(type_) => format!("{} {type_}", stanza.name()),
        None if stanza.kind() == StanzaKind::Presence => "presence available".to_owned(),
        None => stanza.name().to_owned(),
    }
}

/// What people read of it.
fn what(stanza: &Stanza) -> String {
    let mut lines = Vec::new();
    if let Some(error) = stanza.error() {
        let note = error.text.as_deref().map_or(String::new(), |text| format!(": {text}"));
        lines.push(format!("{}{note}", error.condition.as_str()));
    }
    for name in ["subject", "body", "show", "status"] {
        if let Some(value) = stanza.child_text(name) {
            lines.push(if name == "body" { value } else { format!("{name}: {value}") });
        }
    }
    if lines.is_empty() {
        return String::new();
    }
    format!("<p class=\"text\">{}</p>", text(&lines.join("\n")))
}

fn text(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    escape_attr(&mut out, value);
    out
}

/// The time of day, UTC.
fn time(at: SystemTime) -> String {
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use appxmpp::ns;
    use appxmpp::xml::{Limits, Scope};

    #[test]
    fn nothing_of_a_stanza_becomes_markup() {
        let xml = "<message from='a@b/&lt;i&gt;' to='c@d' type='&lt;u&gt;'>\
                   <body>&lt;script&gt;\"'&amp;\u{fc}</body></message>";
        let scope = Scope::stream(ns::COMPONENT);
        let stanza = Stanza::parse(xml.into(), &scope, &Limits::default()).unwrap();
        let item = entry(&Entry::stanza(Who::App, "c@d".to_owned(), stanza));
        for markup in ["<script", "<i>", "<u>", "<message", "<body"] {
            assert!(!item.contains(markup), "{markup} in {item}");
        }
        assert!(item.contains("&lt;script&gt;") && item.contains('\u{fc}'), "{item}");
        let act = Act::parse(b"user=%22%3E%3Cscript%3E&to=%3Cb%3E&status=%3C/textarea%3E");
        let page = whole(&[], &act, Some("<em>"), &[]);
        for markup in ["\"><script", "<b>", "<em>"] {
            assert!(!page.contains(markup), "{markup}");
        }
    }
}
