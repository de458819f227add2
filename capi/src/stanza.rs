//! Stanzas: messages, presence and iqs, built or parsed.

use std::ffi::c_char;

use bytes::Bytes;
use engine::stanza::{Form, Stanza, present};
use engine::xml::{Element, Limits, Node, Scope, fragment, writer};
use engine::{ErrorKind, ns};

use crate::error::{Failure, appxmpp_error, appxmpp_result};
use crate::ffi::{self, Kept, Out, appxmpp_str};

/// A message (RFC 6121 §5).
pub const APPXMPP_MESSAGE: i32 = 1;
/// A presence stanza (RFC 6121 §4).
pub const APPXMPP_PRESENCE: i32 = 2;
/// An iq (RFC 6120 §8.2.3).
pub const APPXMPP_IQ: i32 = 3;

/// A message, presence stanza or iq in the namespace `jabber:client`.
#[allow(non_camel_case_types)]
pub struct appxmpp_stanza {
    element: Element,
    lent: Lent,
}

/// What the accessors lend, made anew at each change.
struct Lent {
    attributes: Vec<(String, Kept)>,
    children: Kept,
    body: Option<Kept>,
    xml: Kept,
}

impl appxmpp_stanza {
    fn new(kind: i32) -> Result<Self, Failure> {
        let name = match kind {
            APPXMPP_MESSAGE => "message",
            APPXMPP_PRESENCE => "presence",
            APPXMPP_IQ => "iq",
            _ => {
                let text = format!(
                    "{kind} is not a kind of stanza; use APPXMPP_MESSAGE, APPXMPP_PRESENCE or APPXMPP_IQ"
                );
                return Err(Failure::argument(text));
            }
        };
        Self::of(Element::new(name, ns::CLIENT))
    }

    pub(crate) fn parse(xml: &str) -> Result<Self, Failure> {
        let element = parse(xml)?;
        match (element.name(), element.ns()) {
            ("message" | "presence" | "iq", ns::CLIENT) => Self::of(element),
            ("message" | "presence" | "iq", ns::COMPONENT) => {
                // The same stanza as a client sees it.
                let scope = Scope::default_ns(ns::COMPONENT);
                let bytes = Bytes::from(xml.as_bytes().to_vec());
                let stanza = Stanza::parse(bytes, &scope, &Limits::default())
                    .map_err(engine::Error::from)?;
                Self::of(parse(&present(&stanza, Form::Client))?)
            }
            (other, namespace) => {
                let text = format!(
                    "<{other}/> of {namespace:?} is not a stanza; use message, presence or iq of jabber:client"
                );
                Err(engine::Error::new(ErrorKind::InvalidXml, text).into())
            }
        }
    }

    /// Checks the whole, limits included, and makes what the accessors lend.
    fn of(element: Element) -> Result<Self, Failure> {
        let xml = element.to_xml();
        parse(&xml)?;
        let inside = Scope::default_ns(ns::CLIENT);
        let mut children = String::new();
        for node in element.nodes() {
            match node {
                Node::Element(child) => child.write_to(&mut children, &inside),
                Node::Text(text) => writer::escape_text(&mut children, text),
            }
        }
        let attributes = element.attrs().iter().filter_map(|attribute| {
            let name = match &*attribute.ns {
                "" => attribute.name.clone(),
                ns::XML => format!("xml:{}", attribute.name),
                _ => return None,
            };
            Some((name, Kept::new(&attribute.value)))
        });
        let lent = Lent {
            attributes: attributes.collect(),
            children: Kept::new(&children),
            body: element.child("body", ns::CLIENT).map(|body| Kept::new(&body.text())),
            xml: Kept::new(&xml),
        };
        Ok(Self { element, lent })
    }

    /// The stanza for a stream, whose default namespace it takes on.
    pub(crate) fn wire(&self) -> String {
        let mut out = String::new();
        self.element.write_to(&mut out, &Scope::default_ns(ns::CLIENT));
        out
    }

    /// The stanza as an element of a stream whose default namespace is `namespace`.
    pub(crate) fn in_namespace(&self, namespace: &str) -> Result<Element, Failure> {
        let scope = Scope::default_ns(namespace);
        Ok(Element::parse(self.wire().as_bytes(), &scope, &Limits::default())
            .map_err(engine::Error::from)?)
    }

    fn attribute(&self, name: &str) -> appxmpp_str {
        let found = self.lent.attributes.iter().find(|(known, _)| known == name);
        found.map_or(appxmpp_str::EMPTY, |(_, value)| value.lend())
    }

