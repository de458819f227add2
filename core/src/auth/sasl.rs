//! SASL (RFC 6120 §6): which mechanism, and what it says.

use zeroize::Zeroizing;

use super::scram::{Binding, Derivation, Hash, SaltedKey, Scram, ScramError};
use super::{Secret, plain};

/// What can be known of the TLS connection under the stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChannelBindings {
    /// `tls-exporter` (RFC 9266): TLS 1.3 only.
    pub exporter: Option<Vec<u8>>,
    /// `tls-server-end-point` (RFC 5929): the hash of the server's certificate.
    pub end_point: Option<Vec<u8>>,
}

impl ChannelBindings {
    fn is_empty(&self) -> bool {
        self.exporter.is_none() && self.end_point.is_none()
    }

    /// The data of the first of the types `offered` that there are data for.
    fn usable(&self, offered: &[String]) -> Option<Binding> {
        let known = [("tls-exporter", &self.exporter), ("tls-server-end-point", &self.end_point)];
        let mut usable = known.into_iter().filter(|(name, _)| offered.iter().any(|o| o == name));
        usable.find_map(|(name, data)| Some(Binding::Data { name, data: data.clone()? }))
    }
}

/// What a server offers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offer {
    /// The mechanisms, as written.
    pub mechanisms: Vec<String>,
    /// The types of channel binding (XEP-0440), as written. A server that offers `-PLUS` and does
    /// not say with which type is not bound to: each wrong guess is a failed log-in.
    pub bindings: Vec<String>,
}

/// A mechanism that was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mechanism {
    /// SCRAM with this hash; with `-PLUS` if the binding has data.
    Scram(Hash, Binding),
    /// PLAIN (RFC 4616).
    Plain,
}

impl Mechanism {
    /// The strongest mechanism of the offer: SCRAM bound to the connection, SCRAM, and PLAIN only
    /// if `plain` allows it and the connection is encrypted. `tls` is `None` on one that is not.
    ///
    /// Nothing about channel binding ever leads to PLAIN.
    pub fn choose(offer: &Offer, tls: Option<&ChannelBindings>, plain: bool) -> Option<Self> {
        let has = |name: &str| offer.mechanisms.iter().any(|offered| offered == name);
        let plus = offer.mechanisms.iter().any(|offered| offered.ends_with("-PLUS"));
        if let Some(binding) = tls.and_then(|tls| tls.usable(&offer.bindings)) {
            if has("SCRAM-SHA-256-PLUS") {
                return Some(Self::Scram(Hash::Sha256, binding));
            }
            if has("SCRAM-SHA-1-PLUS") {
                return Some(Self::Scram(Hash::Sha1, binding));
            }
        }
        // `y` is for a server without any -PLUS: one that has it, of a kind we do not, would take
        // the flag for proof that somebody cut its list.
        let could = tls.is_some_and(|tls| !tls.is_empty());
        let binding = if could && !plus { Binding::NotOffered } else { Binding::None };
        if has("SCRAM-SHA-256") {
            Some(Self::Scram(Hash::Sha256, binding))
        } else if has("SCRAM-SHA-1") {
            Some(Self::Scram(Hash::Sha1, binding))
        } else {
            (plain && tls.is_some() && has("PLAIN")).then_some(Self::Plain)
        }
    }

    /// Its name (RFC 5802 §4, RFC 4616 §2).
    pub fn name(&self) -> &'static str {
        match self {
            Self::Scram(Hash::Sha256, Binding::Data { .. }) => "SCRAM-SHA-256-PLUS",
            Self::Scram(Hash::Sha1, Binding::Data { .. }) => "SCRAM-SHA-1-PLUS",
            Self::Scram(Hash::Sha256, _) => "SCRAM-SHA-256",
            Self::Scram(Hash::Sha1, _) => "SCRAM-SHA-1",
            Self::Plain => "PLAIN",
        }
    }
}

/// What a challenge leads to.
#[derive(Debug)]
pub enum Reply {
    /// This is the answer.
    Send(Vec<u8>),
    /// The answer needs the password hashed: [`Exchange::derived`].
    Derive(Derivation),
}

/// One exchange, whichever mechanism it uses.
pub enum Exchange {
    /// SCRAM.
    Scram(Box<Scram>),
    /// PLAIN: one message, and nothing to check.
    Plain,
}

impl Exchange {
    /// Begins; gives the initial response too. `nonce` is as in [`Scram::new`].
    ///
    /// # Errors
    /// See [`Scram::new`].
    pub fn begin(
        mechanism: Mechanism,
        username: &str,
        password: &Secret,
        nonce: &str,
    ) -> Result<(Self, Zeroizing<Vec<u8>>), ScramError> {
        match mechanism {
            Mechanism::Scram(hash, binding) => {
                let scram = Scram::new(hash, username, password, nonce, binding)?;
                let first = Zeroizing::new(scram.first().into_bytes());
                Ok((Self::Scram(Box::new(scram)), first))
            }
            Mechanism::Plain => Ok((Self::Plain, plain::response(username, password)?)),
        }
    }

    /// What is to be done about a challenge.
    ///
    /// # Errors
    /// The exchange is to be aborted.
    pub fn challenge(&mut self, data: &[u8]) -> Result<Reply, ScramError> {
        match self {
            Self::Plain => Err(ScramError::Malformed("PLAIN has no challenge")),
            // A server may put its last word into a challenge, and then success carries nothing.
            Self::Scram(scram) if data.starts_with(b"v=") => {
                scram.verify(data).map(|()| Reply::Send(Vec::new()))
            }
            Self::Scram(scram) => scram.challenge(data).map(Reply::Derive),
        }
    }

