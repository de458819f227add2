//! The end of a scenario: no more faults, rest, and what has to be true then.

use appxmpp::service::Show;

use super::{Medium, Process, World};
use crate::app::App;
use crate::ctx::{Ctx, NEVER, Rare};
use crate::disk::Disk;
use crate::profile::Fault;
use crate::server::Server;
use crate::{contacts, oracle};

impl World {
    /// No more faults: what was broken is mended.
    pub(super) fn calm_down(&mut self) {
        self.ctx.say(|| "no more faults from here on".to_owned());
        self.ctx.turbulent = false;
        for process in self.slots.iter().flatten() {
            process.disk.calm();
        }
        if let Medium::Alone(local) = &self.medium {
            local.calm();
        }
        self.medium.set_faulty(false);
        self.faulty_until = 0;
        for contact in &mut self.server.contacts {
            if contact.vanished_until != NEVER && contact.vanished_until > self.ctx.now {
                contact.vanished_until = self.ctx.now;
            }
        }
    }

    pub(super) fn is_at_rest(&self) -> bool {
        let mut serving = vec![0; self.ctx.profile.apps];
        let mut processes = 0;
        for process in self.slots.iter().flatten() {
            let usable = process.takes_calls(self.ctx.now) && !process.is_cut_off();
            let rests = usable && !process.disk.has_pending();
            if !rests || !process.apps.iter().all(App::is_at_rest) {
                return false;
            }
            for app in process.apps.iter().filter(|app| app.link.is_ready()) {
                serving[app.number] += 1;
            }
            processes += 1;
        }
        let wanted = self.slots.len() - usize::from(self.handed_over);
        let least = if self.ctx.profile.spreads { wanted } else { 1 };
        processes == wanted && serving.iter().all(|serving| *serving >= least)
    }

    /// At rest for the first time, each dead letter is delivered after all; says whether there are any.
    pub(super) fn replay_dead_letters(&mut self) -> bool {
        if std::mem::replace(&mut self.replayed, true) {
            return false;
        }
        let ctx = &mut self.ctx;
        let mut count = 0;
        for process in self.slots.iter_mut().flatten() {
            for app in &mut process.apps {
                while app.replay(ctx, &*process.disk) {
                    count += 1;
                }
            }
        }
        count > 0
    }

    pub(super) fn is_connected(&self) -> bool {
        let mut apps = self.slots.iter().flatten().flat_map(|process| &process.apps);
        apps.all(|app| app.link.is_ready() || app.link.is_standby())
    }

    /// Of two processes at rest one is stopped for good: the other has to go on with all that is left.
    pub(super) fn hand_over(&mut self) -> bool {
        if self.handed_over || self.slots.len() < 2 {
            return false;
        }
        self.handed_over = true;
        if let Some(disagreement) = self.disagreement() {
            self.ctx.violated(|| disagreement);
            return true;
        }
        // Somebody tells the server that there is one less.
        self.ctx.profile.keeps_places = false;
        // Who has messages and no stream gets the stream.
        let waits = |process: &Process| process.apps.iter().any(App::has_messages);
        let with_messages = self.slots.iter().position(|it| it.as_ref().is_some_and(waits));
        let slot = match with_messages {
            Some(slot) => 1 - slot,
            None => self.ctx.rng.index(2),
        };
        self.ctx.say(|| format!("process {slot} is stopped for good"));
        self.stop(slot);
        true
    }

    pub(super) fn no_rest(&mut self) {
        let apps = self.slots.iter().flatten().flat_map(|process| &process.apps);
        let mut state = apps.map(App::describe).collect::<Vec<_>>().join("; ");
        if let Medium::Shared(database) = &self.medium {
            state = format!("{state}; {}", database.describe());
        }
        self.ctx.violated(|| format!("no rest after the last fault: {state}"));
    }

    /// A contact of whom two processes show different things, though they could always tell each other.
    fn disagreement(&self) -> Option<String> {
        let apart = [Fault::DatabaseCut, Fault::DatabaseRestart, Fault::DiskFull];
        let told = !self.ctx.profile.faults.iter().any(|(_, fault)| apart.contains(fault));
        // Who stands by has asked nobody.
        if !told || !self.ctx.profile.spreads {
            return None;
        }
        let apps = || self.slots.iter().flatten().flat_map(|process| &process.apps);
        let disk = &self.slots.iter().flatten().next()?.disk;
        for contact in 0..self.server.contacts.len() {
            let address = contacts::address(contact);
            for (one, other) in apps().zip(apps().skip(self.ctx.profile.apps)) {
                let (shows, others) = (one.shows(&address), other.shows(&address));
                let disputed = self.ctx.oracle.is_disputed(one.number, contact, true);
                let follows = one.relation(&**disk, contact).to;
                if shows != others && follows && !disputed {
                    let app = one.number;
                    return Some(format!("{address} is {shows:?} and {others:?} to app {app}"));
                }
            }
        }
        None
    }

    /// Where a server spreads what comes, and drops some of it, nobody knows what is true of a contact,
    /// and two processes may each leave it to the other to say what the app is.
    fn only_agreement_is_promised(&self) -> bool {
        self.ctx.profile.spreads && !self.ctx.profile.faults.is_empty()
    }

