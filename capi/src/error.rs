//! Results and error objects: the error table of the Rust crate, as numbers and text.

use std::any::Any;

use engine::ErrorKind;

use crate::ffi::{self, Kept, appxmpp_str};

/// What became of a call.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(non_camel_case_types, clippy::upper_case_acronyms)]
pub enum appxmpp_result {
    /// Done.
    APPXMPP_OK = 0,
    /// An address is not a JID (RFC 7622), or is empty. Fix the input.
    APPXMPP_INVALID_JID = 1,
    /// XML is not well-formed, or uses what RFC 6120 §11.1 forbids. Fix the input.
    APPXMPP_INVALID_XML = 2,
    /// A message has no body. Fix the input.
    APPXMPP_NO_BODY = 3,
    /// A message or presence type is not one of App Engine's. Fix the input.
    APPXMPP_INVALID_TYPE = 4,
    /// A presence show value is not one of RFC 6121 §4.7.2.1. Fix the input.
    APPXMPP_INVALID_SHOW = 5,
    /// A presence status is longer than 1024 characters. Fix the input.
    APPXMPP_INVALID_STATUS = 6,
    /// A body or stanza is over its size limit. Fix the input.
    APPXMPP_TOO_LARGE = 7,
    /// The sender is not an address of this app. Use one of its own.
    APPXMPP_INVALID_SENDER = 8,
    /// No stream to the server is up. Try later.
    APPXMPP_NOT_CONNECTED = 9,
    /// A bounded queue is full. Try later.
    APPXMPP_BUSY = 10,
    /// Nothing came in the time allowed. The caller decides.
    APPXMPP_TIMEOUT = 11,
    /// A setting is missing, malformed or contradictory. For the operator.
    APPXMPP_CONFIG = 12,
    /// The server refused the credentials. For the operator.
    APPXMPP_NOT_AUTHORIZED = 13,
    /// The handle was closed by this program. Open another.
    APPXMPP_CLOSED = 14,
    /// The state store failed. For the operator.
    APPXMPP_STORE = 15,
    /// A fault of the library. Please report it.
    APPXMPP_INTERNAL = 16,
    /// The arguments of one call are over 1 MiB in all. Fix the input.
    APPXMPP_REQUEST_TOO_LARGE = 17,
    /// A quota of today is used up. Try tomorrow (UTC), or raise it.
    APPXMPP_OVER_QUOTA = 18,
    /// A pointer that must not be NULL is. Fix the call.
    APPXMPP_NULL_ARGUMENT = 95,
    /// A string is not UTF-8. Fix the input.
    APPXMPP_NOT_UTF8 = 96,
    /// An argument is out of its range. Fix the call.
    APPXMPP_INVALID_ARGUMENT = 97,
    /// A wait was ended by an interrupt from another thread. The caller decides.
    APPXMPP_INTERRUPTED = 98,
    /// A panic inside the library, caught. Please report it.
    APPXMPP_PANIC = 99,
}

use appxmpp_result::*;

impl appxmpp_result {
    /// Every result there is, for the name table's test.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 24] = [
        APPXMPP_OK,
        APPXMPP_INVALID_JID,
        APPXMPP_INVALID_XML,
        APPXMPP_NO_BODY,
        APPXMPP_INVALID_TYPE,
        APPXMPP_INVALID_SHOW,
        APPXMPP_INVALID_STATUS,
        APPXMPP_TOO_LARGE,
        APPXMPP_INVALID_SENDER,
        APPXMPP_NOT_CONNECTED,
        APPXMPP_BUSY,
        APPXMPP_TIMEOUT,
        APPXMPP_CONFIG,
        APPXMPP_NOT_AUTHORIZED,
        APPXMPP_CLOSED,
        APPXMPP_STORE,
        APPXMPP_INTERNAL,
        APPXMPP_REQUEST_TOO_LARGE,
        APPXMPP_OVER_QUOTA,
        APPXMPP_NULL_ARGUMENT,
        APPXMPP_NOT_UTF8,
        APPXMPP_INVALID_ARGUMENT,
        APPXMPP_INTERRUPTED,
        APPXMPP_PANIC,
    ];

    fn name(number: i32) -> Option<&'static std::ffi::CStr> {
        Some(match number {
            0 => c"APPXMPP_OK",
            1 => c"APPXMPP_INVALID_JID",
            2 => c"APPXMPP_INVALID_XML",
            3 => c"APPXMPP_NO_BODY",
            4 => c"APPXMPP_INVALID_TYPE",
            5 => c"APPXMPP_INVALID_SHOW",
            6 => c"APPXMPP_INVALID_STATUS",
            7 => c"APPXMPP_TOO_LARGE",
            8 => c"APPXMPP_INVALID_SENDER",
            9 => c"APPXMPP_NOT_CONNECTED",
            10 => c"APPXMPP_BUSY",
            11 => c"APPXMPP_TIMEOUT",
            12 => c"APPXMPP_CONFIG",
            13 => c"APPXMPP_NOT_AUTHORIZED",
            14 => c"APPXMPP_CLOSED",
            15 => c"APPXMPP_STORE",
            16 => c"APPXMPP_INTERNAL",
            17 => c"APPXMPP_REQUEST_TOO_LARGE",
            18 => c"APPXMPP_OVER_QUOTA",
            95 => c"APPXMPP_NULL_ARGUMENT",
            96 => c"APPXMPP_NOT_UTF8",
            97 => c"APPXMPP_INVALID_ARGUMENT",
            98 => c"APPXMPP_INTERRUPTED",
            99 => c"APPXMPP_PANIC",
            _ => return None,
        })
    }
}