    fn with_attribute(&self, name: &str, value: Option<&str>) -> Result<Self, Failure> {
        let (namespace, local) = match name.strip_prefix("xml:") {
            Some("lang") => (ns::XML, "lang"),
            _ if writer::is_name(name) && name != "xmlns" => ("", name),
            _ => {
                let text = format!(
                    "{name:?} is not an attribute of a stanza; use a plain name or xml:lang"
                );
                return Err(engine::Error::new(ErrorKind::InvalidXml, text).into());
            }
        };
        if let Some(value) = value {
            must_be_xml(value, name)?;
        }
        let mut element = Element::new(self.element.name(), ns::CLIENT);
        for attribute in self.element.attrs() {
            if (&*attribute.ns, attribute.name.as_str()) != (namespace, local) {
                element =
                    element.with_attr_ns(&attribute.name, attribute.ns.clone(), &*attribute.value);
            }
        }
        if let Some(value) = value {
            element = element.with_attr_ns(local, namespace, value);
        }
        Self::of(with_nodes(element, &self.element))
    }

    /// Adds `xml`, siblings that have passed the fragment check.
    fn with_children(&self, xml: &str) -> Result<Self, Failure> {
        let more = parse(&format!("<message xmlns='jabber:client'>{xml}</message>"))?;
        Self::of(with_nodes(self.element.clone(), &more))
    }
}

fn parse(xml: &str) -> Result<Element, Failure> {
    let scope = Scope::default_ns(ns::CLIENT);
    Ok(Element::parse(xml.as_bytes(), &scope, &Limits::default()).map_err(engine::Error::from)?)
}

fn with_nodes(mut element: Element, source: &Element) -> Element {
    for node in source.nodes() {
        match node {
            Node::Element(child) => element.push(child.clone()),
            Node::Text(text) => element.push_text(text),
        }
    }
    element
}

fn must_be_xml(text: &str, what: &str) -> Result<(), Failure> {
    if writer::is_xml_text(text) {
        return Ok(());
    }
    let message =
        format!("{what} holds a character that XML cannot carry; remove control characters");
    Err(engine::Error::new(ErrorKind::InvalidXml, message).into())
}

/// Starts a stanza of `kind` (`APPXMPP_MESSAGE`, `APPXMPP_PRESENCE` or `APPXMPP_IQ`) without
/// attributes and children; `out` receives a new handle.
///
/// Fails with `APPXMPP_INVALID_ARGUMENT`.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_stanza_new(
    kind: i32,
    out: *mut *mut appxmpp_stanza,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        let out = unsafe { Out::new(out, "out")? };
        out.set(ffi::give(appxmpp_stanza::new(kind)?));
        Ok(())
    })
}

/// Parses one stanza; `out` receives a new handle. Without a namespace declaration, the stanza is
/// taken to be in `jabber:client`; one in `jabber:component:accept` becomes one in `jabber:client`.
///
/// Fails with `APPXMPP_INVALID_XML` for what is not well-formed, is forbidden in XMPP (RFC 6120
/// §11.1) or is no stanza, and with `APPXMPP_TOO_LARGE`.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_stanza_parse(
    xml: *const c_char,
    len: usize,
    out: *mut *mut appxmpp_stanza,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        let (xml, out) = unsafe { (ffi::text(xml, len, "xml")?, Out::new(out, "out")?) };
        out.set(ffi::give(appxmpp_stanza::parse(xml)?));
        Ok(())
    })
}

/// `APPXMPP_MESSAGE`, `APPXMPP_PRESENCE` or `APPXMPP_IQ`; 0 if `stanza` is NULL.
///
/// # Safety
/// `stanza` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_stanza_kind(stanza: *const appxmpp_stanza) -> i32 {
    let kind = |stanza: &appxmpp_stanza| match stanza.element.name() {
        "message" => APPXMPP_MESSAGE,
        "presence" => APPXMPP_PRESENCE,
        _ => APPXMPP_IQ,
    };
    // SAFETY: as this function's own contract.
    unsafe { ffi::read(stanza, 0, kind) }
}

/// The value of the attribute `name` (`from`, `to`, `id`, `type`, `xml:lang`, …); empty if it is not
/// there. Lives until the stanza is changed or freed.
///
/// # Safety
/// See the conventions; `stanza` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_stanza_attribute(
    stanza: *const appxmpp_stanza,
    name: *const c_char,
    name_len: usize,
) -> appxmpp_str {
    // SAFETY: the caller keeps the conventions.
    let named = |stanza: &appxmpp_stanza| match unsafe { ffi::text(name, name_len, "name") } {
        Ok(name) => stanza.attribute(name),
        Err(_) => appxmpp_str::EMPTY,
    };
    // SAFETY: as this function's own contract.
    unsafe { ffi::read(stanza, appxmpp_str::EMPTY, named) }
}

/// Sets the attribute `name` to `value`, or removes it if `value` is NULL.
///
/// Fails with `APPXMPP_INVALID_XML` for what is not the name of an attribute or holds characters that
/// XML cannot carry.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_stanza_set_attribute(
    stanza: *mut appxmpp_stanza,
    name: *const c_char,
    name_len: usize,
    value: *const c_char,
    value_len: usize,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        let (stanza, name, value) = unsafe {
            (
                ffi::borrow_mut(stanza, "stanza")?,
                ffi::text(name, name_len, "name")?,
                ffi::optional_text(value, value_len, "value")?,
            )
        };
        *stanza = stanza.with_attribute(name, value)?;
        Ok(())
    })
}

