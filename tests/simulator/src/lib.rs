//! The whole service in one deterministic simulation: virtual time, a server, contacts, an app, a disk
//! and a network, with all faults drawn from one seed.
//!
//! What is simulated is the world; what runs in it is the product's own code: its streams, the service,
//! the outbox, the inbox and the lanes. Only the glue between them and the operating system, which in
//! the product is tokio's (`core/src/net`), is written again here, step by step the same.

mod account;
mod app;
mod c2s;
mod calls;
mod contacts;
mod ctx;
mod database;
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

/// Runs the scenario of `seed`: of eight one is of an ordinary account, one of two processes of which one
/// stands by, one of two that have a stream each, and the others are of components in one process.
pub fn run(seed: u64, traced: bool) -> Report {
    if seed % 8 == 7 {
        let mut world = account::World::new(seed, traced);
        let panicked = caught(|| world.run());
        let (messages, steps) = (world.messages(), world.steps);
        return report(seed, world.ctx, panicked, (messages, steps));
    }
    let kind = match seed % 8 {
        5 => ctx::Kind::Standby,
        6 => ctx::Kind::Spread,
        _ => ctx::Kind::Alone,
    };
    let mut world = world::World::new(seed, traced, kind);
    let panicked = caught(|| world.run());
    let (messages, steps) = (world.ctx.oracle.messages.len(), world.steps);
    report(seed, world.ctx, panicked, (messages, steps))
}

fn caught(run: impl FnOnce()) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(run)).err()?;
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    Some(format!("panic: {}", text.unwrap_or_default()))
}

fn report(
    seed: u64,
    ctx: ctx::Ctx,
    panicked: Option<String>,
    (messages, steps): (usize, u64),
) -> Report {
    Report {
        seed,
        // What was wrong first may be why it panicked.
        violation: ctx.violation.or(panicked),
        hash: ctx.hash,
        steps,
        messages,
        seen: ctx.seen,
        trace: ctx.trace.unwrap_or_default(),
    }
}
