//! The committed header is what the source says. `APPXMPP_UPDATE_HEADER=1` writes it (`make header`).

#![allow(clippy::expect_used)]

use std::path::Path;

/// The crate's own documentation, which is the header's first chapter, as C comments.
fn conventions(root: &Path) -> String {
    let source = std::fs::read_to_string(root.join("src/lib.rs")).expect("src/lib.rs is there");
    let lines = source.lines().map_while(|line| line.strip_prefix("//!"));
    lines.map(|line| format!("//{}", line.replace('`', ""))).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_committed_header_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("include/appxmpp.h");
    let mut config = cbindgen::Config::from_root_or_default(root);
    config.header = Some(conventions(root));
    let builder = cbindgen::Builder::new().with_crate(root).with_config(config);
    let mut header = Vec::new();
    builder.generate().expect("cbindgen reads the crate").write(&mut header);
    let header = String::from_utf8(header).expect("a header is text");
    // What only Rust needs to be told.
    let header = without_safety_sections(&header);
    if std::env::var_os("APPXMPP_UPDATE_HEADER").is_some() {
        std::fs::write(&path, &header).expect("the header can be written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(header == committed, "include/appxmpp.h is stale: run `make header` and commit it");
}

fn without_safety_sections(header: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut in_safety = false;
    for line in header.lines() {
        let comment = line.starts_with("//");
        if comment && line.trim_end() == "// # Safety" {
            in_safety = true;
            while kept.last().is_some_and(|line| line.trim_end() == "//") {
                kept.pop();
            }
        }
        in_safety &= comment;
        if !in_safety {
            kept.push(line.trim_end());
        }
    }
    kept.join("\n") + "\n"
}
