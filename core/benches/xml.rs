//! Time per stanza of everything between the socket and the service: best of several runs, in
//! nanoseconds. `cargo bench -p appxmpp --bench xml`.

use std::hint::black_box;
use std::time::Instant;

use appxmpp::ns;
use appxmpp::stanza::{Form, Stanza, StanzaBuilder, present};
use appxmpp::xml::{Element, Frame, Framer, Limits, Scope, fragment, strict, writer};
use bytes::Bytes;

/// About 1 KiB as a server sends it: entities in the body, a thread, a chat state, an origin id.
fn large() -> String {
    let text =
        "The quick brown fox jumps over the lazy dog &amp; runs &lt;away&gt; again. ".repeat(7);
    format!(
        "<message from='juliet@capulet.example/balcony' to='bot@app.example/bot' type='chat' \
         id='b4d9c2e0-7a4f-4a2e-9e6e-5f1f6f0e7a11' xml:lang='en'><body>{text}</body>\
         <thread>e0ffe42b28561960c6b12b944a092794b9683a38</thread>\
         <active xmlns='http://jabber.org/protocol/chatstates'/>\
         <origin-id xmlns='urn:xmpp:sid:0' id='b4d9c2e0-7a4f-4a2e-9e6e-5f1f6f0e7a11'/>\
         <request xmlns='urn:xmpp:receipts'/></message>"
    )
}

fn small() -> String {
    "<message from='juliet@capulet.example/balcony' to='bot@app.example' type='chat' id='x1'>\
     <body>hello there, how are you?</body></message>"
        .to_owned()
}

fn time(name: &str, mut run: impl FnMut()) {
    const TURNS: u32 = 20_000;
    let best = (0..7).map(|_| {
        let start = Instant::now();
        for _ in 0..TURNS {
            run();
        }
        start.elapsed().as_nanos() as f64 / f64::from(TURNS)
    });
    println!("{name:<44}{:>9.0} ns", best.fold(f64::INFINITY, f64::min));
}

fn main() {
    let (limits, scope) = (Limits::default(), Scope::stream(ns::COMPONENT));
    for (size, xml) in [("small", small()), ("large", large())] {
        println!("{size}: {} bytes", xml.len());
        let bytes = Bytes::from(xml.clone());
        let mut framer = Framer::new(limits);
        framer.push(
            format!("<stream:stream xmlns:stream='{}' xmlns='jabber:client'>", ns::STREAM)
                .as_bytes(),
        );
        black_box(framer.next().ok());
        let batch = xml.repeat(16);
        time("  frame 16 of them in one buffer", || {
            framer.push(black_box(batch.as_bytes()));
            while let Ok(Some(Frame::Stanza(stanza))) = framer.next() {
                black_box(stanza);
            }
        });
        time("  strict::check", || {
            black_box(strict::check(black_box(&bytes), &scope, &limits).is_ok());
        });
        time("  Stanza::parse", || {
            black_box(Stanza::parse(black_box(&bytes).clone(), &scope, &limits).is_ok());
        });
        time("  Element::parse and drop", || {
            black_box(Element::parse(black_box(&bytes), &scope, &limits).is_ok());
        });
        time("  fragment::check", || {
            black_box(fragment::check(black_box(&xml), ns::COMPONENT, &limits).is_ok());
        });
        if let Ok(stanza) = Stanza::parse(bytes.clone(), &scope, &limits) {
            time("  present, cli", || drop(black_box(present(black_box(&stanza), Form::Cli))));
            time("  body", || drop(black_box(black_box(&stanza).body())));
            let body = stanza.body().unwrap_or_default().into_owned();
            time("  StanzaBuilder, message with body", || {
                let builder = StanzaBuilder::message().from("bot@app.example").to("a@b.example/c");
                black_box(builder.id("1").type_("chat").body(black_box(&body)).finish());
            });
            let mut out = String::new();
            time("  escape_text of the body", || {
                out.clear();
                writer::escape_text(&mut out, black_box(&body));
            });
            if let Ok(element) = stanza.element() {
                time("  Element::write_to", || {
                    out.clear();
                    black_box(&element).write_to(&mut out, &scope);
                });
            }
        }
    }
}
