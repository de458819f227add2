//! Addresses.

use std::ffi::c_char;

use crate::error::{appxmpp_error, appxmpp_result};
use crate::ffi::{self, Kept, Out, appxmpp_str};

/// An address, `localpart@domainpart/resourcepart` (RFC 7622), valid and prepared.
#[allow(non_camel_case_types)]
pub struct appxmpp_jid {
    jid: engine::Jid,
    full: Kept,
    bare: Kept,
    localpart: Kept,
    domainpart: Kept,
    resourcepart: Kept,
}

impl From<engine::Jid> for appxmpp_jid {
    fn from(jid: engine::Jid) -> Self {
        Self {
            full: Kept::new(jid.as_str()),
            bare: Kept::new(jid.to_bare().as_str()),
            localpart: Kept::new(jid.localpart().unwrap_or_default()),
            domainpart: Kept::new(jid.domainpart()),
            resourcepart: Kept::new(jid.resourcepart().unwrap_or_default()),
            jid,
        }
    }
}

/// Parses and prepares an address; `out` receives a new handle.
///
/// Fails with `APPXMPP_INVALID_JID`.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_jid_parse(
    text: *const c_char,
    len: usize,
    out: *mut *mut appxmpp_jid,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        let (text, out) = unsafe { (ffi::text(text, len, "text")?, Out::new(out, "out")?) };
        out.set(ffi::give(engine::Jid::parse(text)?.into()));
        Ok(())
    })
}

/// Builds an address of its parts; `out` receives a new handle. `localpart` and `resourcepart` may be
/// NULL, which means that there is none.
///
/// Fails with `APPXMPP_INVALID_JID`.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_jid_format(
    localpart: *const c_char,
    localpart_len: usize,
    domainpart: *const c_char,
    domainpart_len: usize,
    resourcepart: *const c_char,
    resourcepart_len: usize,
    out: *mut *mut appxmpp_jid,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        let (local, domain, resource, out) = unsafe {
            (
                ffi::optional_text(localpart, localpart_len, "localpart")?,
                ffi::text(domainpart, domainpart_len, "domainpart")?,
                ffi::optional_text(resourcepart, resourcepart_len, "resourcepart")?,
                Out::new(out, "out")?,
            )
        };
        out.set(ffi::give(engine::Jid::from_parts(local, domain, resource)?.into()));
        Ok(())
    })
}

/// A part of `jid`, or the empty text of NULL.
///
/// # Safety
/// `jid` is NULL or live.
unsafe fn part(jid: *const appxmpp_jid, field: impl Fn(&appxmpp_jid) -> &Kept) -> appxmpp_str {
    // SAFETY: as this function's own contract.
    unsafe { ffi::read(jid, appxmpp_str::EMPTY, |jid| field(jid).lend()) }
}

/// The whole address in its prepared form; empty if `jid` is NULL. Lives as long as `jid`.
///
/// # Safety
/// `jid` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_jid_full(jid: *const appxmpp_jid) -> appxmpp_str {
    // SAFETY: as this function's own contract.
    unsafe { part(jid, |jid| &jid.full) }
}

/// The address without its resourcepart; empty if `jid` is NULL. Lives as long as `jid`.
///
/// # Safety
/// `jid` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_jid_bare(jid: *const appxmpp_jid) -> appxmpp_str {
    // SAFETY: as this function's own contract.
    unsafe { part(jid, |jid| &jid.bare) }
}

/// The part before `@`; empty if there is none. Lives as long as `jid`.
///
/// # Safety
/// `jid` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_jid_localpart(jid: *const appxmpp_jid) -> appxmpp_str {
    // SAFETY: as this function's own contract.
    unsafe { part(jid, |jid| &jid.localpart) }
}

/// The domain name; empty only if `jid` is NULL. Lives as long as `jid`.
///
/// # Safety
/// `jid` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_jid_domainpart(jid: *const appxmpp_jid) -> appxmpp_str {
    // SAFETY: as this function's own contract.
    unsafe { part(jid, |jid| &jid.domainpart) }
}

/// The part after the first `/`; empty if there is none. Lives as long as `jid`.
///
/// # Safety
/// `jid` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_jid_resourcepart(jid: *const appxmpp_jid) -> appxmpp_str {
    // SAFETY: as this function's own contract.
    unsafe { part(jid, |jid| &jid.resourcepart) }
}

/// Orders two addresses: negative, 0 or positive, 0 if and only if they name the same entity. NULL
/// comes before every address.
///
/// # Safety
/// `a` and `b` are NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_jid_compare(a: *const appxmpp_jid, b: *const appxmpp_jid) -> i32 {
    // SAFETY: as this function's own contract.
    let (a, b) = unsafe { (a.as_ref(), b.as_ref()) };
    ffi::guarded(0, || a.map(|a| &a.jid).cmp(&b.map(|b| &b.jid)) as i32)
}

/// Frees an address; NULL is allowed.
///
/// # Safety
/// `jid` is NULL or live, and not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_jid_free(jid: *mut appxmpp_jid) {
    // SAFETY: as this function's own contract.
    unsafe { ffi::take_back(jid) };
}
