//! Bytes of a stream in, whole stanzas out.

use bytes::{Buf, Bytes, BytesMut};

use super::chars::is_space;
use super::error::{XmlError, XmlErrorKind};
use super::header::{self, StreamHeader};
use super::limits::Limits;
use super::scan::{Scan, Scanner};

/// The longest stream header, XML declaration or stream end tag, in bytes.
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// A piece of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// The stream header.
    Open(StreamHeader),
    /// One element at the stream's first level: its bytes, as they came. That they are well-formed
    /// is for [`strict::check`](super::strict::check) or
    /// [`Stanza::parse`](crate::stanza::Stanza::parse) to say; whatever those refuse can be skipped,
    /// the stream goes on.
    Stanza(Bytes),
    /// An element over [`Limits::stanza_bytes`] was read past without being kept; the stream goes
    /// on. The error says how long it was.
    Skipped(XmlError),
    /// The end of the stream. Nothing comes after it.
    Close,
}

#[derive(Debug)]
enum State {
    /// Before the stream header; whether an XML declaration may still come.
    Start {
        declaration: bool,
    },
    /// In the stream header.
    Header(Scanner),
    /// Between the stream's children.
    Between,
    /// In a child; how many of its bytes were read, and whether they are not kept.
    Stanza {
        scanner: Scanner,
        dropping: bool,
        len: usize,
    },
    /// The header was an empty-element tag, or the end tag was read.
    Closing,
    Closed,
    Failed(XmlError),
}

/// Cuts a stream into [`Frame`]s. The time it takes is linear in the bytes, however they are split
/// over [`push`](Framer::push), and it keeps no more of an unfinished stanza than
/// [`Limits::stanza_bytes`].
#[derive(Debug)]
pub struct Framer {
    limits: Limits,
    buffer: BytesMut,
    /// How much of `buffer` the scanner has seen.
    scanned: usize,
    state: State,
    /// The root's name as written, for its end tag.
    root: String,
}

