//! What a server offers before stanzas flow (RFC 6120 §4.3.2), and its roster (RFC 6121 §2).

use crate::auth::sasl::Offer;
use crate::jid::WireJid;
use crate::ns;
use crate::xml::Element;

/// The features that matter here.
#[derive(Debug, Default)]
pub(super) struct Features {
    pub(super) starttls: bool,
    pub(super) starttls_required: bool,
    pub(super) sasl: Offer,
    pub(super) bind: bool,
    pub(super) sm: bool,
}

impl Features {
    pub(super) fn read(element: &Element) -> Self {
        let starttls = element.child("starttls", ns::TLS);
        let mechanisms = element.child("mechanisms", ns::SASL);
        let bindings = element.child("sasl-channel-binding", ns::SASL_CHANNEL_BINDING);
        let named = |child: &Element| child.is("mechanism", ns::SASL).then(|| child.text());
        let typed = |child: &Element| child.attr("type").map(str::to_owned);
        Self {
            starttls: starttls.is_some(),
            starttls_required: starttls.is_some_and(|tls| tls.child("required", ns::TLS).is_some()),
            sasl: Offer {
                mechanisms: mechanisms
                    .map_or_else(Vec::new, |m| m.children().filter_map(named).collect()),
                bindings: bindings
                    .map_or_else(Vec::new, |b| b.children().filter_map(typed).collect()),
            },
            bind: element.child("bind", ns::BIND).is_some(),
            sm: element.child("sm", ns::SM).is_some(),
        }
    }
}

/// One contact in the roster that the server keeps.
#[derive(Debug, Clone, PartialEq)]
pub struct RosterItem {
    /// The contact.
    pub jid: WireJid,
    /// Its name, as the account calls it.
    pub name: Option<String>,
    /// `none`, `to`, `from`, `both` or, in a push, `remove`.
    pub subscription: String,
    /// Whether a subscription was asked for and not answered.
    pub ask: bool,
}

/// The items of a `<query xmlns='jabber:iq:roster'/>`.
pub(super) fn roster_items(query: &Element) -> Vec<RosterItem> {
    let item = |child: &Element| {
        let jid = WireJid::new(child.attr("jid").filter(|_| child.is("item", ns::ROSTER))?);
        Some(RosterItem {
            jid,
            name: child.attr("name").map(str::to_owned),
            subscription: child.attr("subscription").unwrap_or("none").to_owned(),
            ask: child.attr("ask") == Some("subscribe"),
        })
    };
    query.children().filter_map(item).collect()
}
