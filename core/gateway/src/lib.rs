//! The daemon: Prosody mod_rest's HTTP contract and App Engine's webhooks in front of any server.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod config;
pub mod deliver;
pub mod rest;
pub mod secret;

mod id;
