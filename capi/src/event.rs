//! Events: what App Engine would have posted to the app.

use std::ffi::c_char;
use std::sync::OnceLock;

use engine::net::{Claimed, Outcome};
use engine::stanza::{Form, present};

use crate::connection::appxmpp_connection;
use crate::error::{Failure, appxmpp_error, appxmpp_result};
use crate::ffi::{self, Kept, Out, OutArray, appxmpp_str};
use crate::stanza::appxmpp_stanza;

/// A request that App Engine would have made of the app: a path and the fields of a form.
///
/// Until it is done, no other event of the same sender is given out; events of different senders may
/// be handled at the same time.
#[allow(non_camel_case_types)]
pub struct appxmpp_event {
    claimed: Claimed,
    /// What was asked for so far: a program looks at few of the fields.
    path: OnceLock<Kept>,
    service: OnceLock<Kept>,
    sender: OnceLock<Kept>,
    values: Box<[OnceLock<Kept>]>,
    names: OnceLock<Box<[Kept]>>,
    stanza: OnceLock<Option<appxmpp_stanza>>,
}

impl appxmpp_event {
    fn new(claimed: Claimed) -> Self {
        Self {
            path: OnceLock::new(),
            service: OnceLock::new(),
            sender: OnceLock::new(),
            values: claimed.fields.iter().map(|_| OnceLock::new()).collect(),
            names: OnceLock::new(),
            stanza: OnceLock::new(),
            claimed,
        }
    }

    fn path(&self) -> &Kept {
        self.path.get_or_init(|| Kept::new(self.claimed.path))
    }

    fn service(&self) -> &Kept {
        self.service.get_or_init(|| Kept::new(self.claimed.service.as_str()))
    }

    fn sender(&self) -> &Kept {
        self.sender.get_or_init(|| Kept::new(&self.claimed.sender))
    }

    fn name(&self, index: usize) -> Option<&Kept> {
        let all = || self.claimed.fields.iter().map(|(name, _)| Kept::new(name)).collect();
        self.names.get_or_init(all).get(index)
    }

    fn value(&self, index: usize) -> Option<&Kept> {
        let (_, value) = self.claimed.fields.get(index)?;
        Some(self.values.get(index)?.get_or_init(|| Kept::new(value)))
    }

    fn named(&self, name: &str) -> Option<&Kept> {
        self.value(self.claimed.fields.iter().position(|(known, _)| *known == name)?)
    }

    fn stanza(&self) -> Option<&appxmpp_stanza> {
        let parse = || appxmpp_stanza::parse(&present(&self.claimed.stanza, Form::Client)).ok();
        self.stanza.get_or_init(parse).as_ref()
    }
}

/// Takes the next event, waiting for it at most `timeout_ms` milliseconds (0: not at all,
/// `APPXMPP_FOREVER`: without end); `out` receives a new handle. Any number of threads may wait.
///
/// Fails with `APPXMPP_TIMEOUT`, `APPXMPP_INTERRUPTED` after `appxmpp_connection_interrupt`, and
/// `APPXMPP_CLOSED` when the connection was closed and no event is left.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_connection_next_event(
    connection: *const appxmpp_connection,
    timeout_ms: u64,
    out: *mut *mut appxmpp_event,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        let (live, out) =
            unsafe { (ffi::borrow(connection, "connection")?.live()?, Out::new(out, "out")?) };
        let claimed = live.next(1, timeout_ms)?.into_iter().next();
        out.set(ffi::give(appxmpp_event::new(claimed.ok_or_else(|| no_event(timeout_ms))?)));
        Ok(())
    })
}

fn no_event(timeout_ms: u64) -> Failure {
    Failure::timeout(format!("no event within {timeout_ms} ms"))
}

/// Takes up to `max` events, each of a different sender, waiting as `appxmpp_connection_next_event`
/// does for the first; `out` receives `count` new handles. For a program that handles many at once, as
/// with `appxmpp_send_messages`.
///
/// Fails as `appxmpp_connection_next_event` does, and with `APPXMPP_INVALID_ARGUMENT` if `max` is 0.
///
/// # Safety
/// See the conventions; `out` has room for `max` handles.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_connection_next_events(
    connection: *const appxmpp_connection,
    timeout_ms: u64,
    max: usize,
    out: *mut *mut appxmpp_event,
    count: *mut usize,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        let (live, out, count) = unsafe {
            (
                ffi::borrow(connection, "connection")?.live()?,
                OutArray::new(out, max, "out")?,
                Out::new(count, "count")?,
            )
        };
        if max == 0 {
            return Err(Failure::argument("max is 0; make room for one event at least".to_owned()));
        }
        let claimed = live.next(max, timeout_ms)?;
        if claimed.is_empty() {
            return Err(no_event(timeout_ms));
        }
        count.set(claimed.len());
        out.set(claimed.into_iter().map(|claimed| ffi::give(appxmpp_event::new(claimed))));
        Ok(())
    })
}

