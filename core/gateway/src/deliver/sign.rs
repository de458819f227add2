//! Signed deliveries: a webhook's receiver can tell our posts from anybody else's.
//!
//! `Appxmpp-Signature: t=UNIX_SECONDS,v1=HEX` where HEX is HMAC-SHA256 over
//! `UNIX_SECONDS "." DELIVERY_ID "." BODY` under the app's webhook secret. A receiver recomputes it
//! over the bytes it got, compares in constant time, and refuses a time more than five minutes off
//! or a delivery id it has seen.

use ring::hmac;

/// The header that carries the signature.
pub const SIGNATURE: &str = "appxmpp-signature";
/// The header that carries the delivery id: the same in every attempt of one delivery.
pub const DELIVERY: &str = "appxmpp-delivery";

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Signs deliveries of one app.
#[derive(Clone)]
pub struct Signer(hmac::Key);

impl Signer {
    /// Signs under `secret`.
    pub fn new(secret: &str) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()))
    }

    /// The header's value for `body`, delivered as `delivery` at `unix_seconds`.
    pub fn value(&self, unix_seconds: u64, delivery: &str, body: &[u8]) -> String {
        let time = unix_seconds.to_string();
        let mut mac = hmac::Context::with_key(&self.0);
        mac.update(time.as_bytes());
        mac.update(b".");
        mac.update(delivery.as_bytes());
        mac.update(b".");
        mac.update(body);
        let mut hex = [0; 2 * 32];
        let (pairs, _) = hex.as_chunks_mut();
        for (pair, byte) in pairs.iter_mut().zip(mac.sign().as_ref()) {
            *pair = [byte >> 4, byte & 15].map(|digit| HEX[usize::from(digit)]);
        }
        ["t=", &time, ",v1=", std::str::from_utf8(&hex).unwrap_or_default()].concat()
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_hmac_sha256_over_time_id_and_body() {
        // printf '1700000000.d1.hello' | openssl dgst -sha256 -hmac key
        let value = Signer::new("key").value(1_700_000_000, "d1", b"hello");
        assert_eq!(value, format!("t=1700000000,v1={EXPECTED}"));
    }

    const EXPECTED: &str = "63ae541b40b113e9ed43053bff1bf556d0cb63daa426e76587428141bccdd9bd";

    #[test]
    fn any_change_changes_it() {
        let signer = Signer::new("key");
        let value = signer.value(1, "a", b"b");
        assert_ne!(value, signer.value(2, "a", b"b").replace("t=2", "t=1"));
        assert_ne!(value, signer.value(1, "b", b"b"));
        assert_ne!(value, signer.value(1, "a", b"c"));
        assert_ne!(value, Signer::new("other").value(1, "a", b"b"));
    }
}
