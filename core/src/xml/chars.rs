//! The character classes of XML 1.0 (fifth edition) and Namespaces in XML 1.0.

/// XML's white space, production `S`.
pub(super) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Whether XML can carry `c` at all, production `Char`.
pub(super) const fn is_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}

/// Where `text` first holds a character that XML cannot carry.
pub(super) fn find_non_char(text: &str) -> Option<usize> {
    find_control(text.as_bytes()).into_iter().chain(find_noncharacter(text.as_bytes())).min()
}

/// The first C0 control character other than tab, line feed and carriage return.
fn find_control(bytes: &[u8]) -> Option<usize> {
    const LANES: usize = 32;
    let is_control = |byte: u8| byte < b' ' && !is_space(byte);
    let mut start = 0;
    for chunk in bytes.chunks(LANES) {
        // No early exit within a chunk: this is what lets the compiler use vector instructions.
        if chunk.iter().fold(false, |found, &byte| found | is_control(byte)) {
            return chunk.iter().position(|&byte| is_control(byte)).map(|at| start + at);
        }
        start += chunk.len();
    }
    None
}

/// The first U+FFFE or U+FFFF; they are the only other ones that a `str` can hold.
fn find_noncharacter(bytes: &[u8]) -> Option<usize> {
    memchr::memchr_iter(0xef, bytes)
        .find(|&at| matches!(bytes.get(at + 1..at + 3), Some([0xbf, 0xbe | 0xbf])))
}

const START: u8 = 1;
const REST: u8 = 2;

/// What an ASCII byte may be in an `NCName`.
static ASCII_NAME: [u8; 128] = {
    let mut table = [0; 128];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = match byte as u8 {
            b'A'..=b'Z' | b'a'..=b'z' | b'_' => START | REST,
            b'0'..=b'9' | b'-' | b'.' => REST,
            _ => 0,
        };
        byte += 1;
    }
    table
};

/// How many bytes at the start of `bytes` are an `NCName` of ASCII characters.
pub(super) fn plain_name(bytes: &[u8]) -> usize {
    let class = |byte: u8| ASCII_NAME.get(usize::from(byte)).copied().unwrap_or(0);
    match bytes.first() {
        Some(&first) if class(first) & START != 0 => {
            bytes.iter().position(|&byte| class(byte) == 0).unwrap_or(bytes.len())
        }
        _ => 0,
    }
}

/// How many bytes at the start of `bytes` stand for themselves in an attribute's value, whichever
/// quotes it has.
pub(super) fn plain_value(bytes: &[u8]) -> usize {
    static ENDS: [bool; 256] = {
        let mut table = [false; 256];
        let ends = b"\"'<&\t\n\r";
        let mut at = 0;
        while at < ends.len() {
            table[ends[at] as usize] = true;
            at += 1;
        }
        table
    };
    bytes.iter().position(|&byte| ENDS[usize::from(byte)]).unwrap_or(bytes.len())
}

/// Whether `name` is an `NCName`: a name without a colon.
pub(super) fn is_ncname(name: &str) -> bool {
    let bytes = name.as_bytes();
    let class = |byte: u8| ASCII_NAME.get(usize::from(byte)).copied().unwrap_or(0);
    match bytes.first() {
        Some(&first) if class(first) & START != 0 => {
            bytes.iter().all(|&byte| class(byte) != 0) || is_unicode_ncname(name)
        }
        Some(first) if !first.is_ascii() => is_unicode_ncname(name),
        _ => false,
    }
}

fn is_unicode_ncname(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(is_name_start) && chars.all(|c| is_name_start(c) || is_name_rest(c))
}

/// Production `NameStartChar` without the colon.
const fn is_name_start(c: char) -> bool {
    matches!(c,
        'A'..='Z' | 'a'..='z' | '_'
        | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2ff}'
        | '\u{370}'..='\u{37d}' | '\u{37f}'..='\u{1fff}' | '\u{200c}'..='\u{200d}'
        | '\u{2070}'..='\u{218f}' | '\u{2c00}'..='\u{2fef}' | '\u{3001}'..='\u{d7ff}'
        | '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fffd}' | '\u{10000}'..='\u{effff}')
}

/// What production `NameChar` adds.
const fn is_name_rest(c: char) -> bool {
    matches!(c, '0'..='9' | '-' | '.' | '\u{b7}' | '\u{300}'..='\u{36f}' | '\u{203f}'..='\u{2040}')
}

/// The character of a reference, written between `&` and `;`: one of the five predefined entities
/// (RFC 6120 §11.1 forbids all others), or `#` and a number.
pub(super) fn resolve_reference(name: &str) -> Option<char> {
    match name {
        "amp" => return Some('&'),
        "lt" => return Some('<'),
        "gt" => return Some('>'),
        "quot" => return Some('"'),
        "apos" => return Some('\''),
        _ => {}
    }
    let number = name.strip_prefix('#')?;
    let (digits, radix) = match number.strip_prefix('x') {
        Some(digits) => (digits, 16),
        None => (number, 10),
    };
    // `from_str_radix` alone would take a sign.
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let code = u32::from_str_radix(digits, radix).ok()?;
    char::from_u32(code).filter(|&c| is_char(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_non_characters_of_xml_are_found() {
        for bad in ["\0", "\u{1}", "\u{b}", "\u{1f}", "\u{fffe}", "\u{ffff}"] {
            let text = format!("{}\t\r\n\u{fffd}é😀{bad}tail", "x".repeat(70));
            assert_eq!(find_non_char(&text), text.find(bad), "{bad:?}");
        }
        assert_eq!(find_non_char("\t\r\n\u{7f}\u{80}\u{fffd}\u{1fffe}\u{10ffff}"), None);
    }

    #[test]
    fn names_follow_the_production() {
        for good in ["a", "_", "a-b.c1", "é", "aé·", "日本", "x\u{10000}", "\u{200d}"] {
            assert!(is_ncname(good), "{good:?}");
        }
        for bad in ["", "1a", "-a", ".a", "a:b", "a b", "·a", "a\u{d7}", "×", "a/", "\u{fffe}"] {
            assert!(!is_ncname(bad), "{bad:?}");
        }
    }

    #[test]
    fn only_five_entities_and_legal_characters_resolve() {
        let good = [("amp", '&'), ("#65", 'A'), ("#x1f389", '🎉'), ("#x9", '\t'), ("#0065", 'A')];
        for (name, c) in good {
            assert_eq!(resolve_reference(name), Some(c), "{name}");
        }
        for bad in [
            "",
            "#",
            "#x",
            "#0",
            "#x0",
            "#8",
            "#xB",
            "#xD800",
            "#xDFFF",
            "#xFFFE",
            "#x110000",
            "#+65",
            "#-1",
            "#X41",
            "#6a",
            "nbsp",
            "AMP",
            "amp ",
            "#99999999999999999999",
            "# 65",
        ] {
            assert_eq!(resolve_reference(bad), None, "{bad}");
        }
    }
}
