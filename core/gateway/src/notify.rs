//! What the service manager is told (`sd_notify(3)`): nothing, unless it asked.

use std::time::Duration;

/// The daemon serves, with `status` as one line for people.
pub fn ready(status: &str) {
    tell(&format!("READY=1\nSTATUS={status}"));
}

/// How things stand, as one line for people.
pub fn status(status: &str) {
    tell(&format!("STATUS={status}"));
}

/// The configuration is read again; [`ready`] ends it.
pub fn reloading() {
    tell("RELOADING=1");
}

/// The daemon is stopping.
pub fn stopping() {
    tell("STOPPING=1");
}

/// Says for ever that the daemon is alive, if the service manager watches: it does not once the
/// runtime hangs.
pub async fn watchdog() {
    let own = |pid: String| pid.parse() == Ok(std::process::id());
    let number = |text: String| text.parse::<u64>().ok().filter(|micros| *micros > 0);
    let watched = std::env::var("WATCHDOG_PID").map_or(true, own);
    let Some(micros) = std::env::var("WATCHDOG_USEC").ok().and_then(number) else { return };
    if !watched {
        return;
    }
    // Twice as often as asked for, as sd_watchdog_enabled(3) advises.
    let mut ticks = tokio::time::interval(Duration::from_micros(micros.div_ceil(2)));
    loop {
        ticks.tick().await;
        tell("WATCHDOG=1");
    }
}

fn tell(message: &str) {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let Some(place) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match place.as_encoded_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(&place),
    };
    let sent = UnixDatagram::unbound()
        .and_then(|socket| address.and_then(|to| socket.send_to_addr(message.as_bytes(), &to)));
    if let Err(error) = sent {
        tracing::debug!("the service manager was not told: {error}");
    }
}
