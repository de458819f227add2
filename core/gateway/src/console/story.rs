//! What happened: everything said by and to the users, in order, bounded.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use appxmpp::stanza::{Stanza, StanzaKind};
use tokio::sync::watch;

/// How many entries are kept, and of how many bytes of XML.
const MAX_ENTRIES: usize = 2000;
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// Who did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// The user, by hand.
    User,
    /// The app.
    App,
}

/// One thing that happened.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Counts from 1.
    pub(super) number: u64,
    pub(super) at: SystemTime,
    pub(super) what: What,
}

#[derive(Debug, Clone)]
pub(super) enum What {
    /// A line about the connection.
    Note(String),
    /// A stanza between the app and the user.
    Stanza {
        who: Who,
        /// The user's bare address.
        user: String,
        stanza: Box<Stanza>,
    },
}

impl Entry {
    pub(super) fn note(text: String) -> Self {
        Self { number: 0, at: SystemTime::now(), what: What::Note(text) }
    }

    pub(super) fn stanza(who: Who, user: String, stanza: Stanza) -> Self {
        let what = What::Stanza { who, user, stanza: Box::new(stanza.detached()) };
        Self { number: 0, at: SystemTime::now(), what }
    }

    fn bytes(&self) -> usize {
        match &self.what {
            What::Note(text) => text.len(),
            What::Stanza { stanza, .. } => stanza.raw().len(),
        }
    }
}

#[derive(Default)]
struct Kept {
    entries: VecDeque<Entry>,
    bytes: usize,
    newest: u64,
}

pub(super) struct Story {
    kept: Mutex<Kept>,
    grown: watch::Sender<u64>,
}

impl Default for Story {
    fn default() -> Self {
        Self { kept: Mutex::default(), grown: watch::Sender::new(0) }
    }
}

impl Story {
    pub(super) fn add(&self, mut entry: Entry) {
        let mut kept = self.lock();
        kept.newest += 1;
        entry.number = kept.newest;
        kept.bytes += entry.bytes();
        kept.entries.push_back(entry);
        while kept.entries.len() > MAX_ENTRIES || kept.bytes > MAX_BYTES {
            let Some(oldest) = kept.entries.pop_front() else { break };
            kept.bytes -= oldest.bytes();
        }
        let newest = kept.newest;
        drop(kept);
        self.grown.send_replace(newest);
    }

    /// What happened after the entry with this number, and the newest number.
    pub(super) fn after(&self, number: u64) -> (Vec<Entry>, u64) {
        let kept = self.lock();
        let entries = kept.entries.iter().filter(|entry| entry.number > number).cloned().collect();
        (entries, kept.newest)
    }

    /// Tells of each new entry.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.grown.subscribe()
    }

    /// What `user` and the app said to each other, as `#me` and `#bot` lines.
    pub(super) fn talk(&self, user: &str) -> String {
        let bare = user.split('/').next().unwrap_or_default().to_lowercase();
        let mut out = String::new();
        for entry in &self.lock().entries {
            let What::Stanza { who, user, stanza } = &entry.what else { continue };
            let body = stanza.body().filter(|_| stanza.kind() == StanzaKind::Message);
            if let Some(body) = body
                && *user == bare
                && !stanza.is_error()
            {
                let tag = if *who == Who::User { "#me" } else { "#bot" };
                out.push_str(&format!("{tag} {body}\n"));
            }
        }
        out
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use appxmpp::ns;
    use appxmpp::xml::{Limits, Scope};

    fn said(who: Who, user: &str, xml: &str) -> Entry {
        let scope = Scope::stream(ns::COMPONENT);
        let stanza = Stanza::parse(xml.to_owned().into(), &scope, &Limits::default()).unwrap();
        Entry::stanza(who, user.to_owned(), stanza)
    }

    #[test]
    fn old_entries_make_room_and_numbers_go_on() {
        let story = Story::default();
        (0..MAX_ENTRIES + 5).for_each(|n| story.add(Entry::note(n.to_string())));
        let (entries, newest) = story.after(0);
        assert_eq!((entries.len(), entries[0].number), (MAX_ENTRIES, 6));
        assert_eq!(newest, MAX_ENTRIES as u64 + 5);
        assert_eq!(story.after(newest - 1).0.len(), 1);
        let large = "x".repeat(MAX_BYTES / 3);
        (0..4).for_each(|_| story.add(Entry::note(large.clone())));
        assert_eq!(story.after(0).0.len(), 3);
    }

    #[test]
    fn the_conversation_is_one_users() {
        let story = Story::default();
        let message = |text: &str| format!("<message><body>{text}</body></message>");
        story.add(said(Who::User, "romeo@a.example", &message("/hi")));
        story.add(said(Who::App, "juliet@a.example", &message("no")));
        story.add(said(Who::App, "romeo@a.example", "<presence/>"));
        story.add(said(Who::App, "romeo@a.example", &message("hello &lt;")));
        assert_eq!(story.talk("Romeo@a.example/phone"), "#me /hi\n#bot hello <\n");
    }
}
