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
