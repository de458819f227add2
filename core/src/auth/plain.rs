//! SASL PLAIN (RFC 4616): the password itself, so only where nobody else can read it.

use stringprep::saslprep;
use zeroize::Zeroizing;

use super::Secret;
use super::scram::ScramError;

/// The initial response: no authorization identity, the name, the password.
///
/// # Errors
/// [`ScramError::Credentials`] if the name or the password is nothing that SASL can carry.
pub fn response(username: &str, password: &Secret) -> Result<Zeroizing<Vec<u8>>, ScramError> {
    let username = saslprep(username).map_err(|_| ScramError::Credentials)?;
    let password = saslprep(password.expose()).map_err(|_| ScramError::Credentials)?;
    if username.is_empty() || password.is_empty() {
        return Err(ScramError::Credentials);
    }
    let mut out = Zeroizing::new(Vec::with_capacity(2 + username.len() + password.len()));
    for part in [username.as_bytes(), password.as_bytes()] {
        out.push(0);
        out.extend_from_slice(part);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_4616() {
        let out = response("tim", &Secret::new("tanstaaftanstaaf")).unwrap();
        assert_eq!(out.as_slice(), b"\0tim\0tanstaaftanstaaf");
    }

    #[test]
    fn a_null_cannot_move_the_border_between_name_and_password() {
        for (name, password) in [("a\0b", "c"), ("a", "b\0c"), ("", "a"), ("a", "")] {
            let error = response(name, &Secret::new(password)).unwrap_err();
            assert_eq!(error, ScramError::Credentials);
        }
    }
}
