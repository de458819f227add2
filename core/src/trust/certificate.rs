//! The few fields of an X.509 certificate (RFC 5280 §4.1) that rustls keeps to itself.

use std::time::Duration;

use sha2::{Digest, Sha256, Sha384, Sha512};

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const OBJECT_ID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// 1.2.840.113549.1.1: signatures with RSA.
const RSA: [u8; 8] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
/// 1.2.840.10045.4: signatures with ECDSA.
const ECDSA: [u8; 6] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04];

/// What is read of a certificate.
pub(crate) struct Certificate<'c> {
    whole: &'c [u8],
    /// `SubjectPublicKeyInfo`, as it is encoded.
    public_key: &'c [u8],
    /// Since the Unix epoch.
    valid: (Duration, Duration),
    signature: &'c [u8],
    issuer: &'c [u8],
    subject: &'c [u8],
}

impl<'c> Certificate<'c> {
    /// Reads a certificate; `None` for what is none.
    pub(crate) fn read(whole: &'c [u8]) -> Option<Self> {
        let mut outer = Der(Der(whole).value(SEQUENCE)?);
        let mut signed = Der(outer.value(SEQUENCE)?);
        let signature = Der(outer.value(SEQUENCE)?).value(OBJECT_ID)?;
        if signed.0.first() == Some(&VERSION) {
            signed.value(VERSION)?;
        }
        let (_serial, _algorithm, issuer) = (signed.any()?, signed.any()?, signed.any()?);
        let mut validity = Der(signed.value(SEQUENCE)?);
        let valid = (validity.time()?, validity.time()?);
        let subject = signed.any()?;
        let public_key = signed.any()?;
        Some(Self { whole, public_key, valid, signature, issuer, subject })
    }

    /// Whether it is valid at `utc`, since the Unix epoch.
    pub(crate) fn is_valid_at(&self, utc: Duration) -> bool {
        (self.valid.0..=self.valid.1).contains(&utc)
    }

    /// Whether nobody else issued it.
    pub(crate) fn is_its_own(&self) -> bool {
        self.issuer == self.subject
    }

    /// SHA-256 of the whole certificate, and of its public key alone.
    pub(crate) fn fingerprints(&self) -> [[u8; 32]; 2] {
        [self.whole, self.public_key].map(|bytes| Sha256::digest(bytes).into())
    }

    /// `tls-server-end-point` (RFC 5929 §4.1); `None` where that is not defined.
    pub(crate) fn end_point(&self) -> Option<Vec<u8>> {
        let sha256 = || Sha256::digest(self.whole).to_vec();
        let sha384 = || Sha384::digest(self.whole).to_vec();
        let sha512 = || Sha512::digest(self.whole).to_vec();
        // MD5 and SHA-1 are replaced by SHA-256.
        Some(match (self.signature.strip_prefix(&RSA), self.signature.strip_prefix(&ECDSA)) {
            (Some([4 | 5 | 11]), _) | (_, Some([1] | [3, 2])) => sha256(),
            (Some([12]), _) | (_, Some([3, 3])) => sha384(),
            (Some([13]), _) | (_, Some([3, 4])) => sha512(),
            _ => return None,
        })
    }
}

/// Distinguished encoding (X.690), from left to right.
struct Der<'d>(&'d [u8]);

impl<'d> Der<'d> {
    /// The next value's tag, its content, and how many bytes both have with their head.
    fn next(&self) -> Option<(u8, &'d [u8], usize)> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (len, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (digits.iter().fold(0, |len, digit| len << 8 | usize::from(*digit)), rest)
            }
            _ => return None,
        };
        let content = rest.get(..len)?;
        Some((tag, content, self.0.len() - rest.len() + len))
    }

    /// The content of the next value, which must have this tag.
    fn value(&mut self, expected: u8) -> Option<&'d [u8]> {
        let (tag, content, len) = self.next()?;
        self.0 = &self.0[len..];
        (tag == expected).then_some(content)
    }

    /// The next value as it is encoded.
    fn any(&mut self) -> Option<&'d [u8]> {
        let (_, _, len) = self.next()?;
        let (value, rest) = self.0.split_at(len);
        self.0 = rest;
        Some(value)
    }

    /// A time (RFC 5280 §4.1.2.5), since the Unix epoch; one before it counts as it.
    fn time(&mut self) -> Option<Duration> {
        let (tag, text, len) = self.next()?;
        self.0 = &self.0[len..];
        let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let (year, rest) = match (tag, text.len()) {
            (UTC_TIME, 12) => {
                let year: u64 = text[..2].parse().ok()?;
                (if year < 50 { 2000 + year } else { 1900 + year }, &text[2..])
            }
            (GENERALIZED_TIME, 14) => (text[..4].parse().ok()?, &text[4..]),
            _ => return None,
        };
        let part = |at: usize| rest[at..at + 2].parse::<u64>().ok();
        let (month, day) = (part(0)?, part(2)?);
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return None;
        }
        let seconds = part(4)? * 3600 + part(6)? * 60 + part(8)?;
        Some(Duration::from_secs(days(year, month, day) * 86_400 + seconds))
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days(year: u64, month: u64, day: u64) -> u64 {
    // Counted from March, so that the leap day is a year's last; 719468 days lie between 0000-03-01
    // and 1970-01-01.
    let (year, month) =
        if month < 3 { (year.saturating_sub(1), month + 9) } else { (year, month - 3) };
    let of_years = year * 365 + year / 4 - year / 100 + year / 400;
    (of_years + (153 * month + 2) / 5 + day - 1).saturating_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_counted_as_the_calendar_does() {
        for (date, expected) in [
            ((1970, 1, 1), 0),
            ((2000, 3, 1), 11_017),
            ((2024, 2, 29), 19_782),
            ((2100, 3, 1), 47_541),
        ] {
            assert_eq!(days(date.0, date.1, date.2), expected, "{date:?}");
        }
    }

    #[test]
    fn both_forms_of_a_time_are_read() {
        let time = |tag: u8, text: &str| {
            let mut der = vec![tag, text.len() as u8];
            der.extend_from_slice(text.as_bytes());
            Der(&der).time().map(|time| time.as_secs())
        };
        assert_eq!(time(UTC_TIME, "700101000001Z"), Some(1));
        assert_eq!(time(UTC_TIME, "241231235959Z"), Some(1_735_689_599));
        assert_eq!(time(GENERALIZED_TIME, "20241231235959Z"), Some(1_735_689_599));
        assert_eq!(time(UTC_TIME, "500101000000Z"), Some(0), "1950");
        for bad in ["241231235959", "241331235959Z", "2412312359Z", "24123123595éZ", ""] {
            assert_eq!(time(UTC_TIME, bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_no_certificate_is_refused_at_any_length() {
        let mut whole = vec![0x30, 0x82, 0xff, 0xff];
        assert!(Certificate::read(&whole).is_none());
        whole.extend_from_slice(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]);
        for end in 0..whole.len() {
            assert!(Certificate::read(&whole[..end]).is_none(), "{end}");
        }
    }
}
