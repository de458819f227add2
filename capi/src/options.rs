//! What a connection can be told beyond its backend.

use std::env;
use std::ffi::c_char;
use std::time::Duration;

use engine::ErrorKind;
use engine::auth::Secret;
use engine::net::{AppConfig, Backend};
use engine::service::address::Presentation;
use engine::service::{InboundServices, Quotas, Resource};

use crate::error::{Failure, appxmpp_error, appxmpp_result};
use crate::ffi::{self, Out};

/// How long a call waits for the socket to take what it sends.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// Settings of a connection. What is not set has its default.
#[derive(Clone)]
#[allow(non_camel_case_types)]
pub struct appxmpp_options {
    app_id: Option<String>,
    version: Option<String>,
    addresses: Presentation,
    secret: Option<Secret>,
    inbound: InboundServices,
    state_file: Option<String>,
    durable: bool,
    quotas: Quotas,
    /// `Some(None)` for never.
    keepalive: Option<Option<Duration>>,
    bodiless_messages: bool,
    pub(crate) send_timeout: Duration,
}

impl Default for appxmpp_options {
    fn default() -> Self {
        Self {
            app_id: None,
            version: None,
            addresses: Presentation::default(),
            secret: None,
            inbound: InboundServices::ALL,
            state_file: None,
            durable: false,
            quotas: Quotas::default(),
            keepalive: None,
            bodiless_messages: false,
            send_timeout: SEND_TIMEOUT,
        }
    }
}

impl appxmpp_options {
    /// The app's settings on `backend`, or on the one that the environment names.
    pub(crate) fn app_config(&self, backend: Option<&str>) -> Result<AppConfig, Failure> {
        let backend = match backend {
            Some(text) => parse_backend(text)?,
            None => parse_backend(&environment("APPXMPP_BACKEND")?.ok_or_else(no_backend)?)?,
        };
        let own = backend.secret().is_some();
        let secret = match &self.secret {
            _ if own => None,
            Some(secret) => Some(secret.clone()),
            None => environment_secret()?,
        };
        let app_id = self.app_id.as_deref();
        let mut config = AppConfig::for_backend(&backend, secret, app_id, self.inbound)?;
        let addresses = config.connection.addresses_of(app_id, self.version.as_deref())?;
        config.service.addresses = addresses.with_presentation(self.addresses);
        config.service.bodiless_messages = self.bodiless_messages;
        config.service.quotas = self.quotas;
        if let Some(idle) = self.keepalive {
            config.connection.set_keepalive(idle);
        }
        if self.durable && self.state_file.is_none() {
            return Err(no_state());
        }
        config.durable = self.durable;
        if let Some(path) = &self.state_file {
            config.store = engine::store::open(path)?;
        }
        Ok(config)
    }
}

/// What other programs may have as a backend is told apart from what nobody has.
fn parse_backend(text: &str) -> Result<Backend, Failure> {
    if text.starts_with("http://") || text.starts_with("https://") {
        return Err(config(
            "the backend is a gateway's URL, which this library does not speak to; name a server with component://DOMAIN:SECRET@HOST or client://LOCALPART:PASSWORD@DOMAIN, or call the gateway's HTTP API"
                .to_owned(),
        ));
    }
    Ok(Backend::parse(text)?)
}

fn config(text: String) -> Failure {
    engine::Error::new(ErrorKind::Config, text).into()
}

fn no_state() -> Failure {
    config(
        "durable is set and there is no state file, so nothing could be kept; name one with appxmpp_options_set_state_file, or leave durable out"
            .to_owned(),
    )
}

fn no_backend() -> Failure {
    config(
        "no backend was given and APPXMPP_BACKEND is not set; set it to component://DOMAIN:SECRET@HOST or client://LOCALPART:PASSWORD@DOMAIN"
            .to_owned(),
    )
}

