//! A live connection of one app: opened once, kept up behind its handle.

use std::ffi::c_char;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use engine::ErrorKind;
use engine::net::{App, Claimed, block_on, runtime};
use engine::stanza::{Form, present};
use engine::xml::{Element, Scope};

use crate::bell::Bell;
use crate::error::{Failure, appxmpp_error, appxmpp_result};
use crate::ffi::{self, Kept, Out, appxmpp_str};
use crate::options::appxmpp_options;
use crate::stanza::appxmpp_stanza;
use crate::watch::Watch;

/// The time that never passes.
pub const APPXMPP_FOREVER: u64 = u64::MAX;

/// One app on one connection to an XMPP server. When the stream breaks it is made anew, for ever,
/// unless the server refuses the credentials.
#[allow(non_camel_case_types)]
pub struct appxmpp_connection {
    /// The process that opened it; in a forked one nothing of the rest may be touched.
    generation: u32,
    live: ManuallyDrop<Live>,
}

pub(crate) struct Live {
    pub(crate) app: App,
    pub(crate) send_timeout: Duration,
    pub(crate) bell: Arc<Bell>,
    pub(crate) watch: Watch,
    address: Kept,
}

impl Drop for appxmpp_connection {
    fn drop(&mut self) {
        if self.generation == runtime::generation() {
            // SAFETY: dropped once, here, and not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.live) };
        }
    }
}

impl appxmpp_connection {
    fn open(backend: Option<&str>, options: Option<&appxmpp_options>) -> Result<Self, Failure> {
        crate::fork::watch()?;
        let default = appxmpp_options::default();
        let options = options.unwrap_or(&default);
        let app = App::open(options.app_config(backend)?)?;
        let address = Kept::new(app.service()?.addresses().default_sender().as_str());
        let live = Live {
            app,
            send_timeout: options.send_timeout,
            bell: Arc::default(),
            watch: Watch::default(),
            address,
        };
        Ok(Self { generation: runtime::generation(), live: ManuallyDrop::new(live) })
    }

    /// What is behind the handle, unless this process was forked after it was opened.
    pub(crate) fn live(&self) -> Result<&Live, Failure> {
        if self.generation == runtime::generation() {
            return Ok(&self.live);
        }
        let text = "this connection was opened before fork() and belongs to the parent process; open another in this one";
        Err(engine::Error::new(ErrorKind::Closed, text).into())
    }
}

impl Live {
    /// Waits for `future`; `None` if `timeout_ms` was too short.
    pub(crate) fn wait<F: Future>(
        &self,
        future: F,
        timeout_ms: u64,
    ) -> Result<Option<F::Output>, Failure> {
        let mut waiting = self.bell.begin()?;
        let mut future = pin!(future);
        let either = std::future::poll_fn(|context: &mut Context<'_>| {
            if waiting.interrupted(context.waker()) {
                return Poll::Ready(Err(Failure::interrupted()));
            }
            future.as_mut().poll(context).map(Ok)
        });
        block_on(either, timeout(timeout_ms)).transpose()
    }

    /// Up to `max` deliveries, as soon as there is one; none if `timeout_ms` was too short. Each is of
    /// another sender.
    pub(crate) fn next(&self, max: usize, timeout_ms: u64) -> Result<Vec<Claimed>, Failure> {
        // The usual case while much comes in: one is there. Nothing needs to be woken then.
        if !self.watch.is_started() && !self.bell.is_interrupted() {
            let claim = pin!(self.app.next_batch(max));
            let mut context = Context::from_waker(Waker::noop());
            if let Poll::Ready(claimed) = claim.poll(&mut context) {
                return Ok(claimed?);
            }
        }
        loop {
            let mut claim = pin!(self.app.next_batch(max));
            let next = std::future::poll_fn(|context: &mut Context<'_>| {
                if let Some(taken) = self.watch.take(&self.app, &self.bell, max) {
                    return taken;
                }
                claim.as_mut().poll(context)
            });
            match self.wait(next, timeout_ms)? {
                Some(next) => return Ok(next?),
                None if timeout_ms == APPXMPP_FOREVER => {}
                None => return Ok(Vec::new()),
            }
        }
    }

    /// The element of `stanza` for this connection's stream, with the app's own address as `from`
    /// if it has none.
    fn outgoing(&self, stanza: &appxmpp_stanza) -> Result<Element, Failure> {
        let connection = self.app.connection()?;
        let mut element = stanza.in_namespace(connection.namespace()?)?;
        // An account's server knows who sends.
        let account = self.app.service()?.addresses().is_account();
        if element.attr("from").is_none() && !account {
            element.set_attr("from", self.address.as_str());
        }
        Ok(element)
    }
}

