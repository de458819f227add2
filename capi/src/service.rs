//! App Engine's four functions, with its rules, numbers and limits.

use std::ffi::{c_char, c_void};
use std::ops::ControlFlow;
use std::time::Duration;

use engine::ErrorKind;
use engine::service::{MessageCall, PresenceAnswer, PresenceCall, ServiceError, Status};

use crate::connection::appxmpp_connection;
use crate::error::{Failure, appxmpp_error, appxmpp_result};
use crate::ffi::{self, Out, OutArray, appxmpp_str};

/// The message is written to a live stream.
pub const APPXMPP_STATUS_NO_ERROR: i32 = 0;
/// The recipient is no address; nothing was sent to it.
pub const APPXMPP_STATUS_INVALID_JID: i32 = 1;
/// The server could not be reached; nothing is known to have been sent.
pub const APPXMPP_STATUS_OTHER_ERROR: i32 = 2;

/// Available and nothing more.
pub const APPXMPP_SHOW_NORMAL: i32 = 0;
/// Away.
pub const APPXMPP_SHOW_AWAY: i32 = 1;
/// Does not want to be disturbed.
pub const APPXMPP_SHOW_DND: i32 = 2;
/// Wants to chat.
pub const APPXMPP_SHOW_CHAT: i32 = 3;
/// Away for longer.
pub const APPXMPP_SHOW_XA: i32 = 4;
/// Nothing is known.
pub const APPXMPP_SHOW_UNKNOWN: i32 = -1;

/// App Engine's `UNSPECIFIED_ERROR`.
pub const APPXMPP_SERVICE_UNSPECIFIED_ERROR: i32 = 1;
/// App Engine's `INVALID_JID`.
pub const APPXMPP_SERVICE_INVALID_JID: i32 = 2;
/// App Engine's `NO_BODY`.
pub const APPXMPP_SERVICE_NO_BODY: i32 = 3;
/// App Engine's `INVALID_XML`.
pub const APPXMPP_SERVICE_INVALID_XML: i32 = 4;
/// App Engine's `INVALID_TYPE`.
pub const APPXMPP_SERVICE_INVALID_TYPE: i32 = 5;
/// App Engine's `INVALID_SHOW`.
pub const APPXMPP_SERVICE_INVALID_SHOW: i32 = 6;
/// App Engine's `EXCEEDED_MAX_SIZE`.
pub const APPXMPP_SERVICE_EXCEEDED_MAX_SIZE: i32 = 7;
/// App Engine's `APPID_ALIAS_REQUIRED`, which this library never gives.
pub const APPXMPP_SERVICE_APPID_ALIAS_REQUIRED: i32 = 8;
/// App Engine's `NONDEFAULT_MODULE`, which this library never gives.
pub const APPXMPP_SERVICE_NONDEFAULT_MODULE: i32 = 9;

/// A contact's presence as the app sees it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(non_camel_case_types)]
pub struct appxmpp_presence {
    /// Whether the contact is available.
    pub available: bool,
    /// Whether what was asked for is an address at all.
    pub valid: bool,
    /// With which show: an `APPXMPP_SHOW_*`.
    pub show: i32,
}

impl From<PresenceAnswer> for appxmpp_presence {
    fn from(answer: PresenceAnswer) -> Self {
        let show = answer.show.map_or(APPXMPP_SHOW_UNKNOWN, |show| show as i32);
        Self { available: answer.available, valid: answer.valid, show }
    }
}

/// The text of a show as in `<show/>` (RFC 6121 §4.7.2.1): "away", "dnd", "chat", "xa"; empty for
/// every other number. Lives for ever.
#[unsafe(no_mangle)]
pub extern "C" fn appxmpp_show_name(show: i32) -> *const c_char {
    let name = match show {
        APPXMPP_SHOW_AWAY => c"away",
        APPXMPP_SHOW_DND => c"dnd",
        APPXMPP_SHOW_CHAT => c"chat",
        APPXMPP_SHOW_XA => c"xa",
        _ => c"",
    };
    name.as_ptr()
}

