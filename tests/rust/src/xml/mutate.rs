/// What XML is made of, to be put where it does not belong.
const TOKENS: &[&str] = &[
    "<",
    ">",
    "/",
    "/>",
    "</",
    "<a>",
    "</a>",
    "<b/>",
    "&",
    ";",
    "&amp;",
    "&lt;",
    "&nbsp;",
    "&#0;",
    "&#x41;",
    "&#xD800;",
    "&#xFFFE;",
    "&#",
    "&#x",
    "<!--x-->",
    "<!DOCTYPE a>",
    "<?pi?>",
    "<![CDATA[",
    "]]>",
    "]]",
    "<!",
    "<?",
    "'",
    "\"",
    "=",
    " ",
    "\t",
    "\n",
    "\r",
    "\r\n",
    ":",
    "xmlns",
    "xmlns=''",
    " xmlns='urn:x'",
    " xmlns:p='urn:p'",
    " xmlns:p=''",
    " xmlns:xml='urn:x'",
    " xmlns:xmlns='urn:x'",
    " xmlns:q='http://www.w3.org/XML/1998/namespace'",
    " xmlns='http://www.w3.org/2000/xmlns/'",
    " xmlns:xml='http://www.w3.org/XML/1998/namespace'",
    " xmlns:cli='urn:other'",
    "p:",
    "xml:",
    "xmlns:",
    " a='1'",
    " a='1' a='2'",
    " p:a='1' xmlns:p='urn:p'",
    " x='a<b'",
    " x='a&b'",
    " x=y",
    " x",
    "\0",
    "\u{1}",
    "\u{7f}",
    "\u{85}",
    "\u{fffe}",
    "\u{ffff}",
    "\u{feff}",
    "é",
    "\u{1f389}",
    "·",
    "-",
    ".",
    "1",
    "</stream:stream>",
    "<stream:stream>",
    "jabber:client",
    "jabber:component:accept",
    "<body>",
    "</body>",
];

/// Makes inputs out of others, the same ones for the same seed.
pub struct Mutator(u64);

impl Mutator {
    /// Starts from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A mutation of one of `corpus`.
    pub fn input(&mut self, corpus: &[&str]) -> Vec<u8> {
        let mut out = self.pick(corpus).as_bytes().to_vec();
        // Mostly one change: after several, little is left that anybody accepts.
        for _ in 0..1 + self.below(2) * self.below(3) {
            self.mutate(&mut out, corpus);
        }
        out
    }

    fn mutate(&mut self, out: &mut Vec<u8>, corpus: &[&str]) {
        let at = self.place(out);
        let end = (at + self.below(12)).min(out.len());
        match self.below(10) {
            0 => drop(out.drain(at..end)),
            1..=4 => self.splice(out, at..at, TOKENS),
            5 => self.splice(out, at..end, TOKENS),
            6 => {
                let piece = out[at..end].to_vec();
                let to = self.place(out);
                out.splice(to..to, piece);
            }
            7 => self.splice(out, at..at, corpus),
            8 if at < out.len() => out[at] ^= 1 << self.below(7),
            _ if at < out.len() && self.below(4) == 0 => out[at] = self.below(256) as u8,
            _ if at < out.len() => out[at] = self.below(128) as u8,
            _ => out.truncate(at / 2),
        }
    }

    /// Anywhere, and as often where a tag, an attribute or a value begins or ends.
    fn place(&mut self, bytes: &[u8]) -> usize {
        let at = self.below(bytes.len() + 1);
        if self.below(2) == 0 {
            return at;
        }
        bytes[at..].iter().position(|byte| b"<> '\"".contains(byte)).map_or(at, |skip| at + skip)
    }

    fn splice(&mut self, out: &mut Vec<u8>, range: std::ops::Range<usize>, from: &[&str]) {
        let piece = self.pick(from);
        out.splice(range, piece.bytes());
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
