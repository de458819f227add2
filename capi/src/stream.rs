//! A component's stream (XEP-0114) without socket and clock, for programs with a loop of their own.

use std::ffi::c_char;
use std::time::Duration;

use engine::auth::Secret;
use engine::stanza::{Form, present};
use engine::stream::{ComponentConfig, ComponentStream, Event};

use crate::error::{Failure, appxmpp_error, appxmpp_result};
use crate::ffi::{self, Kept, Out, appxmpp_str};
use crate::stanza::appxmpp_stanza;

/// The server accepted the handshake: stanzas may be sent.
pub const APPXMPP_STREAM_READY: i32 = 1;
/// A stanza for the component.
pub const APPXMPP_STREAM_STANZA: i32 = 2;
/// A stanza was unacceptable and was left out; the stream goes on.
pub const APPXMPP_STREAM_SKIPPED: i32 = 3;
/// The stream has ended; it is the last event. What is left to transmit should be, then the
/// connection can be dropped.
pub const APPXMPP_STREAM_CLOSED: i32 = 4;

/// The state machine of one stream on one connection. Times are milliseconds of any clock that never
/// goes back.
///
/// After each call that takes the time: take events until `appxmpp_stream_poll_event` has none, then
/// transmit what `appxmpp_stream_poll_transmit` has (what was received is read as events are taken),
/// and call `appxmpp_stream_handle_timeout` no later than `appxmpp_stream_poll_timeout` says.
#[allow(non_camel_case_types)]
pub struct appxmpp_stream {
    stream: ComponentStream,
    transmit: Vec<u8>,
}

/// What happened on a stream.
#[allow(non_camel_case_types)]
pub struct appxmpp_stream_event {
    kind: i32,
    stanza: Option<Box<appxmpp_stanza>>,
    text: Kept,
}

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A stream of the component `domain` on a connection made at `now_ms`; `out` receives a new handle.
/// Our header is there to be transmitted. `id_prefix` begins the ids of the stream's own pings: pass
/// random letters that nobody else can guess.
///
/// Fails with `APPXMPP_INVALID_JID` if `domain` is no domain.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_stream_new(
    domain: *const c_char,
    domain_len: usize,
    secret: *const c_char,
    secret_len: usize,
    id_prefix: *const c_char,
    id_prefix_len: usize,
    now_ms: u64,
    out: *mut *mut appxmpp_stream,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        let (domain, secret, id_prefix, out) = unsafe {
            (
                ffi::text(domain, domain_len, "domain")?,
                ffi::text(secret, secret_len, "secret")?,
                ffi::text(id_prefix, id_prefix_len, "id_prefix")?,
                Out::new(out, "out")?,
            )
        };
        let domain = engine::Jid::from_parts(None, domain, None)?;
        if !id_prefix.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            let text = format!("id_prefix {id_prefix:?} must be ASCII letters and digits only");
            return Err(Failure::argument(text));
        }
        let config = ComponentConfig::new(domain.as_str(), Secret::new(secret), id_prefix);
        let stream = ComponentStream::new(config, millis(now_ms));
        out.set(ffi::give(appxmpp_stream { stream, transmit: Vec::new() }));
        Ok(())
    })
}

/// Takes `len` bytes as they were received; 0 means that the connection is at its end.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_stream_handle_input(
    stream: *mut appxmpp_stream,
    now_ms: u64,
    bytes: *const c_char,
    len: usize,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        let (stream, bytes) =
            unsafe { (ffi::borrow_mut(stream, "stream")?, ffi::bytes(bytes, len, "bytes")?) };
        stream.stream.handle_input(millis(now_ms), bytes);
        Ok(())
    })
}

/// Does what is due at `now_ms`.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_stream_handle_timeout(
    stream: *mut appxmpp_stream,
    now_ms: u64,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        unsafe { ffi::borrow_mut(stream, "stream")? }.stream.handle_timeout(millis(now_ms));
        Ok(())
    })
}

/// When `appxmpp_stream_handle_timeout` is to be called next, in milliseconds of the caller's clock;
/// `UINT64_MAX` for never.
///
/// # Safety
/// `stream` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_stream_poll_timeout(stream: *const appxmpp_stream) -> u64 {
    let due = |stream: &appxmpp_stream| {
        let due = stream.stream.poll_timeout()?;
        u64::try_from(due.as_micros().div_ceil(1000)).ok()
    };
    // SAFETY: as this function's own contract.
    unsafe { ffi::read(stream, None, due) }.unwrap_or(u64::MAX)
}

/// Sends one stanza; its `from` must be an address of the component's domain.
///
/// Fails with `APPXMPP_NOT_CONNECTED` unless the stream is ready, and with `APPXMPP_INVALID_SENDER`.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_stream_send(
    stream: *mut appxmpp_stream,
    now_ms: u64,
    stanza: *const appxmpp_stanza,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        let (stream, stanza) =
            unsafe { (ffi::borrow_mut(stream, "stream")?, ffi::borrow(stanza, "stanza")?) };
        stream.stream.send(millis(now_ms), stanza.wire().as_bytes())?;
        Ok(())
    })
}

/// Closes the stream: the server is told, and has until `deadline_ms` to close its half.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_stream_close(
    stream: *mut appxmpp_stream,
    now_ms: u64,
    deadline_ms: u64,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        let stream = unsafe { ffi::borrow_mut(stream, "stream")? };
        stream.stream.close(millis(now_ms), millis(deadline_ms));
        Ok(())
    })
}

