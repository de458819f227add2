//! SCRAM (RFC 5802, RFC 7677): proves that both sides know the password, and tells neither.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::digest::{Digest, KeyInit};
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::Sha256;
use stringprep::saslprep;
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::Zeroizing;

use super::Secret;

/// How often a server may have the password hashed. Fewer rounds make a stolen exchange cheap to
/// guess from (RFC 7677 §4 asks for 4096), more let a server keep this side busy for as long as it
/// likes.
pub const ITERATIONS: std::ops::RangeInclusive<u32> = 4096..=1_000_000;
/// The longest message a server may send; RFC 5802 sets no bound.
const MESSAGE_BYTES: usize = 4096;

/// The hash of a SCRAM mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// SCRAM-SHA-1 (RFC 5802).
    Sha1,
    /// SCRAM-SHA-256 (RFC 7677).
    Sha256,
}

/// What the exchange says about the TLS connection it runs on (RFC 5802 §6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Binding {
    /// `n`: this side does not bind.
    None,
    /// `y`: this side could bind, and the server did not offer it. A server that did offer it then
    /// knows that somebody took the offer out of the list.
    NotOffered,
    /// `p`: bound to the connection by this data.
    Data {
        /// `tls-exporter` (RFC 9266) or `tls-server-end-point` (RFC 5929).
        name: &'static str,
        /// The data of that type.
        data: Vec<u8>,
    },
}

/// Why an exchange came to nothing. No text holds a password or a key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ScramError {
    /// The name or the password holds characters that SASLprep (RFC 4013) forbids, or is empty.
    #[error("the account's name or password is empty or holds a character that RFC 4013 forbids")]
    Credentials,
    /// The server's message is not one of RFC 5802 §7.
    #[error("the server's SCRAM message is malformed: {0}")]
    Malformed(&'static str),
    /// The server's nonce does not begin with ours: the message is from another exchange.
    #[error("the server's nonce does not begin with ours")]
    Nonce,
    /// The server wants too few or too many rounds.
    #[error(
        "the server asks for {0} rounds of hashing, and only {min} to {max} are accepted",
        min = ITERATIONS.start(), max = ITERATIONS.end()
    )]
    Iterations(u64),
    /// The server does not know the password.
    #[error("the server's signature is wrong: it does not know the account's password")]
    Signature,
    /// The server says what is wrong (`e=`).
    #[error("the server refused: {0}")]
    Refused(String),
    /// The messages came in another order than RFC 5802 §5 has them.
    #[error("the server ended the exchange before it proved that it knows the password")]
    Unfinished,
}

enum Step {
    First,
    Proof { without_proof: String, auth: String },
    Final { signature: Zeroizing<Vec<u8>> },
    Verified,
}

/// The hashing of a password as a server asks for it: milliseconds of work, up to a second, which is
/// for another thread than the one that serves connections.
pub struct Derivation {
    hash: Hash,
    password: Zeroizing<String>,
    salt: Vec<u8>,
    rounds: u32,
}

impl Derivation {
    /// Hashes the password.
    pub fn run(&self) -> SaltedKey {
        let (password, salt) = (self.password.as_bytes(), &self.salt);
        let mut key = Zeroizing::new(vec![0; if self.hash == Hash::Sha1 { 20 } else { 32 }]);
        match self.hash {
            Hash::Sha1 => pbkdf2::pbkdf2_hmac::<Sha1>(password, salt, self.rounds, &mut key),
            Hash::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, self.rounds, &mut key),
        }
        SaltedKey { hash: self.hash, salt: salt.clone(), rounds: self.rounds, key }
    }

    /// Whether `key` is what [`Derivation::run`] would give, if it is of the same password.
    pub fn gives(&self, key: &SaltedKey) -> bool {
        self.hash == key.hash && self.rounds == key.rounds && self.salt == key.salt
    }
}

