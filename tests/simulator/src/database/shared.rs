//! What a process's service sees of the database.

use std::sync::Arc;

use appxmpp::error::Result;
use appxmpp::service::roster::Subscription;
use appxmpp::store::{
    Behind, Change, ContactKey, ContactState, DeadLetter, Done, Durability, Fellows, Heard,
    Listener, Member, Placing, Row, Shared, Store, Turn,
};

use super::client::{Call, Client, Finish, Inner, full, unknown};
use super::heart::Heart;
use super::{Notice, Tables, home};

pub(super) struct Handle(pub(super) Arc<Client>);

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handle")
    }
}

impl Handle {
    /// Asks while the caller waits.
    fn ask<T>(&self, question: impl FnOnce(&mut Tables) -> T) -> Result<T> {
        self.0.with(|inner, tables| {
            if inner.reaches(tables) {
                return Ok(question(tables));
            }
            tables.faults += 1;
            Err(unknown())
        })
    }

    /// Asks behind all that was written.
    fn read(&self, question: impl FnOnce(&Tables)) -> Result<()> {
        self.0.with(|inner, tables| {
            inner.flush(tables)?;
            question(tables);
            Ok(())
        })
    }

    fn submit(&self, changes: Vec<Change>, done: Option<Finish>) {
        self.0.with(|inner, _| inner.submit(Call { changes, news: None, done }));
    }
}

fn apply_now(inner: &mut Inner, tables: &mut Tables, changes: Vec<Change>) -> Result<()> {
    if !inner.write()? {
        return Err(unknown());
    }
    inner.flush(tables)?;
    if !changes.iter().all(|change| tables.is_mine(change)) {
        tables.faults += 1;
        return Err(full());
    }
    for change in changes {
        tables.apply(change);
    }
    Ok(())
}

impl Store for Handle {
    fn load(&self, contact: &mut dyn FnMut(ContactKey, ContactState)) -> Result<()> {
        self.read(|tables| {
            let all = tables.contacts.iter();
            all.for_each(|(key, state)| contact(key.clone(), state.clone()));
        })
    }

    fn apply(&self, changes: Vec<Change>, durability: Durability) -> Result<()> {
        match durability {
            Durability::Soon => {
                self.submit(changes, None);
                Ok(())
            }
            Durability::Now => self.0.with(|inner, tables| apply_now(inner, tables, changes)),
        }
    }

    fn submit(&self, changes: Vec<Change>, done: Done) {
        self.submit(changes, Some(Finish::Done(done)));
    }

    fn load_queue(&self, queue: &str, row: &mut dyn FnMut(Row)) -> Result<()> {
        self.read(|tables| tables.rows(queue, row))
    }

    fn dead_letters(&self, queue: &str, letter: &mut dyn FnMut(DeadLetter)) -> Result<()> {
        self.read(|tables| {
            let letters = tables.dead.get(home(queue)).into_iter().flat_map(|it| it.values());
            letters.cloned().for_each(letter);
        })
    }

    fn sync(&self) -> Result<()> {
        self.read(|_| {})
    }

    fn shared(&self) -> Option<&dyn Shared> {
        Some(self)
    }
}

impl Shared for Handle {
    fn join(&self, app: &str, listener: Box<dyn Listener>) -> Result<Member> {
        self.0.with(|inner, tables| {
            if !inner.reaches(tables) {
                return Err(unknown());
            }
            let heart = Heart::join(tables, app, listener);
            let member = heart.member.clone();
            inner.hearts.push(heart);
            Ok(member)
        })
    }

    fn exchange(
        &self,
        key: &ContactKey,
        from: Subscription,
        to: Subscription,
    ) -> Result<Subscription> {
        let write = from != to;
        self.0.with(|inner, tables| {
            let committed = !write || inner.write()?;
            if !committed || !inner.reaches(tables) {
                tables.faults += 1;
                return Err(unknown());
            }
            if write && tables.faulty {
                tables.faults += 1;
                return Err(full());
            }
            let had = tables.contacts.get(key).map_or(Subscription::None, |it| it.subscription);
            if write && had == from {
                tables.set(key, to);
                tables.notify(&Notice::Contact(key.clone()));
            }
            Ok(had)
        })
    }

    fn tell(&self, member: &Member, key: &ContactKey, heard: &Heard, number: u64) -> bool {
        let news = Some(Notice::Heard(member.number, key.clone(), heard.clone(), number));
        self.0.with(|inner, _| inner.submit(Call { changes: Vec::new(), news, done: None }));
        true
    }

    fn fellows(&self, app: &str, member: &Member) -> Result<Fellows> {
        self.ask(|tables| tables.fellows(app, member.number))
    }

    fn place(&self, app: &str, member: &Member, changes: Vec<Change>, done: Placing) {
        self.submit(changes, Some(Finish::Placed(done, app.to_owned(), member.number)));
    }

    fn behind(&self, member: &Member, turns: &[Turn]) -> Result<Vec<Behind>> {
        self.ask(|tables| tables.behind(&member.queue, turns))
    }

    fn set_up(&self, member: &Member, up: bool) {
        self.0.with(|inner, _| {
            let heart = inner.hearts.iter_mut().find(|heart| heart.member == *member);
            if let Some(heart) = heart {
                heart.up = up;
            }
        });
    }

    fn holds(&self, member: &Member) -> bool {
        self.0.with(|inner, tables| {
            let mut hearts = inner.hearts.iter();
            hearts.any(|heart| heart.member == *member && heart.holds(tables.now))
        })
    }
}
