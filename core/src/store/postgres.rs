//! A store in a PostgreSQL database, for one process or for several.
//!
//! One thread speaks with the database, over one connection that writes and one that reads. Where a
//! connection breaks, what was under way is done again on the next one: only who waits longer than
//! four seconds is told, and then as long as the database cannot be reached.

mod address;
#[cfg(not(feature = "tls"))]
mod clear;
mod encryption;
mod heart;
mod link;
mod news;
mod schema;
mod sharing;
mod sql;
#[cfg(feature = "tls")]
mod tls;
mod worker;

use std::fmt;
use std::sync::mpsc::{SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::Instant;
use tokio_postgres::Row as SqlRow;

use super::{Change, ContactKey, ContactState, DeadLetter, Done, Durability, Row, Shared, Store};
use crate::error::{Error, ErrorKind, Result};
use address::Address;
#[cfg(not(feature = "tls"))]
use clear as tls;
use heart::Pulses;
use link::{Link, Op};
use worker::{Ask, Call, Finish, Join, Writer};

/// How many calls may wait to be taken; more of them wait in [`Store::apply`].
const QUEUE: usize = 4096;

/// The first fault of a [`Durability::Soon`] change, until somebody is told.
type Unreported = Arc<Mutex<Option<Error>>>;

/// Keeps contacts in a database. Dropping it writes what is left.
pub struct PostgresStore {
    address: Arc<Address>,
    calls: Option<SyncSender<Call>>,
    wake: Arc<Notify>,
    asks: Option<UnboundedSender<Ask>>,
    joins: Option<UnboundedSender<Join>>,
    pulses: Pulses,
    thread: Option<JoinHandle<()>>,
    unreported: Unreported,
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PostgresStore").field(&self.address.to_string()).finish()
    }
}

impl PostgresStore {
    /// Opens the store in the database at `url`, in the schema `appxmpp`, which is made or brought up to
    /// date if need be. The URL is one as PostgreSQL's own programs take,
    /// `postgresql://USER:PASSWORD@HOST:PORT/DATABASE` or `postgresql:///DATABASE?host=/FOLDER` with the
    /// folder of a unix socket. The password is never shown.
    ///
    /// With the feature `tls`, `sslmode` and `sslrootcert` mean what they do to libpq: `require` is
    /// encrypted, with whomever; `verify-ca` with a server that the authorities in the file
    /// `sslrootcert` know; `verify-full` with one that they, or those of the operating system, know by
    /// the host in the URL. Without them a connection to another machine is `verify-full`, and one on
    /// this machine is not encrypted. Nothing crosses a network in the clear without `sslmode=disable`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for an address that is none, asks for something else, or names a file without
    /// certificates. [`ErrorKind::Store`]: the database cannot be reached within four seconds, is not
    /// the one that was asked for, refuses the user, or was made by a newer version.
    pub fn open(url: &str) -> Result<Self> {
        Self::open_at(Address::parse(url)?)
    }

    /// Whether [`PostgresStore::open`] could take this address; the database is not asked.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], as there.
    pub fn check(url: &str) -> Result<()> {
        Address::parse(url).map(drop)
    }

