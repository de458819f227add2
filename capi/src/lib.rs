//! libappxmpp: App Engine's chat service, on any XMPP server, from C.
//!
//! Conventions (all of them; no function departs from one without saying so)
//!
//! Names. Everything is `appxmpp_<object>_<verb>`; constants are `APPXMPP_*`. App Engine's own
//! functions keep their names: `appxmpp_send_message`, `appxmpp_send_presence`,
//! `appxmpp_send_invite`, `appxmpp_get_presence`.
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
//! Time is in milliseconds; `APPXMPP_FOREVER` never passes.
//!
//! Fork. Connections do not cross `fork`: in the child, calls with one that the parent opened give
//! `APPXMPP_CLOSED`, and the child opens its own. The child of a process with several threads should
//! not call the library before it has called `exec`, unless the threads that used the library rested
//! when it was forked.
//!
//! Loading. The library starts no thread before the first connection is opened. Once loaded it stays
//! until the process ends: `dlclose` does not unload it.
//!
//! Faults. A NULL that is not allowed gives `APPXMPP_NULL_ARGUMENT`. A fault inside the library ends
//! in `APPXMPP_PANIC`, or where there is no result in what NULL gives, never in the caller's stack. Nothing
//! is printed; the log says where it was.

mod bell;
mod connection;
mod error;
mod event;
mod fault;
mod ffi;
mod fork;
mod jid;
mod log;
mod options;
mod service;
mod stanza;
mod stats;
mod stream;
mod subscription;
mod version;
mod watch;

pub use connection::*;
pub use error::*;
pub use event::*;
pub use jid::*;
pub use log::*;
pub use options::*;
pub use service::*;
pub use stanza::*;
pub use stats::*;
pub use stream::*;
pub use subscription::*;
pub use version::*;
