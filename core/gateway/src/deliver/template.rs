//! Callback URLs may name the stanza: `{kind}`, `{type}`, `{to}` and `{from}`.

use std::fmt::Write as _;

/// What a template can name of a stanza.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fields<'s> {
    /// `message`, `presence` or `iq`.
    pub kind: &'s str,
    /// The type attribute. A stanza without one leaves `{type}` as it stands.
    pub type_: Option<&'s str>,
    /// The destination.
    pub to: &'s str,
    /// The sender.
    pub from: &'s str,
}

/// Whether `url` names anything of the stanza.
pub fn is_template(url: &str) -> bool {
    ["{kind}", "{type}", "{to}", "{from}"].iter().any(|name| url.contains(name))
}

/// `url` with each name replaced by its percent-encoded value.
pub fn expand(url: &str, fields: &Fields<'_>) -> String {
    let mut out = String::with_capacity(url.len() + 64);
    let mut rest = url;
    while let Some(at) = rest.find('{') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let Some(end) = rest.find('}') else { break };
        let value = match &rest[1..end] {
            "kind" => Some(fields.kind),
            "type" => fields.type_,
            "to" => Some(fields.to),
            "from" => Some(fields.from),
            _ => None,
        };
        match value {
            Some(value) => percent_encode(&mut out, value),
            None => out.push_str(&rest[..=end]),
        }
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    out
}

/// Percent-encodes everything but RFC 3986's unreserved characters, in lower-case hex as Prosody
/// writes it.
fn percent_encode(out: &mut String, value: &str) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02x}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "http://127.0.0.1:1/tmpl/{kind}/{type}/{to}?from={from}";

    #[test]
    fn names_become_percent_encoded_values() {
        let fields = Fields {
            kind: "message",
            type_: Some("chat"),
            to: "bot@rest.localhost/a b",
            from: "bob@localhost/phone",
        };
        assert_eq!(
            expand(URL, &fields),
            "http://127.0.0.1:1/tmpl/message/chat/bot%40rest.localhost%2fa%20b?from=bob%40localhost%2fphone"
        );
    }

    #[test]
    fn a_missing_type_and_unknown_names_stay() {
        let fields = Fields { kind: "message", type_: None, to: "a", from: "b" };
        assert_eq!(expand("/{type}/{x}/{", &fields), "/{type}/{x}/{");
        assert!(is_template(URL) && !is_template("http://h/{x}"));
    }

    #[test]
    fn a_value_can_neither_split_the_url_nor_add_names() {
        let fields = Fields { kind: "iq", type_: Some("get"), to: "{from}\r\n#?&é", from: "f" };
        assert_eq!(expand("/{to}", &fields), "/%7bfrom%7d%0d%0a%23%3f%26%c3%a9");
    }
}
