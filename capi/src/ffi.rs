//! The border itself: null checks, string conversion, ownership and the panic boundary. Every other
//! file of this crate is written in terms of these.

use std::ffi::{CStr, c_char};
use std::ptr::NonNull;

use crate::error::{Failure, appxmpp_error, appxmpp_result};
use crate::fault::caught;

/// The length that means "up to the NUL byte".
pub const APPXMPP_NUL: usize = usize::MAX;

/// Text borrowed from a handle: `len` bytes of UTF-8 at `data`, then a NUL byte.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct appxmpp_str {
    /// The first byte; never NULL. An absent text has `len` 0.
    pub data: *const c_char,
    /// How many bytes, without the NUL byte at the end.
    pub len: usize,
}

impl appxmpp_str {
    /// The empty text, which every absent one is.
    pub(crate) const EMPTY: Self = Self { data: c"".as_ptr(), len: 0 };
}

/// Text that a handle keeps so that it can lend it as an [`appxmpp_str`].
pub(crate) struct Kept(Box<[u8]>);

impl Kept {
    pub(crate) fn new(text: &str) -> Self {
        let mut bytes = Vec::with_capacity(text.len() + 1);
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(0);
        Self(bytes.into_boxed_slice())
    }

    pub(crate) fn as_str(&self) -> &str {
        // Made from a str, so never the default.
        std::str::from_utf8(&self.0[..self.0.len() - 1]).unwrap_or_default()
    }

    pub(crate) fn lend(&self) -> appxmpp_str {
        appxmpp_str { data: self.0.as_ptr().cast(), len: self.0.len() - 1 }
    }
}

/// Runs `body`; a failure goes to `error` where the caller asked for it, a panic becomes a result.
pub(crate) fn boundary(
    error: *mut *mut appxmpp_error,
    body: impl FnOnce() -> Result<(), Failure>,
) -> appxmpp_result {
    let failure = match caught(body) {
        Ok(Ok(())) => return appxmpp_result::APPXMPP_OK,
        Ok(Err(failure)) => failure,
        Err(panic) => Failure::panicked(panic.as_ref()),
    };
    let result = failure.result;
    if !error.is_null() {
        let object = Box::into_raw(Box::new(appxmpp_error::new(&failure)));
        // SAFETY: the caller promises that a non-null `error` points to writable memory.
        unsafe { error.write(object) };
    }
    result
}

/// Runs `body`, which cannot fail; a panic gives `default`.
pub(crate) fn guarded<T>(default: T, body: impl FnOnce() -> T) -> T {
    caught(body).unwrap_or(default)
}

/// What `read` finds in the object behind a handle; `default` for NULL, and if it panics.
///
/// # Safety
/// As [`borrow`].
pub(crate) unsafe fn read<'a, T: 'a, R: Copy>(
    handle: *const T,
    default: R,
    read: impl FnOnce(&'a T) -> R,
) -> R {
    // SAFETY: as this function's own contract.
    let object = unsafe { handle.as_ref() };
    guarded(default, || object.map_or(default, read))
}

/// The object behind a handle.
///
/// # Safety
/// A non-null `handle` must come from this library and not have been freed.
pub(crate) unsafe fn borrow<'a, T>(handle: *const T, name: &str) -> Result<&'a T, Failure> {
    // SAFETY: as this function's own contract.
    unsafe { handle.as_ref() }.ok_or_else(|| Failure::null(name))
}

/// The object behind a handle that the caller has alone.
///
/// # Safety
/// As [`borrow`], and no other thread uses the handle.
pub(crate) unsafe fn borrow_mut<'a, T>(handle: *mut T, name: &str) -> Result<&'a mut T, Failure> {
    // SAFETY: as this function's own contract.
    unsafe { handle.as_mut() }.ok_or_else(|| Failure::null(name))
}

/// Gives an object to the caller.
pub(crate) fn give<T>(object: T) -> *mut T {
    Box::into_raw(Box::new(object))
}

/// Takes an object back from the caller and drops it.
///
/// # Safety
/// A non-null `handle` must come from [`give`] and not have been freed.
pub(crate) unsafe fn take_back<T>(handle: *mut T) {
    if !handle.is_null() {
        // SAFETY: as this function's own contract.
        guarded((), || drop(unsafe { Box::from_raw(handle) }));
    }
}

/// A checked out-parameter, written on success only.
pub(crate) struct Out<T>(NonNull<T>);

impl<T> Out<T> {
    /// # Safety
    /// A non-null `target` must point to writable memory for a `T`.
    pub(crate) unsafe fn new(target: *mut T, name: &str) -> Result<Self, Failure> {
        NonNull::new(target).map(Self).ok_or_else(|| Failure::null(name))
    }

    pub(crate) fn set(self, value: T) {
        // SAFETY: `new`'s contract; the old content is the caller's and must not be dropped.
        unsafe { self.0.as_ptr().write(value) };
    }
}

/// Writes a result that the caller may not want: NULL means that.
///
/// # Safety
/// A non-null `target` must point to writable memory for a `T`.
pub(crate) unsafe fn set_if_wanted<T>(target: *mut T, value: T) {
    if let Some(target) = NonNull::new(target) {
        Out(target).set(value);
    }
}

/// `count` values of the caller's, to be read and written.
///
/// # Safety
/// A non-null `data` must point to `count` values that nobody else uses meanwhile.
pub(crate) unsafe fn slice_mut<'a, T>(
    data: *mut T,
    count: usize,
    name: &str,
) -> Result<&'a mut [T], Failure> {
    if count == 0 {
        return Ok(&mut []);
    }
    if data.is_null() {
        return Err(Failure::null(name));
    }
    if count > isize::MAX as usize / size_of::<T>().max(1) {
        return Err(Failure::argument(format!("{name}: {count} are more than memory holds")));
    }
    // SAFETY: as this function's own contract.
    Ok(unsafe { std::slice::from_raw_parts_mut(data, count) })
}

