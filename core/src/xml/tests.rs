use super::*;
use crate::ns;
use crate::stanza::{Form, Stanza, present};
use crate::vectors::{self, Case, same};
use bytes::Bytes;
use proptest::prelude::*;

fn input(case: &Case) -> Vec<u8> {
    match case.optional_str("hex") {
        Some(hex) => (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex"))
            .collect(),
        None => case.str("xml").into(),
    }
}

#[test]
fn vectors_hold() {
    vectors::each("xml", |case| {
        let (bytes, scope, limits) = (input(case), Scope::empty(), Limits::default());
        let checked = strict::check(&bytes, &scope, &limits);
        let parsed = Element::parse(&bytes, &scope, &limits);
        same("check and parse", checked.as_ref().err(), parsed.as_ref().err())?;
        let (head, element) = match (checked, parsed) {
            (Ok(head), Ok(element)) => (head, element),
            (Err(error), _) | (_, Err(error)) => {
                return same("condition", Some(error.condition()), case.optional_str("condition"));
            }
        };
        same("condition", None, case.optional_str("condition"))?;
        for (what, got) in [("name", head.name), ("ns", &*head.ns), ("text", &*element.text())] {
            if let Some(expected) = case.optional_str(what) {
                same(what, got, expected)?;
            }
        }
        let attributes = case.0.get("attributes").and_then(serde_json::Value::as_object);
        for (name, value) in attributes.into_iter().flatten() {
            same(name, head.attribute(name), value.as_str())?;
            same(name, element.attr(name), value.as_str())?;
        }
        let again = Element::parse(element.to_xml().as_bytes(), &scope, &limits);
        same("written and parsed again", again.as_ref(), Ok(&element))
    });
}

/// A namespace around a document changes nothing about what is well-formed.
#[test]
fn what_is_refused_alone_is_refused_as_a_fragment() {
    vectors::each("xml", |case| {
        let bytes = input(case);
        let Ok(text) = std::str::from_utf8(&bytes) else { return Ok(()) };
        let expected = case.optional_str("condition");
        let got = fragment::check(text, ns::COMPONENT, &Limits::default());
        match (expected, got) {
            (None, Ok(elements)) => same("elements", elements.len(), 1),
            (None, Err(error)) => Err(error.to_string()),
            // Text and several elements are well-formed in a stanza.
            (Some(_), Ok(_)) if case.bool("content") => Ok(()),
            (Some(_), Ok(_)) => Err("accepted".into()),
            (Some(_), Err(error)) if case.bool("content") => Err(error.to_string()),
            (Some(expected), Err(error)) => same("condition", error.condition(), expected),
        }
    });
}

#[test]
fn every_limit_is_a_limit() {
    let limits = Limits { stanza_bytes: 200, depth: 3, attributes: 2, name_bytes: 8 };
    let scope = Scope::empty();
    let condition = |xml: &str| {
        strict::check(xml.as_bytes(), &scope, &limits).err().map(|error| error.condition())
    };
    let over = Some("policy-violation");
    assert_eq!(condition("<a><b><c/></b></a>"), None);
    assert_eq!(condition("<a><b><c><d/></c></b></a>"), over);
    assert_eq!(condition("<a b='' c='' xmlns='u'/>"), over);
    assert_eq!(condition("<a b='' c=''/>"), None);
    assert_eq!(condition("<a b='' c='' d=''/>"), over);
    assert_eq!(condition("<abcdefgh/>"), None);
    assert_eq!(condition("<abcdefghi/>"), over);
    assert_eq!(condition("<a abcdefghi=''/>"), over);
    assert_eq!(condition(&format!("<a>{}</a>", "x".repeat(193))), None);
    assert_eq!(condition(&format!("<a>{}</a>", "x".repeat(194))), over);
    let error = crate::Error::from(strict::check(&[b' '; 201], &scope, &limits).unwrap_err());
    assert_eq!(error.kind(), crate::ErrorKind::TooLarge);
}

/// Every name with a prefix is looked up among the bindings in force.
#[test]
fn the_bindings_in_force_are_bounded() {
    let declare = |from: usize, count: usize| -> String {
        (from..from + count).map(|n| format!(" xmlns:p{n}='urn:{n}'")).collect()
    };
    let nest = |levels: usize| {
        let open: String = (0..levels).map(|n| format!("<a{}>", declare(n * 100, 100))).collect();
        format!("{open}{}", "</a>".repeat(levels))
    };
    let (scope, limits) = (Scope::empty(), Limits::default());
    assert!(strict::check(nest(2).as_bytes(), &scope, &limits).is_ok());
    let error = strict::check(nest(3).as_bytes(), &scope, &limits).unwrap_err();
    assert_eq!(error.kind(), XmlErrorKind::PolicyViolation);
    // What is in force around it takes nothing away from it.
    let (stream, most) = (Scope::stream(ns::COMPONENT), nest(2).replace("<a", "<a xmlns='urn:a'"));
    let most = format!("<r{}>{most}</r>", declare(300, 54));
    for scope in [&scope, &stream] {
        assert!(strict::check(most.as_bytes(), scope, &limits).is_ok());
        let over = most.replace("<r", "<r xmlns:x='urn:x'");
        assert!(strict::check(over.as_bytes(), scope, &limits).is_err());
    }
    let side_by_side = format!("<r>{}{0}{0}{0}</r>", nest(1));
    assert!(strict::check(side_by_side.as_bytes(), &scope, &limits).is_ok());
}

/// Parses, checks, frames, clones, compares, writes and drops on a stack on which recursion over the
/// depth would not fit.
#[test]
fn depth_takes_no_stack() {
    let small_stack = std::thread::Builder::new().stack_size(128 * 1024);
    let thread = small_stack.spawn(|| {
        const DEPTH: usize = 35_000;
        let xml = format!("{}{}", "<a>".repeat(DEPTH), "</a>".repeat(DEPTH));
        let scope = Scope::empty();
        let error = strict::check(xml.as_bytes(), &scope, &Limits::default()).unwrap_err();
        assert_eq!(error.kind(), XmlErrorKind::PolicyViolation);

        let deep = Limits { depth: DEPTH, ..Limits::default() };
        assert!(strict::check(xml.as_bytes(), &scope, &deep).is_ok());
        let tree = Element::parse(xml.as_bytes(), &scope, &deep).unwrap();
        let copy = tree.clone();
        assert!(copy == tree);
        assert_eq!(copy.to_xml().len(), xml.len() - "<a></a>".len() + "<a/>".len());
        assert!(format!("{copy:?}").len() > xml.len() - 10);
        drop((tree, copy));

        let stanza =
            Stanza::parse(xml.clone().into(), &Scope::default_ns(ns::CLIENT), &deep).unwrap();
        assert_eq!(present(&stanza, Form::Cli).len(), xml.len() + DEPTH * 8 + 26);
        assert_eq!(stanza.body(), None);

        let mut built = Element::new("a", "");
        for _ in 0..DEPTH {
            built = Element::new("a", "").with_child(built);
        }
        drop(built);
    });
    thread.unwrap().join().unwrap();
}

#[test]
fn a_tree_is_written_for_the_place_it_goes_to() {
    let scope = Scope::stream(ns::COMPONENT);
    let mut out = String::new();
    let query = Element::new("query", ns::DISCO_INFO)
        .with_child(Element::new("feature", ns::DISCO_INFO).with_attr("var", "a&b"));
    Element::new("iq", ns::COMPONENT).with_child(query).write_to(&mut out, &scope);
    let expected =
        format!("<iq><query xmlns=\"{}\"><feature var=\"a&amp;b\"/></query></iq>", ns::DISCO_INFO);
    assert_eq!(out, expected);

    out.clear();
    Element::new("error", ns::STREAM)
        .with_child(Element::new("conflict", ns::STREAM_ERRORS))
        .write_to(&mut out, &scope);
    let conflict = format!("<conflict xmlns=\"{}\"/>", ns::STREAM_ERRORS);
    assert_eq!(out, format!("<stream:error>{conflict}</stream:error>"));

    let tree = Element::new("a", "urn:a")
        .with_attr_ns("lang", ns::XML, "en")
        .with_attr_ns("x", "urn:x", "1")
        .with_child(Element::new("b", "").with_text("t").with_text("u"))
        .with_child(Element::new("c", ns::XML));
    let xml = tree.to_xml();
    assert_eq!(
        Element::parse(xml.as_bytes(), &Scope::empty(), &Limits::default()),
        Ok(tree),
        "{xml}"
    );
}

#[test]
fn what_xml_cannot_carry_is_replaced_not_written() {
    let mut out = String::new();
    writer::escape_text(&mut out, "a\0b\u{fffe}c\u{1f}\t\n\r");
    assert_eq!(out, "a\u{fffd}b\u{fffd}c\u{fffd}\t\n&#xD;");
    out.clear();
    writer::escape_attr(&mut out, "\u{b}<>&\"'\t\n\r\u{ffff}");
    assert_eq!(out, "\u{fffd}&lt;&gt;&amp;&quot;&apos;&#x9;&#xA;&#xD;\u{fffd}");
    assert!(!writer::is_xml_text("a\0"));
    assert!(writer::is_xml_text("a\t\r\n\u{1f389}"));
}

#[test]
fn a_fragment_names_its_elements() {
    let limits = Limits::default();
    let xml = "text <a><b/></a>\n<c xmlns='urn:c'/>&amp;";
    let ranges = fragment::check(xml, ns::CLIENT, &limits).unwrap();
    let pieces: Vec<&str> = ranges.into_iter().map(|range| &xml[range]).collect();
    assert_eq!(pieces, ["<a><b/></a>", "<c xmlns='urn:c'/>"]);
    for bad in [
        "</message>",
        "</stream:stream>",
        "<a>",
        "</a><a>",
        "<stream:error/>",
        "<a/></message><message>",
    ] {
        assert!(fragment::check(bad, ns::CLIENT, &limits).is_err(), "{bad}");
    }
    let deepest = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
    assert!(fragment::check(&deepest(limits.depth - 1), ns::CLIENT, &limits).is_ok());
    assert!(fragment::check(&deepest(limits.depth), ns::CLIENT, &limits).is_err());
}

#[test]
fn a_byte_order_mark_in_a_fragment_moves_nothing() {
    let xml = "\u{feff}é<a/>";
    let ranges = fragment::check(xml, ns::CLIENT, &Limits::default()).unwrap();
    assert_eq!(&xml[ranges[0].clone()], "<a/>");
}

fn tree() -> impl Strategy<Value = Element> {
    let text = "[ -~\u{9}\u{a}\u{d}\u{85}é\u{fffd}\u{1f389}]{0,12}";
    let ns = prop::sample::select(vec!["", "urn:a", "urn:b", ns::COMPONENT, ns::STREAM, ns::XML]);
    let attribute = ("[a-cé]{1,2}", ns.clone(), text);
    let head = ("[a-z_é][a-z0-9.é-]{0,3}", ns, prop::collection::vec(attribute, 0..4));
    let head = head.prop_map(|(name, ns, attributes)| {
        attributes.into_iter().fold(Element::new(name, ns), |element, (name, ns, value)| {
            element.with_attr_ns(&name, ns, value)
        })
    });
    head.clone().prop_recursive(5, 40, 4, move |inner| {
        let node = (proptest::option::of(inner), text);
        (head.clone(), prop::collection::vec(node, 0..4)).prop_map(|(head, nodes)| {
            nodes.into_iter().fold(head, |element, (child, text)| match child {
                Some(child) => element.with_child(child).with_text(&text),
                None => element.with_text(&text),
            })
        })
    })
}

proptest! {
    #[test]
    fn print_then_parse_is_the_identity(tree in tree()) {
        let limits = Limits::default();
        let alone = tree.to_xml();
        let read = Element::parse(alone.as_bytes(), &Scope::empty(), &limits);
        prop_assert_eq!(read.as_ref(), Ok(&tree), "{}", alone);

        let scope = Scope::new([("", "urn:a"), ("ns0", "urn:b"), ("stream", ns::STREAM)]);
        let mut inside = String::new();
        tree.write_to(&mut inside, &scope);
        let read = Element::parse(inside.as_bytes(), &scope, &limits);
        prop_assert_eq!(read.as_ref(), Ok(&tree), "{}", inside);
        prop_assert!(tree.clone() == tree);
    }

    #[test]
    fn escaped_text_is_read_back(text in "\\PC{0,40}|[\\x00-\\x7f\u{fffe}\u{ffff}]{0,40}") {
        let mut xml = String::from("<a b='");
        writer::escape_attr(&mut xml, &text);
        xml.push_str("' c=\"");
        writer::escape_attr(&mut xml, &text);
        xml.push_str("\">");
        writer::escape_text(&mut xml, &text);
        xml.push_str("</a>");
        let read = Element::parse(xml.as_bytes(), &Scope::empty(), &Limits::default());
        let read = read.expect("escaped text is well-formed");
        let carried: String =
            text.chars().map(|c| if chars::is_char(c) { c } else { '\u{fffd}' }).collect();
        prop_assert_eq!(writer::is_xml_text(&text), carried == text);
        prop_assert_eq!(read.text(), &*carried);
        prop_assert_eq!(read.attr("b"), Some(&*carried));
        prop_assert_eq!(read.attr("c"), Some(&*carried));
    }

    #[test]
    fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..80), text in "[<>/!?&;:='\" a\\[\\]CDAT]{0,40}") {
        let limits = Limits::default();
        let scope = Scope::stream(ns::CLIENT);
        let mut framer = Framer::new(limits);
        framer.push(b"<stream:stream xmlns:stream='http://etherx.jabber.org/streams'>");
        for input in [&bytes[..], text.as_bytes()] {
            let _ = strict::check(input, &scope, &limits);
            let _ = Stanza::parse(Bytes::copy_from_slice(input), &scope, &limits);
            framer.push(input);
            while let Ok(Some(_)) = framer.next() {}
        }
        let _ = fragment::check(&text, ns::CLIENT, &limits);
    }
}
