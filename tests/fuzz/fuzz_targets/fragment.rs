//! Input: XML put into a stanza.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    appxmpp_tests::xml::fragment(input).unwrap();
});
