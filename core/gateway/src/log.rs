//! Where the log goes and how its lines look. Message bodies are not in it.

use std::io::IsTerminal as _;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

use crate::config::{Log, LogFormat};

/// Begins to log on standard error. A second call changes nothing.
pub fn start(log: &Log) {
    let filter: Targets = log.level.parse().unwrap_or_default();
    let terminal = std::io::stderr().is_terminal();
    let json = match log.format {
        LogFormat::Auto => !terminal,
        LogFormat::Json => true,
        LogFormat::Text => false,
    };
    let layer = fmt::layer().with_writer(std::io::stderr);
    let layer = if json {
        layer.json().flatten_event(true).with_current_span(false).boxed()
    } else {
        layer.with_ansi(terminal).boxed()
    };
    // Whoever runs several daemons in one process (a test) keeps the first one's log.
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
}
