//! The whole service in one deterministic simulation: virtual time, a server, contacts, an app, a disk
//! and a network, with all faults drawn from one seed.
//!
//! What is simulated is the world; what runs in it is the product's own code: its streams, the service,
//! the outbox, the inbox and the lanes. Only the glue between them and the operating system, which in
//! the product is tokio's (`core/src/net`), is written again here, step by step the same.

mod app;
mod calls;
mod contacts;
mod ctx;
mod disk;
mod link;
mod network;
mod oracle;
mod profile;
mod rng;
mod roster;
mod server;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

/// How many things are counted because they are rare.
pub const RARE_THINGS: usize = ctx::NAMES.len();

/// What is counted because it is rare.
pub fn rare_things() -> [&'static str; RARE_THINGS] {
    ctx::NAMES
}

/// What one scenario came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The first invariant that did not hold.
    pub violation: Option<String>,
    /// All that happened, as one number: equal for two runs of a seed.
    pub hash: u64,
    /// How many steps it took.
    pub steps: u64,
    /// How many messages the app sent.
    pub messages: usize,
    /// How often each of [`rare_things`] happened.
    pub seen: [u64; RARE_THINGS],
    /// What happened, line by line, if that was asked for.
    pub trace: Vec<String>,
}

/// Runs the scenario of `seed`.
pub fn run(seed: u64, traced: bool) -> Report {
    let mut world = world::World::new(seed, traced);
    let ended = catch_unwind(AssertUnwindSafe(|| world.run()));
    let panicked = ended.err().map(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        format!("panic: {}", text.unwrap_or_default())
    });
    Report {
        seed,
        violation: panicked.or(world.ctx.violation.take()),
        hash: world.ctx.hash,
        steps: world.steps,
        messages: world.ctx.oracle.messages.len(),
        seen: world.ctx.seen,
        trace: world.ctx.trace.take().unwrap_or_default(),
    }
}
