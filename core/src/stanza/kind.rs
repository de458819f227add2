use std::borrow::Cow;

/// The three kinds of stanza (RFC 6120 §8.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StanzaKind {
    /// `<message/>`
    Message,
    /// `<presence/>`
    Presence,
    /// `<iq/>`
    Iq,
    /// Another element at the stream's first level: stream features, errors, SASL and the like.
    Other,
}

impl StanzaKind {
    /// The kind of an element called `name`, in a namespace of stanzas.
    pub(crate) fn of(name: &str) -> Self {
        match name {
            "message" => Self::Message,
            "presence" => Self::Presence,
            "iq" => Self::Iq,
            _ => Self::Other,
        }
    }

    /// The element's name; empty for `Other`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Presence => "presence",
            Self::Iq => "iq",
            Self::Other => "",
        }
    }
}

/// The types of message (RFC 6121 §5.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The names are the RFC's.
pub enum MessageType {
    Normal,
    Chat,
    GroupChat,
    Headline,
    Error,
}

impl MessageType {
    /// The type `text` names; an unknown one is normal, as RFC 6121 §5.2.2 demands.
    pub fn parse(text: &str) -> Self {
        match text {
            "chat" => Self::Chat,
            "groupchat" => Self::GroupChat,
            "headline" => Self::Headline,
            "error" => Self::Error,
            _ => Self::Normal,
        }
    }

    /// The attribute's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Chat => "chat",
            Self::GroupChat => "groupchat",
            Self::Headline => "headline",
            Self::Error => "error",
        }
    }
}

/// The types of presence (RFC 6121 §4.7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The names are the RFC's.
pub enum PresenceType {
    /// No `type` attribute.
    Available,
    Unavailable,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Unsubscribed,
    Probe,
    Error,
}

impl PresenceType {
    /// The type `text` names; an attribute cannot name `Available`.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "unavailable" => Self::Unavailable,
            "subscribe" => Self::Subscribe,
            "subscribed" => Self::Subscribed,
            "unsubscribe" => Self::Unsubscribe,
            "unsubscribed" => Self::Unsubscribed,
            "probe" => Self::Probe,
            "error" => Self::Error,
            _ => return None,
        })
    }

    /// The attribute's value; `None` where there must be no attribute.
    pub fn as_str(self) -> Option<&'static str> {
        Some(match self {
            Self::Available => return None,
            Self::Unavailable => "unavailable",
            Self::Subscribe => "subscribe",
            Self::Subscribed => "subscribed",
            Self::Unsubscribe => "unsubscribe",
            Self::Unsubscribed => "unsubscribed",
            Self::Probe => "probe",
            Self::Error => "error",
        })
    }
}

/// The types of iq (RFC 6120 §8.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The names are the RFC's.
pub enum IqType {
    Get,
    Set,
    Result,
    Error,
}

impl IqType {
    /// The type `text` names.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "get" => Self::Get,
            "set" => Self::Set,
            "result" => Self::Result,
            "error" => Self::Error,
            _ => return None,
        })
    }

    /// The attribute's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Set => "set",
            Self::Result => "result",
            Self::Error => "error",
        }
    }
}

/// A `type` attribute's value, without a copy where it is one that the RFCs know.
pub(super) fn known_type(value: Cow<'_, str>) -> Cow<'static, str> {
    const KNOWN: [&str; 15] = [
        "chat",
        "error",
        "get",
        "set",
        "result",
        "unavailable",
        "subscribe",
        "subscribed",
        "unsubscribe",
        "unsubscribed",
        "probe",
        "normal",
        "groupchat",
        "headline",
        "",
    ];
    match KNOWN.into_iter().find(|known| *known == value) {
        Some(known) => known.into(),
        None => value.into_owned().into(),
    }
}