/// App Engine's `XmppServiceError` for a result, an `APPXMPP_SERVICE_*`; 0 for `APPXMPP_OK`.
///
/// `result` is any number; what App Engine has no number for gives `APPXMPP_SERVICE_UNSPECIFIED_ERROR`.
#[unsafe(no_mangle)]
pub extern "C" fn appxmpp_result_service_error(result: i32) -> i32 {
    const KINDS: [ErrorKind; 8] = [
        ErrorKind::InvalidJid,
        ErrorKind::InvalidXml,
        ErrorKind::NoBody,
        ErrorKind::InvalidType,
        ErrorKind::InvalidShow,
        ErrorKind::InvalidStatus,
        ErrorKind::TooLarge,
        ErrorKind::InvalidSender,
    ];
    if result == appxmpp_result::APPXMPP_OK as i32 {
        return 0;
    }
    ffi::guarded(APPXMPP_SERVICE_UNSPECIFIED_ERROR, || {
        let kind = KINDS.into_iter().find(|kind| appxmpp_result::from(*kind) as i32 == result);
        ServiceError::from(kind.unwrap_or(ErrorKind::Internal)) as i32
    })
}

/// App Engine's `send_message`: sends `body` to `count` recipients and writes `count` statuses
/// (`APPXMPP_STATUS_*`), in the order of the recipients. Returns when all is written to a live stream
/// or has failed.
///
/// `jids` are the recipients' addresses, `jid_lens` their lengths; NULL lengths mean that all are
/// NUL-terminated. `from` is the sender, an address of the app; NULL means
/// `appxmpp_connection_address`. `type` is a message type of RFC 6121 §5.2.2; NULL means `chat`, the
/// empty text a message without one. With `raw_xml`, `body` is the message's children as XML.
///
/// Fails, and sends nothing, with `APPXMPP_NO_BODY`, `APPXMPP_INVALID_JID` for no recipient, an empty
/// one or a bad `from`, `APPXMPP_INVALID_SENDER` for a foreign `from`, `APPXMPP_INVALID_TYPE`,
/// `APPXMPP_INVALID_XML`, `APPXMPP_TOO_LARGE` for a body over 100 KB, `APPXMPP_REQUEST_TOO_LARGE` for
/// a call over 1 MiB, `APPXMPP_CLOSED` only after a fork. That no stream is up is no failure but
/// `APPXMPP_STATUS_OTHER_ERROR`.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_send_message(
    connection: *const appxmpp_connection,
    jids: *const *const c_char,
    jid_lens: *const usize,
    count: usize,
    body: *const c_char,
    body_len: usize,
    from: *const c_char,
    from_len: usize,
    type_: *const c_char,
    type_len: usize,
    raw_xml: bool,
    statuses: *mut i32,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    // SAFETY: the caller keeps the conventions.
    unsafe {
        appxmpp_send_message_checked(
            connection,
            jids,
            jid_lens,
            count,
            body,
            body_len,
            from,
            from_len,
            type_,
            type_len,
            raw_xml,
            None,
            std::ptr::null_mut(),
            statuses,
            error,
        )
    }
}

/// Whether a call that waits is to go on waiting; `userdata` is the caller's.
#[allow(non_camel_case_types)]
pub type appxmpp_check = Option<unsafe extern "C" fn(userdata: *mut c_void) -> bool>;

/// How long a check lets a call wait on.
const CHECK_EVERY: Duration = Duration::from_millis(50);

