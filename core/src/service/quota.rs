//! How much an app may do in a day, as App Engine's quotas said.
//!
//! Everything is counted always, and refused only where a limit is set. A day is one of UTC; the driver
//! says which it is with [`Service::set_utc`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Service;
use crate::error::{Error, ErrorKind, Result};
use crate::stanza::StanzaKind;
use crate::store::{Change, Count, Durability};
use crate::xml::{Element, Limits, Scope};

/// How often what was used is to be kept ([`Service::keep_usage`]).
pub const KEEP_EVERY: Duration = Duration::from_secs(60);

const DAY_SECONDS: u64 = 24 * 60 * 60;
/// How many bits of a [`Meter`] are the count; the others are the day.
const COUNT_BITS: u32 = 44;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;

/// What is counted by the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum Resource {
    /// Calls of the API, whatever they ask for.
    ApiCalls = 0,
    /// Bytes of message bodies, once for each recipient.
    DataSent = 1,
    /// Recipients of messages.
    RecipientsMessaged = 2,
    /// Invitations.
    InvitationsSent = 3,
}

impl Resource {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::ApiCalls, Self::DataSent, Self::RecipientsMessaged, Self::InvitationsSent];

    /// The resource of this name.
    ///
    /// # Errors
    /// [`ErrorKind::Config`]: there is none.
    pub fn parse(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|resource| resource.as_str() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            let text = format!("{name:?} is no quota; there are {names}");
            Error::new(ErrorKind::Config, text)
        })
    }

    /// The name, for metrics and settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ApiCalls => "api_calls",
            Self::DataSent => "data_sent_bytes",
            Self::RecipientsMessaged => "recipients_messaged",
            Self::InvitationsSent => "invitations_sent",
        }
    }
}

/// The limits of a day; none by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quotas([Option<u64>; 4]);

impl Quotas {
    /// The one limit that App Engine set for everybody: 100,000 invitations.
    pub const APP_ENGINE: Self = Self([None, None, None, Some(100_000)]);

    /// The same limits with this one for `resource`.
    #[must_use]
    pub fn with(mut self, resource: Resource, limit: u64) -> Self {
        self.0[resource as usize] = Some(limit);
        self
    }

    /// The limits that these names and numbers set: those of [`Resource::as_str`].
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a name that is none.
    pub fn from_names<N: AsRef<str>>(limits: impl IntoIterator<Item = (N, u64)>) -> Result<Self> {
        let mut quotas = Self::default();
        for (name, limit) in limits {
            quotas = quotas.with(Resource::parse(name.as_ref())?, limit);
        }
        Ok(quotas)
    }

    /// The limit of `resource`.
    pub fn limit(&self, resource: Resource) -> Option<u64> {
        self.0[resource as usize]
    }
}

/// How much of a resource was used on the day it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Of what.
    pub resource: Resource,
    /// How much.
    pub used: u64,
    /// How much may be.
    pub limit: Option<u64>,
}

/// How long after `utc`, the time since the Unix epoch, the quotas begin anew.
pub fn until_next_day(utc: Duration) -> Duration {
    Duration::from_secs(DAY_SECONDS - utc.as_secs() % DAY_SECONDS)
}

/// What a stanza uses that an app wrote itself: as much as the call of the API that says the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charge {
    /// A message with so many bytes of data.
    Message(usize),
    /// A request for a subscription.
    Invitation,
    /// Other presence.
    Presence,
    /// Anything else: a call, whatever it asks for.
    Call,
}

impl Charge {
    /// That of a stanza with these children, as XML.
    pub fn of(kind: StanzaKind, type_: Option<&str>, children: &str) -> Self {
        match kind {
            StanzaKind::Message => Self::Message(data_bytes(children)),
            StanzaKind::Presence if type_ == Some("subscribe") => Self::Invitation,
            StanzaKind::Presence => Self::Presence,
            StanzaKind::Iq | StanzaKind::Other => Self::Call,
        }
    }
}

