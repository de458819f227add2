//! One app on one connection.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use appxmpp::net::{
    self, AppConfig, AppStats, Backend, Claimed, ConnectionConfig, Outcome, Secret, runtime,
};
use appxmpp::service::address::Presentation;
use appxmpp::service::{
    self, InboundServices, MessageCall, PresenceCall, Quotas, ServiceConfig, Status,
};
use appxmpp::{Error, ErrorKind};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::PyDict;

use crate::error::{guarded, raised, unavailable};
use crate::fork::{self, Close};
use crate::wait::{detached, seconds, wait};

/// How long a call waits for room in the outgoing queue before it gives up a message.
const SEND_WAIT: Duration = Duration::from_secs(30);

/// What is wrong with a durable app that keeps nothing.
const NO_STATE: &str = "durable is set and there is no state file, so nothing could be kept; name one (state=, --state or APPXMPP_STATE), or leave durable out";

/// What is needed to open the connection.
struct Settings {
    connection: ConnectionConfig,
    service: ServiceConfig,
    state: Option<String>,
    durable: bool,
}

impl Settings {
    fn open(&self) -> appxmpp::Result<net::App> {
        let mut config = AppConfig::new(self.service.addresses.app_id(), self.connection.clone())?;
        config.service = self.service.clone();
        if let Some(path) = &self.state {
            config.store = appxmpp::store::open(path)?;
        }
        config.durable = self.durable;
        net::App::open(config)
    }
}

/// The part of an app that the interpreter's end can still close.
struct Live(net::App);

impl Close for Live {
    fn close_within(&self, py: Python<'_>, deadline: Duration) {
        // Nobody may be left to handle deliveries under way, so they are not waited for.
        let at_once = |_: Duration| ControlFlow::Break(());
        py.detach(|| self.0.close_checked(deadline, Duration::ZERO, at_once));
    }
}

/// One application on one connection to an XMPP server; see `_native.pyi`.
#[pyclass(frozen, module = "appxmpp._native")]
pub(crate) struct App {
    settings: Settings,
    /// The process that made this; a forked one must not touch the lock below.
    generation: u32,
    opening: Mutex<()>,
    live: OnceLock<Arc<Live>>,
}

impl App {
    fn live(&self, py: Python<'_>) -> PyResult<&net::App> {
        match self.live.get() {
            Some(live) => Ok(&live.0),
            None => self.open(py),
        }
    }

    #[cold]
    fn open(&self, py: Python<'_>) -> PyResult<&net::App> {
        if self.generation != runtime::generation() {
            return Err(unavailable(
                "this App was made before fork() and belongs to the parent process; make another in this one",
            ));
        }
        py.import("appxmpp.corelog")?.call_method0("start")?;
        py.detach(|| {
            let _one = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
            if self.live.get().is_none() {
                let _ = self.live.set(Arc::new(Live(self.settings.open()?)));
            }
            Ok(())
        })
        .map_err(|error| raised(&error))?;
        let live = self.live.get().ok_or_else(|| unavailable("the app could not be opened"))?;
        let what: Arc<dyn Close> = Arc::<Live>::clone(live);
        fork::close_at_exit(py, Arc::downgrade(&what))?;
        Ok(&live.0)
    }
}

