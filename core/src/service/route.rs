//! Which stanza goes to which handler of the app, with which form fields. A pure table.

use std::time::Duration;

use super::address::Addresses;
use super::answer;
use super::limits::ServiceLimits;
use super::presence::Show;
use super::roster::SubscriptionVerb;
use crate::error::{Error, ErrorKind, Result};
use crate::stanza::{
    Condition, Form, IqType, MessageType, PresenceType, Stanza, StanzaError, StanzaKind, present,
};
use crate::store::Place;

/// The kinds of inbound stanza that an app can ask for, as `app.yaml` names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum InboundService {
    /// `xmpp_message`
    Message = 1,
    /// `xmpp_presence`
    Presence = 2,
    /// `xmpp_subscribe`
    Subscribe = 4,
    /// `xmpp_error`
    Error = 8,
}

impl InboundService {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Message, Self::Presence, Self::Subscribe, Self::Error];

    /// The name in `app.yaml`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Message => "xmpp_message",
            Self::Presence => "xmpp_presence",
            Self::Subscribe => "xmpp_subscribe",
            Self::Error => "xmpp_error",
        }
    }
}

/// A set of [`InboundService`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InboundServices(u8);

impl InboundServices {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// All of them.
    pub const ALL: Self = Self(15);

    /// The set of what `names` lists, as in `inbound_services` of an `app.yaml`; App Engine's other
    /// services (`mail`, `warmup`) are passed over.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a name that begins with `xmpp` and is none of the four.
    pub fn from_names<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Result<Self> {
        let mut set = Self::NONE;
        for name in names {
            let name = name.as_ref();
            match InboundService::ALL.into_iter().find(|service| service.as_str() == name) {
                Some(service) => set = set.with(service),
                None if name.starts_with("xmpp") => {
                    let text = format!(
                        "there is no inbound service {name:?}; write xmpp_message, xmpp_presence, \
                         xmpp_subscribe or xmpp_error"
                    );
                    return Err(Error::new(ErrorKind::Config, text));
                }
                None => {}
            }
        }
        Ok(set)
    }

    /// The set with `service` in it.
    #[must_use]
    pub fn with(self, service: InboundService) -> Self {
        Self(self.0 | service as u8)
    }

    /// Whether `service` is in it.
    pub fn contains(self, service: InboundService) -> bool {
        self.0 & service as u8 != 0
    }
}

/// A stanza for the app: a form to be posted to one of its paths.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Tells the deliveries of one service apart.
    pub id: u64,
    /// The path, with its slash at the end.
    pub path: &'static str,
    /// The form's fields, in App Engine's order.
    pub fields: Vec<(&'static str, String)>,
    /// What the app must have asked for to get it.
    pub service: InboundService,
    /// The sender's bare address: what has the same one is delivered in order.
    pub sender: String,
    /// The stanza itself.
    pub stanza: Stanza,
    /// Where it stands among what waits for several processes, once it is stored.
    pub place: Place,
    /// When it came, since the Unix epoch; zero if that does not count.
    pub came: Duration,
}

impl Delivery {
    /// The first field called `name`.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|field| field.0 == name).map(|field| field.1.as_str())
    }

    /// About how much memory it holds, in bytes.
    pub fn size(&self) -> usize {
        let fields: usize = self.fields.iter().map(|(_, value)| value.len()).sum();
        fields + self.stanza.raw().len() + self.sender.len() + size_of::<Self>()
    }
}

/// Why a stanza goes to nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// It is no message, presence or iq.
    NoStanza,
    /// It has no sender.
    NoSender,
    /// It is not addressed to this app.
    NotOurs,
    /// It is the presence of the app's own account, which its server tells every session of it.
    OwnPresence,
    /// The app did not ask for this kind.
    Disabled(InboundService),
    /// A message of a type that App Engine did not deliver (groupchat, headline).
    MessageType,
    /// A message without a body.
    NoBody,
    /// Presence of a type that RFC 6121 does not know.
    PresenceType,
    /// The result of an iq that nobody waits for.
    NobodyWaits,
}