/// A text of `event`, or the empty text of NULL.
///
/// # Safety
/// `event` is NULL or live.
unsafe fn part(
    event: *const appxmpp_event,
    field: impl Fn(&appxmpp_event) -> Option<&Kept>,
) -> appxmpp_str {
    let lent = |event| field(event).map_or(appxmpp_str::EMPTY, Kept::lend);
    // SAFETY: as this function's own contract.
    unsafe { ffi::read(event, appxmpp_str::EMPTY, lent) }
}

/// A number that no other event of the connection has; 0 if `event` is NULL.
///
/// # Safety
/// `event` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_event_id(event: *const appxmpp_event) -> u64 {
    // SAFETY: as this function's own contract.
    unsafe { ffi::read(event, 0, |event| event.claimed.id) }
}

/// The path that App Engine would have posted to, such as `/_ah/xmpp/message/chat/`. Lives as long
/// as `event`.
///
/// # Safety
/// `event` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_event_path(event: *const appxmpp_event) -> appxmpp_str {
    // SAFETY: as this function's own contract.
    unsafe { part(event, |event| Some(event.path())) }
}

/// Which of App Engine's `inbound_services` it belongs to: `xmpp_message`, `xmpp_presence`,
/// `xmpp_subscribe` or `xmpp_error`. Lives as long as `event`.
///
/// # Safety
/// `event` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_event_service(event: *const appxmpp_event) -> appxmpp_str {
    // SAFETY: as this function's own contract.
    unsafe { part(event, |event| Some(event.service())) }
}

/// The sender's bare address; events with the same one come in order. Lives as long as `event`.
///
/// # Safety
/// `event` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_event_sender(event: *const appxmpp_event) -> appxmpp_str {
    // SAFETY: as this function's own contract.
    unsafe { part(event, |event| Some(event.sender())) }
}

/// The value of the form's field `name`: `from`, `to`, `body`, `stanza`, …; empty if there is none.
/// Lives as long as `event`.
///
/// # Safety
/// See the conventions; `event` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_event_field(
    event: *const appxmpp_event,
    name: *const c_char,
    name_len: usize,
) -> appxmpp_str {
    // SAFETY: the caller keeps the conventions.
    unsafe { part(event, |event| event.named(ffi::text(name, name_len, "name").ok()?)) }
}

/// How many fields the form has; 0 if `event` is NULL.
///
/// # Safety
/// `event` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_event_field_count(event: *const appxmpp_event) -> usize {
    // SAFETY: as this function's own contract.
    unsafe { ffi::read(event, 0, |event| event.claimed.fields.len()) }
}

/// The name of the form's field number `index`, in App Engine's order; empty from
/// `appxmpp_event_field_count` on. Lives as long as `event`.
///
/// # Safety
/// `event` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_event_field_name(
    event: *const appxmpp_event,
    index: usize,
) -> appxmpp_str {
    // SAFETY: as this function's own contract.
    unsafe { part(event, |event| event.name(index)) }
}

/// The value of the form's field number `index`; empty from `appxmpp_event_field_count` on. Lives as
/// long as `event`.
///
/// # Safety
/// `event` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_event_field_value(
    event: *const appxmpp_event,
    index: usize,
) -> appxmpp_str {
    // SAFETY: as this function's own contract.
    unsafe { part(event, |event| event.value(index)) }
}

/// The stanza itself; NULL if `event` is NULL. Lives as long as `event`.
///
/// # Safety
/// `event` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_event_stanza(
    event: *const appxmpp_event,
) -> *const appxmpp_stanza {
    let stanza =
        |event: &appxmpp_event| event.stanza().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: as this function's own contract.
    unsafe { ffi::read(event, std::ptr::null(), stanza) }
}

/// Says that the app is done with an event: it handled it, or failed to. The sender's next event is
/// given out then. A second call does nothing.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_event_done(
    event: *mut appxmpp_event,
    handled: bool,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        let event = unsafe { ffi::borrow_mut(event, "event")? };
        event.claimed.done(if handled { Outcome::Handled } else { Outcome::Failed });
        Ok(())
    })
}

/// Frees an event; NULL is allowed. One that is not done counts as failed.
///
/// # Safety
/// `event` is NULL or live, and not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_event_free(event: *mut appxmpp_event) {
    // SAFETY: as this function's own contract.
    unsafe { ffi::take_back(event) };
}