#[pymethods]
impl App {
    #[new]
    #[pyo3(signature = (
        backend, *, secret=None, app_id=None, inbound_services=None, state=None,
        bodiless_messages=false, durable=false, quotas=None, keepalive=None, version=None,
        addresses=None
    ))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of Python's")]
    fn new(
        backend: &str,
        secret: Option<String>,
        app_id: Option<&str>,
        inbound_services: Option<Vec<PyBackedStr>>,
        state: Option<String>,
        bodiless_messages: bool,
        durable: bool,
        quotas: Option<HashMap<String, u64>>,
        keepalive: Option<f64>,
        version: Option<&str>,
        addresses: Option<&str>,
    ) -> PyResult<Self> {
        guarded(|| {
            let keepalive = keepalive.map(seconds).transpose()?;
            let settings = || {
                let backend = Backend::parse(backend)?;
                let inbound = match &inbound_services {
                    None => InboundServices::ALL,
                    Some(names) => InboundServices::from_names(names.iter().map(|name| &**name))?,
                };
                let secret = secret.map(Secret::new);
                let mut connection = ConnectionConfig::for_backend(&backend, secret)?;
                if let Some(idle) = keepalive {
                    connection.set_keepalive(Some(idle).filter(|idle| !idle.is_zero()));
                }
                let shown = addresses.map_or(Ok(Presentation::Domain), Presentation::from_name)?;
                let own = connection.addresses_of(app_id, version)?.with_presentation(shown);
                let mut service = ServiceConfig::at(own);
                service.inbound = inbound;
                service.bodiless_messages = bodiless_messages;
                service.quotas = Quotas::from_names(quotas.unwrap_or_default())?;
                if durable && state.is_none() {
                    return Err(Error::new(ErrorKind::Config, NO_STATE));
                }
                Ok(Settings { connection, service, state, durable })
            };
            let settings = settings().map_err(|error| raised(&error))?;
            let generation = runtime::generation();
            Ok(Self { settings, generation, opening: Mutex::new(()), live: OnceLock::new() })
        })
    }

    #[getter]
    fn app_id(&self) -> &str {
        self.settings.service.addresses.app_id()
    }

    #[getter]
    fn domain(&self) -> &str {
        &self.settings.connection.domain
    }

    fn wait_ready(&self, py: Python<'_>, timeout: f64) -> PyResult<bool> {
        guarded(|| {
            let timeout = seconds(timeout)?;
            let connection = self.live(py)?.connection().map_err(|error| raised(&error))?;
            match wait(py, connection.ready(), timeout)? {
                None => Ok(false),
                Some(ready) => ready.map(|()| true).map_err(|error| raised(&error)),
            }
        })
    }

    fn send_message(
        &self,
        py: Python<'_>,
        jids: Vec<PyBackedStr>,
        body: &str,
        from_jid: Option<&str>,
        message_type: &str,
        raw_xml: bool,
    ) -> PyResult<Vec<i32>> {
        guarded(|| {
            let app = self.live(py)?;
            let jids: Vec<&str> = jids.iter().map(|jid| &**jid).collect();
            let call =
                MessageCall { jids: &jids, body, from: from_jid, type_: message_type, raw_xml };
            let statuses = detached(py, |watch| {
                app.send_message_checked(&call, SEND_WAIT, watch.slice, watch.check)
            })?;
            let statuses = statuses.map_err(|error| raised(&error))?;
            Ok(statuses.into_iter().map(|status| status as i32).collect())
        })
    }

    fn send_presence(
        &self,
        py: Python<'_>,
        jid: &str,
        presence_type: &str,
        show: &str,
        status: Option<&str>,
        from_jid: Option<&str>,
    ) -> PyResult<()> {
        guarded(|| {
            let app = self.live(py)?;
            let call = PresenceCall { jid, type_: presence_type, show, status, from: from_jid };
            // What is not sent now is told when a stream is up, so its status is of no interest.
            let sent = wait(py, app.send_presence(&call), SEND_WAIT)?;
            sent.map_or(Ok(()), |sent| sent.map(|_| ()).map_err(|error| raised(&error)))
        })
    }

    fn send_invite(&self, py: Python<'_>, jid: &str, from_jid: Option<&str>) -> PyResult<()> {
        guarded(|| {
            let app = self.live(py)?;
            match wait(py, app.send_invite(jid, from_jid), SEND_WAIT)? {
                Some(Ok(Status::NoError)) => Ok(()),
                Some(Err(error)) => Err(raised(&error)),
                _ => Err(unavailable("the invitation could not be sent; ask again later")),
            }
        })
    }

    fn get_presence(
        &self,
        py: Python<'_>,
        jids: Vec<PyBackedStr>,
        from_jid: Option<&str>,
    ) -> PyResult<Vec<(bool, Option<i32>, bool)>> {
        guarded(|| {
            let app = self.live(py)?;
            let jids: Vec<&str> = jids.iter().map(|jid| &**jid).collect();
            let answers = py.detach(|| app.get_presence(&jids, from_jid));
            let answers = answers.map_err(|error| raised(&error))?.into_iter();
            let answers =
                answers.map(|one| (one.available, one.show.map(|show| show as i32), one.valid));
            Ok(answers.collect())
        })
    }

    fn next_batch(&self, py: Python<'_>, max: usize, timeout: f64) -> PyResult<Vec<Delivery>> {
        guarded(|| {
            let timeout = seconds(timeout)?;
            let app = self.live(py)?;
            match wait(py, app.next_batch(max), timeout)? {
                None => Ok(Vec::new()),
                Some(Ok(claimed)) => Ok(claimed.into_iter().map(Delivery::new).collect()),
                Some(Err(error)) => Err(raised(&ended(app, error))),
            }
        })
    }

    fn done(&self, delivery: &Bound<'_, Delivery>, status: u16) -> PyResult<()> {
        guarded(|| {
            let handled = (200..400).contains(&status);
            delivery.get().done(if handled { Outcome::Handled } else { Outcome::Failed });
            Ok(())
        })
    }

    fn close(&self, py: Python<'_>, timeout: f64) -> PyResult<()> {
        guarded(|| {
            let timeout = seconds(timeout)?;
            let Some(live) = self.live.get() else { return Ok(()) };
            detached(py, |watch| live.0.close_checked(timeout, watch.slice, watch.check))
        })
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        guarded(|| {
            let stats = self.live(py)?.stats().map_err(|error| raised(&error))?;
            let dict = PyDict::new(py);
            for (name, number) in AppStats::NAMES.into_iter().zip(stats.numbers()) {
                if number != AppStats::NO_NUMBER {
                    dict.set_item(name, number)?;
                }
            }
            Ok(dict)
        })
    }

    fn __repr__(&self) -> String {
        format!("<App {} at {}>", self.app_id(), self.domain())
    }
}

