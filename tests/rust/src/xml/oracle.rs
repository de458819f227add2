use appxmpp::xml::Element;
use rxml::{Event, Options, Parse, Parser, WithOptions};

/// What rxml makes of a document that stands alone.
pub(super) enum Verdict {
    Tree(Element),
    /// It begins with an XML declaration.
    Declaration,
    Refused(String),
}

pub(super) fn parse(mut bytes: &[u8]) -> Verdict {
    let options = Options { max_token_length: bytes.len() + 1, ..Options::default() };
    let mut parser = Parser::with_options(options);
    let mut open: Vec<Element> = Vec::new();
    let mut root = None;
    loop {
        match parser.parse(&mut bytes, true) {
            Ok(Some(Event::XmlDeclaration(..))) => return Verdict::Declaration,
            Ok(Some(Event::StartElement(_, (ns, name), attributes))) => {
                let mut element = Element::new(name.as_str(), ns.as_str());
                for ((ns, name), value) in attributes.iter() {
                    element = element.with_attr_ns(name.as_str(), ns.as_str(), value.as_str());
                }
                open.push(element);
            }
            Ok(Some(Event::Text(_, text))) => {
                if let Some(parent) = open.last_mut() {
                    parent.push_text(&text);
                }
            }
            Ok(Some(Event::EndElement(_))) => {
                let Some(element) = open.pop() else { continue };
                match open.last_mut() {
                    Some(parent) => parent.push(element),
                    None => root = Some(element),
                }
            }
            Ok(None) => break,
            Err(error) => return Verdict::Refused(format!("{error:?}")),
        }
    }
    root.map_or_else(|| Verdict::Refused("no element".into()), Verdict::Tree)
}
