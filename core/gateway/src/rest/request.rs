//! From a request's path and body to a stanza that may be sent.

use std::borrow::Cow;

use appxmpp::Jid;
use appxmpp::service::address::Addresses;
use serde_json::{Map, Value};

use super::draft::{self, Draft};
use super::error::RestError;
use super::form;
use super::json::{self, Mode};
use super::media::Media;
use super::path::{self, Kind, PostPath};

/// Who the stanza is from and to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The destination; the own domain where the request names none.
    pub to: Jid,
    /// The sender; the own domain where the request names none.
    pub from: Jid,
}

/// The stanza that a POST describes. `path` is what stands behind `/rest/`; empty or `echo` means
/// that the body says everything.
///
/// # Errors
/// What is wrong with type, path or body.
pub fn post<'b>(
    path: &str,
    content_type: Option<&str>,
    body: &'b [u8],
    strict: bool,
) -> Result<Draft<'b>, RestError> {
    let media = Media::of_body(content_type, strict);
    if media == Some(Media::Xml) {
        return Draft::from_xml(body);
    }
    if matches!(path, "" | "echo") {
        return without_path(media.ok_or(RestError::MEDIA_TYPE)?, body, strict);
    }
    match media {
        Some(media) => with_path(&path::post(path)?, media, body, strict),
        None if body.is_empty() && content_type.is_none() => {
            let path = path::post(path).map_err(|_| RestError::MEDIA_TYPE)?;
            if path.kind != Kind::Iq {
                return Err(RestError::MEDIA_TYPE);
            }
            query(path.type_, Value::Bool(true), path.to, Mode::json(strict))
        }
        None => Err(RestError::MEDIA_TYPE),
    }
}

fn without_path(media: Media, body: &[u8], strict: bool) -> Result<Draft<'_>, RestError> {
    // mod_rest takes an empty form for an empty note to oneself.
    if media == Media::Form && body.is_empty() && !strict {
        return Err(RestError::UNPARSABLE);
    }
    Draft::read(media, body, strict)
}

fn with_path<'b>(
    path: &PostPath<'_>,
    media: Media,
    body: &'b [u8],
    strict: bool,
) -> Result<Draft<'b>, RestError> {
    let mode = if media == Media::Form { Mode::form(strict) } else { Mode::json(strict) };
    if path.kind == Kind::Iq {
        let value = match media {
            Media::Json => serde_json::from_slice(body).map_err(|_| RestError::UNPARSABLE)?,
            Media::Form if body.contains(&b'=') => Value::from(form::parse(body)),
            _ => return Err(RestError::UNPARSABLE),
        };
        return query(path.type_, value, path.to.clone(), mode);
    }
    let mut members = match media {
        Media::Json => json::parse(body)?,
        Media::Form if body.contains(&b'=') => form::parse(body),
        Media::Text => {
            let name = if path.kind == Kind::Message { "body" } else { "show" };
            Map::from_iter([(name.to_owned(), draft::plain(body)?.into())])
        }
        Media::Form | Media::Xml => return Err(RestError::UNPARSABLE),
    };
    members.insert("kind".into(), path.kind.name().into());
    members.insert("type".into(), path.type_.into());
    members.remove("to");
    if let Some(to) = &path.to {
        members.insert("to".into(), to.as_ref().into());
    }
    Draft::from_members(&members, mode)
}

/// The iq that a GET asks; `query` is the URL's, `path` what stands behind `/rest/`.
///
/// # Errors
/// What is wrong with path or query.
pub fn get(
    path: &str,
    query_string: Option<&str>,
    strict: bool,
) -> Result<Draft<'static>, RestError> {
    let path = path::get(path)?;
    let value = match query_string {
        None => Value::Bool(true),
        Some(text) if text.contains('=') => Value::from(form::parse(text.as_bytes())),
        Some(_) => return Err(RestError::UNPARSABLE),
    };
    query(path.query, value, path.to, Mode::json(strict))
}

fn query(
    name: &str,
    value: Value,
    to: Option<Cow<'_, str>>,
    mode: Mode,
) -> Result<Draft<'static>, RestError> {
    let mut members = Map::new();
    members.insert("kind".into(), Kind::Iq.name().into());
    if let Some(to) = to {
        members.insert("to".into(), to.into_owned().into());
    }
    // A member of the stanza itself (`id`, `body`, …) asks nothing.
    if !matches!(name, "kind" | "type" | "to" | "from" | "id" | "lang" | "xml" | "error") {
        members.insert(name.to_owned(), value);
    }
    Draft::from_members(&members, mode).map(Draft::into_owned)
}

