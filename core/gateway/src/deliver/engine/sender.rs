//! What the sender of a delivery is told.

use appxmpp::service::{Delivery, InboundService};
use appxmpp::stanza::{Stanza, StanzaKind};

use super::live::Live;
use crate::deliver::client::{Answer, Failure};
use crate::deliver::codes::{self, Condition};
use crate::deliver::reply::{self, Inbound, Outcome, Reply};
use crate::id;
use crate::rest::path::Kind;

/// What a callback's answer says to the sender.
pub(super) fn reply_to(
    live: &Live,
    delivery: &Delivery,
    id: &str,
    result: &Result<Answer, Failure>,
) -> Option<Reply> {
    let inbound = inbound(&delivery.stanza, id)?;
    let outcome = match result {
        Ok(answer) => Outcome::Answered {
            status: answer.status,
            content_type: answer.content_type.as_deref(),
            body: &answer.body,
        },
        Err(_) => Outcome::Unreachable,
    };
    reply::reply(&inbound, &outcome, live.app.strict)
}

/// The app could not be reached: the sender learns it, unless it is App Engine's presence or an
/// error, which nobody waits for an answer to.
pub(super) fn given_up(delivery: &Delivery, id: &str) -> Option<String> {
    answer(delivery, id, codes::UNREACHABLE)
}

/// The app has used up a quota: the sender is told to try again later.
pub(super) fn unpaid(delivery: &Delivery, id: &str) -> Option<String> {
    answer(delivery, id, codes::condition(429))
}

/// There is no room: the sender is told to try again later.
pub(crate) fn refusal(delivery: &Delivery) -> Option<String> {
    answer(delivery, &id::stanza(), codes::condition(429))
}

fn answer(delivery: &Delivery, id: &str, why: Condition) -> Option<String> {
    let inbound = inbound(&delivery.stanza, id)?;
    let is_answerable = delivery.path.is_empty() || delivery.service == InboundService::Message;
    let is_answer = matches!(inbound.type_, Some("error" | "result"));
    (is_answerable && !is_answer).then(|| reply::error(&inbound, why, None))
}

/// What the reply to a stanza depends on; `None` for what is no stanza or has no sender.
pub(crate) fn inbound<'s>(stanza: &'s Stanza, answer_id: &'s str) -> Option<Inbound<'s>> {
    let kind = match stanza.kind() {
        StanzaKind::Message => Kind::Message,
        StanzaKind::Presence => Kind::Presence,
        StanzaKind::Iq => Kind::Iq,
        StanzaKind::Other => return None,
    };
    Some(Inbound {
        kind,
        from: stanza.from()?.as_str(),
        to: stanza.to().map_or("", |to| to.as_str()),
        id: stanza.id(),
        type_: stanza.type_(),
        answer_id,
        wants_receipt: wants_receipt(stanza),
    })
}

fn wants_receipt(stanza: &Stanza) -> bool {
    const RECEIPTS: &str = "urn:xmpp:receipts";
    stanza.kind() == StanzaKind::Message
        && stanza.id().is_some()
        && !matches!(stanza.type_(), Some("groupchat" | "error"))
        && memchr::memmem::find(stanza.raw(), RECEIPTS.as_bytes()).is_some()
        && stanza.element().is_ok_and(|element| element.child("request", RECEIPTS).is_some())
}
