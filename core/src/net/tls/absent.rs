//! What stands in for TLS where it was not built in: nothing of it can be made.

use std::io;

#[cfg(feature = "client")]
use crate::auth::sasl::ChannelBindings;
use crate::error::{Error, ErrorKind, Result};
use crate::net::socket::Socket;

use super::settings::Tls;

#[derive(Clone)]
pub(in crate::net) enum Trust {}

impl Trust {
    pub(in crate::net) fn load(_: &Tls) -> Result<Self> {
        let text = "this library was built without TLS; build it with the feature tls";
        Err(Error::new(ErrorKind::Config, text))
    }
}

pub(in crate::net) enum Session {}

impl Session {
    pub(in crate::net) fn new(trust: &Trust, _: &str) -> std::result::Result<Self, String> {
        match *trust {}
    }

    pub(in crate::net) fn feed(
        &mut self,
        _: &[u8],
        _: &mut Vec<u8>,
    ) -> std::result::Result<bool, String> {
        match *self {}
    }

    pub(in crate::net) fn is_handshaking(&self) -> bool {
        match *self {}
    }

    pub(in crate::net) fn wants_write(&self) -> bool {
        match *self {}
    }

    pub(in crate::net) fn encrypt(&mut self, _: &[u8]) -> io::Result<usize> {
        match *self {}
    }

    pub(in crate::net) fn flush(&mut self, _: &Socket) -> io::Result<()> {
        match *self {}
    }

    pub(in crate::net) fn close(&mut self) {
        match *self {}
    }

    #[cfg(feature = "client")]
    pub(in crate::net) fn bindings(&self) -> ChannelBindings {
        match *self {}
    }
}
