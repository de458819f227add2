//! The properties of XML, over a corpus and its mutations. `APPXMPP_FUZZ_INPUTS` sets how many.

use appxmpp_tests::xml::{self, CORPUS, Mutator, Property, STREAMS};

fn inputs(default: usize) -> usize {
    std::env::var("APPXMPP_FUZZ_INPUTS").ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// Fails with every kind of failure found, up to a handful.
fn hold(name: &str, property: Property, corpus: &[&str], count: usize, seed: u64) {
    let mut failures = Vec::new();
    let mut run = |input: &[u8]| {
        if let Err(why) = property(input) {
            failures.push(format!("{}\n  {why}", input.escape_ascii()));
        }
        failures.len() < 8
    };
    let mut mutator = Mutator::new(seed);
    let going = corpus.iter().all(|document| run(document.as_bytes()));
    if going {
        let _ = (0..inputs(count)).all(|_| run(&mutator.input(corpus)));
    }
    assert!(failures.is_empty(), "{name}:\n{}", failures.join("\n"));
}

#[test]
fn the_strict_layer_agrees_with_rxml() {
    hold("same_as_rxml", xml::same_as_rxml, CORPUS, 40_000, 1);
}

#[test]
fn framing_does_not_depend_on_the_splits() {
    hold("framing", xml::framing, STREAMS, 1_500, 2);
}

#[test]
fn a_fragment_that_passes_cannot_break_out_of_its_stanza() {
    hold("fragment", xml::fragment, CORPUS, 40_000, 3);
}

#[test]
fn a_stanza_says_what_its_tree_says() {
    hold("stanza", xml::stanza, CORPUS, 40_000, 4);
}
