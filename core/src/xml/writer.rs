//! Text into XML: the one place that escapes.

use super::chars::{self, find_non_char};

/// Stands for a character that XML cannot carry.
const REPLACEMENT: &str = "\u{fffd}";

/// Whether XML can carry every character of `text`. It cannot carry the C0 control characters other
/// than tab, line feed and carriage return, nor U+FFFE and U+FFFF (XML 1.0 §2.2).
pub fn is_xml_text(text: &str) -> bool {
    find_non_char(text).is_none()
}

/// Whether `name` can be the local name of an element or attribute, or a prefix (Namespaces in XML
/// 1.0, production `NCName`).
pub fn is_name(name: &str) -> bool {
    chars::is_ncname(name)
}

/// Appends `text` as character data. Whoever parses it reads `text` again, except that a character
/// which XML cannot carry becomes U+FFFD; [`is_xml_text`] tells beforehand.
pub fn escape_text(out: &mut String, text: &str) {
    escape(out, text, |byte| match byte {
        b'&' => Some("&amp;"),
        b'<' => Some("&lt;"),
        b'>' => Some("&gt;"),
        // As itself it would be read as a line feed.
        b'\r' => Some("&#xD;"),
        b'\t' | b'\n' => None,
        0..b' ' => Some(REPLACEMENT),
        _ => None,
    });
}

/// Appends `value` as the inside of a quoted attribute, for either kind of quote. Otherwise as
/// [`escape_text`].
pub fn escape_attr(out: &mut String, value: &str) {
    escape(out, value, |byte| match byte {
        b'&' => Some("&amp;"),
        b'<' => Some("&lt;"),
        b'>' => Some("&gt;"),
        b'"' => Some("&quot;"),
        b'\'' => Some("&apos;"),
        // As themselves they would be read as spaces.
        b'\t' => Some("&#x9;"),
        b'\n' => Some("&#xA;"),
        b'\r' => Some("&#xD;"),
        0..b' ' => Some(REPLACEMENT),
        _ => None,
    });
}

fn escape(out: &mut String, text: &str, replace: impl Fn(u8) -> Option<&'static str>) {
    let bytes = text.as_bytes();
    out.reserve(text.len());
    let mut from = 0;
    let mut at = 0;
    while let Some(found) = find_special(&bytes[at..]) {
        at += found;
        let (replacement, len) = match bytes[at] {
            0xef if matches!(bytes.get(at + 1..at + 3), Some([0xbf, 0xbe | 0xbf])) => {
                (Some(REPLACEMENT), 3)
            }
            byte => (replace(byte), 1),
        };
        if let Some(replacement) = replacement {
            out.push_str(&text[from..at]);
            out.push_str(replacement);
            from = at + len;
        }
        at += len;
    }
    out.push_str(&text[from..]);
}

/// The first byte that may have to be replaced.
fn find_special(bytes: &[u8]) -> Option<usize> {
    const LANES: usize = 32;
    let special = |b: u8| b < b' ' || matches!(b, b'&' | b'<' | b'>' | b'"' | b'\'' | 0xef);
    let mut start = 0;
    for chunk in bytes.chunks(LANES) {
        // No early exit within a chunk: this is what lets the compiler use vector instructions.
        if chunk.iter().fold(false, |found, &byte| found | special(byte)) {
            return chunk.iter().position(|&byte| special(byte)).map(|at| start + at);
        }
        start += chunk.len();
    }
    None
}

/// Appends ` name="value"`.
pub fn attribute(out: &mut String, name: &str, value: &str) {
    out.push(' ');
    out.push_str(name);
    out.push_str("=\"");
    escape_attr(out, value);
    out.push('"');
}
