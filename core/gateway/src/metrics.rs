//! What the daemon counts, for `/metrics` in OpenMetrics text. Addresses are never labels.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use appxmpp::service::{OutboxStats, Usage};

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::deliver::client::Failure;

/// What a delivery is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Route {
    /// A mod_rest callback.
    Callback,
    /// `/_ah/xmpp/message/…`
    Message,
    /// `/_ah/xmpp/presence/…`
    Presence,
    /// `/_ah/xmpp/subscription/…`
    Subscription,
    /// `/_ah/xmpp/error/`
    Error,
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeliveryOutcome {
    /// 2xx.
    Ok,
    /// 3xx, 4xx.
    Rejected,
    /// 5xx.
    Error,
    /// 502, 503 or 504.
    Unavailable,
    /// No connection.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// An unreadable answer.
    Broken,
    /// No room in the queue.
    Refused,
    /// The webhook's URL or its answer is nothing that could be used.
    Unusable,
    /// The daemon stopped before the last attempt.
    Stopped,
}

impl DeliveryOutcome {
    /// The outcome that a status stands for.
    pub fn of(status: u16) -> Self {
        match status {
            200..300 => Self::Ok,
            502..=504 => Self::Unavailable,
            500.. => Self::Error,
            _ => Self::Rejected,
        }
    }

    /// The outcome that a failure stands for.
    pub fn failed(failure: &Failure) -> Self {
        match failure {
            Failure::Connect(_) => Self::Unreachable,
            Failure::Timeout => Self::Timeout,
            Failure::Broken(_) => Self::Broken,
            Failure::Unusable(_) => Self::Unusable,
        }
    }
}

/// Which way a stanza went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the server.
    In,
    /// To the server.
    Out,
}

/// Label values are words in lower case.
macro_rules! words {
    ($($type_:ident { $($variant:ident = $word:literal),* $(,)? })*) => {$(
        impl $type_ {
            /// The word for it.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }

        impl EncodeLabelValue for $type_ {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
                EncodeLabelValue::encode(&self.word(), encoder)
            }
        }
    )*};
}

