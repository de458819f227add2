//! What several processes need of one store, to serve one app together.

use std::time::Duration;

use super::{Change, ContactKey, ContactState, Count, QueueName};
use crate::error::Result;
use crate::service::presence::Show;
use crate::service::roster::Subscription;

/// What one process heard of a contact's presence, and the others are to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A resource is available.
    Available {
        /// Which; empty for the bare address.
        resource: Box<str>,
        /// Its priority.
        priority: i8,
        /// How it shows itself.
        show: Show,
    },
    /// A resource is gone; all of them, if `None`.
    Unavailable(Option<Box<str>>),
}

/// What happened elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// Another process heard this of a contact. All processes are told everything in one order.
    Heard(ContactKey, Heard),
    /// What this process told of a contact under this number has its place in that order here.
    Told(ContactKey, u64),
    /// A contact's row is now this. Its presence is told by [`News::Heard`].
    Contact(ContactKey, ContactState),
    /// News may have been missed: these are all contacts.
    Contacts(Vec<(ContactKey, ContactState)>),
    /// So many other processes have a stream for this app. That is told with each beat, about once a
    /// second.
    Others(usize),
    /// The process of this queue is gone: what waits there is ours.
    Left(QueueName),
    /// So much has been counted today, by all processes together.
    Counts(Vec<Count>),
    /// This process may or may not act for its app: while it cannot reach the store, others may take
    /// over what waits for it.
    Holds(bool),
    /// Others took over what waited for this process, while it could not reach the store.
    Evicted,
}

/// Who is told of news. None of this may block.
pub trait Listener: Send + Sync {
    /// Takes news, on any thread.
    fn take(&self, news: News);

    /// What was counted since this was asked before.
    fn counts(&self) -> Vec<Count>;
}

/// A process's part in serving an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Where what waits for this process is kept.
    pub queue: QueueName,
    /// A number that no other member has or had.
    pub number: u64,
}

/// Another process that serves the same app, or did so and has not been taken over from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fellow {
    /// Its number.
    pub number: u64,
    /// Whether its connection holds its place: a process that is gone does not.
    pub held: bool,
    /// When it last said that it is there, in microseconds since the Unix epoch; 0 if it left in order.
    pub beat: u64,
    /// Whether that was within the last two seconds.
    pub fresh: bool,
    /// Whether it has a stream, as it says.
    pub up: bool,
    /// Whether deliveries wait for it.
    pub inbox: bool,
    /// Whether messages wait for it.
    pub outbox: bool,
}

impl Fellow {
    /// Whether it has a stream for sure: it says so, and said it just now.
    pub fn has_stream(&self) -> bool {
        self.held && self.up && self.fresh
    }
}

/// Those who serve an app besides one process.
pub type Fellows = Vec<Fellow>;

/// Where changes stand among what waits for all processes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placed {
    /// Of each delivery that was put.
    pub deliveries: Vec<Place>,
    /// Whether messages waited for another process when these were stored.
    pub elsewhere: bool,
}

/// Where a delivery stands in its lane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Place {
    /// Earlier ones of the lane have smaller numbers, whichever process they wait for.
    pub turn: u64,
    /// Whether another process may have an earlier one.
    pub behind: bool,
}

/// A delivery that waits for its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// Its id.
    pub id: u64,
    /// Its lane.
    pub lane: u64,
    /// Its place there.
    pub turn: u64,
}

/// One that another process still has an earlier one for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behind {
    /// The id of the delivery that waits.
    pub id: u64,
    /// Whether that process is at work.
    pub living: bool,
}

/// How often a member says that it is there.
pub const BEAT: Duration = Duration::from_secs(1);
/// After so long without the store a member does not act any more.
const FENCE: Duration = Duration::from_secs(3);

/// Whether a member may act at `now` that was there for sure at `beaten`: others may do so in its place
/// once it has been silent for four seconds.
pub fn may_act(beaten: Duration, now: Duration) -> bool {
    now < beaten + FENCE
}

/// Whether a member takes over from one that is gone: whoever has a stream does, because messages would
/// wait for one; and anybody, if nobody `at_work` has one.
pub fn takes_over(up: bool, at_work: usize) -> bool {
    up || at_work == 0
}

/// What is called when changes are stored, as [`Done`](super::Done).
pub type Placing = Box<dyn FnOnce(Result<Placed>) + Send>;

/// A store that several processes have open at once. What one does to a contact the others learn;
/// what waits is one process's at a time, and another's when that one is gone.
pub trait Shared: Send + Sync {
    /// Joins those who serve `app`, until the store is dropped.
    ///
    /// # Errors
    /// The store cannot be read or written.
    fn join(&self, app: &str, listener: Box<dyn Listener>) -> Result<Member>;

    /// Sets the subscriptions with a contact to `to` if they are `from`, and returns what they were.
    ///
    /// # Errors
    /// They are what they were.
    fn exchange(
        &self,
        key: &ContactKey,
        from: Subscription,
        to: Subscription,
    ) -> Result<Subscription>;

    /// Tells the other processes, soon, under a `number` larger than those before; `false` if it cannot
    /// be told. It comes back as [`News::Told`].
    fn tell(&self, member: &Member, key: &ContactKey, heard: &Heard, number: u64) -> bool;

    /// Everybody else who serves `app`, as the store knows them now, and those who are gone and have
    /// not been taken over from.
    ///
    /// # Errors
    /// The store cannot be read.
    fn fellows(&self, app: &str, member: &Member) -> Result<Fellows>;

    /// [`Store::submit`](super::Store::submit), which says what stands before what was put.
    fn place(&self, app: &str, member: &Member, changes: Vec<Change>, done: Placing);

    /// Those of `turns` before which another process still has a delivery.
    ///
    /// # Errors
    /// The store cannot be read.
    fn behind(&self, member: &Member, turns: &[Turn]) -> Result<Vec<Behind>>;

    /// Says, soon, whether this process has a stream for the app.
    fn set_up(&self, member: &Member, up: bool);

    /// Whether this process may act for its app now; see [`News::Holds`].
    fn holds(&self, member: &Member) -> bool;
}
