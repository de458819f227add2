//! Tests that need more than one crate, or a peer that is not ours.