words! {
    Route {
        Callback = "callback",
        Message = "message",
        Presence = "presence",
        Subscription = "subscription",
        Error = "error",
    }
    DeliveryOutcome {
        Ok = "ok",
        Rejected = "rejected",
        Error = "error",
        Unavailable = "unavailable",
        Unreachable = "unreachable",
        Timeout = "timeout",
        Broken = "broken",
        Unusable = "unusable",
        Refused = "refused",
        Stopped = "stopped",
    }
    Direction { In = "in", Out = "out" }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AppLabel {
    app: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeliveryLabels {
    route: Route,
    outcome: DeliveryOutcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StanzaLabels {
    direction: Direction,
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    resource: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    app: String,
    reason: &'static str,
}

/// What is counted for every message, so that it need not be looked up by its labels again.
#[derive(Debug, Default)]
struct Found {
    stanzas: [[OnceLock<Counter>; 4]; 2],
    deliveries: [OnceLock<(Counter, Histogram)>; 5],
}

/// All counters.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    up: Family<AppLabel, Gauge>,
    standby: Family<AppLabel, Gauge>,
    taking_over: Family<AppLabel, Gauge>,
    reconnects: Family<ReasonLabels, Counter>,
    stanzas: Family<StanzaLabels, Counter>,
    requests: Family<RequestLabels, Counter>,
    deliveries: Family<DeliveryLabels, Counter>,
    delivery_seconds: Family<DeliveryLabels, Histogram, fn() -> Histogram>,
    found: Found,
    retries: Counter,
    outbox: Family<OutboxLabels, Gauge<u64, AtomicU64>>,
    outbox_messages: Family<OutcomeLabels, Counter>,
    iq_seconds: Family<IqLabels, Histogram, fn() -> Histogram>,
    iq_pending: Family<AppLabel, Gauge<i64, AtomicI64>>,
    queue: Family<AppLabel, Gauge<i64, AtomicI64>>,
    connections: Gauge,
    service: Family<ServiceLabels, Gauge<u64, AtomicU64>>,
    used: Family<QuotaLabels, Gauge<u64, AtomicU64>>,
    limit: Family<QuotaLabels, Gauge<u64, AtomicU64>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct IqLabels {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutboxLabels {
    app: String,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    app: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServiceLabels {
    app: String,
    counter: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QuotaLabels {
    app: String,
    quota: &'static str,
}

fn histogram() -> Histogram {
    Histogram::new([
        0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0,
    ])
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("appxmpp");
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version that runs", build);
        let metrics = Self {
            registry: Registry::default(),
            up: Family::default(),
            standby: Family::default(),
            taking_over: Family::default(),
            reconnects: Family::default(),
            stanzas: Family::default(),
            requests: Family::default(),
            deliveries: Family::default(),
            delivery_seconds: Family::new_with_constructor(histogram),
            found: Found::default(),
            retries: Counter::default(),
            outbox: Family::default(),
            outbox_messages: Family::default(),
            iq_seconds: Family::new_with_constructor(histogram),
            iq_pending: Family::default(),
            queue: Family::default(),
            connections: Gauge::default(),
            service: Family::default(),
            used: Family::default(),
            limit: Family::default(),
        };
        registry.register(
            "stream_up",
            "Whether the stream to the XMPP server is up",
            metrics.up.clone(),
        );
        registry.register(
            "stream_standby",
            "Whether another process has the stream, and this one waits for its end",
            metrics.standby.clone(),
        );
        registry.register(
            "stream_taking_over",
            "Whether what another process left is taken over before this one connects",
            metrics.taking_over.clone(),
        );
        registry.register(
            "stream_reconnects",
            "Streams lost and attempts to connect that failed, by reason",
            metrics.reconnects.clone(),
        );
        registry.register("stanzas", "Stanzas, by direction and kind", metrics.stanzas.clone());
        registry.register(
            "http_requests",
            "HTTP requests, by resource and status",
            metrics.requests.clone(),
        );
        registry.register("http_connections", "Open HTTP connections", metrics.connections.clone());
        registry.register(
            "deliveries",
            "Webhooks, by route and outcome",
            metrics.deliveries.clone(),
        );
        registry.register_with_unit(
            "delivery",
            "How long a delivery took, retries included",
            Unit::Seconds,
            metrics.delivery_seconds.clone(),
        );
        registry.register(
            "delivery_retries",
            "Further attempts of deliveries",
            metrics.retries.clone(),
        );
        registry.register("queue_depth", "Deliveries that wait or run", metrics.queue.clone());
        registry.register(
            "outbox",
            "Messages that are stored to be sent and not known to be read",
            metrics.outbox.clone(),
        );
        registry.register(
            "outbox_messages",
            "What became of messages that were to be stored and sent, since the start",
            metrics.outbox_messages.clone(),
        );
        registry.register_with_unit(
            "iq",
            "How long the answer to a request took",
            Unit::Seconds,
            metrics.iq_seconds.clone(),
        );
        registry.register(
            "iq_pending",
            "Requests that wait for an answer",
            metrics.iq_pending.clone(),
        );
        registry.register(
            "service",
            "What the App Engine service has done since the start",
            metrics.service.clone(),
        );
        registry.register("quota_used", "What was used today, of UTC", metrics.used.clone());
        registry.register(
            "quota_limit",
            "What may be used in a day, where that is limited",
            metrics.limit.clone(),
        );
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// An app's stream is up, or not.
    pub fn stream(&self, app: &str, up: bool) {
        self.up.get_or_create(&AppLabel { app: app.to_owned() }).set(up.into());
    }

    /// An app's stream is another process's.
    pub fn standby(&self, app: &str, standby: bool) {
        self.standby.get_or_create(&AppLabel { app: app.to_owned() }).set(standby.into());
    }

    /// What another process left comes before an app's stream.
    pub fn taking_over(&self, app: &str, taking_over: bool) {
        self.taking_over.get_or_create(&AppLabel { app: app.to_owned() }).set(taking_over.into());
    }

    /// An app's stream was lost.
    pub fn reconnect(&self, app: &str, reason: &'static str) {
        self.reconnects.get_or_create(&ReasonLabels { app: app.to_owned(), reason }).inc();
    }

    /// A stanza went through.
    pub fn stanza(&self, direction: Direction, kind: &'static str) {
        let at = match kind {
            "message" => 0,
            "presence" => 1,
            "iq" => 2,
            _ => 3,
        };
        let find = || self.stanzas.get_or_create_owned(&StanzaLabels { direction, kind });
        self.found.stanzas[direction as usize][at].get_or_init(find).inc();
    }

    /// An HTTP request was answered.
    pub fn request(&self, resource: &'static str, status: u16) {
        self.requests.get_or_create(&RequestLabels { resource, status }).inc();
    }

    /// A delivery ended without an attempt.
    pub fn delivered(&self, route: Route, outcome: DeliveryOutcome) {
        self.deliveries.get_or_create(&DeliveryLabels { route, outcome }).inc();
    }

    /// A delivery ended.
    pub fn delivery_took(&self, route: Route, outcome: DeliveryOutcome, took: Duration) {
        let labels = DeliveryLabels { route, outcome };
        let find = || {
            let count = self.deliveries.get_or_create_owned(&labels);
            (count, self.delivery_seconds.get_or_create_owned(&labels))
        };
        let made;
        let (count, seconds) = match outcome {
            DeliveryOutcome::Ok => self.found.deliveries[route as usize].get_or_init(find),
            _ => {
                made = find();
                &made
            }
        };
        count.inc();
        seconds.observe(took.as_secs_f64());
    }

    /// A delivery is tried again.
    pub fn retried(&self) {
        self.retries.inc();
    }

    /// A request got its `outcome` (`result`, `error` or `timeout`).
    pub fn iq_took(&self, outcome: &'static str, took: Duration) {
        self.iq_seconds.get_or_create(&IqLabels { outcome }).observe(took.as_secs_f64());
    }

    /// Numbers that are read when somebody asks.
    pub fn gauges(&self, app: &str, queue: usize, pending: usize, service: &[(&'static str, u64)]) {
        let label = AppLabel { app: app.to_owned() };
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.queue.get_or_create(&label).set(number(queue));
        self.iq_pending.get_or_create(&label).set(number(pending));
        for (counter, value) in service {
            let labels = ServiceLabels { app: app.to_owned(), counter };
            self.service.get_or_create(&labels).set(*value);
        }
    }

    /// What an app has used today, and may use.
    pub fn quotas(&self, app: &str, usage: &[Usage]) {
        for Usage { resource, used, limit } in usage {
            let labels = QuotaLabels { app: app.to_owned(), quota: resource.as_str() };
            self.used.get_or_create(&labels).set(*used);
            if let Some(limit) = limit {
                self.limit.get_or_create(&labels).set(*limit);
            }
        }
    }

    /// What an app's outbox holds and has done.
    pub fn outbox(&self, app: &str, stats: &OutboxStats) {
        let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let states = [("waiting", stats.waiting), ("in_flight", stats.in_flight)];
        for (state, value) in states {
            let labels = OutboxLabels { app: app.to_owned(), state };
            self.outbox.get_or_create(&labels).set(number(value));
        }
        let outcomes = [
            ("accepted", stats.accepted),
            ("done", stats.done),
            ("repeated", stats.repeated),
            ("expired", stats.expired),
            ("refused", stats.refused),
            ("not_stored", stats.not_stored),
            ("poisonous", stats.poisonous),
            ("handed_over", stats.handed_over),
        ];
        for (outcome, value) in outcomes {
            let labels = OutcomeLabels { app: app.to_owned(), outcome };
            // Counted elsewhere, since the start as it is here.
            self.outbox_messages.get_or_create(&labels).inner().store(value, Ordering::Relaxed);
        }
    }

    /// An HTTP connection was opened.
    pub fn connection_opened(&self) {
        self.connections.inc();
    }

    /// An HTTP connection was closed.
    pub fn connection_closed(&self) {
        self.connections.dec();
    }

    /// Everything, as OpenMetrics text.
    pub fn render(&self) -> String {
        let mut out = String::new();
        // Writing into a string does not fail.
        let _ = encode(&mut out, &self.registry);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_openmetrics() {
        let metrics = Metrics::default();
        metrics.stream("guestbook", true);
        metrics.delivery_took(Route::Message, DeliveryOutcome::Ok, Duration::from_millis(3));
        metrics.request("rest", 202);
        metrics.iq_took("result", Duration::from_millis(3));
        let mut stats = OutboxStats::default();
        (stats.waiting, stats.accepted) = (2, 7);
        metrics.outbox("guestbook", &stats);
        metrics.outbox("guestbook", &stats);
        let text = metrics.render();
        for line in [
            "appxmpp_stream_up{app=\"guestbook\"} 1",
            "appxmpp_deliveries_total{route=\"message\",outcome=\"ok\"} 1",
            "appxmpp_delivery_seconds_count{route=\"message\",outcome=\"ok\"} 1",
            "appxmpp_http_requests_total{resource=\"rest\",status=\"202\"} 1",
            "appxmpp_iq_seconds_count{outcome=\"result\"} 1",
            "# TYPE appxmpp_outbox gauge",
            "appxmpp_outbox{app=\"guestbook\",state=\"waiting\"} 2",
            "# TYPE appxmpp_outbox_messages counter",
            "appxmpp_outbox_messages_total{app=\"guestbook\",outcome=\"accepted\"} 7",
            "# EOF",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