/// A variable of the environment; an empty one counts as none.
fn environment(name: &str) -> Result<Option<String>, Failure> {
    match env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => {
            Err(config(format!("{name} is not UTF-8; set it to text encoded in UTF-8")))
        }
    }
}

/// What `APPXMPP_SECRET` holds, or the file that `APPXMPP_SECRET_FILE` names.
fn environment_secret() -> Result<Option<Secret>, Failure> {
    if let Some(secret) = environment("APPXMPP_SECRET")? {
        return Ok(Some(Secret::new(secret)));
    }
    let Some(path) = environment("APPXMPP_SECRET_FILE")? else { return Ok(None) };
    let content = std::fs::read_to_string(&path).map(Secret::new).map_err(|error| {
        config(format!(
            "APPXMPP_SECRET_FILE names {path:?}, which cannot be read ({error}); give a readable text file that holds the secret alone"
        ))
    })?;
    match content.expose().trim() {
        "" => Err(config(format!(
            "APPXMPP_SECRET_FILE names {path:?}, which is empty; write the secret into it"
        ))),
        secret => Ok(Some(Secret::new(secret))),
    }
}

/// Starts with the default of every setting; `out` receives a new handle.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_options_new(
    out: *mut *mut appxmpp_options,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        let out = unsafe { Out::new(out, "out")? };
        out.set(ffi::give(appxmpp_options::default()));
        Ok(())
    })
}

/// Sets the application id, the localpart of the address that the app sends from. By default it is
/// the first label of the component's domain.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_options_set_app_id(
    options: *mut appxmpp_options,
    app_id: *const c_char,
    len: usize,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        let (options, app_id) =
            unsafe { (ffi::borrow_mut(options, "options")?, ffi::text(app_id, len, "app_id")?) };
        options.app_id = Some(app_id.to_owned());
        Ok(())
    })
}

/// Sets which version of the app this is, unless it is the default one: the component is then called
/// `VERSION.latest.DOMAIN`, and what the app sends from an address of the default version goes out from
/// the same name at its own. If the component is not called so, opening the connection fails with
/// `APPXMPP_CONFIG`.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_options_set_version(
    options: *mut appxmpp_options,
    version: *const c_char,
    len: usize,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        let (options, version) =
            unsafe { (ffi::borrow_mut(options, "options")?, ffi::text(version, len, "version")?) };
        options.version = Some(version.to_owned());
        Ok(())
    })
}

/// Sets in which form the fields of events have the app's own addresses: `domain`, the default, as they
/// are, or `appengine`, as `APP_ID@appspot.com` and `anything@APP_ID.appspotchat.com`. What the app sends
/// may be from either.
///
/// Fails with `APPXMPP_CONFIG` for another form.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_options_set_addresses(
    options: *mut appxmpp_options,
    form: *const c_char,
    len: usize,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        let (options, form) =
            unsafe { (ffi::borrow_mut(options, "options")?, ffi::text(form, len, "form")?) };
        options.addresses = Presentation::from_name(form)?;
        Ok(())
    })
}

/// Sets the secret that the component shares with the server, for a backend whose text has none. By
/// default it is what `APPXMPP_SECRET` holds, or the file that `APPXMPP_SECRET_FILE` names.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_options_set_secret(
    options: *mut appxmpp_options,
    secret: *const c_char,
    len: usize,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        let (options, secret) =
            unsafe { (ffi::borrow_mut(options, "options")?, ffi::text(secret, len, "secret")?) };
        options.secret = Some(Secret::new(secret));
        Ok(())
    })
}

/// Sets which events the app wants, by the names of App Engine's `inbound_services`: `xmpp_message`,
/// `xmpp_presence`, `xmpp_subscribe`, `xmpp_error`. By default all. `names` are `count` strings,
/// `lens` their lengths; NULL lengths mean that all are NUL-terminated.
///
/// Fails with `APPXMPP_CONFIG` for a name that begins with `xmpp` and is none of these; other names
/// are passed over.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_options_set_inbound_services(
    options: *mut appxmpp_options,
    names: *const *const c_char,
    lens: *const usize,
    count: usize,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        let (options, names) = unsafe {
            (ffi::borrow_mut(options, "options")?, ffi::texts(names, lens, count, "names")?)
        };
        options.inbound = InboundServices::from_names(names)?;
        Ok(())
    })
}

