//! Every function that C calls stands behind the panic boundary, or calls nothing that could panic.

#![allow(clippy::expect_used)]

use std::path::Path;

/// What stops a panic; `part` is `jid.rs`'s and `event.rs`'s way to `ffi::read`.
const GUARDS: [&str; 5] =
    ["ffi::boundary(", "ffi::guarded(", "ffi::read(", "ffi::take_back(", "{ part("];

/// Constants, comparisons of numbers, nothing at all, and one that only calls another of these functions.
const TRIVIAL: [&str; 5] = [
    "appxmpp_send_message",
    "appxmpp_show_name",
    "appxmpp_version",
    "appxmpp_version_check",
    "silent",
];

/// The name of a function for C, and what it does.
fn functions(source: &str) -> impl Iterator<Item = (&str, &str)> {
    source.split("extern \"C\" fn ").skip(1).filter_map(|rest| {
        let name = rest.split('(').next()?;
        // The type of a callback has no name, and a function of one line ends on it.
        let body = rest.split("\n}\n").next()?;
        (!name.is_empty()).then(|| (name, body.split_once("{}\n").map_or(body, |(first, _)| first)))
    })
}

#[test]
fn every_function_for_c_has_a_boundary() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut all, mut without) = (0, Vec::new());
    for file in std::fs::read_dir(folder).expect("the sources are there") {
        let source = std::fs::read_to_string(file.expect("a file").path()).expect("text");
        for (name, body) in functions(&source) {
            all += 1;
            if !GUARDS.iter().any(|guard| body.contains(guard)) {
                without.push(name.to_owned());
            }
        }
    }
    without.sort();
    assert_eq!(without, TRIVIAL);
    let symbols = include_str!("../symbols.txt").lines().count();
    assert!(all >= symbols, "{all} functions were found, and {symbols} are exported");
}