impl Framer {
    /// Awaits a stream header.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            buffer: BytesMut::new(),
            scanned: 0,
            state: State::Start { declaration: true },
            root: String::new(),
        }
    }

    /// Adds what was received. Call [`next`](Framer::next) until it gives `None` before the next
    /// push, so that the bound on memory holds.
    pub fn push(&mut self, bytes: &[u8]) {
        if !matches!(self.state, State::Closed | State::Failed(_)) {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// Awaits a new stream header, as after STARTTLS and SASL (RFC 6120 §5.4.3.3, §6.4.6). Bytes
    /// that were pushed and not yet framed stay: a caller that changes to TLS must see that
    /// [`unread`](Framer::unread) is 0, or somebody else wrote them.
    pub fn reset(&mut self) {
        self.state = State::Start { declaration: true };
        self.scanned = 0;
        self.root.clear();
    }

    /// How many bytes were pushed and are not yet part of a frame.
    pub fn unread(&self) -> usize {
        self.buffer.len()
    }

    /// The next frame, or `None` until more bytes are pushed.
    ///
    /// # Errors
    /// The stream itself is broken, and no end of a stanza can be told any more: close it with
    /// [`XmlError::condition`]. Every later call gives the same error.
    #[allow(clippy::should_implement_trait)] // An iterator would end for good at the first `None`.
    pub fn next(&mut self) -> Result<Option<Frame>, XmlError> {
        let result = self.advance();
        if let Err(error) = &result {
            self.state = State::Failed(error.clone());
            self.buffer = BytesMut::new();
        }
        result
    }

    fn advance(&mut self) -> Result<Option<Frame>, XmlError> {
        loop {
            let more = match &self.state {
                State::Start { declaration } => {
                    let declaration = *declaration;
                    self.start(declaration)?
                }
                State::Header(_) => return self.header(),
                State::Between => self.between()?,
                State::Stanza { .. } => return self.stanza(),
                State::Closing => {
                    self.state = State::Closed;
                    self.buffer = BytesMut::new();
                    return Ok(Some(Frame::Close));
                }
                State::Closed => return Ok(None),
                State::Failed(error) => return Err(error.clone()),
            };
            if !more {
                return Ok(None);
            }
        }
    }

    /// Before the header: white space and one XML declaration. Says whether to go on.
    fn start(&mut self, declaration: bool) -> Result<bool, XmlError> {
        // The declaration, if any, is the very first thing (XML 1.0 §2.8); a keepalive before it
        // does no harm.
        self.skip_space();
        match self.buffer[..] {
            [] | [b'<'] => Ok(false),
            [b'<', b'?', ..] if declaration => {
                let Some(end) = memchr::memchr(b'>', &self.buffer) else {
                    return self.bounded("the XML declaration").map(|()| false);
                };
                header::check_declaration(&self.buffer[..=end], &self.limits)?;
                self.buffer.advance(end + 1);
                self.state = State::Start { declaration: false };
                Ok(true)
            }
            [b'<', ..] => {
                self.state = State::Header(Scanner::start_tag());
                self.scanned = 0;
                Ok(true)
            }
            _ => Err(XmlError::malformed(0, "the stream does not begin with a stream header")),
        }
    }

    fn header(&mut self) -> Result<Option<Frame>, XmlError> {
        let State::Header(scanner) = &mut self.state else { return Ok(None) };
        let scan = scanner.scan(&self.buffer[self.scanned..])?;
        let Scan::End { len, empty } = scan else {
            self.scanned = self.buffer.len();
            return self.bounded("the stream header").map(|()| None);
        };
        let len = self.scanned + len;
        let (header, root) = StreamHeader::parse(&self.buffer[..len], &self.limits)?;
        self.buffer.advance(len);
        self.root = root;
        self.state = if empty { State::Closing } else { State::Between };
        Ok(Some(Frame::Open(header)))
    }

    /// Between stanzas: white space, then a stanza or the end. Says whether to go on.
    fn between(&mut self) -> Result<bool, XmlError> {
        self.skip_space();
        match self.buffer[..] {
            [] | [b'<'] => Ok(false),
            [b'<', b'/', ..] => {
                let Some(end) = memchr::memchr(b'>', &self.buffer) else {
                    return self.bounded("an end tag").map(|()| false);
                };
                let name = self.buffer[2..end].trim_ascii_end();
                if name != self.root.as_bytes() {
                    let name = String::from_utf8_lossy(&name[..name.len().min(40)]).into_owned();
                    let what = format!("<{}> is closed by </{name}>", self.root);
                    return Err(XmlError::malformed(0, what));
                }
                self.state = State::Closing;
                Ok(true)
            }
            [b'<', ..] => {
                let scanner = Scanner::element();
                self.state = State::Stanza { scanner, dropping: false, len: 0 };
                self.scanned = 0;
                Ok(true)
            }
            _ => Err(XmlError::new(XmlErrorKind::BadFormat, 0, "text between stanzas")),
        }
    }

    fn stanza(&mut self) -> Result<Option<Frame>, XmlError> {
        let State::Stanza { scanner, dropping, len } = &mut self.state else { return Ok(None) };
        let limit = self.limits.stanza_bytes;
        let before = *len;
        match scanner.scan(&self.buffer[self.scanned..]) {
            Err(error) => Err(error.moved(before)),
            Ok(Scan::More) => {
                *len += self.buffer.len() - self.scanned;
                self.scanned = self.buffer.len();
                if *len > limit {
                    *dropping = true;
                    self.buffer.clear();
                    self.scanned = 0;
                }
                Ok(None)
            }
            Ok(Scan::End { len: more, .. }) => {
                let total = before + more;
                let end = self.scanned + more;
                let over = *dropping || total > limit;
                self.state = State::Between;
                self.scanned = 0;
                if over {
                    self.buffer.advance(end);
                    let what = format!("a stanza of {total} bytes is over the limit of {limit}");
                    let error = XmlError::new(XmlErrorKind::PolicyViolation, limit, what);
                    return Ok(Some(Frame::Skipped(error)));
                }
                Ok(Some(Frame::Stanza(self.buffer.split_to(end).freeze())))
            }
        }
    }

    fn skip_space(&mut self) {
        let space = self.buffer.iter().take_while(|&&byte| is_space(byte)).count();
        self.buffer.advance(space);
    }

    fn bounded(&self, what: &str) -> Result<(), XmlError> {
        if self.buffer.len() <= MAX_HEADER_BYTES {
            return Ok(());
        }
        let what = format!("{what} is over {MAX_HEADER_BYTES} bytes");
        Err(XmlError::new(XmlErrorKind::PolicyViolation, MAX_HEADER_BYTES, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ns;
    use crate::xml::strict;
    use proptest::prelude::*;

    const HEADER: &str = "<?xml version='1.0'?><stream:stream \
        xmlns:stream='http://etherx.jabber.org/streams' xmlns='jabber:component:accept' \
        from='app.example' id='3BF96D32' version='1.0' xml:lang='en'>";

    fn opened(limits: Limits) -> Framer {
        let mut framer = Framer::new(limits);
        framer.push(HEADER.as_bytes());
        assert!(matches!(framer.next(), Ok(Some(Frame::Open(_)))));
        framer
    }

    fn all(framer: &mut Framer) -> Vec<Frame> {
        std::iter::from_fn(|| framer.next().unwrap()).collect()
    }

    fn stanza(text: &str) -> Frame {
        Frame::Stanza(Bytes::copy_from_slice(text.as_bytes()))
    }

    /// The error's condition after `before` and then `bytes`.
    fn condition(before: &str, bytes: &[u8]) -> Option<&'static str> {
        let mut framer = Framer::new(Limits::default());
        framer.push(before.as_bytes());
        framer.push(bytes);
        loop {
            match framer.next() {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(error) => {
                    framer.push(b"<presence/>");
                    assert_eq!(framer.next(), Err(error.clone()), "an error is the last word");
                    return Some(error.condition());
                }
            }
        }
    }

    #[test]
    fn the_header_gives_its_attributes_and_bindings() {
        let mut framer = Framer::new(Limits::default());
        framer.push(HEADER.as_bytes());
        let Ok(Some(Frame::Open(header))) = framer.next() else { panic!("no header") };
        assert_eq!(header.default_ns(), ns::COMPONENT);
        assert_eq!(header.scope.get("stream"), Some(ns::STREAM));
        assert_eq!(header.from.as_deref(), Some("app.example"));
        assert_eq!(header.id.as_deref(), Some("3BF96D32"));
        assert_eq!(header.version.as_deref(), Some("1.0"));
        assert_eq!(header.lang.as_deref(), Some("en"));
        assert_eq!(header.to, None);
    }

    #[test]
    fn stanzas_come_verbatim_between_keepalives_until_the_end() {
        let mut framer = opened(Limits::default());
        framer.push(b" \r\n<message a='>' b=\"/>'\"><body>&lt;</body ></message>\n<presence/><a><![CDATA[</a>]]");
        let second = [
            stanza("<message a='>' b=\"/>'\"><body>&lt;</body ></message>"),
            stanza("<presence/>"),
        ];
        assert_eq!(all(&mut framer), second);
        framer.push(b"]></a> </stream:stream >ignored");
        assert_eq!(all(&mut framer), [stanza("<a><![CDATA[</a>]]]></a>"), Frame::Close]);
        framer.push(b"<presence/>");
        assert_eq!(all(&mut framer), []);
        assert_eq!(framer.unread(), 0);
    }

    #[test]
    fn a_stanza_that_is_only_wrong_inside_does_not_end_the_stream() {
        let mut framer = opened(Limits::default());
        let deep = format!("{}{}", "<a>".repeat(35_000), "</a>".repeat(35_000));
        let bad =
            ["<a><b></a></b>", "<a>&nbsp;</a>", "<a b=c/>", "<a x='1' x='2'/>", "<p:a/>", &deep];
        for text in bad {
            framer.push(text.as_bytes());
            framer.push(b"<presence/>");
            let Ok(Some(Frame::Stanza(bytes))) = framer.next() else { panic!("{text:.40}") };
            assert_eq!(bytes, text.as_bytes());
            let scope = crate::xml::Scope::stream(ns::COMPONENT);
            assert!(strict::check(&bytes, &scope, &Limits::default()).is_err(), "{text:.40}");
            assert_eq!(all(&mut framer), [stanza("<presence/>")]);
        }
    }

    #[test]
    fn what_has_no_end_that_can_be_told_ends_the_stream() {
        for (bytes, expected) in [
            ("x", "bad-format"),
            ("&#32;", "bad-format"),
            ("</stream>", "not-well-formed"),
            ("</message>", "not-well-formed"),
            ("<!-- c -->", "restricted-xml"),
            ("<a><!-- c --></a>", "restricted-xml"),
            ("<!DOCTYPE a>", "restricted-xml"),
            ("<a><!DOCTYPE b></a>", "restricted-xml"),
            ("<a><![CDATX", "restricted-xml"),
            ("<![CDATA[x]]>", "restricted-xml"),
            ("<?pi?>", "restricted-xml"),
            ("<a><?pi?></a>", "restricted-xml"),
            ("<a b='<'/>", "not-well-formed"),
            ("<a></a <b>", "not-well-formed"),
            ("<a><></a>", "not-well-formed"),
        ] {
            assert_eq!(condition(HEADER, bytes.as_bytes()), Some(expected), "{bytes}");
        }
        let long = format!("</{}", "x".repeat(MAX_HEADER_BYTES));
        assert_eq!(condition(HEADER, long.as_bytes()), Some("policy-violation"));
    }

    #[test]
    fn a_header_is_a_stream_header_in_utf_8() {
        let header = |declaration: &str| {
            let rest = HEADER.strip_prefix("<?xml version='1.0'?>").unwrap();
            condition("", format!("{declaration}{rest}").as_bytes())
        };
        for good in [
            "",
            "\n",
            "<?xml version='1.0'?>",
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n",
            "<?xml version = '1.0' encoding='UTF-8' standalone='yes' ?>",
        ] {
            assert_eq!(header(good), None, "{good}");
        }
        for (bad, expected) in [
            ("<?xml version='1.0' encoding='ISO-8859-1'?>", "unsupported-encoding"),
            ("<?xml version='1.0' encoding='UTF-16'?>", "unsupported-encoding"),
            ("<?xml version='1.1'?>", "not-well-formed"),
            ("<?xml encoding='UTF-8'?>", "not-well-formed"),
            ("<?xml version='1.0' standalone='maybe'?>", "not-well-formed"),
            ("<?xml version='1.0'encoding='UTF-8'?>", "not-well-formed"),
            ("<?xmlversion='1.0'?>", "not-well-formed"),
            ("<?xml version='1.0'?><?xml version='1.0'?>", "restricted-xml"),
            ("<?pi?>", "not-well-formed"),
            ("<!DOCTYPE stream>", "restricted-xml"),
            ("\u{feff}", "not-well-formed"),
            ("x", "not-well-formed"),
        ] {
            assert_eq!(header(bad), Some(expected), "{bad}");
        }
        for (bad, expected) in [
            ("<stream>", "invalid-namespace"),
            ("<stream xmlns='jabber:client'>", "invalid-namespace"),
            ("<s:streams xmlns:s='http://etherx.jabber.org/streams'>", "bad-format"),
            ("<stream:stream>", "bad-namespace-prefix"),
            (
                "<s:stream xmlns:s='http://etherx.jabber.org/streams' a='1' a='1'>",
                "not-well-formed",
            ),
            ("</stream>", "not-well-formed"),
            ("\u{0}", "not-well-formed"),
        ] {
            assert_eq!(condition("", bad.as_bytes()), Some(expected), "{bad}");
        }
        let utf_16: Vec<u8> = HEADER.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert!(condition("", &utf_16).is_some());
        let long = format!("<stream:stream a='{}", "x".repeat(MAX_HEADER_BYTES));
        assert_eq!(condition("", long.as_bytes()), Some("policy-violation"));
    }

    #[test]
    fn an_empty_stream_opens_and_closes() {
        let mut framer = Framer::new(Limits::default());
        framer.push(b"<stream xmlns='http://etherx.jabber.org/streams'/>");
        assert!(matches!(all(&mut framer)[..], [Frame::Open(_), Frame::Close]));
    }

    #[test]
    fn a_stanza_over_the_limit_is_read_past_without_being_kept() {
        let limits = Limits { stanza_bytes: 1000, ..Limits::default() };
        let long = format!("<message a='{}'><body>x</body></message>", "y".repeat(600_000));
        let expected = format!("a stanza of {} bytes", long.len());
        for piece in [long.len(), 1, 7, 999, 1000, 1001] {
            let mut framer = opened(limits);
            let mut frames = Vec::new();
            for bytes in long.as_bytes().chunks(piece) {
                framer.push(bytes);
                frames.extend(all(&mut framer));
                assert!(framer.unread() <= 1000, "{} bytes are kept", framer.unread());
            }
            framer.push(b"<presence/>");
            frames.extend(all(&mut framer));
            let [Frame::Skipped(error), presence] = &frames[..] else { panic!("{frames:?}") };
            assert!(error.to_string().contains(&expected), "{error}");
            assert_eq!(error.kind(), XmlErrorKind::PolicyViolation);
            assert_eq!(presence, &stanza("<presence/>"));
        }
        let mut framer = opened(limits);
        let exact = format!("<a>{}</a>", "x".repeat(993));
        framer.push(exact.as_bytes());
        assert_eq!(all(&mut framer), [stanza(&exact)]);
    }

    #[test]
    fn a_reset_awaits_a_header_and_keeps_what_came_with_it() {
        let mut framer = opened(Limits::default());
        framer.push(b"<success/>");
        assert_eq!(all(&mut framer), [stanza("<success/>")]);
        assert_eq!(framer.unread(), 0);
        framer.push(HEADER.as_bytes());
        framer.reset();
        assert!(framer.unread() > 0);
        framer.push(b"<features/></stream:stream>");
        let frames = all(&mut framer);
        assert!(
            matches!(&frames[..], [Frame::Open(_), Frame::Stanza(_), Frame::Close]),
            "{frames:?}"
        );
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_frames(splits in prop::collection::vec(0usize..700, 0..6)) {
            let stream = format!(
                "{HEADER}<message a='/'><![CDATA[<]]]]></message> <x:iq xmlns:x='jabber:client'/>\
                 <presence><a b=\"'>\"/>é\u{1f389}</presence></stream:stream>"
            );
            let mut whole = Framer::new(Limits::default());
            whole.push(stream.as_bytes());
            let expected = all(&mut whole);
            prop_assert_eq!(expected.len(), 5);

            let mut splits: Vec<usize> = splits.into_iter().map(|at| at.min(stream.len())).collect();
            splits.sort_unstable();
            splits.push(stream.len());
            let (mut framer, mut from, mut frames) = (Framer::new(Limits::default()), 0, Vec::new());
            for to in splits {
                framer.push(&stream.as_bytes()[from..to]);
                frames.extend(all(&mut framer));
                from = to;
            }
            prop_assert_eq!(frames, expected);
        }
    }
}