/// `appxmpp_send_message` that can be given up: while the socket takes nothing more, `check` is called
/// with `userdata` about twenty times a second, by the thread that called; when it gives `false`, what
/// is not written has `APPXMPP_STATUS_OTHER_ERROR` (it may be written later). A call that need not wait
/// does not call it. `check` may be NULL.
///
/// # Safety
/// See the conventions; `check` may be called with `userdata` until this returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_send_message_checked(
    connection: *const appxmpp_connection,
    jids: *const *const c_char,
    jid_lens: *const usize,
    count: usize,
    body: *const c_char,
    body_len: usize,
    from: *const c_char,
    from_len: usize,
    type_: *const c_char,
    type_len: usize,
    raw_xml: bool,
    check: appxmpp_check,
    userdata: *mut c_void,
    statuses: *mut i32,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        let (live, jids, body, from, type_, statuses) = unsafe {
            (
                ffi::borrow(connection, "connection")?.live()?,
                ffi::texts(jids, jid_lens, count, "jids")?,
                ffi::text(body, body_len, "body")?,
                ffi::optional_text(from, from_len, "from")?,
                ffi::optional_text(type_, type_len, "type")?,
                OutArray::new(statuses, count, "statuses")?,
            )
        };
        let call = MessageCall { jids: &jids, body, from, type_: type_.unwrap_or("chat"), raw_xml };
        let slice = if check.is_some() { CHECK_EVERY } else { Duration::MAX };
        let go_on = |_: Duration| match check {
            // SAFETY: the caller's promise.
            Some(check) if !unsafe { check(userdata) } => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        };
        let sent = live.app.send_message_checked(&call, live.send_timeout, slice, go_on)?;
        statuses.set(sent.into_iter().map(|status| status as i32));
        Ok(())
    })
}

/// One of the messages of `appxmpp_send_messages`. Texts are as in `appxmpp_send_message`; one that is
/// left out has NULL `data`, and `len` may be `APPXMPP_NUL`.
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct appxmpp_message {
    /// To whom.
    pub to: appxmpp_str,
    /// The text, or with `raw_xml` the children as XML.
    pub body: appxmpp_str,
    /// From whom; left out for `appxmpp_connection_address`.
    pub from: appxmpp_str,
    /// The type; left out for `chat`.
    pub message_type: appxmpp_str,
    /// Whether `body` is XML.
    pub raw_xml: bool,
    /// Written by the call: `APPXMPP_OK`, or why the message was refused as `appxmpp_send_message`
    /// would have.
    pub result: appxmpp_result,
    /// Written by the call: an `APPXMPP_STATUS_*`; `APPXMPP_STATUS_OTHER_ERROR` if it was refused.
    pub status: i32,
}

impl appxmpp_message {
    /// # Safety
    /// Its texts are as the conventions say.
    unsafe fn call(&self) -> Result<([&str; 1], MessageCall<'_>), Failure> {
        // SAFETY: as this function's own contract.
        let (to, body, from, type_) = unsafe {
            (
                ffi::text(self.to.data, self.to.len, "to")?,
                ffi::text(self.body.data, self.body.len, "body")?,
                ffi::optional_text(self.from.data, self.from.len, "from")?,
                ffi::optional_text(self.message_type.data, self.message_type.len, "type")?,
            )
        };
        let type_ = type_.unwrap_or("chat");
        Ok(([to], MessageCall { jids: &[], body, from, type_, raw_xml: self.raw_xml }))
    }
}

/// Sends `count` messages that have nothing in common, in order and with one write: cheaper than as
/// many calls of `appxmpp_send_message`. Returns when all are written to a live stream or have failed,
/// and each message says what became of it. One that is refused stops no other.
///
/// Fails, with nothing sent and written, with `APPXMPP_CLOSED` only after a fork.
///
/// # Safety
/// See the conventions; `messages` are `count` of them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_send_messages(
    connection: *const appxmpp_connection,
    messages: *mut appxmpp_message,
    count: usize,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        let (live, messages) = unsafe {
            (
                ffi::borrow(connection, "connection")?.live()?,
                ffi::slice_mut(messages, count, "messages")?,
            )
        };
        // SAFETY: the caller keeps the conventions.
        let read: Vec<_> = messages.iter().map(|message| unsafe { message.call() }).collect();
        let readable = read.iter().filter_map(|read| read.as_ref().ok());
        let calls: Vec<_> = readable.map(|(to, call)| MessageCall { jids: to, ..*call }).collect();
        let mut sent = live.app.send_messages_blocking(&calls, live.send_timeout)?.into_iter();
        let outcomes: Vec<_> = read
            .iter()
            .map(|read| match read {
                Ok(_) => outcome(sent.next()),
                Err(failure) => (failure.result, APPXMPP_STATUS_OTHER_ERROR),
            })
            .collect();
        for (message, outcome) in messages.iter_mut().zip(outcomes) {
            (message.result, message.status) = outcome;
        }
        Ok(())
    })
}

