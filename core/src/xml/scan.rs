//! Where does an element end? A byte automaton that sees every byte once, however they arrive.

use super::error::{XmlError, XmlErrorKind};

const CDATA: &[u8] = b"[CDATA[";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between tags.
    Text,
    /// After `<`.
    Open,
    /// In a start tag, outside quotes; whether the byte before was `/`.
    StartTag {
        slash: bool,
    },
    /// In an attribute's value, up to this quote.
    Value(u8),
    EndTag,
    /// After `<!` and so many bytes of `[CDATA[`.
    Bang(usize),
    /// In a CDATA section, after so many `]`, counted up to two.
    CData(u8),
}

/// The automaton. It begins before the `<` of an element's start tag.
#[derive(Debug, Clone)]
pub(super) struct Scanner {
    state: State,
    depth: usize,
    /// Whether the end of the first start tag is where to stop.
    only_start_tag: bool,
}

/// Where a scan stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scan {
    /// All bytes are read and the element has not ended.
    More,
    /// The element ended after so many bytes; whether by the `/` of an empty-element tag.
    End { len: usize, empty: bool },
}

impl Scanner {
    pub(super) fn element() -> Self {
        Self { state: State::Text, depth: 0, only_start_tag: false }
    }

    pub(super) fn start_tag() -> Self {
        Self { only_start_tag: true, ..Self::element() }
    }

    /// Reads on in `bytes`, which follow those of the call before.
    ///
    /// # Errors
    /// What no well-formed XMPP stream holds, and after which no end can be told.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> Result<Scan, XmlError> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            match self.state {
                State::Text => match memchr::memchr(b'<', &bytes[at..]) {
                    None => return Ok(Scan::More),
                    Some(skip) => {
                        at += skip;
                        self.state = State::Open;
                    }
                },
                State::Open => {
                    self.state = match byte {
                        b'/' => State::EndTag,
                        b'!' if self.depth > 0 => State::Bang(0),
                        b'!' => return Err(restricted(at, "markup that is no element")),
                        b'?' => return Err(restricted(at, "a processing instruction")),
                        b'>' => return Err(XmlError::malformed(at, "a tag without a name")),
                        _ => {
                            self.depth += 1;
                            State::StartTag { slash: false }
                        }
                    }
                }
                State::StartTag { slash } => match memchr::memchr3(b'>', b'"', b'\'', &bytes[at..])
                {
                    None => {
                        self.state = State::StartTag { slash: bytes.last() == Some(&b'/') };
                        return Ok(Scan::More);
                    }
                    Some(skip) => {
                        let slash = if skip == 0 { slash } else { bytes[at + skip - 1] == b'/' };
                        at += skip;
                        if bytes[at] != b'>' {
                            self.state = State::Value(bytes[at]);
                        } else {
                            self.state = State::Text;
                            self.depth -= usize::from(slash);
                            if self.depth == 0 || self.only_start_tag {
                                return Ok(Scan::End { len: at + 1, empty: slash });
                            }
                        }
                    }
                },
                State::Value(quote) => match memchr::memchr2(quote, b'<', &bytes[at..]) {
                    None => return Ok(Scan::More),
                    Some(skip) => {
                        at += skip;
                        if bytes[at] == b'<' {
                            return Err(XmlError::malformed(at, "`<` in an attribute's value"));
                        }
                        self.state = State::StartTag { slash: false };
                    }
                },
                State::EndTag => match memchr::memchr2(b'>', b'<', &bytes[at..]) {
                    None => return Ok(Scan::More),
                    Some(skip) => {
                        at += skip;
                        if bytes[at] == b'<' {
                            return Err(XmlError::malformed(at, "`<` in an end tag"));
                        }
                        self.state = State::Text;
                        self.depth = self.depth.saturating_sub(1);
                        if self.depth == 0 {
                            return Ok(Scan::End { len: at + 1, empty: false });
                        }
                    }
                },
                State::Bang(matched) => {
                    if byte != CDATA[matched] {
                        return Err(restricted(at, "a comment or document type"));
                    }
                    self.state = match matched + 1 {
                        all if all == CDATA.len() => State::CData(0),
                        some => State::Bang(some),
                    };
                }
                State::CData(brackets) => match byte {
                    b']' => self.state = State::CData((brackets + 1).min(2)),
                    b'>' if brackets == 2 => self.state = State::Text,
                    _ => {
                        self.state = State::CData(0);
                        match memchr::memchr(b']', &bytes[at..]) {
                            None => return Ok(Scan::More),
                            Some(skip) => {
                                at += skip;
                                continue;
                            }
                        }
                    }
                },
            }
            at += 1;
        }
        Ok(Scan::More)
    }
}

#[cold]
fn restricted(at: usize, what: &str) -> XmlError {
    XmlError::new(XmlErrorKind::RestrictedXml, at, format!("{what} is not allowed in XMPP"))
}
