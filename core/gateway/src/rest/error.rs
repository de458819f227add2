//! What an HTTP caller is told when a request is refused: mod_rest's codes, conditions and texts, in
//! HTML, XML or JSON.

use std::borrow::Cow;
use std::fmt::Write as _;

use appxmpp::service::quota::until_next_day;
use appxmpp::{ErrorKind, ns};
use http::StatusCode;

use super::media::ErrorMedia;
use crate::app::utc;

/// A refusal: the HTTP status and, inside the body, the stanza-error type, condition and text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestError {
    /// The HTTP status.
    pub status: StatusCode,
    /// RFC 6120 §8.3.2 error type: `auth`, `cancel`, `modify` or `wait`. Empty for a bare status.
    pub type_: &'static str,
    /// The condition's element name.
    pub condition: &'static str,
    /// One sentence for a person.
    pub text: Cow<'static, str>,
    /// Whether the REST layer itself refused, rather than the far side's silence.
    pub ours: bool,
    /// Whether to ask for credentials with `WWW-Authenticate`.
    pub challenge: bool,
    /// Seconds for `Retry-After`, where waiting helps.
    pub retry_after: Option<u32>,
}

const fn refusal(
    status: StatusCode,
    type_: &'static str,
    condition: &'static str,
    text: &'static str,
) -> RestError {
    RestError {
        status,
        type_,
        condition,
        text: Cow::Borrowed(text),
        ours: true,
        challenge: false,
        retry_after: None,
    }
}

