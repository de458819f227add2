//! Stanzas on their way out: what a server would close the stream for is refused here.

use memchr::memchr;

use crate::error::{Error, ErrorKind, Result};
use crate::jid::WireJid;
use crate::stanza::{StanzaBuilder, StanzaKind};
use crate::xml::{Limits, Scope, strict};

/// Several stanzas that go out together, in order.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Batch {
    /// No stanzas.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one stanza, `xml`, whose default namespace is the stream's (`jabber:component:accept`
    /// for a component) and is not written on it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidXml`] or [`ErrorKind::TooLarge`] if it is not one message, presence or iq
    /// of restricted XML (RFC 6120 §11.1).
    pub fn push(&mut self, xml: &[u8], default_ns: &str, limits: &Limits) -> Result<()> {
        let scope = Scope::stream(default_ns);
        let head = strict::check(xml, &scope, limits)?;
        if StanzaKind::of(head.name) == StanzaKind::Other || head.ns != default_ns {
            let what = "only <message/>, <presence/> and <iq/> in the stream's namespace are sent";
            return Err(Error::new(ErrorKind::InvalidXml, what));
        }
        self.push_written(xml);
        Ok(())
    }

    /// Adds one stanza that was built, not read: what a [`StanzaBuilder`] escapes needs no check. XML
    /// that was given to its [`xml`](StanzaBuilder::xml) must have passed
    /// [`fragment::check`](crate::xml::fragment::check), as there.
    pub fn push_built(&mut self, stanza: StanzaBuilder) {
        self.push_written(stanza.finish().as_bytes());
    }

    /// Adds one stanza that this crate's own writers made.
    pub(crate) fn push_written(&mut self, xml: &[u8]) {
        self.bytes.extend_from_slice(xml);
        self.ends.push(self.bytes.len());
    }

    /// One stanza that this crate's own writers made.
    #[cfg(feature = "net")]
    pub(crate) fn of_written(xml: String) -> Self {
        Self { ends: vec![xml.len()], bytes: xml.into_bytes() }
    }

    /// Adds one stanza that this crate's own writers made, in two pieces.
    #[cfg(feature = "net")]
    pub(crate) fn push_pieces(&mut self, head: &[u8], tail: &[u8]) {
        self.bytes.extend_from_slice(head);
        self.push_written(tail);
    }

    /// Removes them all, and keeps the memory for others.
    #[cfg(feature = "net")]
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// How many stanzas there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// How many bytes they have together.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// The stanzas, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.bytes[start..end])
    }

    /// How many of the stanzas lie wholly within the first `bytes` bytes.
    #[cfg(feature = "net")]
    pub(crate) fn within(&self, bytes: u64) -> usize {
        self.ends.partition_point(|&end| end as u64 <= bytes)
    }
}

/// Refuses a stanza whose `from` is missing or not of `domain`: the server would answer it by
/// closing the stream with `invalid-from`, for everybody on it.
pub(crate) fn check_sender(stanza: &[u8], domain: &str) -> Result<()> {
    match sender(stanza) {
        Some(from) if is_of(from, domain) => Ok(()),
        Some(from) => Err(Error::new(
            ErrorKind::InvalidSender,
            format!(
                "{:?} is not an address of {domain}, and the server would close the stream for it; send from anything@{domain}",
                String::from_utf8_lossy(from)
            ),
        )),
        None => Err(Error::new(
            ErrorKind::InvalidSender,
            format!(
                "the stanza has no from address, and the server would close the stream for it; add from='anything@{domain}'"
            ),
        )),
    }
}

/// Refuses a stanza whose `from` is not the account's: its server would refuse it too, or set its
/// own. None at all is what a client usually writes (RFC 6120 §8.1.2.1).
#[cfg(feature = "client")]
pub(super) fn check_own(stanza: &[u8], bare: &WireJid, full: &crate::jid::Jid) -> Result<()> {
    let Some(from) = sender(stanza) else { return Ok(()) };
    let mut escaped = String::new();
    crate::xml::writer::escape_attr(&mut escaped, full.as_str());
    let text = String::from_utf8_lossy(from);
    let from = WireJid::new(&*text);
    if *text == escaped || from == *bare || from == WireJid::new(full.as_str()) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidSender,
        format!("{text:?} is not this account; an account sends as {full} only"),
    ))
}

