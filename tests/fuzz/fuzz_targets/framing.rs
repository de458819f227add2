//! Input: a stream, split everywhere.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    appxmpp_tests::xml::framing(input).unwrap();
});