impl fmt::Debug for Derivation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Derivation({:?}, {} rounds)", self.hash, self.rounds)
    }
}

/// A hashed password, worth keeping: a server asks for the same one each time. It lets its holder log
/// in, so it is as secret as the password.
#[derive(Clone)]
pub struct SaltedKey {
    hash: Hash,
    salt: Vec<u8>,
    rounds: u32,
    key: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for SaltedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SaltedKey({:?}, {} rounds)", self.hash, self.rounds)
    }
}

/// The client's side of one exchange.
pub struct Scram {
    hash: Hash,
    password: Zeroizing<String>,
    nonce: String,
    gs2_header: String,
    binding: Vec<u8>,
    bare: String,
    step: Step,
}

impl Scram {
    /// An exchange as `username`; `nonce` is new, printable ASCII without a comma, and cannot be
    /// guessed.
    ///
    /// # Errors
    /// [`ScramError::Credentials`]; [`ScramError::Malformed`] for a nonce that is none.
    pub fn new(
        hash: Hash,
        username: &str,
        password: &Secret,
        nonce: &str,
        binding: Binding,
    ) -> Result<Self, ScramError> {
        let username = saslprep(username).map_err(|_| ScramError::Credentials)?;
        let password = saslprep(password.expose()).map_err(|_| ScramError::Credentials)?;
        if username.is_empty() || password.is_empty() {
            return Err(ScramError::Credentials);
        }
        if !is_nonce(nonce) {
            return Err(ScramError::Malformed("our own nonce is empty or holds a comma"));
        }
        let (gs2_header, binding) = match binding {
            Binding::None => ("n,,".to_owned(), Vec::new()),
            Binding::NotOffered => ("y,,".to_owned(), Vec::new()),
            Binding::Data { name, data } => (format!("p={name},,"), data),
        };
        Ok(Self {
            hash,
            password: Zeroizing::new(password.into_owned()),
            nonce: nonce.to_owned(),
            gs2_header,
            binding,
            bare: format!("n={},r={nonce}", escaped(&username)),
            step: Step::First,
        })
    }

    /// The client's first message, the initial response.
    pub fn first(&self) -> String {
        format!("{}{}", self.gs2_header, self.bare)
    }

    /// Takes the server's first message; what it asks for is to be [run](Derivation::run), and the
    /// key given to [`Scram::prove`].
    ///
    /// # Errors
    /// All but [`ScramError::Signature`]. The exchange is to be aborted.
    pub fn challenge(&mut self, server_first: &[u8]) -> Result<Derivation, ScramError> {
        if !matches!(self.step, Step::First) {
            return Err(ScramError::Malformed("a second challenge"));
        }
        let text = text(server_first)?;
        let mut fields = Fields(text);
        let nonce = fields.expect('r', "no nonce")?;
        let salt = fields.expect('s', "no salt")?;
        let rounds = fields.expect('i', "no iteration count")?;
        let ours = nonce.strip_prefix(&self.nonce).ok_or(ScramError::Nonce)?;
        if !is_nonce(ours) {
            return Err(ScramError::Nonce);
        }
        let salt = decoded(salt)?;
        if salt.is_empty() {
            return Err(ScramError::Malformed("an empty salt"));
        }
        let rounds = iterations(rounds)?;
        let mut bound = self.gs2_header.clone().into_bytes();
        bound.extend_from_slice(&self.binding);
        let without_proof = format!("c={},r={nonce}", BASE64.encode(bound));
        let auth = format!("{},{text},{without_proof}", self.bare);
        self.step = Step::Proof { without_proof, auth };
        Ok(Derivation { hash: self.hash, password: self.password.clone(), salt, rounds })
    }

