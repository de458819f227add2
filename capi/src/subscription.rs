//! Subscriptions: the state table of RFC 6121, for programs that keep a roster of their own.

use std::ffi::c_char;

use engine::service::roster::{Direction, Subscription, SubscriptionVerb};

use crate::error::{Failure, appxmpp_error, appxmpp_result};
use crate::ffi::{self, Out};

/// Neither has a subscription to the other's presence, and nobody asked.
pub const APPXMPP_SUBSCRIPTION_NONE: i32 = 0;
/// Nobody has one; the app asked.
pub const APPXMPP_SUBSCRIPTION_NONE_OUT: i32 = 1;
/// Nobody has one; the contact asked.
pub const APPXMPP_SUBSCRIPTION_NONE_IN: i32 = 2;
/// Nobody has one; both asked.
pub const APPXMPP_SUBSCRIPTION_NONE_OUT_IN: i32 = 3;
/// The app sees the contact's presence.
pub const APPXMPP_SUBSCRIPTION_TO: i32 = 4;
/// The app sees the contact's presence; the contact asked.
pub const APPXMPP_SUBSCRIPTION_TO_IN: i32 = 5;
/// The contact sees the app's presence.
pub const APPXMPP_SUBSCRIPTION_FROM: i32 = 6;
/// The contact sees the app's presence; the app asked.
pub const APPXMPP_SUBSCRIPTION_FROM_OUT: i32 = 7;
/// Each sees the other's presence.
pub const APPXMPP_SUBSCRIPTION_BOTH: i32 = 8;

/// What a presence of one of the four subscription types does.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(non_camel_case_types)]
pub struct appxmpp_transition {
    /// One that the app sends: whether it is to be sent on. One that arrived: whether it is news.
    pub passes: bool,
    /// The state afterwards: an `APPXMPP_SUBSCRIPTION_*`.
    pub state: i32,
}

/// What a presence of the type `type` (`subscribe`, `subscribed`, `unsubscribe` or `unsubscribed`) does
/// to the subscriptions between an app's address and a contact: RFC 6121 appendix A.2 for one that is
/// sent, appendix A.3 for one that arrived (`inbound`). `state` is an `APPXMPP_SUBSCRIPTION_*`.
///
/// A connection keeps this table by itself; this is for programs with streams of their own.
///
/// Fails with `APPXMPP_INVALID_ARGUMENT` for another number and `APPXMPP_INVALID_TYPE` for another type.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_subscription_next(
    state: i32,
    inbound: bool,
    type_: *const c_char,
    type_len: usize,
    out: *mut appxmpp_transition,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        let (type_, out) = unsafe { (ffi::text(type_, type_len, "type")?, Out::new(out, "out")?) };
        let known = Subscription::from_number(state.into()).ok_or_else(|| {
            Failure::argument(format!("{state} is no state; use an APPXMPP_SUBSCRIPTION_*"))
        })?;
        let direction = if inbound { Direction::Inbound } else { Direction::Outbound };
        let next = known.on(direction, SubscriptionVerb::parse(type_)?);
        out.set(appxmpp_transition { passes: next.passes, state: next.state as i32 });
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use engine::service::roster::STATES;

    use super::*;

    #[test]
    fn the_numbers_are_the_table_s() {
        let numbers = [
            APPXMPP_SUBSCRIPTION_NONE,
            APPXMPP_SUBSCRIPTION_NONE_OUT,
            APPXMPP_SUBSCRIPTION_NONE_IN,
            APPXMPP_SUBSCRIPTION_NONE_OUT_IN,
            APPXMPP_SUBSCRIPTION_TO,
            APPXMPP_SUBSCRIPTION_TO_IN,
            APPXMPP_SUBSCRIPTION_FROM,
            APPXMPP_SUBSCRIPTION_FROM_OUT,
            APPXMPP_SUBSCRIPTION_BOTH,
        ];
        assert_eq!(STATES.map(|state| state as i32), numbers);
    }
}
