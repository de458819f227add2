//! What tells deliveries of the same number apart, should the state file have been removed in between.

use appxmpp::WireJid;
use appxmpp::stanza::Stanza;

/// A checksum of what a stanza says. It is the same for the stanza as it came and as a store gives it
/// back, where an account's has another namespace around it.
pub(super) fn mark(stanza: &Stanza) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    let [from, to] = [stanza.from(), stanza.to()].map(|jid| jid.map(WireJid::as_str));
    for part in [from, to, stanza.id(), stanza.type_(), stanza.body().as_deref()] {
        let part = part.unwrap_or_default();
        sum.update(&(part.len() as u64).to_le_bytes());
        sum.update(part.as_bytes());
    }
    sum.finalize()
}

#[cfg(test)]
mod tests {
    use appxmpp::ns;
    use appxmpp::xml::{Limits, Scope};

    use super::*;

    fn parse(xml: &str, default_ns: &str) -> Stanza {
        Stanza::parse(xml.to_owned().into(), &Scope::stream(default_ns), &Limits::default())
            .unwrap()
    }

    #[test]
    fn a_stanza_has_the_mark_it_had_when_a_store_gives_it_back() {
        let xml =
            "<message from='a@b/c' to='bot@d' id='1' type='chat'><body>&lt;é</body></message>";
        let came = parse(xml, ns::CLIENT);
        let kept = came.element().unwrap().to_xml();
        assert_ne!(kept.as_bytes(), came.raw());
        assert_eq!(mark(&parse(&kept, ns::COMPONENT)), mark(&came));
    }

    #[test]
    fn what_says_something_else_has_another_mark() {
        let marks: std::collections::HashSet<u32> = [
            "<message from='a@b' to='c@d'/>",
            "<message from='a@b' to='c@d' id='1'/>",
            "<message from='a@b' to='c@d' type='1'/>",
            "<message from='a@b' to='c@d'><body>1</body></message>",
            "<message from='a@bc' to='@d'/>",
        ]
        .map(|xml| mark(&parse(xml, ns::COMPONENT)))
        .into();
        assert_eq!(marks.len(), 5);
    }
}