    pub(super) fn presence_is_right(&self) -> bool {
        if self.only_agreement_is_promised() {
            return self.disagreement().is_none();
        }
        let contacts = || 0..self.server.contacts.len();
        self.slots.iter().flatten().all(|process| {
            let is_right = |app: &App, it: usize| {
                let spreads = self.ctx.profile.spreads;
                let disputed = self.ctx.oracle.is_disputed(app.number, it, spreads);
                disputed || shown(&self.server, &*process.disk, app, it).is_none()
            };
            process.apps.iter().all(|app| contacts().all(|it| is_right(app, it)))
        })
    }

    pub(super) fn check_rest(&mut self) {
        let faults = self.slots.iter().flatten().map(|process| process.disk.faults());
        let (faults, oracle) = (faults.max().unwrap_or(0), &self.ctx.oracle);
        let (repeated, expired, poisonous) = (oracle.dups, oracle.expired, oracle.poisonous);
        self.ctx.saw(Rare::DiskFault, faults);
        self.ctx.saw(Rare::Repeated, repeated);
        self.ctx.saw(Rare::Expired, expired);
        self.ctx.saw(Rare::Poisonous, poisonous);
        let mut standing = vec![Vec::new(); self.ctx.profile.apps];
        for app in self.slots.iter().flatten().flat_map(|process| &process.apps) {
            let conn = app.link.conn().filter(|conn| !self.server.network.is_broken(*conn));
            standing[app.number].extend(conn);
        }
        oracle::settle(&mut self.ctx, &standing);
        let agreement = self.only_agreement_is_promised();
        for process in self.slots.iter().flatten() {
            for app in &process.apps {
                for contact in 0..self.server.contacts.len() {
                    if !agreement {
                        check_pair(&mut self.ctx, &self.server, &*process.disk, app, contact);
                    }
                    // Else an answer may have been written to a stream that broke.
                    if self.ctx.profile.durable && faults == 0 {
                        check_answered(&mut self.ctx, &self.server, app.number, contact);
                    }
                }
            }
        }
        if let Medium::Shared(database) = &self.medium {
            // That a message is done a faulty store may not have been told of: it is only repeated.
            let (deliveries, messages) = database.waiting();
            let left = database.describe();
            if deliveries > 0 || (messages > 0 && faults == 0) {
                self.ctx.violated(|| format!("at rest, {left}"));
            }
        }
    }
}

/// What an app shows of a contact and what is true, where that is known and not the same.
fn shown(
    server: &Server,
    disk: &dyn Disk,
    app: &App,
    contact: usize,
) -> Option<(Option<Show>, Option<Show>)> {
    let it = &server.contacts[contact];
    let vanished = it.vanished_until == NEVER;
    if !app.relation(disk, contact).to || !(vanished || it.apps[app.number].relation.from) {
        return None;
    }
    let show = |number: usize| Show::from_number(number as i64);
    let truth = it.best().filter(|_| !vanished).and_then(show);
    let address = contacts::address(contact);
    let shown = app.shows(&address);
    (shown != truth).then_some((shown, truth))
}

/// Both sides agree on subscriptions, and the app knows the contact's presence.
fn check_pair(ctx: &mut Ctx, server: &Server, disk: &dyn Disk, app: &App, contact: usize) {
    if ctx.oracle.is_disputed(app.number, contact, ctx.profile.spreads) {
        return;
    }
    let address = contacts::address(contact);
    let here = app.relation(disk, contact).name();
    let it = &server.contacts[contact];
    let there = &it.apps[app.number];
    if let Some((shown, truth)) = shown(server, disk, app, contact) {
        ctx.violated(|| format!("{address} is {truth:?} and app {} shows {shown:?}", app.number));
    }
    if it.vanished_until > ctx.now {
        return;
    }
    if here.app_is_subscribed() && !there.relation.from && !it.was_gone {
        return ctx.violated(|| format!("app {} believes to see {address}", app.number));
    }
    let in_vain = ctx.oracle.pairs[app.number][contact].said_in_vain;
    if here.app_asked() && there.relation.from && !it.was_gone && !in_vain {
        return ctx.violated(|| {
            format!("app {} was granted {address}'s presence and does not know", app.number)
        });
    }
    // While a machine that vanished seems to be there, it is thought to have told them.
    let told_otherwise = ctx.oracle.told_otherwise(app.number, contact) || ctx.oracle.vanished;
    if here.contact_is_subscribed()
        && there.relation.to
        && !there.sees
        && !told_otherwise
        && !it.was_gone
    {
        ctx.violated(|| format!("{address} does not see that app {} is there", app.number));
    }
}

/// A contact whose request the app granted knows of it, whatever became of the stream meanwhile.
fn check_answered(ctx: &mut Ctx, server: &Server, app: usize, contact: usize) {
    let it = &server.contacts[contact];
    let waits = it.apps[app].relation.asked && !it.was_gone;
    let full = ctx.seen[Rare::OutboxFull as usize] > 0;
    if waits && !full && ctx.oracle.request_was_taken(app, contact) {
        let address = contacts::address(contact);
        ctx.violated(|| format!("{address} asked app {app} and waits for ever"));
    }
}
