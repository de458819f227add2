//! Stream management (XEP-0198): acknowledgements, and a session that goes on on another connection.

use super::{ClientEvent, ClientStream, StreamError};
use crate::jid::WireJid;
use crate::ns;
use crate::stream::sm::{Counters, Resumption};
use crate::xml::Element;

impl ClientStream {
    pub(super) fn enabled(&mut self, element: &Element) {
        let resumable = matches!(element.attr("resume"), Some("true" | "1"));
        self.session_id = element.attr("id").filter(|_| resumable).map(str::to_owned);
        self.counters = Some(Counters::default());
        self.ready(false);
    }

    pub(super) fn resumed(&mut self, element: &Element) {
        let Some(Resumption { id, jid, mut counters }) = self.resumption.take() else { return };
        // What was not confirmed comes again.
        counters.rewind();
        let acked = read_h(element).map(|h| counters.acknowledge(h));
        let Some(Ok(acked)) = acked else { return self.too_high() };
        self.bare = WireJid::new(jid.bare());
        (self.jid, self.session_id) = (jid, Some(id));
        for stanza in counters.unacked() {
            self.wire.write(stanza);
        }
        let again = counters.unacked().len();
        self.counters = Some(counters);
        self.ready(true);
        for _ in 0..again {
            self.prober.sent(self.now);
        }
        self.pending.extend(acked.map(ClientEvent::Acked));
    }

    pub(super) fn not_resumed(&mut self, element: &Element) {
        if let (Some(h), Some(resumption)) = (read_h(element), &mut self.resumption)
            && resumption.counters.acknowledge(h).is_err()
        {
            self.stats.ignored += 1;
        }
        self.give_up();
        self.bind(true);
    }

    /// The session that was to be resumed is lost.
    pub(super) fn give_up(&mut self) {
        if let Some(resumption) = self.resumption.take() {
            let unacked = resumption.counters.into_unacked();
            self.pending.push_back(ClientEvent::Unacked(unacked));
        }
    }

    /// A stanza of the server's was taken.
    pub(super) fn took(&mut self) {
        if let Some(counters) = &mut self.counters {
            counters.received();
            if !self.config.confirm {
                counters.confirm_all();
            }
        }
    }

    /// The server is told of everything, now: it would send again what breaks the stream.
    pub(super) fn took_poison(&mut self) {
        self.took();
        if let Some(counters) = &mut self.counters {
            counters.confirm_all();
        }
        self.answer_h();
    }

    pub(super) fn answer_h(&mut self) {
        if let Some(counters) = &self.counters {
            self.wire.write(format!("<a xmlns='{}' h='{}'/>", ns::SM, counters.h()).as_bytes());
        }
    }

    pub(super) fn acknowledged(&mut self, element: &Element) {
        let Some(counters) = &mut self.counters else { return self.stats.ignored += 1 };
        match read_h(element).map(|h| counters.acknowledge(h)) {
            Some(Ok(acked)) => {
                self.prober.answered(self.asked);
                self.pending.extend(acked.map(ClientEvent::Acked));
            }
            _ => self.too_high(),
        }
    }

    fn too_high(&mut self) {
        self.session_id = None;
        let text = "the server acknowledges stanzas that were never sent, or gives no number";
        self.violation(StreamError::new("undefined-condition").with_text(text));
    }
}

fn read_h(element: &Element) -> Option<u32> {
    element.attr("h")?.parse().ok()
}
