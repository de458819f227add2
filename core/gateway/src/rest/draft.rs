//! A stanza on its way out: what a body says, before it is addressed.

use std::borrow::Cow;
use std::sync::LazyLock;

use appxmpp::ns;
use appxmpp::xml::{Element, Limits, Scope, fragment, strict, writer};
use memchr::memmem;
use serde_json::{Map, Value};

use super::error::RestError;
use super::json::{self, Mode};
use super::media::Media;
use super::path::Kind;

/// Nothing is declared around a body.
static NOWHERE: LazyLock<Scope> = LazyLock::new(Scope::empty);

/// What a request or a callback's answer says a stanza is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft<'b> {
    /// Message, presence or iq.
    pub kind: Kind,
    /// The destination as written; `None` if there is none.
    pub to: Option<Cow<'b, str>>,
    /// The sender as written.
    pub from: Option<Cow<'b, str>>,
    /// The id as written.
    pub id: Option<Cow<'b, str>>,
    /// The type as written.
    pub type_: Option<Cow<'b, str>>,
    /// `xml:lang`.
    pub lang: Option<Cow<'b, str>>,
    /// The children, as XML for a place where the stanza's own namespace is the default.
    pub inner: Cow<'b, str>,
    /// How deep elements are nested, the stanza included, where `inner` is what
    /// [`strict::check`] let through.
    pub depth: Option<usize>,
}

impl<'b> Draft<'b> {
    /// Reads one stanza of XML. A byte order mark, white space and an XML declaration may stand
    /// before it.
    ///
    /// # Errors
    /// [`RestError::UNPARSABLE`], [`RestError::NAMESPACE`], [`RestError::NOT_A_STANZA`], in this
    /// order.
    pub fn from_xml(body: &'b [u8]) -> Result<Self, RestError> {
        match without_declaration(body)? {
            Cow::Borrowed(bytes) => Self::from_bare_xml(bytes),
            Cow::Owned(text) => Draft::from_bare_xml(&text).map(Draft::into_owned),
        }
    }

    fn from_bare_xml(bytes: &'b [u8]) -> Result<Self, RestError> {
        let limits = limits();
        let mut head =
            strict::check(bytes, &NOWHERE, &limits).map_err(|_| RestError::UNPARSABLE)?;
        if !head.ns.is_empty() && head.ns != ns::CLIENT {
            return Err(RestError::NAMESPACE);
        }
        let kind = Kind::from_name(head.name).ok_or(RestError::NOT_A_STANZA)?;
        // It can be sent as it is where nothing inside depends on a declaration in the start tag or
        // undoes the default namespace.
        let (inner, depth) = if head.declares || undoes_namespace(head.inside.as_bytes()) {
            let element =
                Element::parse(bytes, &NOWHERE, &limits).map_err(|_| RestError::UNPARSABLE)?;
            (Cow::Owned(inside(&element)), None)
        } else {
            (Cow::Borrowed(head.inside), Some(head.depth))
        };
        let [to, from, id, type_, lang] = head.take(["to", "from", "id", "type", "xml:lang"]);
        Ok(Self { kind, to, from, id, type_, lang, inner, depth })
    }

    /// Takes a stanza in the namespace `jabber:client`, or in none.
    ///
    /// # Errors
    /// [`RestError::NOT_A_STANZA`] if it is something else.
    pub fn from_element(element: &Element) -> Result<Self, RestError> {
        let kind = Kind::from_name(element.name()).ok_or(RestError::NOT_A_STANZA)?;
        let attribute = |name| element.attr(name).map(|value| value.to_owned().into());
        Ok(Self {
            kind,
            to: attribute("to"),
            from: attribute("from"),
            id: attribute("id"),
            type_: attribute("type"),
            lang: element.lang().map(|lang| lang.to_owned().into()),
            inner: Cow::Owned(inside(element)),
            depth: None,
        })
    }

    /// Takes members of [`json`]'s schema.
    ///
    /// # Errors
    /// As [`json::to_stanza`].
    pub fn from_members(members: &Map<String, Value>, mode: Mode) -> Result<Self, RestError> {
        Self::from_element(&json::to_stanza(members, mode)?)
    }

