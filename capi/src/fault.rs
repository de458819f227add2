//! A fault in the library: caught at the border, and told to nobody but the log.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `body`; the error is what it panicked with.
pub(crate) fn caught<T>(body: impl FnOnce() -> T) -> std::thread::Result<T> {
    quieten();
    catch_unwind(AssertUnwindSafe(body))
}

/// Keeps what a panic says off the program's standard error. The hook is that of the library's own copy
/// of std: a program that is written in Rust has another.
#[cfg(not(test))]
fn quieten() {
    static QUIET: std::sync::Once = std::sync::Once::new();
    QUIET.call_once(|| std::panic::set_hook(Box::new(say)));
}

/// Here both are the test's.
#[cfg(test)]
fn quieten() {}

/// Only where it was: what a panic says may quote what somebody wrote.
#[cfg(not(test))]
fn say(panic: &std::panic::PanicHookInfo<'_>) {
    if let Some(location) = panic.location() {
        tracing::error!("a fault in the library, at {location}; please report it");
    }
}