/// The text of the first `<body/>`; empty if there is none. Lives until the stanza is changed or
/// freed.
///
/// # Safety
/// `stanza` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_stanza_body(stanza: *const appxmpp_stanza) -> appxmpp_str {
    let body =
        |stanza: &appxmpp_stanza| stanza.lent.body.as_ref().map_or(appxmpp_str::EMPTY, Kept::lend);
    // SAFETY: as this function's own contract.
    unsafe { ffi::read(stanza, appxmpp_str::EMPTY, body) }
}

/// Adds a `<body/>` with `text` inside, escaped.
///
/// Fails with `APPXMPP_INVALID_XML` for characters that XML cannot carry, and `APPXMPP_TOO_LARGE`.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_stanza_add_body(
    stanza: *mut appxmpp_stanza,
    text: *const c_char,
    len: usize,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        let (stanza, text) =
            unsafe { (ffi::borrow_mut(stanza, "stanza")?, ffi::text(text, len, "text")?) };
        must_be_xml(text, "text")?;
        let mut body = String::from("<body>");
        writer::escape_text(&mut body, text);
        body.push_str("</body>");
        *stanza = stanza.with_children(&body)?;
        Ok(())
    })
}

/// Adds children written as XML; elements without a namespace are in `jabber:client`.
///
/// Fails with `APPXMPP_INVALID_XML` for anything but well-formed siblings, and `APPXMPP_TOO_LARGE`.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_stanza_add_xml(
    stanza: *mut appxmpp_stanza,
    xml: *const c_char,
    len: usize,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        let (stanza, xml) =
            unsafe { (ffi::borrow_mut(stanza, "stanza")?, ffi::text(xml, len, "xml")?) };
        fragment::check(xml, ns::CLIENT, &Limits::default()).map_err(engine::Error::from)?;
        *stanza = stanza.with_children(xml)?;
        Ok(())
    })
}

/// The children as XML, without the stanza around them; elements without a namespace are in
/// `jabber:client`. Lives until the stanza is changed or freed.
///
/// # Safety
/// `stanza` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_stanza_children_xml(stanza: *const appxmpp_stanza) -> appxmpp_str {
    // SAFETY: as this function's own contract.
    unsafe { ffi::read(stanza, appxmpp_str::EMPTY, |stanza| stanza.lent.children.lend()) }
}

/// The stanza as XML that can be parsed alone. Lives until the stanza is changed or freed.
///
/// # Safety
/// `stanza` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_stanza_xml(stanza: *const appxmpp_stanza) -> appxmpp_str {
    // SAFETY: as this function's own contract.
    unsafe { ffi::read(stanza, appxmpp_str::EMPTY, |stanza| stanza.lent.xml.lend()) }
}

/// Frees a stanza; NULL is allowed.
///
/// # Safety
/// `stanza` is NULL or live, and not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_stanza_free(stanza: *mut appxmpp_stanza) {
    // SAFETY: as this function's own contract.
    unsafe { ffi::take_back(stanza) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> appxmpp_stanza {
        appxmpp_stanza::new(APPXMPP_MESSAGE).unwrap()
    }

    #[test]
    fn what_is_built_parses_to_the_same() {
        let stanza = message().with_attribute("to", Some("a@b/\"<&")).unwrap();
        let stanza =
            stanza.with_children("<body>1 &lt; 2</body><x xmlns='urn:x'><y/></x>").unwrap();
        let again = appxmpp_stanza::parse(stanza.lent.xml.as_str()).unwrap();
        assert_eq!(again.lent.xml.as_str(), stanza.lent.xml.as_str());
        assert_eq!(again.lent.body.as_ref().map(Kept::as_str), Some("1 < 2"));
        assert!(again.wire().starts_with("<message to="), "{}", again.wire());
    }

    #[test]
    fn an_attribute_is_replaced_and_removed() {
        let stanza = message().with_attribute("id", Some("1")).unwrap();
        let stanza = stanza.with_attribute("id", Some("2")).unwrap();
        assert_eq!(stanza.wire(), "<message id=\"2\"/>");
        assert_eq!(stanza.with_attribute("id", None).unwrap().wire(), "<message/>");
        for name in ["xmlns", "a b", "x:y", "", "1"] {
            assert!(stanza.with_attribute(name, Some("v")).is_err(), "{name}");
        }
    }

    #[test]
    fn a_component_stanza_becomes_a_client_one() {
        let xml = "<c:iq xmlns:c='jabber:component:accept' id='1'><c:body>x</c:body></c:iq>";
        let stanza = appxmpp_stanza::parse(xml).unwrap();
        assert_eq!(
            stanza.lent.xml.as_str(),
            "<iq xmlns=\"jabber:client\" id=\"1\"><body>x</body></iq>"
        );
    }

    #[test]
    fn what_is_no_stanza_is_refused() {
        for xml in ["", "<message>", "<foo/>", "<message xmlns='urn:x'/>", "<message/><message/>"] {
            assert!(appxmpp_stanza::parse(xml).is_err(), "{xml}");
        }
    }
}
