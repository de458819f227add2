//! libappxmpp: App Engine's chat service, on any XMPP server, from C.
//!
//! Conventions (all of them; no function departs from one without saying so)
//!
//! Names. Everything is `appxmpp_<object>_<verb>`; constants are `APPXMPP_*`.
//!
//! Handles are opaque. What `_new`, `_open`, `_parse` or `_next` gives is the caller's, and goes back
//! through the `_free` of its type, exactly once. Every `_free` accepts NULL and does nothing then.
//!
//! Results. A function that can fail returns `appxmpp_result`; `APPXMPP_OK` is 0 and every other
//! value has a name (`appxmpp_result_name`). Numbers are never changed and never used again. The last
//! parameter, `error`, may be NULL; otherwise a failure stores a new `appxmpp_error` there whose text
//! says what happened, to which value, and what to do next. Nothing is kept per thread.
//!
//! Out-parameters are written on success only. Their order is: the handle, inputs, outputs, `error`.
//!
//! Strings in are UTF-8, a pointer and a length in bytes; `APPXMPP_NUL` as the length means that the
//! string ends with a NUL byte. Where NULL is allowed, the function says so. The library copies what
//! it keeps.
//!
//! Strings out are `appxmpp_str`: UTF-8, always followed by a NUL byte that `len` does not count.
//! They are borrowed from the handle they were asked of and live as long as it does.
//!
//! Threads. A function that takes a `const` handle may be called from any number of threads at once
//! with the same handle. One that takes a non-const handle needs it alone. `_free` must be the last
//! call with its handle. The library never calls into the program from a thread of its own, except
//! for the log callback, which says so.
//!
//! Fork. Handles do not cross `fork`: the child must not use what the parent opened, and opens its
//! own.
//!
//! Faults. A NULL that is not allowed gives `APPXMPP_NULL_ARGUMENT`. A fault inside the library ends
//! in `APPXMPP_PANIC`, never in the caller's stack.

mod error;
mod ffi;
mod jid;
mod stanza;
mod stream;
mod version;

pub use error::*;
pub use jid::*;
pub use stanza::*;
pub use stream::*;
pub use version::*;
