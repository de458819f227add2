//! One scenario: everything in it, from its first moment to rest.

mod faults;
mod process;
mod rest;

use std::sync::Arc;

use crate::contacts;
use crate::ctx::{Ctx, Ev, Kind, MS, NEVER, SEC, Time};
use crate::database::Database;
use crate::disk::Local;
use crate::rng::Rng;
use crate::server::Server;
use process::Process;

/// How long after the last fault everything may take to come to rest.
const REST: Time = 400 * SEC;
/// How long presence may stay wrong after that: a connection that takes nothing for a while, a round of
/// questions, and the patience for answers.
const REFRESH: Time = 30 * SEC;
/// An event loop that goes round so often in one moment turns in a circle.
const CIRCLE: u32 = 10_000;

/// What outlives a process.
enum Medium {
    /// The disk of one process.
    Alone(Arc<Local>),
    /// The database of several.
    Shared(Arc<Database>),
}

impl Medium {
    fn set_faulty(&self, faulty: bool) {
        match self {
            Self::Alone(local) => local.set_faulty(faulty),
            Self::Shared(database) => database.set_faulty(faulty),
        }
    }
}

pub(crate) struct World {
    pub(crate) ctx: Ctx,
    server: Server,
    medium: Medium,
    slots: Vec<Option<Process>>,
    runs: u32,
    acts_left: u64,
    flush_due: bool,
    faulty_until: Time,
    replayed: bool,
    /// One process was stopped for good, for the other to take over.
    handed_over: bool,
    pub(crate) steps: u64,
}

impl World {
    pub(crate) fn new(seed: u64, traced: bool, kind: Kind) -> Self {
        let mut ctx = Ctx::new(Rng::new(seed), traced, kind);
        let profile = format!("{:?}", ctx.profile);
        ctx.say(|| profile);
        let server = Server::new(&mut ctx);
        let processes = ctx.profile.processes;
        for slot in 0..processes {
            let delay = if slot == 0 { 0 } else { ctx.rng.below(5 * SEC) };
            ctx.after(delay, Ev::Start(slot));
        }
        let medium = match kind {
            Kind::Alone => Medium::Alone(Arc::default()),
            _ => {
                let (seed, latency) = (ctx.rng.next(), ctx.profile.flush);
                Medium::Shared(Arc::new(Database::new(seed, ctx.now, latency)))
            }
        };
        ctx.after(200 * MS, Ev::Act);
        Self {
            acts_left: ctx.profile.acts,
            ctx,
            server,
            medium,
            slots: (0..processes).map(|_| None).collect(),
            runs: 0,
            flush_due: false,
            faulty_until: 0,
            replayed: false,
            handed_over: false,
            steps: 0,
        }
    }

    /// Runs until everything is at rest, or an invariant is broken.
    pub(crate) fn run(&mut self) {
        let mut rest_by = NEVER;
        let mut rested_at = None;
        let mut idle_rounds = 0;
        while self.ctx.violation.is_none() {
            if self.acts_left == 0 && self.ctx.turbulent {
                self.calm_down();
                rest_by = self.ctx.now + REST;
            }
            let at_rest = !self.ctx.turbulent && self.is_at_rest();
            if at_rest && self.replay_dead_letters() {
                self.settle();
                continue;
            }
            if at_rest && rested_at.is_none() {
                rested_at = Some(self.ctx.now);
            } else if !self.is_connected() {
                rested_at = None;
            }
            let look_at = rested_at.map_or(NEVER, |since| since + REFRESH);
            // A contact may be in the middle of an answer.
            let late = look_at.saturating_add(2 * SEC) <= self.ctx.now;
            if at_rest && look_at <= self.ctx.now && (late || self.presence_is_right()) {
                if self.hand_over() {
                    rested_at = None;
                    rest_by = self.ctx.now + REST;
                    continue;
                }
                return self.check_rest();
            }
            if self.ctx.now > rest_by {
                return self.no_rest();
            }
            let next = self.next_at();
            let look_at = [look_at, look_at.saturating_add(2 * SEC)];
            let look_at = look_at.into_iter().find(|at| *at > self.ctx.now).unwrap_or(NEVER);
            let next = next.min(look_at);
            if next == NEVER {
                return self.no_rest();
            }
            idle_rounds = if next > self.ctx.now { 0 } else { idle_rounds + 1 };
            if idle_rounds > CIRCLE {
                return self.ctx.violated(|| "time stands still".to_owned());
            }
            self.ctx.now = self.ctx.now.max(next);
            if let Medium::Shared(database) = &self.medium {
                database.tick(self.ctx.now);
            }
            self.handle_due();
            self.settle();
        }
    }

    fn next_at(&self) -> Time {
        let mut next = self.ctx.next_at().min(self.server.next_timeout());
        for process in self.slots.iter().flatten() {
            next = next.min(process.next_timeout(self));
        }
        if self.faulty_until > self.ctx.now {
            next = next.min(self.faulty_until);
        }
        next
    }

    fn handle_due(&mut self) {
        if self.faulty_until <= self.ctx.now {
            self.medium.set_faulty(false);
        }
        self.server.handle_timeout(&mut self.ctx);
        contacts::reappear(&mut self.server, &mut self.ctx);
        while self.ctx.next_at() <= self.ctx.now && self.ctx.violation.is_none() {
            let Some(what) = self.ctx.pop() else { break };
            self.steps += 1;
            self.handle(what);
        }
    }

    fn handle(&mut self, what: Ev) {
        match what {
            Ev::Tick => {}
            Ev::Bytes { conn, to_server, data } => self.bytes(conn, to_server, data),
            Ev::Start(slot) => self.start(slot),
            Ev::Flush => {
                self.flush_due = false;
                if let Medium::Alone(local) = &self.medium {
                    local.flush();
                }
            }
            Ev::Act => self.act(),
            Ev::Contact { contact, xml } => {
                let xml = String::from_utf8_lossy(&xml).into_owned();
                contacts::hear(&mut self.server, &mut self.ctx, contact, &xml);
            }
            Ev::ServerUp => self.server.up = true,
        }
    }

    fn bytes(&mut self, conn: u32, to_server: bool, data: Vec<u8>) {
        if !data.is_empty() && !self.server.network.arrives(conn, to_server) {
            self.server.network.conn(conn).broken = true;
            return;
        }
        if to_server {
            return self.server.handle_bytes(&mut self.ctx, conn, data);
        }
        let apps = self.slots.iter_mut().flatten().flat_map(|process| &mut process.apps);
        apps.for_each(|app| app.link.receive(conn, data.clone()));
    }

    /// Lets the processes do what they can do now.
    fn settle(&mut self) {
        for round in 0.. {
            let moved = self.step();
            for slot in 0..self.slots.len() {
                if self.slots[slot].as_ref().is_some_and(|process| process.disk.has_crashed()) {
                    self.crash(slot);
                }
            }
            if let Medium::Alone(local) = &self.medium
                && local.has_pending()
                && !self.flush_due
            {
                self.flush_due = true;
                let delay = 1 + self.ctx.rng.below(self.ctx.profile.flush);
                self.ctx.after(delay, Ev::Flush);
            }
            if !moved || self.ctx.violation.is_some() {
                return;
            }
            self.steps += 1;
            if round > CIRCLE {
                return self.ctx.violated(|| "the process turns in a circle".to_owned());
            }
        }
    }
}