    /// The client's final message.
    ///
    /// # Errors
    /// [`ScramError::Unfinished`] before the challenge, or with a key of another hash.
    pub fn prove(&mut self, key: &SaltedKey) -> Result<String, ScramError> {
        let Step::Proof { without_proof, auth } = &self.step else {
            return Err(ScramError::Unfinished);
        };
        if key.hash != self.hash {
            return Err(ScramError::Unfinished);
        }
        let (proof, signature) = match self.hash {
            Hash::Sha1 => prove::<Sha1, Hmac<Sha1>>(&key.key, auth.as_bytes()),
            Hash::Sha256 => prove::<Sha256, Hmac<Sha256>>(&key.key, auth.as_bytes()),
        };
        let message = format!("{without_proof},p={}", BASE64.encode(proof));
        self.step = Step::Final { signature };
        Ok(message)
    }

    /// Checks the server's final message: that the server knows the password too.
    ///
    /// # Errors
    /// [`ScramError::Signature`] if it does not.
    pub fn verify(&mut self, server_final: &[u8]) -> Result<(), ScramError> {
        let Step::Final { signature } = &self.step else { return Err(ScramError::Unfinished) };
        let mut fields = Fields(text(server_final)?);
        match fields.next() {
            Some(('v', value)) => {
                if !bool::from(decoded(value)?.ct_eq(signature)) {
                    return Err(ScramError::Signature);
                }
            }
            Some(('e', value)) => return Err(ScramError::Refused(value.to_owned())),
            _ => return Err(ScramError::Malformed("neither a signature nor an error")),
        }
        self.step = Step::Verified;
        Ok(())
    }

    /// Whether the server has proved that it knows the password.
    pub fn is_verified(&self) -> bool {
        matches!(self.step, Step::Verified)
    }
}

/// The client's proof and the signature that the server must give.
fn prove<D: Digest, M: Mac + KeyInit>(
    salted: &[u8],
    auth: &[u8],
) -> (Zeroizing<Vec<u8>>, Zeroizing<Vec<u8>>) {
    let client_key = mac::<M>(salted, b"Client Key");
    let stored_key = Zeroizing::new(D::digest(&*client_key).to_vec());
    let client_signature = mac::<M>(&stored_key, auth);
    let proof = client_key.iter().zip(client_signature.iter()).map(|(key, sign)| key ^ sign);
    let server_key = mac::<M>(salted, b"Server Key");
    (Zeroizing::new(proof.collect()), mac::<M>(&server_key, auth))
}

fn mac<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Zeroizing<Vec<u8>> {
    // A HMAC takes a key of any length.
    let Ok(mut mac) = <M as KeyInit>::new_from_slice(key) else { return Zeroizing::default() };
    mac.update(message);
    Zeroizing::new(mac.finalize().into_bytes().to_vec())
}

/// `=` and `,` in a name (RFC 5802 §5.1).
fn escaped(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

fn is_nonce(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}

fn text(message: &[u8]) -> Result<&str, ScramError> {
    if message.len() > MESSAGE_BYTES {
        return Err(ScramError::Malformed("it is too long"));
    }
    std::str::from_utf8(message).map_err(|_| ScramError::Malformed("it is not UTF-8"))
}

fn decoded(value: &str) -> Result<Vec<u8>, ScramError> {
    BASE64.decode(value).map_err(|_| ScramError::Malformed("bad base64"))
}

fn iterations(text: &str) -> Result<u32, ScramError> {
    let malformed = ScramError::Malformed("the iteration count is no number");
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(malformed);
    }
    let count = text.parse::<u64>().unwrap_or(u64::MAX);
    let fits = u32::try_from(count).ok().filter(|count| ITERATIONS.contains(count));
    fits.ok_or(ScramError::Iterations(count))
}

/// `a=…,b=…` from left to right.
struct Fields<'a>(&'a str);

impl<'a> Fields<'a> {
    fn next(&mut self) -> Option<(char, &'a str)> {
        let (field, rest) = self.0.split_once(',').unwrap_or((self.0, ""));
        self.0 = rest;
        let (name, value) = field.split_once('=')?;
        let mut name = name.chars();
        Some((name.next()?, value)).filter(|_| name.next().is_none())
    }