/// What becomes of a stanza.
#[derive(Debug)]
pub enum Routed {
    /// It is posted to the app.
    Deliver {
        /// The path.
        path: &'static str,
        /// The form's fields.
        fields: Vec<(&'static str, String)>,
        /// What the app must have asked for.
        service: InboundService,
    },
    /// This stanza answers it.
    Answer(String),
    /// Nobody sees it.
    Drop(DropReason),
}

/// What routing depends on beside the stanza.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'r> {
    /// The app's addresses.
    pub addresses: &'r Addresses,
    /// What the app asked for.
    pub inbound: InboundServices,
    /// Sizes.
    pub limits: ServiceLimits,
    /// How the `stanza` field is written.
    pub form: Form,
    /// Whether messages without a body are delivered.
    pub bodiless_messages: bool,
    /// The time since the Unix epoch, for those who ask for it.
    pub utc: Duration,
}

/// What presence says beside its type (RFC 6121 §4.7.2).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PresenceDetails {
    /// `<show/>`; an unknown one counts as none.
    pub show: Show,
    /// `<status/>`, the first one; empty if none.
    pub status: String,
    /// `<priority/>`; one out of range counts as the nearest that is in it.
    pub priority: i8,
}

impl PresenceDetails {
    /// What `stanza` says; nothing if it is no presence.
    pub fn of(stanza: &Stanza) -> Self {
        if stanza.kind() != StanzaKind::Presence {
            return Self::default();
        }
        let Ok(element) = stanza.element() else {
            return Self::default();
        };
        let text = |name| element.child(name, stanza.ns()).map(|child| child.text());
        let priority = text("priority").and_then(|text| text.trim().parse::<i64>().ok());
        Self {
            show: text("show").and_then(|text| Show::parse(text.trim())).unwrap_or_default(),
            status: text("status").unwrap_or_default(),
            priority: priority.unwrap_or_default().clamp(i8::MIN.into(), i8::MAX.into()) as i8,
        }
    }
}

/// What becomes of `stanza`.
pub fn route(stanza: &Stanza, details: &PresenceDetails, rules: &Rules<'_>) -> Routed {
    if stanza.kind() == StanzaKind::Other {
        return Routed::Drop(DropReason::NoStanza);
    }
    let addresses = rules.addresses;
    // An account's server may leave out its own address, and the account's (RFC 6120 §8.1).
    let by_server = addresses.is_account() && stanza.kind() == StanzaKind::Iq;
    let (from, to) = (stanza.from(), stanza.to());
    if from.is_none() && !by_server {
        return Routed::Drop(DropReason::NoSender);
    }
    if !to.map_or(by_server, |to| addresses.is_own(to)) {
        return Routed::Drop(DropReason::NotOurs);
    }
    let own_presence = addresses.is_account() && stanza.kind() == StanzaKind::Presence;
    if own_presence && from.is_some_and(|from| addresses.is_own(from)) {
        return Routed::Drop(DropReason::OwnPresence);
    }
    match stanza.kind() {
        StanzaKind::Message => message(stanza, rules),
        StanzaKind::Presence => presence(stanza, details, rules),
        _ => iq(stanza, rules),
    }
}

fn message(stanza: &Stanza, rules: &Rules<'_>) -> Routed {
    match stanza.message_type() {
        MessageType::Error => return error(stanza, rules),
        MessageType::GroupChat | MessageType::Headline => {
            return Routed::Drop(DropReason::MessageType);
        }
        MessageType::Chat | MessageType::Normal => {}
    }
    let body = stanza.body();
    if body.is_none() && !rules.bodiless_messages {
        return Routed::Drop(DropReason::NoBody);
    }
    if !rules.inbound.contains(InboundService::Message) {
        return Routed::Drop(DropReason::Disabled(InboundService::Message));
    }
    let limit = rules.limits.body_bytes;
    if body.as_ref().is_some_and(|body| body.len() > limit) {
        let mut error = StanzaError::new(Condition::PolicyViolation);
        error.text = Some(format!("The message is over {limit} bytes."));
        return answer(stanza.error_reply(&error));
    }
    let body = body.map(|body| ("body", body.into_owned()));
    deliver(InboundService::Message, "/_ah/xmpp/message/chat/", stanza, body, rules)
}

