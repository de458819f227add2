//! What must hold of XML whatever the input: run by `tests/xml.rs` over a mutated corpus, and by the
//! fuzz targets over whatever the fuzzer finds.

mod corpus;
mod mutate;
mod oracle;
mod properties;

pub use corpus::{CORPUS, STREAMS};
pub use mutate::Mutator;
pub use properties::{fragment, framing, same_as_rxml, stanza};

/// One property: what is wrong with it for this input, if anything is.
pub type Property = fn(&[u8]) -> Result<(), String>;