    /// A chat message of plain text, as a body of `text/plain` is.
    ///
    /// # Errors
    /// [`RestError::UNPARSABLE`] for what is no UTF-8, or what XML cannot carry.
    pub fn from_text(body: &[u8]) -> Result<Self, RestError> {
        let text = plain(body)?;
        let element = Element::new("message", ns::CLIENT)
            .with_attr("type", "chat")
            .with_child(Element::new("body", ns::CLIENT).with_text(text));
        Self::from_element(&element)
    }

    /// Reads a body of any media type, as the answer of a callback is.
    ///
    /// # Errors
    /// As the method for the media type.
    pub fn read(media: Media, body: &'b [u8], strict: bool) -> Result<Self, RestError> {
        match media {
            Media::Xml => Self::from_xml(body),
            Media::Json => Self::from_members(&json::parse(body)?, Mode::json(strict)),
            Media::Form if memchr::memchr(b'=', body).is_none() => Self::from_text(body),
            Media::Form => Self::from_members(&super::form::parse(body), Mode::form(strict)),
            Media::Text => Self::from_text(body),
        }
    }

    /// How many elements are directly inside.
    pub fn children(&self) -> usize {
        fragment::check(&self.inner, "", &limits()).map_or(0, |ranges| ranges.len())
    }

    /// Whether an `<error/>` is inside.
    pub fn has_error(&self) -> bool {
        if memmem::find(self.inner.as_bytes(), b"<error").is_none() {
            return false;
        }
        let ranges = fragment::check(&self.inner, "", &limits()).unwrap_or_default();
        ranges.into_iter().any(|range| {
            strict::check(self.inner[range].as_bytes(), &NOWHERE, &limits())
                .is_ok_and(|head| head.name == "error" && head.ns.is_empty())
        })
    }

    /// The stanza, addressed. It carries no namespace: it is in the stream's.
    pub fn write(&self, address: &Address<'_>) -> String {
        let mut out = String::with_capacity(self.inner.len() + 192);
        let name = self.kind.name();
        out.push('<');
        out.push_str(name);
        if !address.to.is_empty() {
            writer::attribute(&mut out, "to", address.to);
        }
        if !address.from.is_empty() {
            writer::attribute(&mut out, "from", address.from);
        }
        if !address.id.is_empty() {
            writer::attribute(&mut out, "id", address.id);
        }
        if let Some(type_) = address.type_ {
            writer::attribute(&mut out, "type", type_);
        }
        if let Some(lang) = &self.lang {
            writer::attribute(&mut out, "xml:lang", lang);
        }
        if self.inner.is_empty() {
            out.push_str("/>");
        } else {
            out.push('>');
            out.push_str(&self.inner);
            out.push_str("</");
            out.push_str(name);
            out.push('>');
        }
        out
    }

    pub(super) fn into_owned(self) -> Draft<'static> {
        let own = |part: Cow<'_, str>| Cow::Owned(part.into_owned());
        Draft {
            kind: self.kind,
            to: self.to.map(own),
            from: self.from.map(own),
            id: self.id.map(own),
            type_: self.type_.map(own),
            lang: self.lang.map(own),
            inner: own(self.inner),
            depth: self.depth,
        }
    }
}

/// Where a stanza goes, and as what.
#[derive(Debug, Clone, Copy)]
pub struct Address<'a> {
    /// The destination; empty for none.
    pub to: &'a str,
    /// The sender; empty for none.
    pub from: &'a str,
    /// The id.
    pub id: &'a str,
    /// The type, if the stanza is to have one.
    pub type_: Option<&'a str>,
}

/// A request's nesting is bounded by its size alone, as mod_rest's is: no step takes stack for it.
pub(super) fn limits() -> Limits {
    Limits { stanza_bytes: 16 * 1024 * 1024, depth: 16 * 1024, ..Limits::default() }
}

/// Plain text out of a body.
///
/// # Errors
/// [`RestError::UNPARSABLE`] for what is no UTF-8, or what XML cannot carry.
pub fn plain(body: &[u8]) -> Result<&str, RestError> {
    let text = std::str::from_utf8(body).map_err(|_| RestError::UNPARSABLE)?;
    if writer::is_xml_text(text) { Ok(text) } else { Err(RestError::UNPARSABLE) }
}