/// What became of a message to one recipient.
fn outcome(sent: Option<engine::Result<Vec<Status>>>) -> (appxmpp_result, i32) {
    match sent {
        Some(Ok(statuses)) => {
            let status = statuses.first().map_or(APPXMPP_STATUS_OTHER_ERROR, |one| *one as i32);
            (appxmpp_result::APPXMPP_OK, status)
        }
        Some(Err(error)) => (error.kind().into(), APPXMPP_STATUS_OTHER_ERROR),
        None => (appxmpp_result::APPXMPP_INTERNAL, APPXMPP_STATUS_OTHER_ERROR),
    }
}

/// App Engine's `send_presence`: tells `jid` the presence of the app. `type` is empty or NULL for
/// available, `unavailable` or `probe`; `show` is empty or NULL, `away`, `chat`, `dnd` or `xa`;
/// `status_text` is for people, NULL for none; `from` is as in `appxmpp_send_message`. `status`
/// receives an `APPXMPP_STATUS_*` and may be NULL: presence that could not be sent is told when the
/// stream is up again.
///
/// Fails with `APPXMPP_INVALID_JID`, `APPXMPP_INVALID_TYPE`, `APPXMPP_INVALID_SHOW`,
/// `APPXMPP_INVALID_STATUS`, `APPXMPP_INVALID_SENDER`, `APPXMPP_REQUEST_TOO_LARGE`.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_send_presence(
    connection: *const appxmpp_connection,
    jid: *const c_char,
    jid_len: usize,
    type_: *const c_char,
    type_len: usize,
    show: *const c_char,
    show_len: usize,
    status_text: *const c_char,
    status_text_len: usize,
    from: *const c_char,
    from_len: usize,
    status: *mut i32,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        let (live, call) = unsafe {
            (
                ffi::borrow(connection, "connection")?.live()?,
                PresenceCall {
                    jid: ffi::text(jid, jid_len, "jid")?,
                    type_: ffi::optional_text(type_, type_len, "type")?.unwrap_or_default(),
                    show: ffi::optional_text(show, show_len, "show")?.unwrap_or_default(),
                    status: ffi::optional_text(status_text, status_text_len, "status_text")?,
                    from: ffi::optional_text(from, from_len, "from")?,
                },
            )
        };
        let sent = live.app.send_presence_blocking(&call, live.send_timeout)?;
        // SAFETY: as above.
        unsafe { ffi::set_if_wanted(status, sent as i32) };
        Ok(())
    })
}

/// App Engine's `send_invite`: asks `jid` whether the app may see its presence. `from` is as in
/// `appxmpp_send_message`. `status` receives an `APPXMPP_STATUS_*` and may be NULL.
///
/// Fails with `APPXMPP_INVALID_JID`, `APPXMPP_INVALID_SENDER`, `APPXMPP_STORE`.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_send_invite(
    connection: *const appxmpp_connection,
    jid: *const c_char,
    jid_len: usize,
    from: *const c_char,
    from_len: usize,
    status: *mut i32,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        let (live, jid, from) = unsafe {
            (
                ffi::borrow(connection, "connection")?.live()?,
                ffi::text(jid, jid_len, "jid")?,
                ffi::optional_text(from, from_len, "from")?,
            )
        };
        let sent = live.app.send_invite_blocking(jid, from, live.send_timeout)?;
        // SAFETY: as above.
        unsafe { ffi::set_if_wanted(status, sent as i32) };
        Ok(())
    })
}