impl From<ErrorKind> for appxmpp_result {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidJid => APPXMPP_INVALID_JID,
            ErrorKind::InvalidXml => APPXMPP_INVALID_XML,
            ErrorKind::NoBody => APPXMPP_NO_BODY,
            ErrorKind::InvalidType => APPXMPP_INVALID_TYPE,
            ErrorKind::InvalidShow => APPXMPP_INVALID_SHOW,
            ErrorKind::InvalidStatus => APPXMPP_INVALID_STATUS,
            ErrorKind::TooLarge => APPXMPP_TOO_LARGE,
            ErrorKind::InvalidSender => APPXMPP_INVALID_SENDER,
            ErrorKind::NotConnected => APPXMPP_NOT_CONNECTED,
            ErrorKind::Backpressure => APPXMPP_BUSY,
            ErrorKind::Timeout => APPXMPP_TIMEOUT,
            ErrorKind::Config => APPXMPP_CONFIG,
            ErrorKind::NotAuthorized => APPXMPP_NOT_AUTHORIZED,
            ErrorKind::Closed => APPXMPP_CLOSED,
            ErrorKind::Store => APPXMPP_STORE,
            ErrorKind::RequestTooLarge => APPXMPP_REQUEST_TOO_LARGE,
            ErrorKind::OverQuota => APPXMPP_OVER_QUOTA,
            _ => APPXMPP_INTERNAL,
        }
    }
}

/// A failure on its way to the caller.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) result: appxmpp_result,
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn null(name: &str) -> Self {
        Self { result: APPXMPP_NULL_ARGUMENT, text: format!("{name} is NULL; it must not be") }
    }

    pub(crate) fn not_utf8(name: &str, offset: usize) -> Self {
        let text = format!("{name} is not UTF-8 at byte {offset}; pass text encoded in UTF-8");
        Self { result: APPXMPP_NOT_UTF8, text }
    }

    pub(crate) fn argument(text: String) -> Self {
        Self { result: APPXMPP_INVALID_ARGUMENT, text }
    }

    pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Self {
        let what = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        let text = format!("libappxmpp panicked: {what}; please report it");
        Self { result: APPXMPP_PANIC, text }
    }

    pub(crate) fn timeout(text: String) -> Self {
        Self { result: APPXMPP_TIMEOUT, text }
    }

    pub(crate) fn interrupted() -> Self {
        let text = "the wait was ended by appxmpp_connection_interrupt".to_owned();
        Self { result: APPXMPP_INTERRUPTED, text }
    }
}

impl From<engine::Error> for Failure {
    fn from(error: engine::Error) -> Self {
        Self { result: error.kind().into(), text: error.to_string() }
    }
}

/// A failure that a call has stored: its result and a sentence for people.
#[allow(non_camel_case_types)]
pub struct appxmpp_error {
    result: appxmpp_result,
    text: Kept,
}

impl appxmpp_error {
    pub(crate) fn new(failure: &Failure) -> Self {
        Self { result: failure.result, text: Kept::new(&failure.text) }
    }
}

/// The name of a result, such as "APPXMPP_TIMEOUT"; lives for ever.
///
/// `result` is any number. One that is no result gives "APPXMPP_UNKNOWN".
#[unsafe(no_mangle)]
pub extern "C" fn appxmpp_result_name(result: i32) -> *const std::ffi::c_char {
    let unknown = c"APPXMPP_UNKNOWN".as_ptr();
    ffi::guarded(unknown, || appxmpp_result::name(result).map_or(unknown, std::ffi::CStr::as_ptr))
}

/// The result that the failed call returned; `APPXMPP_NULL_ARGUMENT` if `error` is NULL.
///
/// # Safety
/// `error` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_error_result(error: *const appxmpp_error) -> appxmpp_result {
    // SAFETY: as this function's own contract.
    unsafe { ffi::read(error, APPXMPP_NULL_ARGUMENT, |error| error.result) }
}

/// What happened, to which value, and what to do next; empty if `error` is NULL. Lives as long as
/// `error`.
///
/// # Safety
/// `error` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_error_text(error: *const appxmpp_error) -> appxmpp_str {
    // SAFETY: as this function's own contract.
    unsafe { ffi::read(error, appxmpp_str::EMPTY, |error| error.text.lend()) }
}

/// Frees an error object; NULL is allowed.
///
/// # Safety
/// `error` is NULL or live, and not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_error_free(error: *mut appxmpp_error) {
    // SAFETY: as this function's own contract.
    unsafe { ffi::take_back(error) };
}

/// Panics inside the boundary.
///
/// cbindgen:ignore
///
/// # Safety
/// See the conventions.
#[cfg(feature = "test-panic")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_test_panic(error: *mut *mut appxmpp_error) -> appxmpp_result {
    ffi::boundary(error, || {
        #[allow(clippy::panic)]
        {
            panic!("deliberate")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_result_has_its_own_name() {
        for result in appxmpp_result::ALL {
            let name = appxmpp_result::name(result as i32).map(|name| name.to_str());
            assert_eq!(name, Some(Ok(format!("{result:?}").as_str())));
        }
        assert_eq!(appxmpp_result::name(-1), None);
    }

    #[test]
    fn a_panic_becomes_a_result_with_its_message() {
        let mut error = std::ptr::null_mut();
        let result = ffi::boundary(&mut error, || panic!("deliberate"));
        assert_eq!(result, APPXMPP_PANIC);
        // SAFETY: boundary has stored a live error object.
        let text = unsafe { appxmpp_error_text(error) };
        // SAFETY: text points to len bytes of UTF-8 that live as long as the object.
        let bytes = unsafe { std::slice::from_raw_parts(text.data.cast::<u8>(), text.len) };
        assert!(std::str::from_utf8(bytes).is_ok_and(|text| text.contains("deliberate")));
        // SAFETY: freed once.
        unsafe { appxmpp_error_free(error) };
    }
}