/// Whether `xmlns=''` may occur.
fn undoes_namespace(bytes: &[u8]) -> bool {
    memmem::find_iter(bytes, b"xmlns").any(|at| {
        let rest = bytes[at + 5..].iter().filter(|byte| !byte.is_ascii_whitespace());
        let next: Vec<u8> = rest.take(3).copied().collect();
        matches!(next.as_slice(), [b'=', b'"', b'"'] | [b'=', b'\'', b'\''])
    })
}

/// The children of a stanza, written for a place where its namespace is the default. Elements in no
/// namespace are taken to be in the stanza's.
fn inside(stanza: &Element) -> String {
    let mut out = String::new();
    for child in stanza.children() {
        let own = if child.ns().is_empty() { "" } else { stanza.ns() };
        child.write_to(&mut out, &Scope::default_ns(own));
    }
    out
}

/// The body without byte order mark and XML declaration, in UTF-8.
fn without_declaration(body: &[u8]) -> Result<Cow<'_, [u8]>, RestError> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let Some(rest) = body.strip_prefix(b"<?xml") else { return Ok(Cow::Borrowed(body)) };
    let end = memmem::find(rest, b"?>").ok_or(RestError::UNPARSABLE)?;
    let (declaration, stanza) = (&rest[..end], &rest[end + 2..]);
    if !declaration.first().is_some_and(u8::is_ascii_whitespace) {
        return Err(RestError::UNPARSABLE);
    }
    match declared_encoding(declaration)?.to_ascii_lowercase().as_str() {
        "" | "utf-8" | "us-ascii" => Ok(Cow::Borrowed(stanza)),
        "iso-8859-1" | "latin1" => {
            let text: String = stanza.iter().map(|byte| char::from(*byte)).collect();
            Ok(Cow::Owned(text.into_bytes()))
        }
        _ => Err(RestError::UNPARSABLE),
    }
}

