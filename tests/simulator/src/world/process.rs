//! The processes that serve the apps: how they start, and the ways in which they end.

use std::sync::Arc;

use super::{Medium, World};
use crate::app::App;
use crate::ctx::{Ev, MS, NEVER, Rare, SEC, Time};
use crate::database::Client;
use crate::disk::{Disk, Handle};
use crate::oracle;

pub(super) struct Process {
    pub(super) apps: Vec<App>,
    pub(super) disk: Arc<dyn Disk>,
    /// Its connections to the database, if that is what it has.
    client: Option<Arc<Client>>,
    pub(super) paused_until: Time,
    /// It is being stopped politely, at most until then.
    pub(super) stop_by: Option<Time>,
    said_goodbye: bool,
    /// Others took over from it, and somebody will see to it then.
    evicted_until: Time,
    run: u32,
}

impl Process {
    pub(super) fn takes_calls(&self, now: Time) -> bool {
        self.paused_until <= now && self.stop_by.is_none()
    }

    pub(super) fn next_timeout(&self, world: &World) -> Time {
        let apps = self.apps.iter().map(|app| app.next_timeout(&world.ctx));
        let client = self.client.as_ref().map_or(NEVER, |client| client.next_timeout());
        let due = apps.min().unwrap_or(NEVER).min(self.stop_by.unwrap_or(NEVER));
        due.min(client).min(self.evicted_until).max(self.paused_until)
    }

    /// It is out of the database's reach until then.
    pub(super) fn cut_off(&self, until: Time, silent: bool) {
        if let Some(client) = &self.client {
            client.cut(until, silent);
        }
    }

    pub(super) fn is_cut_off(&self) -> bool {
        self.client.as_ref().is_some_and(|client| !client.is_reachable())
    }
}

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    InOrder,
    Crash,
}

impl World {
    /// Each process does what it can do now; says whether anything moved.
    pub(super) fn step(&mut self) -> bool {
        let mut moved = false;
        let first = if self.slots.len() > 1 { self.ctx.rng.index(self.slots.len()) } else { 0 };
        for at in 0..self.slots.len() {
            moved |= self.step_process((first + at) % self.slots.len());
        }
        moved
    }

    fn step_process(&mut self, slot: usize) -> bool {
        let Some(process) = &mut self.slots[slot] else { return false };
        if process.paused_until > self.ctx.now {
            return false;
        }
        let mut moved = false;
        let client_first = process.client.is_some() && self.ctx.rng.permille(500);
        for turn in [client_first, !client_first] {
            if turn && let Some(client) = &process.client {
                moved |= client.drive();
                self.ctx.oracle.learn(&client.database);
            } else if !turn {
                for app in &mut process.apps {
                    moved |= app.step(&mut self.ctx, &mut self.server, &*process.disk);
                    if process.disk.has_crashed() {
                        return false;
                    }
                }
            }
        }
        self.step_stop(slot) || self.step_evicted(slot) || moved
    }

    /// A process that is being stopped: waits for what is under way, then says goodbye.
    fn step_stop(&mut self, slot: usize) -> bool {
        let Some(process) = &mut self.slots[slot] else { return false };
        let Some(stop_by) = process.stop_by else { return false };
        let over = stop_by <= self.ctx.now;
        if !process.said_goodbye {
            if !over && !process.apps.iter().all(App::is_idle) {
                return false;
            }
            process.said_goodbye = true;
            process.stop_by = Some(self.ctx.now + 2 * SEC);
            for app in &mut process.apps {
                app.say_goodbye(&mut self.ctx, &mut self.server, &*process.disk);
            }
            return true;
        }
        if !over && !process.apps.iter().all(|app| app.link.is_gone()) {
            return false;
        }
        process.disk.flush();
        self.ctx.saw(Rare::PoliteEnd, 1);
        self.ctx.say(|| format!("process {slot} has ended"));
        self.end_process(slot, End::InOrder);
        true
    }

    /// A process that others took over from is started again, as soon as somebody sees it.
    fn step_evicted(&mut self, slot: usize) -> bool {
        let Some(process) = &mut self.slots[slot] else { return false };
        if !process.apps.iter().any(App::is_evicted) {
            return false;
        }
        if process.evicted_until == NEVER {
            self.ctx.saw(Rare::Evicted, 1);
            self.ctx.say(|| format!("process {slot} is evicted"));
            process.evicted_until = self.ctx.now + self.ctx.rng.below(3 * SEC);
            return true;
        }
        if process.evicted_until > self.ctx.now {
            return false;
        }
        self.end_process(slot, End::Crash);
        true
    }

    pub(super) fn start(&mut self, slot: usize) {
        if self.slots[slot].is_some() {
            return;
        }
        self.runs += 1;
        let run = self.runs;
        let (disk, client): (Arc<dyn Disk>, _) = match &self.medium {
            Medium::Alone(local) => (Arc::new(Handle::new(local, local.begin_run())), None),
            Medium::Shared(database) => {
                let client = Client::new(database);
                (Arc::clone(&client) as Arc<dyn Disk>, Some(client))
            }
        };
        self.ctx.say(|| format!("process {slot} starts: run {run}"));
        self.ctx.note(7);
        let mut process = Process {
            apps: Vec::new(),
            disk,
            client,
            paused_until: 0,
            stop_by: None,
            said_goodbye: false,
            evicted_until: NEVER,
            run,
        };
        for number in 0..self.ctx.profile.apps {
            let app = App::open(&mut self.ctx, &process.disk, number, run);
            let crashed = process.disk.has_crashed();
            if let Some(app) = app.filter(|_| !crashed) {
                process.apps.push(app);
                continue;
            }
            self.slots[slot] = Some(process);
            // Where the disk does not take the first write, somebody starts it again.
            return if crashed { self.crash(slot) } else { self.end_process(slot, End::InOrder) };
        }
        self.slots[slot] = Some(process);
    }

    pub(super) fn crash(&mut self, slot: usize) {
        self.ctx.saw(Rare::Crash, 1);
        self.ctx.say(|| format!("process {slot} dies"));
        self.ctx.note(8);
        self.end_process(slot, End::Crash);
    }

    /// The process is gone, its connections with it; another starts after a while.
    pub(super) fn end_process(&mut self, slot: usize, how: End) {
        let Some(mut process) = self.slots[slot].take() else { return };
        let flushed = how == End::InOrder;
        let kept = match &self.medium {
            Medium::Alone(local) if !flushed => self.ctx.rng.index(local.pending() + 1),
            _ => usize::MAX,
        };
        let mut vanishes = false;
        for app in &mut process.apps {
            app.note_end(&mut self.ctx, &*process.disk, flushed);
            if let Some(conn) = app.link.conn() {
                // The operating system closes the socket, unless the machine is gone too.
                let silent = self.ctx.strikes(200);
                vanishes |= silent;
                self.server.network.cut(&mut self.ctx, conn, silent, Some(true));
            }
        }
        match (&self.medium, &process.client) {
            (Medium::Alone(local), _) => local.end_run(kept),
            (_, Some(client)) if flushed => client.leave(),
            (_, Some(client)) => client.die(vanishes),
            _ => {}
        }
        if let Some(client) = &process.client {
            self.ctx.oracle.vanished |= client.is_missed();
        }
        oracle::run_ended(&mut self.ctx, process.run);
        if !self.handed_over {
            let pause = self.ctx.rng.range(50 * MS, 3 * SEC);
            self.ctx.after(pause, Ev::Start(slot));
        }
    }
}
