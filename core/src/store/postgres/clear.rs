//! What stands in for TLS where it was not built in: connections in the clear.

use tokio_postgres::NoTls;

use super::address::refuse;
use super::encryption::{Encryption, Mode};
use crate::error::Result;

/// Encrypts nothing.
pub(super) type Connector = NoTls;

/// Refuses an address that asks for TLS, and one that could be reached only in the clear.
pub(super) fn load(encryption: &Encryption, shown: &str) -> Result<Connector> {
    if encryption.mode <= Mode::Prefer {
        return Ok(NoTls);
    }
    Err(refuse(format!(
        "the state store {shown} is to be reached by TLS, which this library was built without; build it with the feature tls, \
         use the database's unix socket (host=/FOLDER) or a tunnel that ends on this machine, or say sslmode=disable if the \
         network is private"
    )))
}
