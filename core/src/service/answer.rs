//! Answers to the iqs that every XMPP entity is asked; everything else is `service-unavailable`.

use std::time::Duration;

use super::address::Addresses;
use crate::ns;
use crate::stanza::{Condition, Stanza, StanzaError};
use crate::xml::Element;

/// What is said to be spoken here, in disco#info (XEP-0030 §3).
const FEATURES: [&str; 5] = [ns::DISCO_INFO, ns::DISCO_ITEMS, ns::PING, ns::VERSION, ns::TIME];

/// The answer to an iq of type get or set; `None` if nobody could be answered.
pub(super) fn iq(stanza: &Stanza, addresses: &Addresses, utc: Duration) -> Option<String> {
    let refuse = |condition| stanza.error_reply(&StanzaError::new(condition));
    let Ok(element) = stanza.element() else {
        return refuse(Condition::BadRequest);
    };
    let mut children = element.children();
    let (Some(request), None) = (children.next(), children.next()) else {
        // RFC 6120 §8.2.3: exactly one child.
        return refuse(Condition::BadRequest);
    };
    if element.attr("type") == Some("set") {
        return refuse(Condition::ServiceUnavailable);
    }
    let payload = match (request.name(), request.ns()) {
        ("query", ns::DISCO_INFO | ns::DISCO_ITEMS) if request.attr("node").is_some() => {
            return refuse(Condition::ItemNotFound);
        }
        ("query", ns::DISCO_INFO) => disco_info(stanza, addresses),
        ("query", ns::DISCO_ITEMS) => Element::new("query", ns::DISCO_ITEMS),
        ("ping", ns::PING) => return stanza.result_reply(None),
        ("query", ns::VERSION) => version(),
        ("time", ns::TIME) => time(utc),
        _ => return refuse(Condition::ServiceUnavailable),
    };
    stanza.result_reply(Some(&payload))
}

fn disco_info(stanza: &Stanza, addresses: &Addresses) -> Element {
    // A name at the domain is a bot to chat with; the domain itself is what carries the bots.
    let is_name = stanza.to().is_some_and(|to| to.localpart().is_some());
    let (category, type_) = if is_name { ("client", "bot") } else { ("component", "generic") };
    let identity = Element::new("identity", ns::DISCO_INFO)
        .with_attr("category", category)
        .with_attr("type", type_)
        .with_attr("name", addresses.app_id());
    let query = Element::new("query", ns::DISCO_INFO).with_child(identity);
    FEATURES.into_iter().fold(query, |query, feature| {
        query.with_child(Element::new("feature", ns::DISCO_INFO).with_attr("var", feature))
    })
}

fn version() -> Element {
    let text = |name: &str, text| Element::new(name, ns::VERSION).with_text(text);
    Element::new("query", ns::VERSION)
        .with_child(text("name", "appxmpp"))
        .with_child(text("version", env!("CARGO_PKG_VERSION")))
}

fn time(utc: Duration) -> Element {
    let text = |name: &str, text: &str| Element::new(name, ns::TIME).with_text(text);
    Element::new("time", ns::TIME)
        .with_child(text("tzo", "+00:00"))
        .with_child(text("utc", &date_time(utc.as_secs())))
}

/// A time in XEP-0082's form, UTC, of the seconds since the Unix epoch.
fn date_time(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day, `days` after 1970-01-01 in the Gregorian calendar.
fn civil(days: u64) -> (u64, u64, u64) {
    // Years are counted from March, so that the leap day is a year's last; 719468 days lie between
    // 0000-03-01 and 1970-01-01, and 146097 in four centuries.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_166_553_478, "2006-12-19T18:37:58Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(date_time(seconds), expected);
        }
    }
}