/// Why no delivery will come: where the connection knows better, its reason.
fn ended(app: &net::App, error: Error) -> Error {
    match app.connection().and_then(|connection| connection.wait_ready(Duration::ZERO)) {
        Err(reason) if reason.kind() != ErrorKind::Closed => reason,
        _ => error,
    }
}

/// An inbound stanza on its way to the app; see `_native.pyi`.
#[pyclass(frozen, module = "appxmpp._native")]
pub(crate) struct Delivery {
    delivery: Arc<service::Delivery>,
    claimed: Mutex<Option<Claimed>>,
}

impl Delivery {
    fn new(claimed: Claimed) -> Self {
        Self { delivery: Arc::clone(claimed.delivery()), claimed: Mutex::new(Some(claimed)) }
    }

    fn done(&self, outcome: Outcome) {
        let claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut claimed) = claimed {
            claimed.done(outcome);
        }
    }
}

#[pymethods]
impl Delivery {
    #[getter]
    fn id(&self) -> u64 {
        self.delivery.id
    }

    #[getter]
    fn stanza_id(&self) -> Option<&str> {
        self.delivery.stanza.id()
    }

    #[getter]
    fn path(&self) -> &str {
        self.delivery.path
    }

    #[getter]
    fn service(&self) -> &str {
        self.delivery.service.as_str()
    }

    #[getter]
    fn fields(&self) -> Vec<(&str, &str)> {
        self.delivery.fields.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }

    #[getter]
    fn sender(&self) -> &str {
        &self.delivery.sender
    }

    fn __repr__(&self) -> String {
        format!("<Delivery {} to {} from {}>", self.id(), self.path(), self.sender())
    }
}
