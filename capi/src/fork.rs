//! What `fork` does: the child closes the sockets and pipes it inherited, and its handles refuse to work.

use std::sync::OnceLock;

use engine::ErrorKind;
use engine::net::runtime;

use crate::error::Failure;
use crate::ffi;

/// Has the operating system call the core in each process that this one forks.
pub(crate) fn watch() -> Result<(), Failure> {
    static WATCHED: OnceLock<i32> = OnceLock::new();
    // SAFETY: the handler stays: the library is never unloaded (see `build.rs`).
    let code = *WATCHED.get_or_init(|| unsafe { libc::pthread_atfork(None, None, Some(in_child)) });
    if code == 0 {
        return Ok(());
    }
    let error = std::io::Error::from_raw_os_error(code);
    let text = format!("fork() cannot be watched ({error}); free some memory");
    Err(engine::Error::new(ErrorKind::Internal, text).into())
}

extern "C" fn in_child() {
    ffi::guarded((), || {
        runtime::after_fork_in_child(|fd| {
            // SAFETY: the core names each descriptor that this process inherited once, and nothing in this
            // process uses it: its handles refuse to work and are never dropped after a fork.
            unsafe { libc::close(fd) };
        });
    });
}