fn presence(stanza: &Stanza, details: &PresenceDetails, rules: &Rules<'_>) -> Routed {
    let Some(type_) = stanza.presence_type() else {
        return Routed::Drop(DropReason::PresenceType);
    };
    if let Some(verb) = verb(type_) {
        let path = match verb {
            SubscriptionVerb::Subscribe => "/_ah/xmpp/subscription/subscribe/",
            SubscriptionVerb::Subscribed => "/_ah/xmpp/subscription/subscribed/",
            SubscriptionVerb::Unsubscribe => "/_ah/xmpp/subscription/unsubscribe/",
            SubscriptionVerb::Unsubscribed => "/_ah/xmpp/subscription/unsubscribed/",
        };
        return deliver(InboundService::Subscribe, path, stanza, [], rules);
    }
    let show = details.show.as_str();
    let show = (!show.is_empty()).then(|| ("show", show.to_owned()));
    let status = &details.status;
    let status = (!status.is_empty()).then(|| ("status", status.clone()));
    let (path, show, status) = match type_ {
        PresenceType::Error => return error(stanza, rules),
        PresenceType::Unavailable => ("/_ah/xmpp/presence/unavailable/", None, status),
        PresenceType::Probe => ("/_ah/xmpp/presence/probe/", None, None),
        _ => ("/_ah/xmpp/presence/available/", show, status),
    };
    deliver(InboundService::Presence, path, stanza, show.into_iter().chain(status), rules)
}

fn iq(stanza: &Stanza, rules: &Rules<'_>) -> Routed {
    match stanza.iq_type() {
        Some(IqType::Get | IqType::Set) => answer(answer::iq(stanza, rules.addresses, rules.utc)),
        Some(IqType::Error) => error(stanza, rules),
        Some(IqType::Result) => Routed::Drop(DropReason::NobodyWaits),
        None => answer(stanza.error_reply(&StanzaError::new(Condition::BadRequest))),
    }
}

fn error(stanza: &Stanza, rules: &Rules<'_>) -> Routed {
    deliver(InboundService::Error, "/_ah/xmpp/error/", stanza, [], rules)
}

fn answer(answer: Option<String>) -> Routed {
    answer.map_or(Routed::Drop(DropReason::NoSender), Routed::Answer)
}

/// The subscription type that a presence type is, if it is one.
pub(super) fn verb(type_: PresenceType) -> Option<SubscriptionVerb> {
    Some(match type_ {
        PresenceType::Subscribe => SubscriptionVerb::Subscribe,
        PresenceType::Subscribed => SubscriptionVerb::Subscribed,
        PresenceType::Unsubscribe => SubscriptionVerb::Unsubscribe,
        PresenceType::Unsubscribed => SubscriptionVerb::Unsubscribed,
        _ => return None,
    })
}

fn deliver(
    service: InboundService,
    path: &'static str,
    stanza: &Stanza,
    between: impl IntoIterator<Item = (&'static str, String)>,
    rules: &Rules<'_>,
) -> Routed {
    if !rules.inbound.contains(service) {
        return Routed::Drop(DropReason::Disabled(service));
    }
    let mut fields = Vec::with_capacity(5);
    let shown = |jid: Option<&crate::WireJid>| {
        jid.map(|jid| rules.addresses.present(jid).into_owned()).unwrap_or_default()
    };
    fields.push(("from", shown(stanza.from())));
    fields.push(("to", shown(stanza.to())));
    fields.extend(between);
    fields.push(("stanza", present(stanza, rules.form)));
    Routed::Deliver { path, fields, service }
}
