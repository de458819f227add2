//! What the driver does for an account alone; for a component, nothing.

#[cfg(feature = "client")]
use tokio::task::JoinHandle;
#[cfg(feature = "client")]
use tracing::warn;

#[cfg(feature = "client")]
use super::lose_session;
use super::{Instant, Serving, State};
#[cfg(feature = "client")]
use crate::{
    auth::scram::SaltedKey,
    net::{
        connection::Event,
        role::{Happened, Role},
        shared::{Link, Phase},
        tls::Session,
    },
    service::roster::Subscription,
    stream::RosterItem,
};

impl Serving<'_> {
    #[cfg(feature = "client")]
    pub(super) fn handle_hashed(&mut self, key: Option<SaltedKey>) {
        self.hashing = None;
        let now = self.shared.now();
        let mut state = self.shared.lock();
        if let (Some(key), Some(Link { stream: Role::Client(account), .. })) =
            (key, &mut state.link)
        {
            account.stream.handle_derived(now, &key);
            state.session.salted = Some(key);
        }
    }

    #[cfg(not(feature = "client"))]
    pub(super) fn handle_hashed(&self, key: std::convert::Infallible) {
        match key {}
    }

    #[cfg(feature = "client")]
    pub(super) fn account_event(&mut self, state: &mut State, event: Happened) -> Option<Event> {
        match event {
            Happened::StartTls => {
                self.start_tls(state);
                None
            }
            Happened::Derive(job) => {
                self.hashing = Some(tokio::task::spawn_blocking(move || job.run()));
                None
            }
            Happened::Bound { jid, resumed } => {
                self.bound(state, resumed);
                Some(Event::Bound { jid, resumed })
            }
            Happened::Roster { items, complete } => {
                let contact = |item: RosterItem| {
                    let state = Subscription::of_item(&item.subscription, item.ask);
                    (item.jid.bare_key(), state)
                };
                let contacts = items.into_iter().map(contact).collect();
                Some(Event::Roster { contacts, complete })
            }
            Happened::Unacked(stanzas) => {
                if self.shared.config.barrier.is_none() && !stanzas.is_empty() {
                    let stanzas = stanzas.len();
                    warn!(
                        stanzas,
                        "the session is lost, and with it what the server had not acknowledged"
                    );
                }
                None
            }
            _ => None,
        }
    }

    #[cfg(feature = "client")]
    pub(super) fn start_tls(&mut self, state: &mut State) {
        let settings = self.shared.config.tls.as_ref();
        let session = match (self.trust, settings) {
            (Some(trust), Some(tls)) => Session::new(trust, &tls.name),
            _ => Err("the connection is to be encrypted, and nothing says how".to_owned()),
        };
        match (session, &mut state.link) {
            (Ok(session), Some(link)) => link.tls = Some(session),
            (Err(why), Some(link)) => {
                self.insecure = Some(why);
                link.stream.handle_input(self.shared.now(), &[]);
            }
            (_, None) => {}
        }
    }

    /// The account's session is up: the one before, or another.
    #[cfg(feature = "client")]
    pub(super) fn bound(&mut self, state: &mut State, resumed: bool) {
        if !resumed {
            if state.session.sent > 0 {
                let cut = lose_session(state, false);
                self.events.extend(self.shared.config.barrier.is_some().then_some(cut));
            }
            state.session.begin();
        }
        if let Some(Link { stream: Role::Client(account), sent, .. }) = &mut state.link {
            *sent = account.stream.sent();
        }
    }

    /// The app must confirm the stanza that is about to be handed out.
    #[cfg(feature = "client")]
    pub(super) fn handed_out(&self, state: &mut State) {
        if self.shared.config.confirm
            && let Some(Link { stream: Role::Client(account), .. }) = &state.link
        {
            state.session.handed_out(account.stream.received());
        }
    }

    #[cfg(not(feature = "client"))]
    pub(super) fn handed_out(&self, _: &mut State) {}

    /// Whether stanzas that are not confirmed are left for the server to give again: the connection is
    /// to be closed.
    #[cfg(feature = "client")]
    pub(super) fn is_leaving(&self, state: &State) -> bool {
        self.shared.config.confirm
            && state.close_by.is_some()
            && state.phase != Phase::Closing
            && matches!(&state.link, Some(Link { stream: Role::Client(it), .. }) if it.stream.is_counted())
    }

    #[cfg(not(feature = "client"))]
    pub(super) fn is_leaving(&self, _: &State) -> bool {
        false
    }

    /// Until when a close has to wait: the app deals with stanzas that the server would give again. What
    /// the app has not taken yet it does not get.
    #[cfg(feature = "client")]
    pub(super) fn settles_by(&self, state: &State) -> Option<Instant> {
        let is_stanza = |event: &Event| matches!(event, Event::Stanza(_));
        let waits = self.is_leaving(state)
            && !self.shared.inbound.withdraw(state.session.unconfirmed(), is_stanza);
        state.settle_by.filter(|by| waits && Instant::now() < *by)
    }

    #[cfg(not(feature = "client"))]
    pub(super) fn settles_by(&self, _: &State) -> Option<Instant> {
        None
    }

    /// Whatever else the stream took, the server may forget when the app has confirmed all it got.
    #[cfg(feature = "client")]
    pub(super) fn confirm_rest(&self, state: &mut State) {
        if self.shared.config.confirm
            && state.session.is_settled()
            && let Some(Link { stream: Role::Client(account), .. }) = &mut state.link
        {
            let last = account.stream.received();
            account.stream.confirm(last);
        }
    }

    #[cfg(not(feature = "client"))]
    pub(super) fn confirm_rest(&self, _: &mut State) {}
}

#[cfg(feature = "client")]
pub(super) type Hashing = Option<JoinHandle<SaltedKey>>;
#[cfg(not(feature = "client"))]
pub(super) type Hashing = ();

/// Resolves when the password is hashed; never if it is not to be.
#[cfg(feature = "client")]
pub(super) async fn hashed(hashing: &mut Hashing) -> Option<SaltedKey> {
    match hashing {
        Some(job) => job.await.ok(),
        None => std::future::pending().await,
    }
}

#[cfg(not(feature = "client"))]
pub(super) async fn hashed((): &mut Hashing) -> std::convert::Infallible {
    std::future::pending().await
}
