//! Webhooks: App Engine form posts and mod_rest callbacks from one delivery engine.

pub mod client;
pub mod codes;
pub mod engine;
mod link;
mod mark;
pub mod multipart;
pub mod reply;
pub mod sign;
pub mod target;
pub mod template;
pub mod trust;