/// The bytes of a message's text, if that is all there is in it, else those of its XML: what `send_message`
/// is given for either.
fn data_bytes(children: &str) -> usize {
    let text = children.strip_prefix("<body>").and_then(|rest| rest.strip_suffix("</body>"));
    match text.filter(|text| !text.contains('<')) {
        Some(text) if !text.contains('&') => text.len(),
        Some(text) => {
            let body = Element::parse(children.as_bytes(), &Scope::empty(), &Limits::default());
            body.map_or(text.len(), |body| body.text().len())
        }
        None => children.len(),
    }
}

/// A count and its day in one number, so that neither changes without the other and no lock is needed.
#[derive(Debug, Default)]
struct Meter(AtomicU64);

impl Meter {
    fn unpack(value: u64, day: u64) -> u64 {
        if value >> COUNT_BITS == day { value & COUNT_MAX } else { 0 }
    }

    /// Adds `more`, unless that would be over `limit`. What comes late for a day that is past counts on
    /// the one that has begun.
    fn add(&self, day: u64, more: u64, limit: Option<u64>) -> Result<(), u64> {
        let add = |value| {
            let day = day.max(value >> COUNT_BITS);
            let used = Self::unpack(value, day);
            let sum = used.saturating_add(more).min(COUNT_MAX);
            let over = limit.is_some_and(|limit| used.saturating_add(more) > limit);
            (!over).then_some(day << COUNT_BITS | sum)
        };
        let added = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        added.map(drop).map_err(|value| Self::unpack(value, day))
    }

    /// Takes back what [`Meter::add`] added on that day.
    fn remove(&self, day: u64, less: u64) {
        let remove = |value| {
            (value >> COUNT_BITS == day).then(|| {
                let used = Self::unpack(value, day).saturating_sub(less);
                day << COUNT_BITS | used
            })
        };
        // Another day has begun meanwhile: nothing of that one is counted any more.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, remove);
    }

    /// Adds what others used on that day, unless another one has begun.
    fn add_others(&self, day: u64, more: u64) {
        let add = |value| {
            let sum = Self::unpack(value, day).saturating_add(more).min(COUNT_MAX);
            (value >> COUNT_BITS <= day).then_some(day << COUNT_BITS | sum)
        };
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    fn used(&self, day: u64) -> u64 {
        Self::unpack(self.0.load(Ordering::Relaxed), day)
    }

    fn set(&self, day: u64, used: u64) {
        self.0.store(day << COUNT_BITS | used.min(COUNT_MAX), Ordering::Relaxed);
    }
}

/// The meters of one app.
#[derive(Debug, Default)]
pub(super) struct Meters {
    quotas: Quotas,
    day: AtomicU64,
    meters: [Meter; 4],
    shared: Mutex<[Share; 4]>,
}

/// How much of a meter the processes that count together know of.
#[derive(Debug, Clone, Copy, Default)]
struct Share {
    day: u64,
    settled: u64,
    /// What they are being told.
    sent: u64,
}

fn known(counts: &[Count]) -> impl Iterator<Item = (Resource, &Count)> {
    counts.iter().filter_map(|count| {
        let is_it = |resource: &Resource| resource.as_str() == &*count.name;
        Some((Resource::ALL.into_iter().find(is_it)?, count))
    })
}

impl Meters {
    pub(super) fn new(quotas: Quotas) -> Self {
        Self { quotas, ..Self::default() }
    }

    /// Goes on where `counts` stopped, on their day.
    pub(super) fn restore(&self, counts: &[Count]) {
        let mut shared = self.shared();
        for (resource, count) in known(counts) {
            self.meters[resource as usize].set(count.day, count.value);
            self.day.fetch_max(count.day, Ordering::Relaxed);
            shared[resource as usize] = Share { day: count.day, settled: count.value, sent: 0 };
        }
    }

    fn shared(&self) -> MutexGuard<'_, [Share; 4]> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was used since this was last [settled](Meters::settle), for processes that count together;
    /// nothing where that is of no interest.
    pub(super) fn unreported(&self) -> Vec<Count> {
        let mut shared = self.shared();
        let day = self.day.load(Ordering::Relaxed);
        let mut counts = Vec::new();
        for resource in Resource::ALL {
            let share = &mut shared[resource as usize];
            if share.day != day {
                *share = Share { day, ..Share::default() };
            }
            share.sent = self.meters[resource as usize].used(day).saturating_sub(share.settled);
            if share.sent > 0 || self.quotas.limit(resource).is_some() {
                counts.push(Count { name: resource.as_str().into(), day, value: share.sent });
            }
        }
        counts
    }

