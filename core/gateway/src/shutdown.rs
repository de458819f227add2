//! Signals: when to stop, and how soon.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Whether to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Go on.
    No,
    /// Finish what is under way.
    Drain,
    /// Drop everything.
    Now,
}

/// Watches SIGTERM and SIGINT: the first drains, the second stops at once.
///
/// # Errors
/// The system refuses to say when a signal comes.
pub fn watch() -> std::io::Result<watch::Receiver<Stop>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (sender, receiver) = watch::channel(Stop::No);
    tokio::spawn(async move {
        for stop in [Stop::Drain, Stop::Now] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if sender.send(stop).is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// Waits until it is time for `stop`, or nobody can say so any more.
pub async fn reached(receiver: &mut watch::Receiver<Stop>, stop: Stop) {
    let _ = receiver.wait_for(|now| *now >= stop).await;
}
