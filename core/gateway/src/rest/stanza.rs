//! Inbound stanzas as documents: XML that stands alone, or a tree in the namespace `jabber:client`.

use appxmpp::ns;
use appxmpp::stanza::Stanza;
use appxmpp::xml::{Element, Scope};
use bytes::Bytes;
use memchr::memmem;

use super::draft::{Address, Draft};
use super::media::Media;
use super::{form, json};

/// The stanza as XML without a namespace on its root: its bytes as they came, where they carry none
/// and use no prefix of the stream's.
pub fn to_xml(stanza: &Stanza) -> Bytes {
    let raw = stanza.raw();
    let tag = memchr::memchr(b'>', raw).map_or(&raw[..], |end| &raw[..end]);
    let own = memmem::find(tag, b"xmlns").is_some();
    let streams = stanza.scope().iter().any(|(prefix, _)| {
        !prefix.is_empty() && memmem::find(raw, format!("<{prefix}:").as_bytes()).is_some()
    });
    if !own && !streams {
        return raw.clone();
    }
    let element = to_client(stanza);
    let written = Draft::from_element(&element).map(|draft| {
        let address = Address {
            to: draft.to.as_deref().unwrap_or_default(),
            from: draft.from.as_deref().unwrap_or_default(),
            id: draft.id.as_deref().unwrap_or_default(),
            type_: draft.type_.as_deref(),
        };
        draft.write(&address)
    });
    written.map_or_else(|_| raw.clone(), Bytes::from)
}

/// The stanza as a document of this type; as text, its body alone.
pub fn to_media(stanza: &Stanza, media: Media, strict: bool) -> Bytes {
    match media {
        Media::Xml => to_xml(stanza),
        Media::Text => stanza.body().unwrap_or_default().into_owned().into(),
        Media::Json => {
            let members = json::of_stanza(&to_client(stanza), json::Mode::json(strict));
            serde_json::Value::from(members).to_string().into()
        }
        Media::Form => {
            form::write(&json::of_stanza(&to_client(stanza), json::Mode::form(strict))).into()
        }
    }
}

/// The stanza as a tree in the namespace `jabber:client`, whatever namespace its stream has.
pub fn to_client(stanza: &Stanza) -> Element {
    // Read as if the stream's default namespace were the clients': nothing is converted then,
    // except where a stanza names its namespace itself.
    let scope = Scope::stream(ns::CLIENT);
    let limits = super::draft::limits();
    match Element::parse(stanza.raw(), &scope, &limits) {
        Ok(element) if element.ns() == ns::CLIENT => element,
        Ok(element) => in_client(&element),
        Err(_) => Element::new(stanza.name().to_owned(), ns::CLIENT),
    }
}

/// The same stanza with its own namespace, and that of its direct children, made the clients'.
fn in_client(stanza: &Element) -> Element {
    let renamed = |element: &Element| {
        let mut copy = Element::new(element.name(), ns::CLIENT);
        for attr in element.attrs() {
            copy = copy.with_attr_ns(&attr.name, attr.ns.clone(), &attr.value);
        }
        copy
    };
    let mut copy = renamed(stanza);
    for child in stanza.children() {
        if child.ns() == stanza.ns() {
            let mut own = renamed(child);
            own.push_text(&child.text());
            child.children().for_each(|inner| own.push(inner.clone()));
            copy.push(own);
        } else {
            copy.push(child.clone());
        }
    }
    copy
}

#[cfg(test)]
mod tests {
    use super::*;
    use appxmpp::xml::Limits;

    fn stanza(xml: &str) -> Stanza {
        let scope = Scope::stream(ns::COMPONENT);
        Stanza::parse(xml.to_owned().into(), &scope, &Limits::default()).unwrap()
    }

    #[test]
    fn bytes_stay_as_they_came() {
        let xml = "<message from='a@b' id=\"1\"><body>x &amp; y</body><x xmlns='urn:x'/></message>";
        assert_eq!(to_xml(&stanza(xml)), xml);
    }

    #[test]
    fn a_namespace_on_the_root_is_left_out() {
        for ns in ["jabber:component:accept", "jabber:client"] {
            let xml = format!("<message xmlns='{ns}' to='c' id='1'><body>x</body></message>");
            let made = to_xml(&stanza(&xml));
            assert_eq!(made, "<message to=\"c\" id=\"1\"><body>x</body></message>", "{ns}");
        }
    }

    #[test]
    fn trees_are_in_the_clients_namespace() {
        for xml in [
            "<message><body>x</body></message>",
            "<message xmlns='jabber:component:accept'><body>x</body></message>",
            "<message xmlns='jabber:client'><body>x</body></message>",
        ] {
            let element = to_client(&stanza(xml));
            assert_eq!(element.child("body", ns::CLIENT).unwrap().text(), "x", "{xml}");
        }
    }
}
