//! Which library this is.

use std::ffi::c_char;

/// The major version of the header; a different one is a different interface.
pub const APPXMPP_VERSION_MAJOR: i32 = 0;
/// The minor version of the header; before 1.0, a different one is a different interface.
pub const APPXMPP_VERSION_MINOR: i32 = 1;
/// The patch version of the header.
pub const APPXMPP_VERSION_PATCH: i32 = 0;

/// The version of the library, such as "0.1.0"; lives for ever.
#[unsafe(no_mangle)]
pub extern "C" fn appxmpp_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Whether the library fits the header it is called through.
///
/// Pass `APPXMPP_VERSION_MAJOR`, `APPXMPP_VERSION_MINOR` and `APPXMPP_VERSION_PATCH`. Before 1.0 the
/// minor version must be the same and the patch version not newer than the library's.
#[unsafe(no_mangle)]
pub extern "C" fn appxmpp_version_check(major: i32, minor: i32, patch: i32) -> bool {
    major == APPXMPP_VERSION_MAJOR
        && minor == APPXMPP_VERSION_MINOR
        && (0..=APPXMPP_VERSION_PATCH).contains(&patch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_constants_are_the_version_of_the_package() {
        let constants =
            format!("{APPXMPP_VERSION_MAJOR}.{APPXMPP_VERSION_MINOR}.{APPXMPP_VERSION_PATCH}");
        assert_eq!(constants, env!("CARGO_PKG_VERSION"));
    }
}