    /// All processes together have used so much, with what was [unreported](Meters::unreported) here.
    pub(super) fn settle(&self, counts: &[Count]) {
        let mut shared = self.shared();
        for (resource, count) in known(counts) {
            let share = &mut shared[resource as usize];
            if share.day == count.day {
                let others = count.value.saturating_sub(share.settled + share.sent);
                self.meters[resource as usize].add_others(count.day, others);
                *share = Share { day: count.day, settled: count.value, sent: 0 };
            }
        }
    }

    /// Uses so much of each resource, or nothing at all if that is too much of one.
    pub(super) fn take(&self, wanted: &[(Resource, usize)]) -> Result<()> {
        let day = self.day.load(Ordering::Relaxed);
        for (at, &(resource, amount)) in wanted.iter().enumerate() {
            let limit = self.quotas.limit(resource);
            let Err(used) = self.meters[resource as usize].add(day, amount as u64, limit) else {
                continue;
            };
            for &(resource, amount) in &wanted[..at] {
                self.meters[resource as usize].remove(day, amount as u64);
            }
            return Err(over(resource, amount, used, limit.unwrap_or_default()));
        }
        Ok(())
    }
}

fn over(resource: Resource, amount: usize, used: u64, limit: u64) -> Error {
    let name = resource.as_str();
    let text = format!(
        "the quota {name} is used up: {used} of {limit} today, and this call needs {amount}; try again \
         after midnight UTC, or raise the limit"
    );
    Error::new(ErrorKind::OverQuota, text)
}

impl Service {
    /// Says what time it is, since the Unix epoch: quotas begin anew each day. A clock that is set back
    /// to an earlier day does not bring that day back.
    pub fn set_utc(&self, utc: Duration) {
        self.meters.day.fetch_max(utc.as_secs() / DAY_SECONDS, Ordering::Relaxed);
    }

    /// Counts a stanza that an app wrote itself, before it is sent.
    ///
    /// # Errors
    /// [`ErrorKind::OverQuota`]: it may not be sent.
    pub fn charge(&self, charge: Charge) -> Result<()> {
        let counters = &self.counters;
        counters.api_calls.add(1);
        let call = (Resource::ApiCalls, 1);
        match charge {
            Charge::Message(bytes) => {
                let (data, recipient) =
                    ((Resource::DataSent, bytes), (Resource::RecipientsMessaged, 1));
                self.meters.take(&[call, data, recipient])?;
                counters.recipients_messaged.add(1);
                counters.data_sent_bytes.add(bytes);
            }
            Charge::Invitation => {
                self.meters.take(&[call, (Resource::InvitationsSent, 1)])?;
                counters.invitations_sent.add(1);
            }
            Charge::Presence => {
                self.meters.take(&[call])?;
                counters.presence_sent.add(1);
            }
            Charge::Call => self.meters.take(&[call])?,
        }
        Ok(())
    }

    /// What was used today.
    pub fn usage(&self) -> [Usage; 4] {
        let day = self.meters.day.load(Ordering::Relaxed);
        Resource::ALL.map(|resource| Usage {
            resource,
            used: self.meters.meters[resource as usize].used(day),
            limit: self.meters.quotas.limit(resource),
        })
    }