    fn open_at(address: Address) -> Result<Self> {
        let address = Arc::new(address);
        let (calls, receiver) = sync_channel(QUEUE);
        let (asks, questions) = unbounded_channel();
        let (joins, joiners) = unbounded_channel();
        let (opened, answer) = channel();
        let pulses = Pulses::default();
        let wake = Arc::new(Notify::new());
        let unreported = Unreported::default();
        let mut store = Self {
            address: Arc::clone(&address),
            calls: Some(calls),
            wake: Arc::clone(&wake),
            asks: Some(asks),
            joins: Some(joins),
            pulses: Arc::clone(&pulses),
            thread: None,
            unreported: Arc::clone(&unreported),
        };
        let work = async move {
            let mut link = Link::new(Arc::clone(&address));
            let made = open(&mut link).await;
            let failed = made.is_err();
            if opened.send(made).is_err() || failed {
                return;
            }
            let (mut link, (), ()) = tokio::join!(
                Writer::new(link, unreported, Arc::clone(&pulses)).run(receiver, wake),
                worker::answer(Link::new(Arc::clone(&address)), questions),
                worker::members(address, joiners, Arc::clone(&pulses)),
            );
            let farewells = heart::farewells(&pulses);
            if !farewells.is_empty() && link.transact(&farewells, &[]).await.is_err() {
                tracing::debug!("the members of the state store are missed in a few seconds");
            }
        };
        let thread = std::thread::Builder::new().name("appxmpp-store".to_owned());
        let thread = thread.spawn(move || {
            match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime.block_on(work),
                Err(error) => tracing::error!("no runtime for the state store: {error}"),
            }
        });
        store.thread = Some(thread.map_err(|error| {
            let text = "no thread could be started for the state store; raise the limit of threads";
            Error::new(ErrorKind::Store, text).with_source(error)
        })?);
        answer.recv().unwrap_or_else(|_| Err(store.gone()))?;
        Ok(store)
    }

    fn call(&self, call: Call) -> Result<(), Call> {
        match &self.calls {
            Some(calls) => calls.send(call).map_err(|refused| refused.0)?,
            None => return Err(call),
        }
        self.wake.notify_one();
        Ok(())
    }

    fn submit_call(&self, changes: Vec<Change>, done: Finish) {
        let call = Call { changes, news: Vec::new(), done: Some(done) };
        if let Err(Call { done: Some(done), .. }) = self.call(call) {
            done.call(Err(self.gone()));
        }
    }

    fn wait_for(&self, changes: Vec<Change>) -> Result<()> {
        let (done, answer) = sync_channel(1);
        let done = move |written| {
            // The waiting thread may be gone.
            let _ = done.try_send(written);
        };
        let call = Call { changes, news: Vec::new(), done: Some(Finish::Done(Box::new(done))) };
        self.call(call).map_err(|_| self.gone())?;
        answer.recv().map_err(|_| self.gone())?
    }

    /// The rows that a statement gives, with all changes applied so far.
    fn read(&self, op: Op) -> Result<Vec<SqlRow>> {
        self.wait_for(Vec::new())?;
        self.ask(op)
    }

    fn ask(&self, op: Op) -> Result<Vec<SqlRow>> {
        let (reply, answer) = channel();
        let asks = self.asks.as_ref().ok_or_else(|| self.gone())?;
        asks.send(Ask { op, reply }).map_err(|_| self.gone())?;
        answer.recv().map_err(|_| self.gone())?
    }

    fn gone(&self) -> Error {
        let text = format!("the state store {} is closed; open it again", self.address);
        Error::new(ErrorKind::Store, text)
    }
}

/// Connects for the first time: a database that starts at the same time is waited for.
async fn open(link: &mut Link) -> Result<()> {
    let since = Instant::now();
    loop {
        match link.connect().await {
            Ok(_) => break,
            Err(failure)
                if link::is_lost(&failure)
                    && link::refusal(&failure).is_none()
                    && since.elapsed() < worker::PATIENCE => {}
            Err(failure) => return Err(link::explain(&link.address, &Arc::new(failure))),
        }
    }
    let address = Arc::clone(&link.address);
    let client = link.client().await;
    let client = client.map_err(|failure| link::explain(&address, &Arc::new(failure)))?;
    schema::migrate(client, &address, schema::MIGRATIONS).await
}

impl Store for PostgresStore {
    fn load(&self, contact: &mut dyn FnMut(ContactKey, ContactState)) -> Result<()> {
        let mut rows = self.read(sql::contacts(None))?;
        loop {
            let mut last = None;
            for row in &rows {
                let (key, state) = sql::contact_of(row);
                last = Some(key.clone());
                contact(key, state);
            }
            match last.filter(|_| rows.len() == sql::PAGE) {
                Some(last) => rows = self.ask(sql::contacts(Some(&last)))?,
                None => return Ok(()),
            }
        }
    }

    fn apply(&self, changes: Vec<Change>, durability: Durability) -> Result<()> {
        match durability {
            Durability::Soon => {
                let call = Call { changes, news: Vec::new(), done: None };
                self.call(call).map_err(|_| self.gone())
            }
            Durability::Now => self.wait_for(changes),
        }
    }

    fn submit(&self, changes: Vec<Change>, done: Done) {
        self.submit_call(changes, Finish::Done(done));
    }

    fn load_queue(&self, name: &str, row: &mut dyn FnMut(Row)) -> Result<()> {
        self.wait_for(Vec::new())?;
        for (op, of) in sql::queue(name) {
            self.ask(op)?.iter().map(of).for_each(&mut *row);
        }
        Ok(())
    }

    fn dead_letters(&self, name: &str, letter: &mut dyn FnMut(DeadLetter)) -> Result<()> {
        self.read(sql::dead_letters(name))?.iter().map(sql::dead_letter_of).for_each(letter);
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        let written = self.wait_for(Vec::new());
        let earlier = self.unreported.lock().unwrap_or_else(PoisonError::into_inner).take();
        earlier.map_or(written, Err)
    }

    fn shared(&self) -> Option<&dyn Shared> {
        Some(self)
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.calls = None;
        self.asks = None;
        self.joins = None;
        self.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has nothing left to say here.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