macro_rules! table {
    ($($(#[$doc:meta])* $name:ident = $status:ident $type_:literal $condition:literal $text:literal;)*) => {
        impl RestError {
            $($(#[$doc])* pub const $name: Self =
                refusal(StatusCode::$status, $type_, $condition, $text);)*
        }
    };
}

table! {
    /// No usable `Authorization` header.
    NO_CREDENTIALS = UNAUTHORIZED "auth" "not-authorized" "No credentials provided";
    /// A token nobody configured.
    NOT_ACCEPTED = FORBIDDEN "auth" "not-authorized" "Credentials not accepted";
    /// Basic credentials that do not decode, or are not this host's.
    MALFORMED_CREDENTIALS = FORBIDDEN "auth" "not-authorized" "Credentials malformed";
    /// A user name that is no domain name.
    STRINGPREP = FORBIDDEN "auth" "not-authorized" "Credentials failed stringprep";
    /// `from` is not an address of this app.
    FOREIGN_FROM = FORBIDDEN "auth" "not-authorized"
        "Not authorized to send stanza with requested 'from'";
    /// The body, path or query cannot be read.
    UNPARSABLE = BAD_REQUEST "modify" "not-well-formed" "Failed to parse payload";
    /// The body is over the size limit.
    TOO_LARGE = PAYLOAD_TOO_LARGE "modify" "resource-constraint" "Payload too large";
    /// The body's media type is not one of ours.
    MEDIA_TYPE = UNSUPPORTED_MEDIA_TYPE "cancel" "bad-format" "Unsupported media type";
    /// The root element is in a namespace of its own.
    NAMESPACE = UNPROCESSABLE_ENTITY "modify" "invalid-namespace" "'xmlns' attribute must be empty";
    /// The root element is not a stanza.
    NOT_A_STANZA = UNPROCESSABLE_ENTITY "modify" "unsupported-stanza-type"
        "Invalid stanza, must be 'message', 'presence' or 'iq'.";
    /// `to` is not a JID.
    DESTINATION = UNPROCESSABLE_ENTITY "modify" "improper-addressing" "Invalid destination JID";
    /// `from` is not a JID.
    SOURCE = UNPROCESSABLE_ENTITY "modify" "invalid-from" "Invalid source JID";
    /// An iq that asks nothing.
    IQ_TYPE = UNPROCESSABLE_ENTITY "modify" "invalid-xml"
        "'iq' stanza must be of type 'get' or 'set'";
    /// An iq with no payload, or several.
    IQ_CHILDREN = UNPROCESSABLE_ENTITY "modify" "bad-format"
        "'iq' stanza must have exactly one child tag";
    /// Another iq with this address and id still waits for its answer.
    ID_IN_USE = INTERNAL_SERVER_ERROR "modify" "conflict" "IQ stanza id attribute already used";
    /// The Host header names no app.
    UNKNOWN_HOST = NOT_FOUND "cancel" "item-not-found" "Unknown host: no app has this domain";
    /// A resource that exists, asked with another method.
    METHOD = METHOD_NOT_ALLOWED "cancel" "not-allowed"
        "Use POST to send a stanza, GET /rest/{query}/{to} to ask";
    /// The stream to the XMPP server is down.
    NOT_CONNECTED = SERVICE_UNAVAILABLE "wait" "service-unavailable"
        "The connection to the XMPP server is down; try again shortly";
    /// The queue to the XMPP server is full.
    BUSY = TOO_MANY_REQUESTS "wait" "resource-constraint"
        "The queue to the XMPP server is full; try again shortly";
    /// So many messages wait for the XMPP server that no more are taken.
    OUTBOX_FULL = SERVICE_UNAVAILABLE "wait" "resource-constraint"
        "The outbox is full: too many messages wait for the XMPP server; try again later";
    /// What was to be sent could not be stored.
    NOT_STORED = INSUFFICIENT_STORAGE "wait" "resource-constraint"
        "The state store cannot be written and nothing was sent; the gateway's log says why";
    /// A quota of today is used up.
    OVER_QUOTA = TOO_MANY_REQUESTS "wait" "resource-constraint" "A quota of today is used up";
    /// A fault of ours.
    INTERNAL = INTERNAL_SERVER_ERROR "cancel" "internal-server-error"
        "The gateway failed; its log says why";
}

impl RestError {
    /// No answer to an iq came in time: 504, or mod_rest's 500.
    pub fn iq_timeout(status: StatusCode) -> Self {
        let mut error = refusal(status, "wait", "remote-server-timeout", "IQ stanza timed out");
        error.ours = false;
        error
    }

    /// A status with nothing more to say.
    pub fn bare(status: StatusCode) -> Self {
        refusal(status, "", "", "")
    }

    /// The same refusal, asking for credentials.
    #[must_use]
    pub fn challenging(mut self) -> Self {
        self.challenge = true;
        self
    }

    /// The same refusal with another status.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// What a core failure is over HTTP.
    pub fn from_core(error: &appxmpp::Error) -> Self {
        match error.kind() {
            ErrorKind::InvalidXml => Self::UNPARSABLE,
            ErrorKind::InvalidJid => Self::DESTINATION,
            ErrorKind::TooLarge => Self::TOO_LARGE,
            ErrorKind::InvalidSender => Self::FOREIGN_FROM,
            ErrorKind::Backpressure => Self { retry_after: Some(1), ..Self::BUSY },
            ErrorKind::OverQuota => Self::over_quota(error),
            ErrorKind::NotConnected | ErrorKind::Closed | ErrorKind::NotAuthorized => {
                Self { retry_after: Some(1), ..Self::NOT_CONNECTED }
            }
            ErrorKind::Timeout => Self::iq_timeout(StatusCode::GATEWAY_TIMEOUT),
            ErrorKind::NoBody
            | ErrorKind::InvalidType
            | ErrorKind::InvalidShow
            | ErrorKind::InvalidStatus => Self {
                status: StatusCode::UNPROCESSABLE_ENTITY,
                text: Cow::Owned(error.to_string()),
                ..Self::UNPARSABLE
            },
            _ => Self::INTERNAL,
        }
    }

    /// What it is over HTTP that a quota is used up: until then, nothing helps.
    fn over_quota(error: &appxmpp::Error) -> Self {
        let left = until_next_day(utc()).as_secs();
        let text = Cow::Owned(error.to_string());
        Self { text, retry_after: u32::try_from(left).ok(), ..Self::OVER_QUOTA }
    }

    /// What it is over HTTP that a stanza could not be stored to be sent.
    pub fn from_outbox(error: &appxmpp::Error) -> Self {
        match error.kind() {
            ErrorKind::Backpressure => Self { retry_after: Some(30), ..Self::OUTBOX_FULL },
            ErrorKind::Store => Self::NOT_STORED,
            _ => Self::from_core(error),
        }
    }

    /// The body in the caller's kind of document.
    pub fn render(&self, media: ErrorMedia) -> String {
        match media {
            ErrorMedia::Html => self.html(),
            ErrorMedia::Xml => self.xml(),
            ErrorMedia::Json => self.json(),
        }
    }

    fn title(&self) -> String {
        let reason = self.status.canonical_reason().unwrap_or("Unassigned");
        format!("{} {reason}", self.status.as_u16())
    }

    fn html(&self) -> String {
        let title = self.title();
        let text = escape(&self.text);
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">\
             <title>{title}</title></head>\n<body>\n<h1>{title}</h1>\n\
             <p class=\"extra\">{text}</p>\n</body>\n</html>\n"
        )
    }

    fn xml(&self) -> String {
        let condition =
            if self.condition.is_empty() { "undefined-condition" } else { self.condition };
        let mut out =
            format!("<error xmlns='{}'><{condition} xmlns='{}'/>", ns::STREAM, ns::STREAM_ERRORS);
        let text = if self.text.is_empty() { Cow::Owned(self.title()) } else { self.text.clone() };
        let _ = write!(out, "<text xmlns='{}'>{}</text></error>", ns::STREAM_ERRORS, escape(&text));
        out
    }

    fn json(&self) -> String {
        let mut out = serde_json::json!({"type": "error", "code": self.status.as_u16()});
        if !self.condition.is_empty() {
            let mut error = serde_json::json!({
                "type": self.type_,
                "condition": self.condition,
                "text": self.text,
            });
            if self.ours {
                error["source"] = "mod_rest".into();
            }
            out["error"] = error;
        }
        out.to_string()
    }
}

/// Escapes text for both HTML and XML content.
fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['<', '>', '&', '"']) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_page_says_code_type_condition_text_and_source() {
        let page: serde_json::Value =
            serde_json::from_str(&RestError::NO_CREDENTIALS.render(ErrorMedia::Json)).unwrap();
        let expected = serde_json::json!({"type": "error", "code": 401, "error": {
            "type": "auth", "condition": "not-authorized", "text": "No credentials provided",
            "source": "mod_rest"}});
        assert_eq!(page, expected);
    }

    #[test]
    fn a_timeout_is_not_blamed_on_the_gateway_itself() {
        let error = RestError::iq_timeout(StatusCode::INTERNAL_SERVER_ERROR);
        let page: serde_json::Value =
            serde_json::from_str(&error.render(ErrorMedia::Json)).unwrap();
        assert_eq!(page["code"], 500);
        assert_eq!(page["error"]["condition"], "remote-server-timeout");
        assert!(page["error"].get("source").is_none());
    }

    #[test]
    fn a_bare_status_has_no_error_object() {
        let page = RestError::bare(StatusCode::NOT_FOUND).render(ErrorMedia::Json);
        assert_eq!(page, r#"{"code":404,"type":"error"}"#);
    }

    #[test]
    fn text_cannot_break_out_of_its_page() {
        let error = RestError { text: "<script>&\"".into(), ..RestError::UNPARSABLE };
        for media in [ErrorMedia::Html, ErrorMedia::Xml] {
            let page = error.render(media);
            assert!(page.contains("&lt;script&gt;&amp;"), "{page}");
            assert!(!page.contains("<script>"), "{page}");
        }
    }

    #[test]
    fn the_xml_page_uses_stream_error_namespaces() {
        let page = RestError::NO_CREDENTIALS.render(ErrorMedia::Xml);
        assert!(
            page.starts_with("<error xmlns='http://etherx.jabber.org/streams'><not-authorized")
        );
        assert!(page.contains("urn:ietf:params:xml:ns:xmpp-streams"));
    }
}
