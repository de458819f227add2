//! Tests that need more than one crate, or a peer that is not ours.
//!
//! What lives in `src` is shared: by the tests beside it, and by the fuzz targets.

pub mod account;
pub mod xml;