/// Text from the caller.
///
/// # Safety
/// A non-null `data` must point to `len` readable bytes, or to a NUL-terminated string if `len` is
/// [`APPXMPP_NUL`].
pub(crate) unsafe fn text<'a>(
    data: *const c_char,
    len: usize,
    name: &str,
) -> Result<&'a str, Failure> {
    // SAFETY: as this function's own contract.
    unsafe { optional_text(data, len, name) }?.ok_or_else(|| Failure::null(name))
}

/// Text from the caller, NULL meaning none.
///
/// # Safety
/// As [`text`].
pub(crate) unsafe fn optional_text<'a>(
    data: *const c_char,
    len: usize,
    name: &str,
) -> Result<Option<&'a str>, Failure> {
    if data.is_null() {
        return Ok(None);
    }
    // SAFETY: as this function's own contract.
    let bytes = unsafe { bytes(data, len, name) }?;
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(error) => Err(Failure::not_utf8(name, error.valid_up_to())),
    }
}

/// Bytes from the caller.
///
/// # Safety
/// As [`text`].
pub(crate) unsafe fn bytes<'a>(
    data: *const c_char,
    len: usize,
    name: &str,
) -> Result<&'a [u8], Failure> {
    if data.is_null() {
        return if len == 0 { Ok(&[]) } else { Err(Failure::null(name)) };
    }
    if len == APPXMPP_NUL {
        // SAFETY: the caller says by the length that the string is NUL-terminated.
        return Ok(unsafe { CStr::from_ptr(data) }.to_bytes());
    }
    if len > isize::MAX as usize {
        return Err(Failure::argument(format!("{name}: the length {len} is larger than memory")));
    }
    // SAFETY: the caller promises `len` readable bytes.
    Ok(unsafe { std::slice::from_raw_parts(data.cast::<u8>(), len) })
}

/// `count` texts from the caller, as an array of pointers and one of lengths; NULL lengths mean that
/// all are NUL-terminated.
///
/// # Safety
/// Non-null `data` and `lens` must point to `count` values each; each pointer as in [`text`].
pub(crate) unsafe fn texts<'a>(
    data: *const *const c_char,
    lens: *const usize,
    count: usize,
    name: &str,
) -> Result<Vec<&'a str>, Failure> {
    if count == 0 {
        return Ok(Vec::new());
    }
    if data.is_null() {
        return Err(Failure::null(name));
    }
    if count > isize::MAX as usize / size_of::<usize>() {
        return Err(Failure::argument(format!("{name}: {count} are more than memory holds")));
    }
    let one = |index: usize| {
        // SAFETY: index is below count, and as this function's own contract.
        unsafe {
            let len = if lens.is_null() { APPXMPP_NUL } else { *lens.add(index) };
            optional_text(*data.add(index), len, name)?
                .ok_or_else(|| Failure::null(&format!("{name}[{index}]")))
        }
    };
    (0..count).map(one).collect()
}

/// A checked array to be written on success only.
pub(crate) struct OutArray<T>(*mut T, usize);

impl<T> OutArray<T> {
    /// # Safety
    /// A non-null `target` must point to writable memory for `count` values.
    pub(crate) unsafe fn new(target: *mut T, count: usize, name: &str) -> Result<Self, Failure> {
        if target.is_null() && count > 0 {
            return Err(Failure::null(name));
        }
        Ok(Self(target, count))
    }

    pub(crate) fn set(self, values: impl IntoIterator<Item = T>) {
        for (index, value) in values.into_iter().take(self.1).enumerate() {
            // SAFETY: index is below the count of `new`'s contract.
            unsafe { self.0.add(index).write(value) };
        }
    }
}
