//! Events: what App Engine would have posted to the app.

use std::ffi::c_char;
use std::sync::OnceLock;

use engine::net::{Claimed, Outcome};
use engine::stanza::{Form, present};

use crate::connection::{APPXMPP_FOREVER, appxmpp_connection};
use crate::error::{Failure, appxmpp_error, appxmpp_result};
use crate::ffi::{self, Kept, Out, appxmpp_str};
use crate::stanza::appxmpp_stanza;

/// A request that App Engine would have made of the app: a path and the fields of a form.
///
/// Until it is done, no other event of the same sender is given out; events of different senders may
/// be handled at the same time.
#[allow(non_camel_case_types)]
pub struct appxmpp_event {
    claimed: Claimed,
    path: Kept,
    service: Kept,
    sender: Kept,
    fields: Vec<(Kept, Kept)>,
    stanza: OnceLock<Option<appxmpp_stanza>>,
}

impl appxmpp_event {
    fn new(claimed: Claimed) -> Self {
        let fields = &claimed.fields;
        Self {
            path: Kept::new(claimed.path),
            service: Kept::new(claimed.service.as_str()),
            sender: Kept::new(&claimed.sender),
            fields: fields
                .iter()
                .map(|(name, value)| (Kept::new(name), Kept::new(value)))
                .collect(),
            stanza: OnceLock::new(),
            claimed,
        }
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
        let claimed = loop {
            match live.next(timeout_ms)? {
                Some(claimed) => break claimed,
                None if timeout_ms == APPXMPP_FOREVER => {}
                None => return Err(Failure::timeout(format!("no event within {timeout_ms} ms"))),
            }
        };
        out.set(ffi::give(appxmpp_event::new(claimed)));
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
    // SAFETY: as this function's own contract.
    unsafe { event.as_ref() }.and_then(field).map_or(appxmpp_str::EMPTY, Kept::lend)
}

/// A number that no other event of the connection has; 0 if `event` is NULL.
///
/// # Safety
/// `event` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_event_id(event: *const appxmpp_event) -> u64 {
    // SAFETY: as this function's own contract.
    unsafe { event.as_ref() }.map_or(0, |event| event.claimed.id)
}

/// The path that App Engine would have posted to, such as `/_ah/xmpp/message/chat/`. Lives as long
/// as `event`.
///
/// # Safety
/// `event` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_event_path(event: *const appxmpp_event) -> appxmpp_str {
    // SAFETY: as this function's own contract.
    unsafe { part(event, |event| Some(&event.path)) }
}

/// Which of App Engine's `inbound_services` it belongs to: `xmpp_message`, `xmpp_presence`,
/// `xmpp_subscribe` or `xmpp_error`. Lives as long as `event`.
///
/// # Safety
/// `event` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_event_service(event: *const appxmpp_event) -> appxmpp_str {
    // SAFETY: as this function's own contract.
    unsafe { part(event, |event| Some(&event.service)) }
}

/// The sender's bare address; events with the same one come in order. Lives as long as `event`.
///
/// # Safety
/// `event` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_event_sender(event: *const appxmpp_event) -> appxmpp_str {
    // SAFETY: as this function's own contract.
    unsafe { part(event, |event| Some(&event.sender)) }
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
    let Ok(name) = (unsafe { ffi::text(name, name_len, "name") }) else {
        return appxmpp_str::EMPTY;
    };
    let named =
        |event: &appxmpp_event| event.fields.iter().position(|(known, _)| known.as_str() == name);
    // SAFETY: as this function's own contract.
    unsafe { part(event, |event| Some(&event.fields[named(event)?].1)) }
}

/// How many fields the form has; 0 if `event` is NULL.
///
/// # Safety
/// `event` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_event_field_count(event: *const appxmpp_event) -> usize {
    // SAFETY: as this function's own contract.
    unsafe { event.as_ref() }.map_or(0, |event| event.fields.len())
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
    unsafe { part(event, |event| Some(&event.fields.get(index)?.0)) }
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
    unsafe { part(event, |event| Some(&event.fields.get(index)?.1)) }
}

/// The stanza itself; NULL if `event` is NULL. Lives as long as `event`.
///
/// # Safety
/// `event` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_event_stanza(
    event: *const appxmpp_event,
) -> *const appxmpp_stanza {
    // SAFETY: as this function's own contract.
    let event = unsafe { event.as_ref() };
    ffi::guarded(std::ptr::null(), || {
        event.and_then(appxmpp_event::stanza).map_or(std::ptr::null(), std::ptr::from_ref)
    })
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
