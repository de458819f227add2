//! Who may send: HTTP Basic with an app's domain and its component secret, or a configured
//! `Authorization` value such as `Bearer TOKEN`.

use appxmpp::Jid;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

use super::error::RestError;
use crate::secret::Secret;

/// What one app accepts.
#[derive(Debug, PartialEq, Eq)]
pub struct Keyring {
    domain: String,
    secret: Option<Secret>,
    /// Basic credentials as nearly everybody writes them.
    basic: Option<Secret>,
    values: Vec<Secret>,
}

impl Keyring {
    /// `domain` with `secret` for Basic; each of `values` is a whole `Authorization` value.
    pub fn new(domain: impl Into<String>, secret: Option<Secret>, values: Vec<Secret>) -> Self {
        let domain = domain.into();
        let basic = secret
            .as_ref()
            .map(|secret| Secret::new(STANDARD.encode(format!("{domain}:{}", secret.expose()))));
        Self { domain, secret, basic, values }
    }

    /// Checks an `Authorization` header.
    ///
    /// # Errors
    /// 401 without usable credentials, 403 with wrong ones. Where tokens are configured a wrong
    /// token is 401, as in the first published mod_rest.
    pub fn check(&self, authorization: Option<&str>) -> Result<(), RestError> {
        let Some(header) = authorization else {
            return Err(RestError::NO_CREDENTIALS.challenging());
        };
        let (scheme, credentials) = match header.split_once(' ') {
            Some((scheme, rest)) if !rest.trim().is_empty() => (scheme, rest.trim()),
            _ => return Err(RestError::NO_CREDENTIALS),
        };
        // Every configured value is compared, so that timing does not tell which one came close.
        let configured = self
            .values
            .iter()
            .fold(false, |found, value| found | same_value(value.expose(), scheme, credentials));
        if configured {
            return Ok(());
        }
        if scheme.eq_ignore_ascii_case("basic") {
            let usual = self.basic.as_ref().is_some_and(|basic| {
                bool::from(basic.expose().as_bytes().ct_eq(credentials.as_bytes()))
            });
            if usual { Ok(()) } else { self.check_basic(credentials) }
        } else if scheme.eq_ignore_ascii_case("bearer") {
            Err(if self.values.is_empty() {
                RestError::NOT_ACCEPTED
            } else {
                RestError::NOT_ACCEPTED.with_status(http::StatusCode::UNAUTHORIZED)
            })
        } else {
            Err(RestError::NO_CREDENTIALS)
        }
    }

    fn check_basic(&self, credentials: &str) -> Result<(), RestError> {
        let decoded = STANDARD.decode(credentials).map_err(|_| RestError::MALFORMED_CREDENTIALS)?;
        let text = std::str::from_utf8(&decoded).map_err(|_| RestError::MALFORMED_CREDENTIALS)?;
        let (user, password) = text.split_once(':').ok_or(RestError::MALFORMED_CREDENTIALS)?;
        let user = Jid::parse(user).map_err(|_| RestError::STRINGPREP)?;
        // A component is called by its domain; mod_rest takes no other name.
        let component = !self.domain.contains('@');
        if component && user.localpart().is_some() || user.resourcepart().is_some() {
            return Err(RestError::STRINGPREP);
        }
        let Some(secret) = &self.secret else { return Err(RestError::MALFORMED_CREDENTIALS) };
        let right = secret.expose().as_bytes().ct_eq(password.as_bytes());
        let own = user.as_str() == self.domain;
        if own && bool::from(right) { Ok(()) } else { Err(RestError::MALFORMED_CREDENTIALS) }
    }
}

/// Compares a configured header value with the one that came; schemes are case-insensitive
/// (RFC 9110 §11.1).
fn same_value(configured: &str, scheme: &str, credentials: &str) -> bool {
    let Some((own_scheme, own)) = configured.split_once(' ') else { return false };
    let same = own.trim().as_bytes().ct_eq(credentials.as_bytes());
    own_scheme.eq_ignore_ascii_case(scheme) && bool::from(same)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    fn keyring(values: &[&str]) -> Keyring {
        let values = values.iter().map(|value| Secret::new(*value)).collect();
        Keyring::new("rest.localhost", Some(Secret::new("s3cret")), values)
    }

    fn basic(text: &str) -> String {
        format!("Basic {}", STANDARD.encode(text))
    }

    #[test]
    fn domain_and_secret_are_accepted_in_any_scheme_case() {
        let header = basic("rest.localhost:s3cret");
        assert_eq!(keyring(&[]).check(Some(&header)), Ok(()));
        assert_eq!(keyring(&[]).check(Some(&header.replace("Basic", "basic"))), Ok(()));
        assert_eq!(keyring(&[]).check(Some(&basic("Rest.LocalHost:s3cret"))), Ok(()));
    }

    #[test]
    fn an_account_is_called_by_its_address() {
        let ring = Keyring::new("bot@localhost", Some(Secret::new("s3cret")), Vec::new());
        assert_eq!(ring.check(Some(&basic("Bot@localhost:s3cret"))), Ok(()));
        assert!(ring.check(Some(&basic("localhost:s3cret"))).is_err());
        assert!(ring.check(Some(&basic("alice@localhost:s3cret"))).is_err());
    }

    #[test]
    fn only_a_missing_header_is_challenged() {
        let error = keyring(&[]).check(None).unwrap_err();
        assert_eq!((error.status, error.challenge), (StatusCode::UNAUTHORIZED, true));
        for header in ["", "Basic", "Basic ", "Digest abc", "Negotiate x"] {
            let error = keyring(&[]).check(Some(header)).unwrap_err();
            assert_eq!(error, RestError::NO_CREDENTIALS, "{header:?}");
        }
    }

    #[test]
    fn wrong_basic_credentials_are_refused_with_403() {
        for (header, error) in [
            (basic("rest.localhost:nope"), RestError::MALFORMED_CREDENTIALS),
            (basic("rest.localhost:"), RestError::MALFORMED_CREDENTIALS),
            (basic("other.localhost:s3cret"), RestError::MALFORMED_CREDENTIALS),
            (basic("alice@rest.localhost:s3cret"), RestError::STRINGPREP),
            (basic("no colon"), RestError::MALFORMED_CREDENTIALS),
            ("Basic !!!!".to_owned(), RestError::MALFORMED_CREDENTIALS),
        ] {
            assert_eq!(keyring(&[]).check(Some(&header)).unwrap_err(), error, "{header}");
        }
    }

    #[test]
    fn a_configured_token_is_compared_whole() {
        let ring = keyring(&["Bearer dmVyeSBzZWNyZXQgdG9rZW4K"]);
        assert_eq!(ring.check(Some("Bearer dmVyeSBzZWNyZXQgdG9rZW4K")), Ok(()));
        assert_eq!(ring.check(Some("bearer dmVyeSBzZWNyZXQgdG9rZW4K")), Ok(()));
        let error = ring.check(Some("Bearer dmVyeSBzZWNyZXQgdG9rZW4")).unwrap_err();
        assert_eq!((error.status, error.challenge), (StatusCode::UNAUTHORIZED, false));
        assert_eq!(keyring(&[]).check(Some("Bearer x")).unwrap_err().status, StatusCode::FORBIDDEN);
    }

    #[test]
    fn without_a_secret_basic_never_matches() {
        let ring = Keyring::new("rest.localhost", None, Vec::new());
        assert!(ring.check(Some(&basic("rest.localhost:"))).is_err());
    }
}
