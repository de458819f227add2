//! Numbers about a connection since it was opened.

use std::ffi::c_char;
use std::sync::OnceLock;

use engine::net::AppStats;

use crate::connection::appxmpp_connection;
use crate::error::{Failure, appxmpp_error, appxmpp_result};
use crate::ffi::{self, Kept, Out, appxmpp_str};

/// What `appxmpp_connection_stat` gives where there is no number.
pub const APPXMPP_NO_NUMBER: u64 = u64::MAX;

/// The name of number `index`, from 0 on; empty where there are no more. Lives for ever. There are
/// `ready` (1 if a stream is up), `connects`, `disconnects`, `stanzas_in`, `stanzas_out`, `bytes_in`,
/// `bytes_out`, `stanzas_skipped`, `outbound_queue` (stanzas that wait to be written), `contacts`,
/// `deliveries` (events that wait or are being handled), `deliveries_handled`, `deliveries_failed`,
/// `deliveries_refused` (for which there was no room), and more: what was used today of what has a quota
/// (`today_...` and `quota_...`), what waits to be sent and what became of it (`outbox_...`).
#[unsafe(no_mangle)]
pub extern "C" fn appxmpp_stat_name(index: usize) -> appxmpp_str {
    static NAMES: OnceLock<[Kept; AppStats::NAMES.len()]> = OnceLock::new();
    ffi::guarded(appxmpp_str::EMPTY, || {
        let names = NAMES.get_or_init(|| AppStats::NAMES.map(Kept::new));
        names.get(index).map_or(appxmpp_str::EMPTY, Kept::lend)
    })
}

/// The number called `name`, one of `appxmpp_stat_name`; `APPXMPP_NO_NUMBER` for a quota that has no
/// limit, and for the outbox of an app that is not durable.
///
/// Fails with `APPXMPP_INVALID_ARGUMENT` for another name.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_connection_stat(
    connection: *const appxmpp_connection,
    name: *const c_char,
    name_len: usize,
    out: *mut u64,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        let (live, name, out) = unsafe {
            (
                ffi::borrow(connection, "connection")?.live()?,
                ffi::text(name, name_len, "name")?,
                Out::new(out, "out")?,
            )
        };
        let index = AppStats::NAMES.into_iter().position(|known| known == name);
        let index = index.ok_or_else(|| {
            let known = AppStats::NAMES.join(", ");
            Failure::argument(format!("there is no number {name:?}; there are {known}"))
        })?;
        out.set(live.app.stats()?.numbers()[index]);
        Ok(())
    })
}