    /// Has the store keep what was used today, soon. To be called every [`KEEP_EVERY`], and at the end.
    pub fn keep_usage(&self) {
        if self.is_shared() {
            // The processes tell each other all the time.
            return;
        }
        let day = self.meters.day.load(Ordering::Relaxed);
        let counts = self.usage().into_iter().filter(|usage| usage.used > 0);
        let changes: Vec<_> = counts
            .map(|usage| {
                let name = usage.resource.as_str().into();
                Change::Count(self.queue().clone(), Count { name, day, value: usage.used })
            })
            .collect();
        if !changes.is_empty() {
            // A fault is logged and counted.
            let _ = self.keep(changes, Durability::Soon);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::service::{MessageCall, PresenceCall, ServiceConfig};
    use crate::store::MemoryStore;

    const DAY: Duration = Duration::from_secs(DAY_SECONDS);

    #[test]
    fn what_others_used_yesterday_takes_nothing_of_today_away() {
        let meters = Meters::new(Quotas::default().with(Resource::ApiCalls, 9));
        let yesterday = meters.unreported();
        meters.day.store(1, Ordering::Relaxed);
        meters.take(&[(Resource::ApiCalls, 2)]).unwrap();
        meters.settle(&yesterday);
        let used = || meters.meters[Resource::ApiCalls as usize].used(1);
        assert_eq!(used(), 2);
        // All have used five on that day, these two among them.
        let mut today = meters.unreported();
        assert_eq!(today[0].value, 2);
        today[0].value = 5;
        meters.settle(&today);
        assert_eq!(used(), 5);
    }

    fn service(quotas: Quotas, disk: &Arc<MemoryStore>) -> Service {
        let mut config = ServiceConfig::new("shop", "bot.example.com").unwrap();
        config.quotas = quotas;
        let service = Service::new(config, Box::new(Arc::clone(disk))).unwrap();
        service.set_utc(20_000 * DAY);
        service
    }

    fn send(service: &Service, jids: &[&str]) -> Result<usize> {
        let call = MessageCall { jids, body: "12345", from: None, type_: "chat", raw_xml: false };
        service.send_message(&call).map(|sending| sending.stanzas.len())
    }

    fn used(service: &Service) -> [u64; 4] {
        service.usage().map(|usage| usage.used)
    }

    fn refusal<T: std::fmt::Debug>(result: Result<T>, names: &str) {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OverQuota);
        assert!(error.to_string().contains(names), "{error}");
    }

    #[test]
    fn everything_is_counted_without_a_limit() {
        let service = service(Quotas::default(), &Arc::default());
        assert_eq!(send(&service, &["a@b", "no@address@x", "c@d"]).unwrap(), 2);
        service.send_invite("a@b", None).unwrap();
        service.get_presence(&["a@b"], None).unwrap();
        let call = PresenceCall { jid: "a@b", type_: "", show: "", status: None, from: None };
        service.send_presence(&call).unwrap();
        assert_eq!(used(&service), [4, 10, 2, 1]);
    }

    #[test]
    fn a_call_that_needs_too_much_changes_nothing() {
        let quotas = Quotas::default().with(Resource::RecipientsMessaged, 3);
        let service = service(quotas, &Arc::default());
        send(&service, &["a@b", "c@d"]).unwrap();
        let before = used(&service);
        refusal(send(&service, &["a@b", "c@d"]), "recipients_messaged");
        assert_eq!(used(&service), before);
        send(&service, &["a@b"]).unwrap();
        refusal(send(&service, &["a@b"]), "3 of 3 today");
        assert_eq!(service.stats().recipients_messaged, 3);
    }

    #[test]
    fn each_resource_has_its_limit() {
        let no_more = |resource| service(Quotas::default().with(resource, 0), &Arc::default());
        refusal(send(&no_more(Resource::ApiCalls), &["a@b"]), "api_calls");
        refusal(send(&no_more(Resource::DataSent), &["a@b"]), "data_sent_bytes");
        refusal(no_more(Resource::ApiCalls).get_presence(&["a@b"], None), "api_calls");
        refusal(no_more(Resource::InvitationsSent).send_invite("a@b", None), "invitations_sent");
        assert_eq!(no_more(Resource::InvitationsSent).contacts(), 0);
        assert_eq!(Quotas::APP_ENGINE.limit(Resource::InvitationsSent), Some(100_000));
    }

    #[test]
    fn what_an_app_writes_itself_counts_as_the_call_that_says_the_same() {
        let of = |kind, type_, children| Charge::of(kind, type_, children);
        let message = |children| of(StanzaKind::Message, Some("chat"), children);
        assert_eq!(message("<body>12345</body>"), Charge::Message(5));
        assert_eq!(message("<body>a &amp; b</body>"), Charge::Message(5));
        let with_state =
            "<body>12345</body><active xmlns='http://jabber.org/protocol/chatstates'/>";
        assert_eq!(message(with_state), Charge::Message(with_state.len()));
        assert_eq!(message(""), Charge::Message(0));
        assert_eq!(of(StanzaKind::Presence, Some("subscribe"), ""), Charge::Invitation);
        assert_eq!(of(StanzaKind::Presence, None, "<show>away</show>"), Charge::Presence);
        assert_eq!(of(StanzaKind::Iq, Some("get"), "<ping xmlns='urn:xmpp:ping'/>"), Charge::Call);

        let (by_call, by_stanza) = (
            service(Quotas::default(), &Arc::default()),
            service(Quotas::default().with(Resource::RecipientsMessaged, 1), &Arc::default()),
        );
        send(&by_call, &["a@b"]).unwrap();
        by_call.send_invite("a@b", None).unwrap();
        by_stanza.charge(message("<body>12345</body>")).unwrap();
        by_stanza.charge(Charge::Invitation).unwrap();
        assert_eq!(used(&by_stanza), used(&by_call));
        assert_eq!(by_stanza.stats(), by_call.stats());
        refusal(by_stanza.charge(Charge::Message(1)), "recipients_messaged");
        assert_eq!(used(&by_stanza), used(&by_call));
        by_stanza.charge(Charge::Presence).unwrap();
        by_stanza.charge(Charge::Call).unwrap();
        assert_eq!(used(&by_stanza), [4, 5, 1, 1]);
    }

    #[test]
    fn quotas_begin_anew_at_midnight() {
        assert_eq!(until_next_day(20_000 * DAY), DAY);
        assert_eq!(until_next_day(20_001 * DAY - Duration::from_millis(1500)).as_secs(), 2);
    }

    #[test]
    fn limits_have_names() {
        let named = Resource::ALL.map(|resource| (resource.as_str(), 7 + resource as u64));
        let quotas = Quotas::from_names(named).unwrap();
        assert_eq!(Resource::ALL.map(|it| quotas.limit(it)), [Some(7), Some(8), Some(9), Some(10)]);
        let error = Quotas::from_names([("stanzas", 1)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(
            error.to_string().contains("\"stanzas\"") && error.to_string().contains("api_calls")
        );
    }

    #[test]
    fn a_new_day_begins_at_midnight_utc_and_never_comes_back() {
        let service = service(Quotas::default().with(Resource::ApiCalls, 1), &Arc::default());
        send(&service, &["a@b"]).unwrap();
        service.set_utc(20_001 * DAY - Duration::from_millis(1));
        refusal(send(&service, &["a@b"]), "api_calls");
        service.set_utc(20_001 * DAY);
        send(&service, &["a@b"]).unwrap();
        service.set_utc(20_000 * DAY);
        refusal(send(&service, &["a@b"]), "api_calls");
    }

    #[test]
    fn a_restart_goes_on_counting() {
        let disk = Arc::new(MemoryStore::new());
        let quotas = Quotas::default().with(Resource::ApiCalls, 2);
        let first = service(quotas, &disk);
        send(&first, &["a@b"]).unwrap();
        first.keep_usage();
        let second = service(quotas, &disk);
        assert_eq!(used(&second), [1, 5, 1, 0]);
        send(&second, &["a@b"]).unwrap();
        refusal(send(&second, &["a@b"]), "2 of 2 today");
    }

    #[test]
    fn threads_together_get_no_more_than_the_limit() {
        let service = service(Quotas::default().with(Resource::ApiCalls, 100), &Arc::default());
        let sent = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        sent.fetch_add(
                            u64::from(send(&service, &["a@b"]).is_ok()),
                            Ordering::Relaxed,
                        );
                    }
                });
            }
        });
        assert_eq!(sent.into_inner(), 100);
        assert_eq!(used(&service), [100, 500, 100, 0]);
    }
}
