//! The digest with which a component proves that it knows the secret
//! ([XEP-0114](https://xmpp.org/extensions/xep-0114.html) §3).

use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;

use super::Secret;

/// The text of `<handshake/>`: SHA-1 over the stream's `id` as the server sent it, then the secret,
/// in lower-case hexadecimal.
pub fn digest(stream_id: &str, secret: &Secret) -> String {
    let mut hash = Sha1::new();
    hash.update(stream_id.as_bytes());
    hash.update(secret.expose().as_bytes());
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let nibbles = hash.finalize();
    nibbles
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|nibble| char::from(HEX[usize::from(nibble)]))
        .collect()
}

/// Whether `given` is the digest of `stream_id` and `secret`, in a time that tells nothing about
/// where the two differ.
pub fn verify(stream_id: &str, secret: &Secret, given: &str) -> bool {
    digest(stream_id, secret).as_bytes().ct_eq(given.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_sha_1_of_id_and_secret() {
        // printf '3BF96D32test' | sha1sum
        let secret = Secret::new("test");
        let expected = "aaee83c26aeeafcbabeabfcbcd50df997e0a2a1e";
        assert_eq!(digest("3BF96D32", &secret), expected);
        assert!(verify("3BF96D32", &secret, expected));
    }

    #[test]
    fn another_id_secret_or_length_does_not_verify() {
        let secret = Secret::new("test");
        let good = digest("3BF96D32", &secret);
        assert!(!verify("3BF96D33", &secret, &good));
        assert!(!verify("3BF96D32", &Secret::new("tesT"), &good));
        assert!(!verify("3BF96D32", &secret, &good[..39]));
        assert!(!verify("3BF96D32", &secret, ""));
        assert!(!verify("3BF96D32", &secret, &good.to_uppercase()));
    }
}
