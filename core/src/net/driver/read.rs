//! What arrives on the socket, on its way to the stream.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tracing::debug;

use super::Serving;
#[cfg(feature = "client")]
use crate::net::role::Role;
use crate::net::shared::Link;

impl Serving<'_> {
    pub(super) fn read(&mut self, count: io::Result<usize>, buffer: &[u8]) {
        let count = match count {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return,
            Err(error) => {
                debug!(%error, "reading failed");
                0
            }
        };
        self.shared.counters.bytes_in.fetch_add(count as u64, Ordering::Relaxed);
        let now = self.shared.now();
        let mut state = self.shared.lock();
        let Some(link) = &mut state.link else { return };
        link.cork.heard(now);
        if link.tls.is_some() && count > 0 {
            self.decrypt(link, &buffer[..count], now);
        } else {
            link.stream.handle_input(now, &buffer[..count]);
        }
    }

    /// Gives the stream what an encrypted connection holds.
    fn decrypt(&mut self, link: &mut Link, raw: &[u8], now: Duration) {
        let Some(tls) = &mut link.tls else { return };
        let handshaking = tls.is_handshaking();
        self.plain.clear();
        let fed = tls.feed(raw, &mut self.plain);
        #[cfg(feature = "client")]
        if handshaking
            && !tls.is_handshaking()
            && let Role::Client(account) = &mut link.stream
        {
            account.stream.handle_tls(now, tls.bindings());
        }
        #[cfg(not(feature = "client"))]
        let _ = handshaking;
        if !self.plain.is_empty() {
            link.stream.handle_input(now, &self.plain);
        }
        match fed {
            Ok(false) => {}
            Ok(true) => link.stream.handle_input(now, &[]),
            Err(why) => {
                // The other end is told why, in the words of TLS.
                link.flush(now);
                self.insecure = Some(why);
                link.stream.handle_input(now, &[]);
            }
        }
    }
}
