//! Media types: what a body is, and which kind of document an answer should be.

/// The kinds of body a stanza can travel in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// `application/xmpp+xml`: one stanza.
    Xml,
    /// `application/json`: the mapping of [`super::json`].
    Json,
    /// `application/x-www-form-urlencoded`: the same keys, flat, values all strings.
    Form,
    /// `text/plain`: a body, or a presence's show value.
    Text,
}

/// The kinds of document a refusal can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorMedia {
    /// A page for a browser; what a caller without preferences gets.
    Html,
    /// A stream-error element.
    Xml,
    /// A JSON object.
    Json,
}

pub(crate) const XML: &str = "application/xmpp+xml";
pub(crate) const JSON: &str = "application/json";
pub(crate) const FORM: &str = "application/x-www-form-urlencoded";
pub(crate) const TEXT: &str = "text/plain";
const HTML: &str = "text/html";

impl Media {
    /// Reads a `Content-Type` value; parameters are ignored, spelling is case-insensitive
    /// (RFC 9110 §8.3.1) unless `strict` asks for mod_rest's exact comparison.
    pub fn of_body(content_type: Option<&str>, strict: bool) -> Option<Self> {
        let essence = content_type?.split([';', ' ', '\t']).next().unwrap_or_default();
        let is = |name: &str| {
            if strict { essence == name } else { essence.eq_ignore_ascii_case(name) }
        };
        [Self::Xml, Self::Json, Self::Form, Self::Text].into_iter().find(|m| is(m.name()))
    }

    /// The kind of answer: of those that appear in `Accept`, then in `Content-Type`, the one named
    /// first in the text; XML where none does. q-values play no part.
    pub fn of_answer(accept: Option<&str>, content_type: Option<&str>) -> Self {
        [accept, content_type]
            .into_iter()
            .flatten()
            .find_map(|text| first_named(text, [Self::Xml, Self::Json, Self::Form], Self::name))
            .unwrap_or(Self::Xml)
    }

    /// The media type's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Xml => XML,
            Self::Json => JSON,
            Self::Form => FORM,
            Self::Text => TEXT,
        }
    }
}

impl ErrorMedia {
    /// The kind of refusal: the first of HTML, XML and JSON named in `Accept`; HTML where none is.
    pub fn of_answer(accept: Option<&str>) -> Self {
        accept
            .and_then(|text| {
                first_named(text, [Self::Html, Self::Xml, Self::Json], |media| match media {
                    Self::Html => HTML,
                    Self::Xml => XML,
                    Self::Json => JSON,
                })
            })
            .unwrap_or(Self::Html)
    }

    /// The `Content-Type` to send it with.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Html => "text/html; charset=utf-8",
            Self::Xml => XML,
            Self::Json => JSON,
        }
    }
}

fn first_named<T: Copy, const N: usize>(
    text: &str,
    kinds: [T; N],
    name: impl Fn(T) -> &'static str,
) -> Option<T> {
    if let Some(only) = kinds.into_iter().find(|kind| name(*kind) == text) {
        return Some(only);
    }
    let position = |kind: T| text.find(name(kind)).map(|at| (at, kind));
    kinds.into_iter().filter_map(position).min_by_key(|(at, _)| *at).map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_and_case_do_not_change_a_body_type() {
        for (text, media) in [
            ("application/xmpp+xml", Some(Media::Xml)),
            ("application/xmpp+xml; charset=utf-8", Some(Media::Xml)),
            ("Application/XMPP+XML", Some(Media::Xml)),
            ("application/json;charset=x", Some(Media::Json)),
            ("text/plain", Some(Media::Text)),
            ("text/xml", None),
            ("application/xml", None),
            ("application/cbor", None),
            ("", None),
        ] {
            assert_eq!(Media::of_body(Some(text), false), media, "{text}");
        }
        assert_eq!(Media::of_body(None, false), None);
        assert_eq!(Media::of_body(Some("Application/XMPP+XML"), true), None);
    }

    #[test]
    fn the_first_type_named_wins_whatever_its_weight() {
        let both = "application/xmpp+xml;q=0.1, application/json;q=0.9";
        assert_eq!(Media::of_answer(Some(both), None), Media::Xml);
        assert_eq!(Media::of_answer(Some("*/*"), Some("application/json")), Media::Json);
        assert_eq!(Media::of_answer(None, Some("text/plain")), Media::Xml);
        assert_eq!(Media::of_answer(None, None), Media::Xml);
        assert_eq!(
            Media::of_answer(Some("text/html, application/x-www-form-urlencoded"), Some(JSON)),
            Media::Form
        );
    }

    #[test]
    fn a_refusal_is_html_unless_accept_says_otherwise() {
        assert_eq!(ErrorMedia::of_answer(None), ErrorMedia::Html);
        assert_eq!(ErrorMedia::of_answer(Some("*/*")), ErrorMedia::Html);
        assert_eq!(ErrorMedia::of_answer(Some("application/json, text/html")), ErrorMedia::Json);
        assert_eq!(ErrorMedia::of_answer(Some(XML)), ErrorMedia::Xml);
    }
}
