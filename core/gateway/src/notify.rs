//! What the service manager is told (`sd_notify(3)`): nothing, unless it asked.

/// The daemon is ready, with `status` as one line for people.
pub fn ready(status: &str) {
    tell(&format!("READY=1\nSTATUS={status}"));
}

/// The daemon is stopping.
pub fn stopping() {
    tell("STOPPING=1");
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