/// App Engine's `get_presence` of one contact, from what is known: nobody is asked. `from`, whose
/// contact it is, is as in `appxmpp_send_message`.
///
/// Fails with `APPXMPP_INVALID_JID` if `jid` is no address, and `APPXMPP_INVALID_SENDER`.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_get_presence(
    connection: *const appxmpp_connection,
    jid: *const c_char,
    jid_len: usize,
    from: *const c_char,
    from_len: usize,
    out: *mut appxmpp_presence,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        let (live, jid, from, out) = unsafe {
            (
                ffi::borrow(connection, "connection")?.live()?,
                ffi::text(jid, jid_len, "jid")?,
                ffi::optional_text(from, from_len, "from")?,
                Out::new(out, "out")?,
            )
        };
        let answers = live.app.get_presence(&[jid], from)?;
        match answers.first().filter(|answer| answer.valid) {
            Some(answer) => out.set((*answer).into()),
            None => {
                let text = format!("{jid:?} is no address; ask for one like user@example.com");
                return Err(engine::Error::new(ErrorKind::InvalidJid, text).into());
            }
        }
        Ok(())
    })
}

/// App Engine's `get_presence` of `count` contacts; `out` receives `count` answers in the order of
/// the contacts. `jids` and `jid_lens` are as in `appxmpp_send_message`, `from` as in
/// `appxmpp_get_presence`.
///
/// Fails with `APPXMPP_INVALID_JID` if `count` is 0 or `from` is no address, and
/// `APPXMPP_INVALID_SENDER`. A contact that is no address is no failure: its `valid` is false.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_get_presence_list(
    connection: *const appxmpp_connection,
    jids: *const *const c_char,
    jid_lens: *const usize,
    count: usize,
    from: *const c_char,
    from_len: usize,
    out: *mut appxmpp_presence,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        let (live, jids, from, out) = unsafe {
            (
                ffi::borrow(connection, "connection")?.live()?,
                ffi::texts(jids, jid_lens, count, "jids")?,
                ffi::optional_text(from, from_len, "from")?,
                OutArray::new(out, count, "out")?,
            )
        };
        out.set(live.app.get_presence(&jids, from)?.into_iter().map(appxmpp_presence::from));
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use engine::service::Show;

    use super::*;

    #[test]
    fn the_numbers_are_the_service_s() {
        let statuses = [Status::NoError, Status::InvalidJid, Status::OtherError].map(|s| s as i32);
        assert_eq!(
            statuses,
            [APPXMPP_STATUS_NO_ERROR, APPXMPP_STATUS_INVALID_JID, APPXMPP_STATUS_OTHER_ERROR]
        );
        for show in Show::ALL {
            // SAFETY: the name is a literal.
            let name = unsafe { CStr::from_ptr(appxmpp_show_name(show as i32)) };
            assert_eq!(name.to_str(), Ok(show.as_str()));
        }
        assert_eq!(Show::ExtendedAway as i32, APPXMPP_SHOW_XA);
        assert_eq!(Show::Normal as i32, APPXMPP_SHOW_NORMAL);
    }

    #[test]
    fn results_have_app_engine_s_numbers() {
        use appxmpp_result::*;
        for (result, service_error) in [
            (APPXMPP_OK, 0),
            (APPXMPP_INVALID_JID, ServiceError::InvalidJid as i32),
            (APPXMPP_INVALID_SENDER, APPXMPP_SERVICE_INVALID_JID),
            (APPXMPP_NO_BODY, APPXMPP_SERVICE_NO_BODY),
            (APPXMPP_INVALID_XML, APPXMPP_SERVICE_INVALID_XML),
            (APPXMPP_INVALID_TYPE, APPXMPP_SERVICE_INVALID_TYPE),
            (APPXMPP_INVALID_SHOW, APPXMPP_SERVICE_INVALID_SHOW),
            (APPXMPP_TOO_LARGE, APPXMPP_SERVICE_EXCEEDED_MAX_SIZE),
            (APPXMPP_PANIC, APPXMPP_SERVICE_UNSPECIFIED_ERROR),
        ] {
            assert_eq!(appxmpp_result_service_error(result as i32), service_error, "{result:?}");
        }
        assert_eq!(appxmpp_result_service_error(-7), APPXMPP_SERVICE_UNSPECIFIED_ERROR);
    }
}
