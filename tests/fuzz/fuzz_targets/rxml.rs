//! Input: one element, by the strict layer and by rxml.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    appxmpp_tests::xml::same_as_rxml(input).unwrap();
});