fn timeout(ms: u64) -> Option<Duration> {
    (ms != APPXMPP_FOREVER).then(|| Duration::from_millis(ms))
}

/// Starts to connect as the app that `backend` names, in the form of `APPXMPP_BACKEND`:
/// `component://DOMAIN:SECRET@HOST[:PORT]`, `component+unix://DOMAIN:SECRET@/path/to.sock`,
/// `component+tls://DOMAIN:SECRET@HOST[:PORT]` or, for an ordinary account,
/// `client://LOCALPART:PASSWORD@DOMAIN[:PORT]`, where
/// `:SECRET` may be left out (see `appxmpp_options_set_secret`); the options that may follow are the
/// README's. Without a port, and with the library's feature `srv`, the DNS is asked where an account's
/// server listens (RFC 6120 section 3.2.1). What other programs may have there besides is refused:
/// `stub:`, and a gateway's `http://`, whose API a program in C calls itself. NULL means the environment's
/// `APPXMPP_BACKEND`. `options` may be NULL. `out` receives a new handle, before the stream is up:
/// `appxmpp_connection_wait_ready` waits for that. The first connection of a process starts the
/// library's thread.
///
/// Fails with `APPXMPP_CONFIG` for a setting that is missing or malformed, `APPXMPP_STORE` if the
/// state file cannot be used, `APPXMPP_INTERNAL` if no thread can be started.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_connection_open(
    backend: *const c_char,
    len: usize,
    options: *const appxmpp_options,
    out: *mut *mut appxmpp_connection,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        let (backend, options, out) = unsafe {
            (ffi::optional_text(backend, len, "backend")?, options.as_ref(), Out::new(out, "out")?)
        };
        out.set(ffi::give(appxmpp_connection::open(backend, options)?));
        Ok(())
    })
}

/// Waits until a stream is up, at most `timeout_ms` milliseconds (`APPXMPP_FOREVER`: without end).
///
/// Fails with `APPXMPP_TIMEOUT`, `APPXMPP_INTERRUPTED`, `APPXMPP_NOT_AUTHORIZED` if the server
/// refused the credentials for good, and `APPXMPP_CLOSED`.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_connection_wait_ready(
    connection: *const appxmpp_connection,
    timeout_ms: u64,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        let live = unsafe { ffi::borrow(connection, "connection")? }.live()?;
        let ready = live.app.connection()?.ready();
        match live.wait(ready, timeout_ms)? {
            Some(ready) => Ok(ready?),
            None => Err(Failure::timeout(format!(
                "no stream was up within {timeout_ms} ms; it is being tried again, so wait longer or see the log"
            ))),
        }
    })
}

/// Whether a stream is up now; `false` if `connection` is NULL.
///
/// # Safety
/// `connection` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_connection_is_ready(
    connection: *const appxmpp_connection,
) -> bool {
    let is_ready = |connection: &appxmpp_connection| {
        let live = connection.live().ok();
        live.and_then(|live| live.app.connection().ok()).is_some_and(|inner| inner.is_ready())
    };
    // SAFETY: as this function's own contract.
    unsafe { ffi::read(connection, false, is_ready) }
}

/// The address that the app sends from unless it says otherwise, `APP_ID@DOMAIN/bot`; empty if
/// `connection` is NULL. Lives as long as `connection`.
///
/// # Safety
/// `connection` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_connection_address(
    connection: *const appxmpp_connection,
) -> appxmpp_str {
    // The address itself has no lock and is there in a forked process too.
    // SAFETY: as this function's own contract.
    unsafe {
        ffi::read(connection, appxmpp_str::EMPTY, |connection| connection.live.address.lend())
    }
}

