//! Input: a stanza, its header, body, tree and presented forms.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    appxmpp_tests::xml::stanza(input).unwrap();
});