/// What is to be transmitted, all of it; empty if there is nothing. Lives until the next call with
/// `stream`. The caller must transmit it or drop the connection: it is given once.
///
/// # Safety
/// See the conventions; `stream` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_stream_poll_transmit(stream: *mut appxmpp_stream) -> appxmpp_str {
    // SAFETY: as this function's own contract.
    let Some(stream) = (unsafe { stream.as_mut() }) else { return appxmpp_str::EMPTY };
    ffi::guarded(appxmpp_str::EMPTY, || {
        stream.transmit.clear();
        stream.stream.poll_transmit(&mut stream.transmit);
        let len = stream.transmit.len();
        stream.transmit.push(0);
        appxmpp_str { data: stream.transmit.as_ptr().cast(), len }
    })
}

/// What happened next: a new handle, or NULL if there is nothing (more) until the next input.
///
/// # Safety
/// See the conventions; `stream` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_stream_poll_event(
    stream: *mut appxmpp_stream,
) -> *mut appxmpp_stream_event {
    // SAFETY: as this function's own contract.
    let Some(stream) = (unsafe { stream.as_mut() }) else { return std::ptr::null_mut() };
    ffi::guarded(std::ptr::null_mut(), || {
        while let Some(event) = stream.stream.poll_event() {
            if let Some(event) = appxmpp_stream_event::of(event) {
                return ffi::give(event);
            }
        }
        std::ptr::null_mut()
    })
}

impl appxmpp_stream_event {
    fn of(event: Event) -> Option<Self> {
        let (kind, stanza, text) = match event {
            Event::Ready => (APPXMPP_STREAM_READY, None, String::new()),
            Event::Stanza(stanza) => match appxmpp_stanza::parse(&present(&stanza, Form::Client)) {
                Ok(parsed) => (APPXMPP_STREAM_STANZA, Some(Box::new(parsed)), String::new()),
                Err(failure) => (APPXMPP_STREAM_SKIPPED, None, failure.text),
            },
            Event::Skipped(error) => (APPXMPP_STREAM_SKIPPED, None, error.to_string()),
            Event::Closed(closed) => (APPXMPP_STREAM_CLOSED, None, closed.to_string()),
            _ => return None,
        };
        Some(Self { kind, stanza, text: Kept::new(&text) })
    }
}

/// `APPXMPP_STREAM_READY`, `_STANZA`, `_SKIPPED` or `_CLOSED`; 0 if `event` is NULL.
///
/// # Safety
/// `event` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_stream_event_kind(event: *const appxmpp_stream_event) -> i32 {
    // SAFETY: as this function's own contract.
    unsafe { ffi::read(event, 0, |event| event.kind) }
}

/// The stanza of an `APPXMPP_STREAM_STANZA`, otherwise NULL. Lives as long as `event`.
///
/// # Safety
/// `event` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_stream_event_stanza(
    event: *const appxmpp_stream_event,
) -> *const appxmpp_stanza {
    let stanza = |event: &appxmpp_stream_event| {
        event.stanza.as_deref().map_or(std::ptr::null(), std::ptr::from_ref)
    };
    // SAFETY: as this function's own contract.
    unsafe { ffi::read(event, std::ptr::null(), stanza) }
}

/// Why a stanza was skipped or the stream closed; otherwise empty. Lives as long as `event`.
///
/// # Safety
/// `event` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_stream_event_text(
    event: *const appxmpp_stream_event,
) -> appxmpp_str {
    // SAFETY: as this function's own contract.
    unsafe { ffi::read(event, appxmpp_str::EMPTY, |event| event.text.lend()) }
}

/// Frees an event; NULL is allowed.
///
/// # Safety
/// `event` is NULL or live, and not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_stream_event_free(event: *mut appxmpp_stream_event) {
    // SAFETY: as this function's own contract.
    unsafe { ffi::take_back(event) };
}

/// Frees a stream; NULL is allowed. Nothing is transmitted.
///
/// # Safety
/// `stream` is NULL or live, and not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_stream_free(stream: *mut appxmpp_stream) {
    // SAFETY: as this function's own contract.
    unsafe { ffi::take_back(stream) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_opens_and_hands_out_what_it_hears() {
        let config = ComponentConfig::new("bot.example", Secret::new("s"), "p");
        let mut stream = ComponentStream::new(config, Duration::ZERO);
        let header = b"<stream:stream xmlns='jabber:component:accept' \
            xmlns:stream='http://etherx.jabber.org/streams' from='bot.example' id='1'>";
        stream.handle_input(Duration::ZERO, header);
        assert!(stream.poll_event().is_none());
        stream
            .handle_input(Duration::ZERO, b"<handshake/><message from='a@b/c' to='x@bot.example'>");
        stream.handle_input(Duration::ZERO, b"<body>hi</body></message></stream:stream>");
        let mut kinds = Vec::new();
        while let Some(event) = stream.poll_event() {
            let event = appxmpp_stream_event::of(event).unwrap();
            if let Some(stanza) = &event.stanza {
                assert_eq!(
                    stanza.wire(),
                    "<message from=\"a@b/c\" to=\"x@bot.example\"><body>hi</body></message>"
                );
            }
            kinds.push(event.kind);
        }
        assert_eq!(kinds, [APPXMPP_STREAM_READY, APPXMPP_STREAM_STANZA, APPXMPP_STREAM_CLOSED]);
    }
}