/// The value of `encoding` in an XML declaration; empty if it has none.
fn declared_encoding(declaration: &[u8]) -> Result<&str, RestError> {
    let text = std::str::from_utf8(declaration).map_err(|_| RestError::UNPARSABLE)?;
    let Some((_, rest)) = text.split_once("encoding") else { return Ok("") };
    let rest = rest.trim_start().strip_prefix('=').ok_or(RestError::UNPARSABLE)?.trim_start();
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''));
    let quote = quote.ok_or(RestError::UNPARSABLE)?;
    rest[1..].split_once(quote).map(|(name, _)| name).ok_or(RestError::UNPARSABLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(body: &[u8]) -> String {
        let draft = Draft::from_xml(body).unwrap();
        let id = draft.id.clone().unwrap_or_else(|| "made".into());
        draft.write(&Address { to: "b", from: "a", id: &id, type_: draft.type_.as_deref() })
    }

    #[test]
    fn children_go_out_as_they_came() {
        let inside = "<body>&lt;a&gt; &amp; é</body><q:x xmlns:q='urn:q' q:a=\"1\"/> <![CDATA[x]]>";
        let body = format!("<message to='x' id='i' foo='bar' xml:lang='fr'>{inside}</message>\n");
        assert_eq!(
            sent(body.as_bytes()),
            format!("<message to=\"b\" from=\"a\" id=\"i\" xml:lang=\"fr\">{inside}</message>")
        );
        assert_eq!(sent(b"<iq type='get'/>"), r#"<iq to="b" from="a" id="made" type="get"/>"#);
    }

    #[test]
    fn the_clients_namespace_becomes_the_streams() {
        for body in [
            "<message xmlns='jabber:client'><body>x</body></message>",
            "<message xmlns='jabber:client'><body xmlns=''>x</body></message>",
            "<c:message xmlns:c='jabber:client'><c:body>x</c:body></c:message>",
            "<message><body xmlns = \"\" >x</body></message>",
        ] {
            assert_eq!(
                sent(body.as_bytes()),
                "<message to=\"b\" from=\"a\" id=\"made\"><body>x</body></message>",
                "{body}"
            );
        }
    }

    #[test]
    fn a_prefix_declared_on_the_stanza_stays_declared() {
        let body = b"<message xmlns:q='urn:q'><q:x/></message>";
        assert!(sent(body).contains("<x xmlns=\"urn:q\"/>"), "{}", sent(body));
    }

    #[test]
    fn what_may_stand_before_a_stanza() {
        for before in [
            "\u{feff}",
            " \n",
            "<?xml version='1.0'?>",
            "<?xml version='1.0' encoding=\"UTF-8\"?>\n",
        ] {
            let body = format!("{before}<message><body>é</body></message>");
            assert!(sent(body.as_bytes()).contains("<body>é</body>"), "{before:?}");
        }
        let mut latin = b"<?xml version='1.0' encoding='iso-8859-1'?><message><body>".to_vec();
        latin.extend_from_slice(b"\xe9</body></message>");
        assert!(sent(&latin).contains("<body>é</body>"));
    }

    #[test]
    fn refusals_come_in_order() {
        for (body, error) in [
            ("", RestError::UNPARSABLE),
            ("hello", RestError::UNPARSABLE),
            ("<garbage", RestError::UNPARSABLE),
            ("<message/><message/>", RestError::UNPARSABLE),
            ("<message/>oops", RestError::UNPARSABLE),
            ("<message><!-- c --></message>", RestError::UNPARSABLE),
            ("<message><?p x?></message>", RestError::UNPARSABLE),
            ("<!DOCTYPE message><message/>", RestError::UNPARSABLE),
            ("<?xml version='1.0' encoding='utf-16'?><message/>", RestError::UNPARSABLE),
            ("<?xmlx?><message/>", RestError::UNPARSABLE),
            ("<foo xmlns='jabber:server'/>", RestError::NAMESPACE),
            ("<message xmlns='jabber:component:accept'/>", RestError::NAMESPACE),
            ("<foo/>", RestError::NOT_A_STANZA),
            ("<Message/>", RestError::NOT_A_STANZA),
        ] {
            assert_eq!(Draft::from_xml(body.as_bytes()).unwrap_err(), error, "{body}");
        }
    }

    #[test]
    fn depth_costs_no_stack() {
        let body = format!("<message>{}{}</message>", "<a>".repeat(8000), "</a>".repeat(8000));
        assert_eq!(Draft::from_xml(body.as_bytes()).unwrap().children(), 1);
        let client = body.replace("<message>", "<message xmlns='jabber:client'>");
        assert_eq!(Draft::from_xml(client.as_bytes()).unwrap().children(), 1);
    }

    #[test]
    fn how_deep_it_is_is_known_where_it_goes_out_as_it_came() {
        let depth = |body: &str| Draft::from_xml(body.as_bytes()).unwrap().depth;
        assert_eq!(depth("<presence/>"), Some(1));
        assert_eq!(depth("<message><a><b/></a><c/>text</message>"), Some(3));
        assert_eq!(depth("<message xmlns='jabber:client'><a/></message>"), None);
        assert_eq!(depth("<message><a xmlns=''/></message>"), None);
        assert_eq!(Draft::from_text(b"x").unwrap().depth, None);
    }

    #[test]
    fn children_are_counted_and_errors_found() {
        let draft = Draft::from_xml(b"<iq><a xmlns='x'><b/></a> <error/></iq>").unwrap();
        assert_eq!((draft.children(), draft.has_error()), (2, true));
        let draft = Draft::from_xml(b"<iq><a xmlns='x'><error/></a></iq>").unwrap();
        assert_eq!((draft.children(), draft.has_error()), (1, false));
    }

    #[test]
    fn text_is_a_chat_message() {
        let draft = Draft::from_text("a < é".as_bytes()).unwrap();
        assert_eq!(draft.type_.as_deref(), Some("chat"));
        assert_eq!(draft.inner, "<body>a &lt; é</body>");
        assert_eq!(Draft::from_text(b"").unwrap().inner, "<body/>");
        assert_eq!(Draft::from_text(b"\xff").unwrap_err(), RestError::UNPARSABLE);
        assert_eq!(Draft::from_text(b"\0").unwrap_err(), RestError::UNPARSABLE);
    }
}