fn is_of(from: &[u8], domain: &str) -> bool {
    let bare = memchr(b'/', from).map_or(from, |slash| &from[..slash]);
    // No localpart or domainpart has a character that must be escaped, and one that is could be a
    // slash or an at sign.
    if memchr(b'&', bare).is_some() {
        return false;
    }
    let host = memchr(b'@', bare).map_or(bare, |at| &bare[at + 1..]);
    if host.eq_ignore_ascii_case(domain.as_bytes()) {
        return true;
    }
    // Another spelling of the same domain.
    std::str::from_utf8(host).is_ok_and(|host| WireJid::new(host).domainpart() == domain)
}

/// The value of `from` in the start tag, as written. The stanza is well-formed.
fn sender(stanza: &[u8]) -> Option<&[u8]> {
    let mut rest = &stanza[stanza.iter().position(|b| b.is_ascii_whitespace() || *b == b'>')?..];
    loop {
        let name_end = rest.iter().position(|b| matches!(b, b'=' | b'>'))?;
        if rest[name_end] == b'>' {
            return None;
        }
        let name = rest[..name_end].trim_ascii();
        let value = rest[name_end + 1..].trim_ascii_start();
        let (quote, value) = value.split_first()?;
        let end = memchr(*quote, value)?;
        if name == b"from" {
            return Some(&value[..end]);
        }
        rest = &value[end + 1..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ns;

    #[test]
    fn only_own_addresses_may_send() {
        for good in [
            "<message from='bot@b.example/x' to='a@b'/>",
            "<message to='a@c' from=\"b.example\"><body from='x@y'>hi</body></message>",
            "<iq\n\tid = 'a=b>c'\n from = 'x@B.Example/a@b/c' />",
            "<presence from='x@b.example.'/>",
            "<presence from='x@b.example/it&apos;s'/>",
        ] {
            check_sender(good.as_bytes(), "b.example").expect(good);
        }
        for bad in [
            "<message to='a@b'/>",
            "<message/>",
            "<message><body from='x@b.example'/></message>",
            "<message from='x@c.example' to='x@b.example'/>",
            "<message from='x@b.example.evil/b.example'/>",
            "<message from='c.example/x@b.example'/>",
            "<message from=''/>",
            "<message from='c.example&#x2f;x@b.example'/>",
            "<message x:from='b.example' fro='b.example' fromm='b.example'/>",
        ] {
            let error = check_sender(bad.as_bytes(), "b.example").expect_err(bad);
            assert_eq!(error.kind(), ErrorKind::InvalidSender);
        }
    }

    #[test]
    fn a_built_stanza_is_what_a_pushed_one_is() {
        let built = || StanzaBuilder::message().from("x@b.example").body("1 < 2 & \u{1}");
        let (mut a, mut b) = (Batch::new(), Batch::new());
        a.push_built(built());
        b.push(built().finish().as_bytes(), ns::COMPONENT, &Limits::default()).unwrap();
        assert!(a.iter().eq(b.iter()));
    }

    #[test]
    fn a_batch_knows_its_stanzas() {
        let mut batch = Batch::new();
        for xml in ["<iq a='1'/>", "<message/>", "<presence>é</presence>"] {
            batch.push(xml.as_bytes(), ns::COMPONENT, &Limits::default()).unwrap();
        }
        let stanzas: Vec<_> = batch.iter().map(|s| std::str::from_utf8(s).unwrap()).collect();
        assert_eq!(stanzas, ["<iq a='1'/>", "<message/>", "<presence>é</presence>"]);
        let counts = [0, 10, 11, 20, 21, 1000].map(|bytes| batch.within(bytes));
        assert_eq!(counts, [0, 0, 1, 1, 2, 3]);
    }

    #[test]
    fn a_batch_takes_nothing_that_would_break_the_stream() {
        let mut batch = Batch::new();
        for bad in [
            "",
            "text",
            "<message>",
            "<message/><message/>",
            "</stream:stream>",
            "<message></stream:stream>",
            "<stream:error/>",
            "<message xmlns='urn:x'/>",
            "<handshake/>",
            "<message>\u{0}</message>",
        ] {
            let error = batch.push(bad.as_bytes(), ns::COMPONENT, &Limits::default());
            assert_eq!(error.expect_err(bad).kind(), ErrorKind::InvalidXml, "{bad}");
        }
        assert!(batch.is_empty() && batch.byte_len() == 0);
    }
}
