//! One database for several processes.

use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::sync::{Arc, PoisonError};

use super::heart::{self, Pulse};
use super::news::Notice;
use super::worker::{Call, Finish, Join};
use super::{PostgresStore, sql};
use crate::error::Result;
use crate::service::roster::Subscription;
use crate::store::{
    Behind, Change, ContactKey, Fellows, Heard, Listener, Member, Placing, Shared, Turn,
};

impl PostgresStore {
    fn pulse(&self, member: &Member) -> Option<Arc<Pulse>> {
        let pulses = self.pulses.lock().unwrap_or_else(PoisonError::into_inner);
        pulses.iter().find(|pulse| pulse.member == *member).cloned()
    }
}

impl Shared for PostgresStore {
    fn join(&self, app: &str, listener: Box<dyn Listener>) -> Result<Member> {
        let (reply, answer) = channel();
        let joins = self.joins.as_ref().ok_or_else(|| self.gone())?;
        let join = Join { app: app.to_owned(), listener, reply };
        joins.send(join).map_err(|_| self.gone())?;
        answer.recv().map_err(|_| self.gone())?
    }

    fn exchange(
        &self,
        key: &ContactKey,
        from: Subscription,
        to: Subscription,
    ) -> Result<Subscription> {
        if let Some(change) = sql::exchange(key, from, to)
            && !self.ask(change)?.is_empty()
        {
            return Ok(from);
        }
        let rows = self.ask(sql::contact(key))?;
        Ok(rows.first().map(|row| sql::contact_of(row).1.subscription).unwrap_or_default())
    }

    fn tell(&self, member: &Member, key: &ContactKey, heard: &Heard, number: u64) -> bool {
        let notice = Notice::Heard(member.number, key.clone(), heard.clone(), number);
        let Some(news) = notice.write() else { return false };
        self.call(Call { changes: Vec::new(), news: vec![news], done: None }).is_ok()
    }

    fn fellows(&self, app: &str, member: &Member) -> Result<Fellows> {
        Ok(self.ask(heart::fellows(app, member.number))?.iter().map(heart::fellow_of).collect())
    }

    fn place(&self, app: &str, member: &Member, changes: Vec<Change>, done: Placing) {
        self.submit_call(changes, Finish::Placed(done, app.to_owned(), member.number));
    }

    fn behind(&self, member: &Member, turns: &[Turn]) -> Result<Vec<Behind>> {
        Ok(self.ask(sql::behind(&member.queue, turns))?.iter().map(sql::behind_of).collect())
    }

    fn set_up(&self, member: &Member, up: bool) {
        if let Some(pulse) = self.pulse(member) {
            pulse.up.store(up, Ordering::Relaxed);
        }
    }

    fn holds(&self, member: &Member) -> bool {
        self.pulse(member).is_some_and(|pulse| pulse.holds())
    }
}
