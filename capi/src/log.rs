//! What the library has to say to people, for whoever wants to hear it.

use std::cell::Cell;
use std::ffi::{c_char, c_void};
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use engine::ErrorKind;
use engine::net::runtime;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::error::{Failure, appxmpp_error, appxmpp_result};
use crate::ffi::{self, Kept};

/// Nothing is logged.
pub const APPXMPP_LOG_OFF: i32 = 0;
/// Something is lost or broken.
pub const APPXMPP_LOG_ERROR: i32 = 1;
/// Something needs a look.
pub const APPXMPP_LOG_WARN: i32 = 2;
/// What an operator wants to know: connected, lost, tried again.
pub const APPXMPP_LOG_INFO: i32 = 3;
/// What helps to find a fault.
pub const APPXMPP_LOG_DEBUG: i32 = 4;

/// Hears one record: `userdata` as it was set, an `APPXMPP_LOG_*` level, which part of the library
/// speaks, and `len` bytes of text. Both strings end with a NUL byte and live until the call returns.
#[allow(non_camel_case_types)]
pub type appxmpp_log_callback = Option<
    unsafe extern "C" fn(
        userdata: *mut c_void,
        level: i32,
        target: *const c_char,
        text: *const c_char,
        len: usize,
    ),
>;

/// Hears that a callback will not be called any more.
#[allow(non_camel_case_types)]
pub type appxmpp_log_finalizer = Option<unsafe extern "C" fn(userdata: *mut c_void)>;

struct Sink {
    callback: unsafe extern "C" fn(*mut c_void, i32, *const c_char, *const c_char, usize),
    userdata: *mut c_void,
    finalizer: appxmpp_log_finalizer,
}

// SAFETY: whoever sets a callback promises that it and its userdata may be used from any thread.
unsafe impl Send for Sink {}
// SAFETY: as above.
unsafe impl Sync for Sink {}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Some(finalizer) = self.finalizer {
            // SAFETY: the caller of `appxmpp_log_set` promises that it may be called once.
            unsafe { finalizer(self.userdata) };
        }
    }
}

/// Who listens in this process. A forked one has nobody yet: another thread of its parent may have
/// held the lock.
struct Listeners {
    sink: Mutex<Option<Arc<Sink>>>,
    next: OnceLock<Box<Listeners>>,
}

impl Listeners {
    const fn new() -> Self {
        Self { sink: Mutex::new(None), next: OnceLock::new() }
    }

    fn of_this_process() -> &'static Self {
        static FIRST: Listeners = Listeners::new();
        let mut listeners = &FIRST;
        for _ in 0..runtime::generation() {
            listeners = listeners.next.get_or_init(|| Box::new(Self::new()));
        }
        listeners
    }

    fn replace(&self, sink: Option<Arc<Sink>>) -> Option<Arc<Sink>> {
        std::mem::replace(&mut *self.sink.lock().unwrap_or_else(PoisonError::into_inner), sink)
    }

    fn current(&self) -> Option<Arc<Sink>> {
        self.sink.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

static LEVEL: AtomicI32 = AtomicI32::new(APPXMPP_LOG_OFF);

thread_local! {
    static SPEAKING: Cell<bool> = const { Cell::new(false) };
}

fn number(level: Level) -> i32 {
    match level {
        Level::ERROR => APPXMPP_LOG_ERROR,
        Level::WARN => APPXMPP_LOG_WARN,
        Level::INFO => APPXMPP_LOG_INFO,
        Level::DEBUG => APPXMPP_LOG_DEBUG,
        Level::TRACE => APPXMPP_LOG_DEBUG + 1,
    }
}

struct Listener;

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && number(*metadata.level()) <= LEVEL.load(Ordering::Relaxed)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match LEVEL.load(Ordering::Relaxed) {
            APPXMPP_LOG_ERROR => LevelFilter::ERROR,
            APPXMPP_LOG_WARN => LevelFilter::WARN,
            APPXMPP_LOG_INFO => LevelFilter::INFO,
            APPXMPP_LOG_DEBUG => LevelFilter::DEBUG,
            _ => LevelFilter::OFF,
        })
    }

    fn event(&self, event: &Event<'_>) {
        // What a callback causes to be said is not said to it: that would never end.
        let Ok(false) = SPEAKING.try_with(|speaking| speaking.replace(true)) else { return };
        if let Some(sink) = Listeners::of_this_process().current() {
            say(&sink, event);
        }
        let _ = SPEAKING.try_with(|speaking| speaking.set(false));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn say(sink: &Sink, event: &Event<'_>) {
    let mut text = Text::default();
    event.record(&mut text);
    let metadata = event.metadata();
    let target = Kept::new(metadata.target().trim_start_matches("appxmpp::"));
    let text = Kept::new(&(text.message + &text.fields));
    let (target, text) = (target.lend(), text.lend());
    let level = number(*metadata.level());
    // SAFETY: the caller of `appxmpp_log_set` promises that the callback may be called from any
    // thread until its finalizer was; the sink is alive.
    unsafe { (sink.callback)(sink.userdata, level, target.data, text.data, text.len) };
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String does not fail.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {field}={value:?}")
        };
    }
}

/// Has `callback` hear what this process's library says at `level` (an `APPXMPP_LOG_*`) and more
/// urgent ones, instead of whoever heard it before. NULL, or `APPXMPP_LOG_OFF`, means nobody, as at
/// the start. Secrets and the bodies of messages are never part of it.
///
/// `callback` is called from any thread, one of the library's own too, and at the same time from
/// several; it must return soon, and may call the library, but not wait in it. `finalizer` may be
/// NULL; it is called once with `userdata` when `callback` will not be called any more, which may be
/// within this call, within a later one, or on another thread soon after.
///
/// Fails with `APPXMPP_INVALID_ARGUMENT` for a number that is no level; `finalizer` is not called
/// then. In a process made by `fork` nobody hears anything until it is set again.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_log_set(
    level: i32,
    callback: appxmpp_log_callback,
    userdata: *mut c_void,
    finalizer: appxmpp_log_finalizer,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        if !(APPXMPP_LOG_OFF..=APPXMPP_LOG_DEBUG).contains(&level) {
            return Err(Failure::argument(format!(
                "{level} is not a log level; use APPXMPP_LOG_OFF, _ERROR, _WARN, _INFO or _DEBUG"
            )));
        }
        install()?;
        let callback = callback.filter(|_| level != APPXMPP_LOG_OFF);
        let sink = callback.map(|callback| Arc::new(Sink { callback, userdata, finalizer }));
        let level = if sink.is_some() { level } else { APPXMPP_LOG_OFF };
        if sink.is_none() {
            // Nobody will ever call it.
            drop(Sink { callback: silent, userdata, finalizer });
        }
        LEVEL.store(level, Ordering::Relaxed);
        drop(Listeners::of_this_process().replace(sink));
        tracing::callsite::rebuild_interest_cache();
        Ok(())
    })
}

unsafe extern "C" fn silent(_: *mut c_void, _: i32, _: *const c_char, _: *const c_char, _: usize) {}

/// Listens to the core, from the first time on.
fn install() -> Result<(), Failure> {
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    if *INSTALLED.get_or_init(|| tracing::subscriber::set_global_default(Listener).is_ok()) {
        return Ok(());
    }
    let text = "something else in this process hears the library already; ask it for the records";
    Err(engine::Error::new(ErrorKind::Internal, text).into())
}