    /// The answer to a challenge whose [derivation](Reply::Derive) gave `key`.
    ///
    /// # Errors
    /// The exchange is to be aborted.
    pub fn derived(&mut self, key: &SaltedKey) -> Result<Vec<u8>, ScramError> {
        match self {
            Self::Plain => Err(ScramError::Unfinished),
            Self::Scram(scram) => scram.prove(key).map(String::into_bytes),
        }
    }

    /// Whether the server's success may be believed; `data` is what came with it.
    ///
    /// # Errors
    /// The server has not proved that it knows the password: it is to be left at once.
    pub fn success(&mut self, data: &[u8]) -> Result<(), ScramError> {
        match self {
            Self::Plain => Ok(()),
            Self::Scram(scram) if data.is_empty() && scram.is_verified() => Ok(()),
            Self::Scram(scram) => scram.verify(data),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(mechanisms: &[&str], bindings: &[&str]) -> Offer {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        Offer { mechanisms: owned(mechanisms), bindings: owned(bindings) }
    }

    fn tls13() -> ChannelBindings {
        ChannelBindings { exporter: Some(vec![1]), end_point: Some(vec![2]) }
    }

    fn chosen(offer: &Offer, tls: Option<&ChannelBindings>) -> (&'static str, &'static str) {
        match Mechanism::choose(offer, tls, true) {
            None => ("", ""),
            Some(mechanism) => {
                let flag = match &mechanism {
                    Mechanism::Scram(_, Binding::None) => "n",
                    Mechanism::Scram(_, Binding::NotOffered) => "y",
                    Mechanism::Scram(_, Binding::Data { name, .. }) => name,
                    Mechanism::Plain => "",
                };
                (mechanism.name(), flag)
            }
        }
    }

    #[test]
    fn the_strongest_that_both_know() {
        let (one, two) = ("SCRAM-SHA-1", "SCRAM-SHA-256");
        let (one_plus, two_plus) = ("SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS");
        let (tls, bare) = (tls13(), ChannelBindings::default());
        let end_point = ChannelBindings { exporter: None, ..tls13() };
        let both: &[&str] = &["tls-server-end-point", "tls-exporter"];
        let all = offer(&["PLAIN", one, one_plus, two_plus, two, "SCRAM-SHA-512"], both);
        assert_eq!(chosen(&all, Some(&tls)), (two_plus, "tls-exporter"));
        assert_eq!(chosen(&all, Some(&end_point)), (two_plus, "tls-server-end-point"));
        assert_eq!(chosen(&all, Some(&bare)), (two, "n"));
        assert_eq!(chosen(&all, None), (two, "n"));
        let old = offer(&["PLAIN", one, one_plus], both);
        assert_eq!(chosen(&old, Some(&tls)), (one_plus, "tls-exporter"));
        assert_eq!(chosen(&offer(&[one, "PLAIN"], &[]), Some(&tls)), (one, "y"));
        assert_eq!(chosen(&offer(&["PLAIN", two], &[]), Some(&bare)), (two, "n"));
        assert_eq!(chosen(&offer(&["EXTERNAL", "PLAIN"], &[]), Some(&bare)), ("PLAIN", ""));
        assert_eq!(chosen(&offer(&["EXTERNAL", "scram-sha-1"], &[]), None), ("", ""));
    }

    #[test]
    fn channel_binding_that_does_not_fit_never_leads_to_plain() {
        let mechanisms = ["PLAIN", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"];
        for bindings in [&[][..], &["tls-unique"], &["unknown"]] {
            let offered = offer(&mechanisms, bindings);
            assert_eq!(chosen(&offered, Some(&tls13())), ("SCRAM-SHA-256", "n"));
        }
    }

    #[test]
    fn plain_only_if_allowed_and_encrypted() {
        let offered = offer(&["PLAIN"], &[]);
        assert_eq!(Mechanism::choose(&offered, None, true), None);
        assert_eq!(Mechanism::choose(&offered, Some(&tls13()), false), None);
        assert_eq!(Mechanism::choose(&offered, Some(&tls13()), true), Some(Mechanism::Plain));
    }

    #[test]
    fn success_is_believed_only_from_a_server_that_signed() {
        let scram = |mechanism| {
            let secret = Secret::new("pencil");
            Exchange::begin(mechanism, "user", &secret, "fyko+d2lbbFgONRv9qkxdawL").unwrap().0
        };
        let new = || scram(Mechanism::Scram(Hash::Sha1, Binding::None));
        let answer = |exchange: &mut Exchange, first: &[u8]| match exchange.challenge(first) {
            Ok(Reply::Derive(job)) => exchange.derived(&job.run()).unwrap(),
            other => panic!("{other:?}"),
        };
        let first = b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096";
        let last = b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=";
        assert_eq!(new().success(b""), Err(ScramError::Unfinished), "at once");
        let mut early = new();
        answer(&mut early, first);
        assert!(early.success(b"").is_err(), "without a signature");
        early.success(last).unwrap();
        let mut apart = new();
        answer(&mut apart, first);
        assert!(matches!(apart.challenge(last).unwrap(), Reply::Send(text) if text.is_empty()));
        apart.success(b"").unwrap();
        assert!(scram(Mechanism::Plain).success(b"").is_ok());
    }
}
