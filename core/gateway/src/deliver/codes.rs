//! What a callback's HTTP status means to the sender: status → stanza error.

/// A stanza error as a callback's status implies it; `text` is `CODE REASON`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// RFC 6120 §8.3.2 error type.
    pub type_: &'static str,
    /// RFC 6120 §8.3.3 condition.
    pub condition: &'static str,
}

/// The callback could not be reached, or its answer could not be read.
pub const UNREACHABLE: Condition = Condition { type_: "wait", condition: "recipient-unavailable" };

/// The condition that stands for a status outside 2xx.
pub fn condition(status: u16) -> Condition {
    let (type_, condition) = match status {
        400 | 411 | 416 | 422 => ("modify", "bad-request"),
        401 | 511 => ("auth", "not-authorized"),
        402 => ("auth", "payment-required"),
        403 | 451 => ("auth", "forbidden"),
        404 => ("cancel", "item-not-found"),
        405 => ("cancel", "not-allowed"),
        406 => ("modify", "not-acceptable"),
        407 => ("auth", "registration-required"),
        408 | 502 | 504 => ("wait", "remote-server-timeout"),
        409 | 412 => ("cancel", "conflict"),
        410 => ("cancel", "gone"),
        413 | 414 | 431 => ("modify", "resource-constraint"),
        415 | 501 => ("cancel", "feature-not-implemented"),
        423 | 429 | 507 => ("wait", "resource-constraint"),
        500 => ("wait", "internal-server-error"),
        503 => ("cancel", "service-unavailable"),
        _ => ("cancel", "undefined-condition"),
    };
    Condition { type_, condition }
}

/// `404 Not Found`, `499 Unassigned`: the status with its registered reason.
pub fn text(status: u16) -> String {
    let reason = http::StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason());
    format!("{status} {}", reason.unwrap_or("Unassigned"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_observed_status_has_its_condition() {
        let cases: serde_json::Value =
            serde_json::from_str(include_str!("../../../../tests/vectors/rest-callback.json"))
                .unwrap();
        let mut seen = 0;
        for case in cases["cases"].as_array().unwrap() {
            let (Some(status), Some(back)) =
                (case["callback_response"]["status"].as_u64(), case["sender_sees"].as_str())
            else {
                continue;
            };
            if (200..300).contains(&status) || !back.contains(&format!(">{status} ")) {
                continue;
            }
            let status = u16::try_from(status).unwrap();
            let expected = condition(status);
            let error = format!("<error type=\"{}\"><{} ", expected.type_, expected.condition);
            assert!(back.contains(&error), "{}: {back}", case["name"]);
            let text = text(status);
            assert!(back.contains(&format!(">{text}</text>")), "{}: {back} {text}", case["name"]);
            seen += 1;
        }
        assert!(seen > 80, "only {seen} cases carry a status");
    }
}