/// The addresses of `draft`, prepared; what `aliases` says some of them stand for, where an app knows
/// its own by other names.
///
/// # Errors
/// [`RestError::DESTINATION`], [`RestError::SOURCE`], [`RestError::FOREIGN_FROM`], in this order.
pub fn route(
    draft: &Draft<'_>,
    own: &Jid,
    aliases: Option<&Addresses>,
    lenient: bool,
) -> Result<Route, RestError> {
    let to = |to| aliases.map_or_else(|| Jid::parse(to), |aliases| aliases.recipient(to));
    let origin = |from| aliases.map_or_else(|| Jid::parse(from), |aliases| aliases.origin(from));
    let given = draft.to.as_deref().map(to);
    // And without a destination it does not look at the sender.
    let ignores_from = lenient && !matches!(given, Some(Ok(_)));
    let to = match given {
        None => own.clone(),
        Some(Ok(to)) => to,
        // mod_rest drops what is no address, unless the body is XML.
        Some(Err(_)) if lenient => own.clone(),
        Some(Err(_)) => return Err(RestError::DESTINATION),
    };
    let from = match draft.from.as_deref().filter(|_| !ignores_from) {
        None => own.clone(),
        Some(from) => origin(from).map_err(|_| RestError::SOURCE)?,
    };
    let foreign = match own.localpart() {
        // An account, which sends as itself only.
        Some(_) => from.bare() != own.bare(),
        None => from.domainpart() != own.domainpart(),
    };
    if foreign {
        return Err(RestError::FOREIGN_FROM);
    }
    // With which resource an account sends, its server knows.
    let from = if own.localpart().is_some() { own.clone() } else { from };
    Ok(Route { to, from })
}

