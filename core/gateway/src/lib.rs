//! The daemon: Prosody mod_rest's HTTP contract and App Engine's webhooks in front of any server.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod api;
pub mod app;
pub mod cli;
pub mod config;
pub mod console;
pub mod deadletters;
pub mod deliver;
pub mod doctor;
pub mod gateway;
pub mod guest;
pub mod health;
pub mod log;
pub mod metrics;
pub mod notify;
pub mod reload;
pub mod rest;
pub mod routes;
pub mod secret;
pub mod send;
pub mod server;
pub mod shutdown;

mod descriptors;
mod id;
mod patience;
mod terminal;
