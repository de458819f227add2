use appxmpp::ns;
use appxmpp::stanza::{Form, Stanza, StanzaKind, present};
use appxmpp::xml::{
    Element, Frame, Framer, Limits, Node, Scope, XmlErrorKind, fragment as fragments, strict,
};
use bytes::Bytes;

use super::oracle::{self, Verdict};

/// The strict layer accepts what rxml accepts, as the same tree, and refuses the rest.
///
/// rxml 0.14 refuses `x='a\rb'` and drops the space that `x='a\r'` ends with, so that it is given the
/// input with its line ends normalised, which XML 1.0 §2.11 says makes no difference. It also refuses
/// the white space before the element that §2.8 allows. Otherwise they may differ in this:
/// - An XML declaration: a stanza has none, a document may.
/// - U+FDF0 to U+FFFD in a name: XML 1.0 §2.3 allows them, rxml not all of them.
/// - A reference to white space or an empty CDATA section after the element: XML 1.0 §2.8 allows
///   neither there, rxml does.
/// - `xmlns` twice on one element: XML 1.0 §3.1 forbids it, rxml takes the last.
/// - The namespace of `xmlns` as the default: Namespaces in XML 1.0 §3 forbids it, rxml does not.
/// - What is over a limit of ours.
pub fn same_as_rxml(input: &[u8]) -> Result<(), String> {
    let scope = Scope::empty();
    let ours = Element::parse(input, &scope, &Limits::default());
    let checked = strict::check(input, &scope, &Limits::default());
    if checked.as_ref().err() != ours.as_ref().err() {
        return Err(format!("check says {checked:?}, parse says {ours:?}"));
    }
    let contains = |what: &str| memchr::memmem::find(input, what.as_bytes()).is_some();
    match (ours, oracle::parse(&for_rxml(input))) {
        (_, Verdict::Declaration) | (Err(_), Verdict::Refused(_)) => Ok(()),
        (Ok(ours), Verdict::Tree(theirs)) if ours == theirs => Ok(()),
        (Ok(ours), Verdict::Tree(theirs)) => {
            Err(format!("trees differ: {} and {}", ours.to_xml(), theirs.to_xml()))
        }
        (Ok(_), Verdict::Refused(why)) if why.contains("Name") && has_late_name_char(input) => {
            Ok(())
        }
        (Ok(_), Verdict::Refused(why)) => Err(format!("accepted, and rxml says {why}")),
        (Err(error), Verdict::Tree(theirs)) => match error.to_string() {
            _ if error.kind() == XmlErrorKind::PolicyViolation => Ok(()),
            why if why.contains("\"xmlns\" is there twice") => Ok(()),
            why if why.contains("reserved") && contains("'http://www.w3.org/2000/xmlns/'") => {
                Ok(())
            }
            why if why.contains("text outside") && (contains("&#") || contains("<![CDATA[]]>")) => {
                Ok(())
            }
            why => Err(format!("refused, and rxml makes {} of it: {why}", theirs.to_xml())),
        },
    }
}

fn for_rxml(input: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(input.len());
    let mut bytes = input.iter().copied().skip_while(|byte| b" \t\r\n".contains(byte)).peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\r' => {
                let _ = bytes.next_if_eq(&b'\n');
                out.push(b'\n');
            }
            _ => out.push(byte),
        }
    }
    out
}

fn has_late_name_char(input: &[u8]) -> bool {
    String::from_utf8_lossy(input).contains(|c| ('\u{fdf0}'..='\u{fffd}').contains(&c))
}

/// The frames of a stream are the same however it is split, and hold all of its bytes but white
/// space, header and end.
pub fn framing(input: &[u8]) -> Result<(), String> {
    let limits = Limits { stanza_bytes: 400, ..Limits::default() };
    let whole = frames(limits, [input]);
    let single = frames(limits, input.chunks(1));
    if whole != single {
        return Err(format!("whole: {whole:?}\nbyte by byte: {single:?}"));
    }
    for at in 0..input.len() {
        let (a, b) = input.split_at(at);
        let split = frames(limits, [a, b]);
        if whole != split {
            return Err(format!("whole: {whole:?}\nsplit at {at}: {split:?}"));
        }
    }
    let mut rest = input;
    for frame in whole.iter().filter_map(|frame| match frame {
        Ok(Frame::Stanza(bytes)) => Some(bytes),
        _ => None,
    }) {
        let at = memchr::memmem::find(rest, frame).ok_or("a frame is not a part of the input")?;
        rest = &rest[at + frame.len()..];
    }
    Ok(())
}

fn frames<'a>(
    limits: Limits,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Vec<Result<Frame, &'static str>> {
    let mut framer = Framer::new(limits);
    let mut out = Vec::new();
    for piece in pieces {
        framer.push(piece);
        loop {
            match framer.next() {
                Ok(Some(frame)) => out.push(Ok(frame)),
                Ok(None) => break,
                Err(error) => {
                    out.push(Err(error.condition()));
                    return out;
                }
            }
        }
    }
    out
}

