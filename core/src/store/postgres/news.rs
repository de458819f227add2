//! What processes tell each other with NOTIFY.

use crate::service::presence::Show;
use crate::store::{ContactKey, Heard};

/// Between fields: no address holds it, because XML cannot (XML 1.0 §2.2).
const SEPARATOR: char = '\u{1f}';
/// What a notification may hold, in bytes.
const LIMIT: usize = 7999;

/// A notification.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// This member heard this, and tells it under this number.
    Heard(u64, ContactKey, Heard, u64),
    /// The row of a contact is to be read again.
    Contact(ContactKey),
}

impl Notice {
    /// The text, if it fits into a notification.
    pub(super) fn write(&self) -> Option<String> {
        let mut text = String::new();
        let mut field = |value: &str| {
            text.push_str(value);
            text.push(SEPARATOR);
        };
        match self {
            Self::Contact(key) => {
                field("contact");
                field(&key.own);
                field(&key.contact);
            }
            Self::Heard(member, key, heard, number) => {
                field(if matches!(heard, Heard::Available { .. }) { "available" } else { "gone" });
                field(&key.own);
                field(&key.contact);
                field(&member.to_string());
                field(&number.to_string());
                match heard {
                    Heard::Available { resource, priority, show } => {
                        field(resource);
                        field(&priority.to_string());
                        field(&(*show as u8).to_string());
                    }
                    Heard::Unavailable(Some(resource)) => field(resource),
                    Heard::Unavailable(None) => {}
                }
            }
        }
        let is_whole = text.len() <= LIMIT && !text.contains('\0');
        is_whole.then_some(text)
    }

    /// What a text says; `None` for one that a newer version would understand.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut fields = text.strip_suffix(SEPARATOR)?.split(SEPARATOR);
        let kind = fields.next()?;
        let key = ContactKey { own: fields.next()?.into(), contact: fields.next()?.into() };
        if kind == "contact" {
            return Some(Self::Contact(key));
        }
        let member = fields.next()?.parse().ok()?;
        let number = fields.next()?.parse().ok()?;
        let resource = fields.next();
        let heard = match kind {
            "available" => Heard::Available {
                resource: resource?.into(),
                priority: fields.next()?.parse().ok()?,
                show: Show::from_number(fields.next()?.parse().ok()?)?,
            },
            "gone" => Heard::Unavailable(resource.map(Box::from)),
            _ => return None,
        };
        Some(Self::Heard(member, key, heard, number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let key = || ContactKey { own: "bot@d".into(), contact: "\u{e9}@e".into() };
        let available = |resource: &str| Heard::Available {
            resource: resource.into(),
            priority: -128,
            show: Show::ExtendedAway,
        };
        for notice in [
            Notice::Contact(key()),
            Notice::Heard(7, key(), available("phone|1"), 9),
            Notice::Heard(7, key(), available(""), 9),
            Notice::Heard(u64::MAX, key(), Heard::Unavailable(Some("phone".into())), 9),
            Notice::Heard(7, key(), Heard::Unavailable(None), 9),
        ] {
            assert_eq!(Notice::read(&notice.write().unwrap()).as_ref(), Some(&notice));
        }
    }

    #[test]
    fn what_does_not_fit_is_not_written_and_nonsense_not_read() {
        let key = ContactKey { own: "a@b".into(), contact: "x".repeat(LIMIT).into() };
        assert_eq!(Notice::Contact(key).write(), None);
        for text in ["", "contact", "contact\u{1f}a\u{1f}", "later\u{1f}a\u{1f}b\u{1f}1\u{1f}"] {
            assert_eq!(Notice::read(text), None, "{text:?}");
        }
    }
}
