//! The stream of a connection, a component's or an account's: for the driver both are one.

use std::time::Duration;

#[cfg(feature = "client")]
use bytes::Bytes;

use crate::error::Result;
use crate::stanza::Stanza;
use crate::stream::{self, Closed, ComponentStream, Stats};
use crate::xml::XmlError;
#[cfg(feature = "client")]
use crate::{
    auth::scram::Derivation,
    jid::Jid,
    stream::{ClientEvent, ClientStream, Resumption, RosterItem},
};

/// What happened on a stream.
#[expect(clippy::large_enum_variant, reason = "nearly every one is a stanza")]
pub(super) enum Happened {
    Ready,
    Stanza(Stanza),
    Skipped(XmlError),
    Acked(u64),
    Closed(Closed),
    #[cfg(feature = "client")]
    StartTls,
    #[cfg(feature = "client")]
    Derive(Derivation),
    /// The session that stanzas flow in; then comes [`Happened::Ready`].
    #[cfg(feature = "client")]
    Bound {
        jid: Jid,
        resumed: bool,
    },
    #[cfg(feature = "client")]
    Roster {
        items: Vec<RosterItem>,
        complete: bool,
    },
    #[cfg(feature = "client")]
    Unacked(Vec<Bytes>),
}

pub(super) enum Role {
    Component(Box<ComponentStream>),
    #[cfg(feature = "client")]
    Client(Box<Account>),
}

/// An account's stream, with what is still to be told of its last event.
#[cfg(feature = "client")]
pub(super) struct Account {
    pub(super) stream: ClientStream,
    ready: bool,
}

macro_rules! both {
    ($role:expr, $stream:ident => $what:expr) => {
        match $role {
            Role::Component($stream) => $what,
            #[cfg(feature = "client")]
            Role::Client(account) => {
                let $stream = &mut account.stream;
                $what
            }
        }
    };
}

impl Role {
    #[cfg(feature = "client")]
    pub(super) fn client(stream: ClientStream) -> Self {
        Self::Client(Box::new(Account { stream, ready: false }))
    }

    pub(super) fn handle_input(&mut self, now: Duration, bytes: &[u8]) {
        both!(self, stream => stream.handle_input(now, bytes));
    }

    pub(super) fn handle_timeout(&mut self, now: Duration) {
        both!(self, stream => stream.handle_timeout(now));
    }

    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        match self {
            Self::Component(stream) => stream.poll_timeout(),
            #[cfg(feature = "client")]
            Self::Client(account) => account.stream.poll_timeout(),
        }
    }

    /// Whether the server has acknowledged too little for more to be sent.
    pub(super) fn is_congested(&self) -> bool {
        match self {
            Self::Component(_) => false,
            #[cfg(feature = "client")]
            Self::Client(account) => account.stream.is_congested(),
        }
    }

    pub(super) fn check(&self, stanza: &[u8]) -> Result<()> {
        match self {
            Self::Component(stream) => stream.check(stanza),
            #[cfg(feature = "client")]
            Self::Client(account) => account.stream.check(stanza),
        }
    }

    /// Sends a stanza that was [checked](Self::check); returns its position.
    pub(super) fn send_checked(&mut self, now: Duration, stanza: &[u8]) -> u64 {
        both!(self, stream => stream.send_checked(now, stanza))
    }

    pub(super) fn close(&mut self, now: Duration, deadline: Duration) {
        both!(self, stream => stream.close(now, deadline));
    }

    pub(super) fn poll_transmit(&mut self, buffer: &mut Vec<u8>) -> bool {
        both!(self, stream => stream.poll_transmit(buffer))
    }

    pub(super) fn has_backlog(&self) -> bool {
        match self {
            Self::Component(stream) => stream.has_backlog(),
            #[cfg(feature = "client")]
            Self::Client(account) => account.ready || account.stream.has_backlog(),
        }
    }

    /// Whether events are to be polled although there is no room for them.
    pub(super) fn is_logging_in(&self) -> bool {
        match self {
            Self::Component(stream) => stream.is_logging_in(),
            #[cfg(feature = "client")]
            Self::Client(account) => account.ready || account.stream.is_logging_in(),
        }
    }

    pub(super) fn stats(&self) -> Stats {
        match self {
            Self::Component(stream) => stream.stats(),
            #[cfg(feature = "client")]
            Self::Client(account) => account.stream.stats(),
        }
    }

    pub(super) fn poll_event(&mut self) -> Option<Happened> {
        match self {
            Self::Component(stream) => stream.poll_event().map(|event| match event {
                stream::Event::Ready => Happened::Ready,
                stream::Event::Stanza(stanza) => Happened::Stanza(stanza),
                stream::Event::Skipped(error) => Happened::Skipped(error),
                stream::Event::Acked(position) => Happened::Acked(position),
                stream::Event::Closed(closed) => Happened::Closed(closed),
            }),
            #[cfg(feature = "client")]
            Self::Client(account) => account.poll_event(),
        }
    }

    /// What the next stream needs to go on with the session, if there is one to go on with.
    #[cfg(feature = "client")]
    pub(super) fn into_resumption(self) -> Option<Resumption> {
        match self {
            Self::Component(_) => None,
            Self::Client(account) => account.stream.into_resumption(),
        }
    }
}

#[cfg(feature = "client")]
impl Account {
    fn poll_event(&mut self) -> Option<Happened> {
        if std::mem::take(&mut self.ready) {
            return Some(Happened::Ready);
        }
        Some(match self.stream.poll_event()? {
            ClientEvent::StartTls => Happened::StartTls,
            ClientEvent::Derive(job) => Happened::Derive(job),
            ClientEvent::Ready { jid, resumed } => {
                self.ready = true;
                Happened::Bound { jid, resumed }
            }
            ClientEvent::Roster { items, complete } => Happened::Roster { items, complete },
            ClientEvent::Stanza(stanza) => Happened::Stanza(stanza),
            ClientEvent::Skipped(error) => Happened::Skipped(error),
            ClientEvent::Acked(position) => Happened::Acked(position),
            ClientEvent::Unacked(stanzas) => Happened::Unacked(stanzas),
            ClientEvent::Closed(closed) => Happened::Closed(closed),
        })
    }
}