/// A fragment that passes, put into a stanza, leaves the framing of the stream as it was, and the
/// stanza well-formed.
pub fn fragment(input: &[u8]) -> Result<(), String> {
    let Ok(text) = std::str::from_utf8(input) else { return Ok(()) };
    let limits = Limits::default();
    let Ok(elements) = fragments::check(text, ns::COMPONENT, &limits) else { return Ok(()) };

    let message = format!("<message to='a@b'>{text}</message>");
    let header = "<stream:stream xmlns:stream='http://etherx.jabber.org/streams' xmlns='jabber:component:accept'>";
    let stream = format!("{header}{message}<iq/></stream:stream>");
    let found = frames(limits, [stream.as_bytes()]);
    let [
        Ok(Frame::Open(header)),
        Ok(Frame::Stanza(first)),
        Ok(Frame::Stanza(second)),
        Ok(Frame::Close),
    ] = &found[..]
    else {
        return Err(format!("the stream became {found:?}"));
    };
    if *first != message || **second != *b"<iq/>" {
        return Err(format!("the stanzas became {first:?} and {second:?}"));
    }
    let tree = Element::parse(first, &header.scope, &limits).map_err(|e| e.to_string())?;
    if tree.children().count() != elements.len() {
        return Err(format!("{} elements, but {elements:?}", tree.children().count()));
    }
    for (range, child) in elements.into_iter().zip(tree.children()) {
        let alone =
            Element::parse(text[range].as_bytes(), &Scope::default_ns(ns::COMPONENT), &limits);
        if alone.as_ref() != Ok(child) {
            return Err(format!("an element of the fragment is {alone:?} alone, {child:?} inside"));
        }
    }
    Ok(())
}

/// What a stanza says of itself is what its tree says, and the presented forms are the same tree in
/// `jabber:client`.
pub fn stanza(input: &[u8]) -> Result<(), String> {
    let scope = Scope::new([("", ns::COMPONENT), ("stream", ns::STREAM), ("p", "urn:scope")]);
    let limits = Limits::default();
    let Ok(stanza) = Stanza::parse(Bytes::copy_from_slice(input), &scope, &limits) else {
        return Ok(());
    };
    let tree = stanza.element().map_err(|error| format!("its tree: {error}"))?;
    let same = |what: &str, ours: Option<&str>, tree: Option<&str>| match ours == tree {
        true => Ok(()),
        false => Err(format!("{what}: {ours:?}, and in the tree {tree:?}")),
    };
    same("name", Some(stanza.name()), Some(tree.name()))?;
    same("namespace", Some(stanza.ns()), Some(tree.ns()))?;
    same("from", stanza.from().map(|jid| jid.as_str()), tree.attr("from"))?;
    same("to", stanza.to().map(|jid| jid.as_str()), tree.attr("to"))?;
    same("id", stanza.id(), tree.attr("id"))?;
    same("type", stanza.type_(), tree.attr("type"))?;
    same("xml:lang", stanza.lang(), tree.lang())?;
    if stanza.kind() == StanzaKind::Message {
        let body = tree.child("body", tree.ns()).map(Element::text);
        same("body", stanza.body().as_deref(), body.as_deref())?;
        same("body as child", stanza.child_text("body").as_deref(), body.as_deref())?;
    }
    for xml in [tree.to_xml(), format!(" {}", written_in(&tree, &scope))] {
        let again = Element::parse(xml.as_bytes(), &scope, &limits);
        if again.as_ref() != Ok(&tree) && tree.ns() != "" {
            return Err(format!("the tree is written as {xml}"));
        }
    }
    let expected = in_client_namespace(&tree);
    // The prefix makes the longest of names longer, and what is in force around the stanza is declared
    // on it.
    let limits = Limits {
        stanza_bytes: 3 * limits.stanza_bytes,
        attributes: limits.attributes + scope.iter().len() + 1,
        name_bytes: limits.name_bytes + "cli:".len(),
        ..limits
    };
    for form in [Form::Cli, Form::Client] {
        let xml = present(&stanza, form);
        let got = Element::parse(xml.as_bytes(), &Scope::empty(), &limits);
        if got.as_ref() != Ok(&expected) {
            return Err(format!("{form:?}: {xml}\nis {got:?},\nexpected {expected:?}"));
        }
    }
    Ok(())
}

fn written_in(tree: &Element, scope: &Scope) -> String {
    let mut out = String::new();
    tree.write_to(&mut out, scope);
    out
}

/// The same tree with `jabber:client` for `jabber:component:accept`.
fn in_client_namespace(tree: &Element) -> Element {
    let map = |ns: &str| if ns == ns::COMPONENT { ns::CLIENT.to_owned() } else { ns.to_owned() };
    let mut out = Element::new(tree.name(), map(tree.ns()));
    for attr in tree.attrs() {
        out = out.with_attr_ns(&attr.name, map(&attr.ns), attr.value.clone());
    }
    for node in tree.nodes() {
        match node {
            Node::Element(child) => out.push(in_client_namespace(child)),
            Node::Text(text) => out.push_text(text),
        }
    }
    out
}