/// Sends one stanza; returns when it is written to a live stream. Without a `from`, the app's own
/// address is set.
///
/// Fails with `APPXMPP_NOT_CONNECTED` if no stream is up, `APPXMPP_INVALID_SENDER` for a `from` that
/// is not of the component's domain, `APPXMPP_TOO_LARGE`, `APPXMPP_TIMEOUT` if the socket did not
/// take it in the options' send timeout (it may be written later), and `APPXMPP_CLOSED`.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_connection_send_stanza(
    connection: *const appxmpp_connection,
    stanza: *const appxmpp_stanza,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        let (live, stanza) = unsafe {
            (ffi::borrow(connection, "connection")?.live()?, ffi::borrow(stanza, "stanza")?)
        };
        let connection = live.app.connection()?;
        let mut xml = String::new();
        live.outgoing(stanza)?.write_to(&mut xml, &Scope::stream(connection.namespace()?));
        connection.send_blocking(&xml, live.send_timeout)?;
        Ok(())
    })
}

/// Sends an iq of type `get` or `set` and waits for its answer, at most `timeout_ms` milliseconds;
/// `out` receives a new handle. Without an `id` one is set, without a `from` the app's own address.
/// An answer of type `error` is no failure: it is the answer.
///
/// Fails with `APPXMPP_TIMEOUT` if no answer came, `APPXMPP_INVALID_XML` for what is no request,
/// `APPXMPP_BUSY` if too many requests wait; otherwise as `appxmpp_connection_send_stanza`.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_connection_request(
    connection: *const appxmpp_connection,
    iq: *const appxmpp_stanza,
    timeout_ms: u64,
    out: *mut *mut appxmpp_stanza,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        let (live, iq, out) = unsafe {
            (
                ffi::borrow(connection, "connection")?.live()?,
                ffi::borrow(iq, "iq")?,
                Out::new(out, "out")?,
            )
        };
        // A year is for ever, and fits every clock.
        let limit = Duration::from_secs(365 * 24 * 3600);
        let timeout = timeout(timeout_ms).unwrap_or(limit).min(limit);
        let answer = live.app.connection()?.request_blocking(live.outgoing(iq)?, timeout)?;
        out.set(ffi::give(appxmpp_stanza::parse(&present(&answer, Form::Client))?));
        Ok(())
    })
}

/// Ends every wait for readiness or for an event on this connection with `APPXMPP_INTERRUPTED`; if
/// there is none, the next one. It may be called from any thread, but not from a signal handler.
/// NULL is allowed.
///
/// # Safety
/// `connection` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_connection_interrupt(connection: *const appxmpp_connection) {
    let interrupt = |connection: &appxmpp_connection| {
        if let Ok(live) = connection.live() {
            live.bell.interrupt();
        }
    };
    // SAFETY: as this function's own contract.
    unsafe { ffi::read(connection, (), interrupt) }
}

/// A file descriptor for `poll` and the like: readable while an event waits, after an interrupt, and
/// once the connection is closed and no event is left. Do not read, write or close it; it lives as
/// long as `connection`. When it is readable, call `appxmpp_connection_next_event` with a timeout of
/// 0; it may find nothing if another thread was faster.
///
/// Fails with `APPXMPP_INTERNAL` if the process has no descriptor left, and `APPXMPP_CLOSED`.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_connection_fd(
    connection: *const appxmpp_connection,
    out: *mut i32,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        let (live, out) =
            unsafe { (ffi::borrow(connection, "connection")?.live()?, Out::new(out, "out")?) };
        let fd = live.bell.descriptor().map_err(|error| {
            let text =
                format!("no file descriptor can be made ({error}); raise the process's limits");
            Failure::from(engine::Error::new(ErrorKind::Internal, text))
        })?;
        live.watch.start(&live.app, &live.bell);
        out.set(fd);
        Ok(())
    })
}

/// Closes the connection: no more events come in, those under way are waited for, contacts are told,
/// the stream is closed; all of it in at most `deadline_ms` milliseconds. Events that wait are still
/// given to `appxmpp_connection_next_event` meanwhile. Waits on other threads end with
/// `APPXMPP_CLOSED`. The handle remains to be freed.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_connection_close(
    connection: *const appxmpp_connection,
    deadline_ms: u64,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        let live = unsafe { ffi::borrow(connection, "connection")? }.live()?;
        let limit = Duration::from_secs(365 * 24 * 3600);
        live.app.close_blocking(Duration::from_millis(deadline_ms).min(limit));
        Ok(())
    })
}

/// Frees a connection; NULL is allowed. One that was not closed is closed now, without waiting for
/// anything. Events taken from it stay valid until they are freed.
///
/// # Safety
/// `connection` is NULL or live, and not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_connection_free(connection: *mut appxmpp_connection) {
    // SAFETY: as this function's own contract.
    unsafe { ffi::take_back(connection) };
}