    /// The next field, which must be `name`. A mandatory extension (`m=`) is none that this side
    /// knows, so it ends the exchange like any other field out of its place.
    fn expect(&mut self, name: char, what: &'static str) -> Result<&'a str, ScramError> {
        match self.next() {
            Some((found, value)) if found == name => Ok(value),
            Some(('e', value)) => Err(ScramError::Refused(value.to_owned())),
            _ => Err(ScramError::Malformed(what)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE_1: &str = "fyko+d2lbbFgONRv9qkxdawL";
    const FIRST_1: &str = "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096";

    fn pencil(hash: Hash, nonce: &str) -> Scram {
        Scram::new(hash, "user", &Secret::new("pencil"), nonce, Binding::None).unwrap()
    }

    fn answer(scram: &mut Scram, first: &str) -> String {
        let key = scram.challenge(first.as_bytes()).unwrap().run();
        scram.prove(&key).unwrap()
    }

    #[test]
    fn a_key_is_good_for_the_same_question_only() {
        let ask = |hash, first: &str| pencil(hash, NONCE_1).challenge(first.as_bytes()).unwrap();
        let key = ask(Hash::Sha1, FIRST_1).run();
        let again = FIRST_1.replace("vs7j", "other");
        assert!(ask(Hash::Sha1, &again).gives(&key), "another nonce");
        assert!(!ask(Hash::Sha256, FIRST_1).gives(&key));
        assert!(!ask(Hash::Sha1, &FIRST_1.replace("4096", "4097")).gives(&key));
        assert!(!ask(Hash::Sha1, &FIRST_1.replace("QSX", "QSY")).gives(&key));
        let mut other = pencil(Hash::Sha256, NONCE_1);
        assert_eq!(other.prove(&key), Err(ScramError::Unfinished), "before the challenge");
        other.challenge(FIRST_1.as_bytes()).unwrap();
        assert_eq!(other.prove(&key), Err(ScramError::Unfinished), "of another hash");
        let shown = format!("{:?} {key:?}", ask(Hash::Sha1, FIRST_1));
        assert_eq!(shown, "Derivation(Sha1, 4096 rounds) SaltedKey(Sha1, 4096 rounds)");
    }

    #[test]
    fn the_exchange_of_rfc_5802() {
        let mut scram = pencil(Hash::Sha1, NONCE_1);
        assert_eq!(scram.first(), "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL");
        assert_eq!(
            answer(&mut scram, FIRST_1),
            "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="
        );
        assert!(!scram.is_verified());
        scram.verify(b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=").unwrap();
        assert!(scram.is_verified());
    }

    #[test]
    fn the_exchange_of_rfc_7677() {
        let mut scram = pencil(Hash::Sha256, "rOprNGfwEbeRWgbNEkqO");
        let first = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        assert_eq!(
            answer(&mut scram, first),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        scram.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").unwrap();
        assert!(scram.is_verified());
    }

    #[test]
    fn a_server_that_does_not_know_the_password_is_found_out() {
        for (last, error) in [
            ("v=rmF9pqV8S7suAoZWja4dJRkFsKR=", None),
            ("v=smF9pqV8S7suAoZWja4dJRkFsKQ=", Some(ScramError::Signature)),
            ("v=", Some(ScramError::Signature)),
            ("v=rmF9pqV8S7suAoZWja4dJRkF", Some(ScramError::Signature)),
            ("e=other-error", Some(ScramError::Refused("other-error".into()))),
            ("", None),
            ("vv=rmF9pqV8S7suAoZWja4dJRkFsKQ=", None),
        ] {
            let mut scram = pencil(Hash::Sha1, NONCE_1);
            answer(&mut scram, FIRST_1);
            let found = scram.verify(last.as_bytes()).unwrap_err();
            match error {
                Some(error) => assert_eq!(found, error, "{last}"),
                None => assert!(matches!(found, ScramError::Malformed(_)), "{last}: {found}"),
            }
            assert!(!scram.is_verified());
        }
        let mut early = pencil(Hash::Sha1, NONCE_1);
        let last = b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=";
        assert_eq!(early.verify(last), Err(ScramError::Unfinished));
    }

    #[test]
    fn a_challenge_that_is_wrong_is_not_answered() {
        let nonce = format!("r={NONCE_1}x");
        for (first, error) in [
            ("r=other,s=QSXC,i=4096".to_owned(), ScramError::Nonce),
            (format!("r={NONCE_1},s=QSXC,i=4096"), ScramError::Nonce),
            (format!("{nonce},s=QSXC,i=4095"), ScramError::Iterations(4095)),
            (format!("{nonce},s=QSXC,i=1000001"), ScramError::Iterations(1_000_001)),
            (format!("{nonce},s=QSXC,i=99999999999999999999"), ScramError::Iterations(u64::MAX)),
            (
                format!("{nonce},s=QSXC,i=+4096"),
                ScramError::Malformed("the iteration count is no number"),
            ),
            (format!("{nonce},s=,i=4096"), ScramError::Malformed("an empty salt")),
            (format!("{nonce},s=!,i=4096"), ScramError::Malformed("bad base64")),
            (format!("m=x,{nonce},s=QSXC,i=4096"), ScramError::Malformed("no nonce")),
            (nonce.clone(), ScramError::Malformed("no salt")),
            (String::new(), ScramError::Malformed("no nonce")),
            ("e=unknown-user".to_owned(), ScramError::Refused("unknown-user".into())),
            ("r=".repeat(3000), ScramError::Malformed("it is too long")),
        ] {
            let found = pencil(Hash::Sha1, NONCE_1).challenge(first.as_bytes());
            assert_eq!(found.unwrap_err(), error, "{first}");
        }
        let found = pencil(Hash::Sha1, NONCE_1).challenge(b"r=\xff");
        assert_eq!(found.unwrap_err(), ScramError::Malformed("it is not UTF-8"));
    }

    #[test]
    fn names_are_prepared_and_escaped() {
        let first = |name: &str| {
            Scram::new(Hash::Sha1, name, &Secret::new("p"), "abc", Binding::None).map(|s| s.first())
        };
        assert_eq!(first("a,b=c").unwrap(), "n,,n=a=2Cb=3Dc,r=abc");
        assert_eq!(first("I\u{ad}X").unwrap(), "n,,n=IX,r=abc");
        assert_eq!(first("\u{2168}").unwrap(), "n,,n=IX,r=abc");
        for bad in ["", "a\u{7}", "\u{627}\u{31}"] {
            assert_eq!(first(bad), Err(ScramError::Credentials), "{bad:?}");
        }
        for bad in ["", "a,b", "a b", "é"] {
            let scram = Scram::new(Hash::Sha1, "a", &Secret::new("p"), bad, Binding::None);
            assert!(scram.is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_binding_is_in_the_header_and_in_the_proof() {
        let secret = Secret::new("pencil");
        let c = |binding: Binding| {
            let mut scram = Scram::new(Hash::Sha1, "user", &secret, NONCE_1, binding).unwrap();
            let first = scram.first();
            let last = answer(&mut scram, FIRST_1);
            let (c, _) = last.split_once(',').unwrap();
            let c = BASE64.decode(c.strip_prefix("c=").unwrap()).unwrap();
            (first[..first.find("n=").unwrap()].to_owned(), c)
        };
        assert_eq!(c(Binding::NotOffered), ("y,,".into(), b"y,,".to_vec()));
        let data = vec![0, 1, 255];
        let bound = c(Binding::Data { name: "tls-exporter", data });
        assert_eq!(bound, ("p=tls-exporter,,".into(), b"p=tls-exporter,,\0\x01\xff".to_vec()));
    }
}
