//! Numbers about an app.

use std::sync::atomic::{AtomicU64, Ordering};

use super::App;
use crate::error::Result;
use crate::net::stats::Stats as ConnectionStats;
#[cfg(doc)]
use crate::service::Resource;
use crate::service::{OutboxStats, Stats as ServiceStats, Usage};

/// Numbers about an app since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct AppStats {
    /// Of the connection.
    pub connection: ConnectionStats,
    /// Of the service.
    pub service: ServiceStats,
    /// Contacts known.
    pub contacts: usize,
    /// Deliveries that wait or are being handled.
    pub deliveries: usize,
    /// Deliveries the app handled.
    pub handled: u64,
    /// Deliveries the app failed to handle.
    pub failed: u64,
    /// Deliveries for which there was no room; their senders were told, where one tells senders.
    pub refused: u64,
    /// Answers (to pings, subscriptions and the like) that could not be written.
    pub unanswered: u64,
    /// Of the outbox, if the app is durable.
    pub outbox: Option<OutboxStats>,
    /// What was used today of what has a quota.
    pub usage: [Usage; 4],
}

/// What was used today of each [`Resource`], and how much may be.
const USAGE: [[&str; 2]; 4] = [
    ["today_api_calls", "quota_api_calls"],
    ["today_data_sent_bytes", "quota_data_sent_bytes"],
    ["today_recipients_messaged", "quota_recipients_messaged"],
    ["today_invitations_sent", "quota_invitations_sent"],
];

impl AppStats {
    /// How faces name the [numbers](Self::numbers): of the connection and the deliveries, of the
    /// service since it was opened, what was used today of what has a quota, and of the outbox.
    pub const NAMES: [&str; 45] = [
        "ready",
        "connects",
        "disconnects",
        "stanzas_in",
        "stanzas_out",
        "bytes_in",
        "bytes_out",
        "stanzas_skipped",
        "outbound_queue",
        "contacts",
        "deliveries",
        "deliveries_handled",
        "deliveries_failed",
        "deliveries_refused",
        "answers_unwritten",
        "api_calls",
        "data_sent_bytes",
        "recipients_messaged",
        "invitations_sent",
        "presence_sent",
        "recipients_refused",
        "delivered",
        "answered",
        "dropped",
        "subscriptions_accepted",
        "store_errors",
        "today_api_calls",
        "quota_api_calls",
        "today_data_sent_bytes",
        "quota_data_sent_bytes",
        "today_recipients_messaged",
        "quota_recipients_messaged",
        "today_invitations_sent",
        "quota_invitations_sent",
        "outbox_waiting",
        "outbox_in_flight",
        "outbox_bytes",
        "outbox_accepted",
        "outbox_done",
        "outbox_repeated",
        "outbox_expired",
        "outbox_refused",
        "outbox_not_stored",
        "outbox_poisonous",
        "outbox_handed_over",
    ];
    /// What stands where there is no number: a quota without a limit, the outbox of an app that is not
    /// durable.
    pub const NO_NUMBER: u64 = u64::MAX;

    /// The numbers that faces show, in the order of their [names](Self::NAMES).
    pub fn numbers(&self) -> [u64; Self::NAMES.len()] {
        let mut numbers = [Self::NO_NUMBER; Self::NAMES.len()];
        for (number, (_, found)) in numbers.iter_mut().zip(self.each()) {
            *number = found.unwrap_or(Self::NO_NUMBER);
        }
        numbers
    }

    fn each(&self) -> Vec<(&'static str, Option<u64>)> {
        let usage = USAGE.iter().zip(&self.usage).flat_map(|([today, quota], usage)| {
            debug_assert!(today.ends_with(usage.resource.as_str()));
            [(*today, Some(usage.used)), (*quota, usage.limit)]
        });
        let outbox = self.outbox.unwrap_or_default().each().into_iter();
        let outbox = outbox.map(|(name, number)| (name, self.outbox.map(|_| number)));
        let own = self.own().into_iter().chain(self.service.each());
        own.map(|(name, number)| (name, Some(number))).chain(usage).chain(outbox).collect()
    }

    fn own(&self) -> [(&'static str, u64); 15] {
        let link = &self.connection;
        [
            ("ready", u64::from(link.ready)),
            ("connects", link.connects),
            ("disconnects", link.disconnects),
            ("stanzas_in", link.stanzas_in),
            ("stanzas_out", link.stanzas_out),
            ("bytes_in", link.bytes_in),
            ("bytes_out", link.bytes_out),
            ("stanzas_skipped", link.skipped),
            ("outbound_queue", link.outbound_queue as u64),
            ("contacts", self.contacts as u64),
            ("deliveries", self.deliveries as u64),
            ("deliveries_handled", self.handled),
            ("deliveries_failed", self.failed),
            ("deliveries_refused", self.refused),
            ("answers_unwritten", self.unanswered),
        ]
    }
}

impl App {
    /// Numbers about this app.
    ///
    /// # Errors
    /// As [`App::connection`].
    pub fn stats(&self) -> Result<AppStats> {
        let inner = self.inner()?;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Ok(AppStats {
            connection: inner.connection.stats()?,
            service: inner.service.stats(),
            contacts: inner.service.contacts(),
            deliveries: inner.queue().lanes.len(),
            handled: get(&inner.counters.handled),
            failed: get(&inner.counters.failed),
            refused: get(&inner.counters.refused),
            unanswered: get(&inner.counters.unanswered),
            outbox: inner.outbox.as_ref().map(|outbox| outbox.stats()),
            usage: inner.service().usage(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Resource;

    #[test]
    fn every_number_has_its_name() {
        let usage = Resource::ALL.map(|resource| Usage {
            resource,
            used: resource as u64,
            limit: (resource == Resource::DataSent).then_some(7),
        });
        let mut stats = AppStats {
            connection: ConnectionStats::default(),
            service: ServiceStats::default(),
            contacts: 3,
            deliveries: 0,
            handled: 0,
            failed: 0,
            refused: 0,
            unanswered: 0,
            outbox: None,
            usage,
        };
        let names: Vec<_> = stats.each().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, AppStats::NAMES);
        let number = |stats: &AppStats, name| {
            stats.numbers()[AppStats::NAMES.iter().position(|it| *it == name).unwrap()]
        };
        assert_eq!(number(&stats, "contacts"), 3);
        assert_eq!(number(&stats, "today_invitations_sent"), 3);
        assert_eq!(number(&stats, "quota_data_sent_bytes"), 7);
        assert_eq!(number(&stats, "quota_api_calls"), AppStats::NO_NUMBER);
        assert_eq!(number(&stats, "outbox_done"), AppStats::NO_NUMBER);
        stats.outbox = Some(OutboxStats { done: 5, ..OutboxStats::default() });
        assert_eq!(number(&stats, "outbox_done"), 5);
    }
}