/// Whether an iq asks something, and one thing only.
///
/// # Errors
/// [`RestError::IQ_TYPE`], [`RestError::IQ_CHILDREN`].
pub fn check_iq(draft: &Draft<'_>) -> Result<(), RestError> {
    if !matches!(draft.type_.as_deref(), Some("get" | "set")) {
        return Err(RestError::IQ_TYPE);
    }
    if draft.children() != 1 {
        return Err(RestError::IQ_CHILDREN);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: Option<&str> = Some("application/json");
    const FORM: Option<&str> = Some("application/x-www-form-urlencoded");
    const TEXT: Option<&str> = Some("text/plain");
    const XML: Option<&str> = Some("application/xmpp+xml");

    fn own() -> Jid {
        Jid::parse("rest.localhost").unwrap()
    }

    #[test]
    fn path_wins_over_a_mapped_body_but_not_over_xml() {
        let body = br#"{"body":"o","to":"carol@localhost","type":"normal","kind":"presence"}"#;
        let draft = post("message/chat/bob@localhost", JSON, body, false).unwrap();
        assert_eq!((draft.kind, draft.type_.as_deref()), (Kind::Message, Some("chat")));
        assert_eq!((draft.to.as_deref(), &*draft.inner), (Some("bob@localhost"), "<body>o</body>"));
        let draft = post("message/chat/x", XML, b"<presence to='bob@localhost'/>", false).unwrap();
        assert_eq!((draft.kind, draft.to.as_deref()), (Kind::Presence, Some("bob@localhost")));
        assert!(post("foo", XML, b"<presence/>", false).is_ok());
    }

    #[test]
    fn text_is_a_body_or_a_show() {
        let draft = post("message/chat/bob@localhost", TEXT, b"Hello", false).unwrap();
        assert_eq!(draft.inner, "<body>Hello</body>");
        let draft = post("presence/available/bob@localhost", TEXT, b"sleeping", false).unwrap();
        assert_eq!((&*draft.inner, draft.type_), ("<show>sleeping</show>", None));
        let draft = post("", TEXT, b"note", false).unwrap();
        assert_eq!((draft.to, draft.type_.as_deref()), (None, Some("chat")));
        assert_eq!(
            post("iq/get/bob@localhost", TEXT, b"x", false).unwrap_err(),
            RestError::UNPARSABLE
        );
        assert_eq!(post("message", TEXT, b"x", false).unwrap_err(), RestError::UNPARSABLE);
    }

    #[test]
    fn a_query_can_be_posted_with_a_body_or_without() {
        let draft = post("iq/ping/localhost", None, b"", false).unwrap();
        assert_eq!(draft.inner, "<ping xmlns=\"urn:xmpp:ping\"/>");
        let draft = post("iq/disco/localhost", JSON, b"\"node\"", false).unwrap();
        assert!(draft.inner.contains("node=\"node\""), "{}", draft.inner);
        let draft = post("iq/archive/localhost", FORM, b"max=5", false).unwrap();
        assert_eq!(draft.type_.as_deref(), Some("set"));
        assert_eq!(post("message/chat/x", None, b"", false).unwrap_err(), RestError::MEDIA_TYPE);
        assert_eq!(post("", None, b"", false).unwrap_err(), RestError::MEDIA_TYPE);
    }

    #[test]
    fn forms_without_pairs() {
        assert_eq!(post("", FORM, b"words", false).unwrap().inner, "<body>words</body>");
        assert_eq!(
            post("message/chat/x", FORM, b"words", false).unwrap_err(),
            RestError::UNPARSABLE
        );
        assert_eq!(post("", FORM, b"", false).unwrap_err(), RestError::UNPARSABLE);
        assert_eq!(post("", FORM, b"", true).unwrap().inner, "<body/>");
    }

    #[test]
    fn a_get_asks_one_thing() {
        let draft = get("command/localhost", Some("node=x"), false).unwrap();
        assert!(draft.inner.starts_with("<command") && draft.inner.contains("node=\"x\""));
        assert_eq!(check_iq(&get("ping/", None, false).unwrap()), Ok(()));
        for unknown in ["unknownquery/localhost", "message/chat/bob@localhost", "id/x", "xml/x"] {
            let draft = get(unknown, None, false).unwrap();
            assert_eq!(check_iq(&draft).unwrap_err(), RestError::IQ_CHILDREN, "{unknown}");
        }
        assert_eq!(get("disco/localhost", Some("foo"), false).unwrap_err(), RestError::UNPARSABLE);
    }

    #[test]
    fn an_account_sends_as_itself() {
        let draft = |xml: &'static str| Draft::from_xml(xml.as_bytes()).unwrap();
        let own = Jid::parse("bot@localhost").unwrap();
        for from in
            ["<message/>", "<message from='Bot@localhost/x'/>", "<message from='bot@localhost'/>"]
        {
            assert_eq!(route(&draft(from), &own, None, false).unwrap().from, own, "{from}");
        }
        for from in ["<message from='localhost'/>", "<message from='alice@localhost'/>"] {
            assert_eq!(
                route(&draft(from), &own, None, false).unwrap_err(),
                RestError::FOREIGN_FROM
            );
        }
    }

    #[test]
    fn app_engines_forms_are_taken_where_the_app_sees_them() {
        let beta = Addresses::of_version("shop", "bot.example", "beta").unwrap();
        let own = Jid::parse(beta.domain()).unwrap();
        let routed = |xml: &str, aliases| {
            let draft = Draft::from_xml(xml.as_bytes()).unwrap();
            route(&draft, &own, aliases, false).map(|it| format!("{} to {}", it.from, it.to))
        };
        let xml =
            "<message from='a@beta.latest.shop.appspotchat.com/x' to='b@shop.appspotchat.com'/>";
        assert_eq!(routed(xml, None).unwrap_err(), RestError::FOREIGN_FROM);
        let sent = "a@beta.latest.bot.example/x to b@bot.example";
        assert_eq!(routed(xml, Some(&beta)).unwrap(), sent);
        let xml = "<message from='shop@appspot.com' to='bob@localhost'/>";
        let sent = "shop@beta.latest.bot.example to bob@localhost";
        assert_eq!(routed(xml, Some(&beta)).unwrap(), sent);
        for from in ["a@other.appspotchat.com", "a@old.latest.bot.example", "bob@localhost"] {
            let error = routed(&format!("<message from='{from}'/>"), Some(&beta)).unwrap_err();
            assert_eq!(error, RestError::FOREIGN_FROM, "{from}");
        }
    }

    #[test]
    fn without_a_destination_mod_rest_ignores_the_sender() {
        let draft = |xml: &'static str| Draft::from_xml(xml.as_bytes()).unwrap();
        for xml in ["<message from='a@elsewhere'/>", "<message to='@@' from='a@elsewhere'/>"] {
            assert_eq!(route(&draft(xml), &own(), None, true).unwrap().from, own(), "{xml}");
        }
        let foreign = draft("<message to='bob@localhost' from='a@elsewhere'/>");
        assert_eq!(route(&foreign, &own(), None, true).unwrap_err(), RestError::FOREIGN_FROM);
    }

    #[test]
    fn addresses_are_checked_in_order() {
        let draft = |xml: &'static str| Draft::from_xml(xml.as_bytes()).unwrap();
        let refused = |xml| route(&draft(xml), &own(), None, false).unwrap_err();
        assert_eq!(refused("<message to='' from=''/>"), RestError::DESTINATION);
        assert_eq!(refused("<message to='a' from=''/>"), RestError::SOURCE);
        assert_eq!(refused("<message from='a@sub.rest.localhost'/>"), RestError::FOREIGN_FROM);
        let route = route(
            &draft("<message to='BOB@LocalHost' from='Bot@rest.localhost/R'/>"),
            &own(),
            None,
            false,
        );
        let route = route.unwrap();
        assert_eq!(
            (route.to.as_str(), route.from.as_str()),
            ("bob@localhost", "bot@rest.localhost/R")
        );
    }
}