/// Sets the file in which subscriptions and presence survive a restart; it is made if it is not
/// there. By default nothing survives.
///
/// With the feature postgres a `postgresql://` URL can be given instead, with sslmode and sslrootcert
/// as libpq has them; to another machine it is verify-full if nothing is said. A library built without
/// what is asked for fails with `APPXMPP_CONFIG` when the connection is opened.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_options_set_state_file(
    options: *mut appxmpp_options,
    path: *const c_char,
    len: usize,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        let (options, path) =
            unsafe { (ffi::borrow_mut(options, "options")?, ffi::text(path, len, "path")?) };
        options.state_file = Some(path.to_owned());
        Ok(())
    })
}

/// Sets whether messages, presence and invitations are on disk before they count as sent, and kept
/// until the server has read them, and events until they are done: all then survive a broken stream
/// and a restart. By default they do not. It takes a state file: without one, opening the connection
/// fails with `APPXMPP_CONFIG`.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_options_set_durable(
    options: *mut appxmpp_options,
    durable: bool,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        unsafe { ffi::borrow_mut(options, "options")? }.durable = durable;
        Ok(())
    })
}

/// Sets how much of a resource the app may use in a day of UTC: `api_calls`, `data_sent_bytes`,
/// `recipients_messaged` or `invitations_sent`. By default all are counted and none has a limit. A call
/// that would use more fails with `APPXMPP_OVER_QUOTA`, and does nothing.
///
/// Fails with `APPXMPP_CONFIG` for another name.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_options_set_quota(
    options: *mut appxmpp_options,
    name: *const c_char,
    len: usize,
    limit: u64,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        let (options, name) =
            unsafe { (ffi::borrow_mut(options, "options")?, ffi::text(name, len, "name")?) };
        options.quotas = options.quotas.with(Resource::parse(name)?, limit);
        Ok(())
    })
}

/// Sets after how much silence the server is asked whether it is still there; 0 for never. Default
/// 60,000.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_options_set_keepalive(
    options: *mut appxmpp_options,
    idle_ms: u64,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        let options = unsafe { ffi::borrow_mut(options, "options")? };
        options.keepalive = Some((idle_ms > 0).then(|| Duration::from_millis(idle_ms)));
        Ok(())
    })
}

/// Sets whether messages without a body (chat states, receipts) become events, without the field
/// `body`. By default they do not: App Engine's apps never saw any.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_options_set_bodiless_messages(
    options: *mut appxmpp_options,
    wanted: bool,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        unsafe { ffi::borrow_mut(options, "options")? }.bodiless_messages = wanted;
        Ok(())
    })
}

/// Sets how long a call that sends waits while the socket takes nothing more; default 30,000. What
/// is not written by then has failed.
///
/// # Safety
/// See the conventions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_options_set_send_timeout(
    options: *mut appxmpp_options,
    timeout_ms: u64,
    error: *mut *mut appxmpp_error,
) -> appxmpp_result {
    ffi::boundary(error, || {
        // SAFETY: the caller keeps the conventions.
        let options = unsafe { ffi::borrow_mut(options, "options")? };
        options.send_timeout = Duration::from_millis(timeout_ms);
        Ok(())
    })
}

/// Frees settings; NULL is allowed. Connections opened with them keep their copy.
///
/// # Safety
/// `options` is NULL or live, and not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn appxmpp_options_free(options: *mut appxmpp_options) {
    // SAFETY: as this function's own contract.
    unsafe { ffi::take_back(options) };
}
