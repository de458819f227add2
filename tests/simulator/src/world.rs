//! One scenario: everything in it, from its first moment to rest.

use std::sync::Arc;

use appxmpp::service::Show;

use crate::app::App;
use crate::ctx::{Ctx, Ev, MS, NEVER, Rare, SEC, Time};
use crate::disk::Disk;
use crate::profile::Fault;
use crate::rng::Rng;
use crate::server::Server;
use crate::{calls, contacts, oracle};

/// How long after the last fault everything may take to come to rest.
const REST: Time = 400 * SEC;
/// How long presence may stay wrong after that: a connection that takes nothing for a while, a round of
/// questions, and the patience for answers.
const REFRESH: Time = 30 * SEC;
/// An event loop that goes round so often in one moment turns in a circle.
const CIRCLE: u32 = 10_000;

struct Process {
    apps: Vec<App>,
    run: u32,
    paused_until: Time,
    /// It is being stopped politely, at most until then.
    stop_by: Option<Time>,
    said_goodbye: bool,
}

pub(crate) struct World {
    pub(crate) ctx: Ctx,
    server: Server,
    disk: Arc<Disk>,
    process: Option<Process>,
    runs: u32,
    acts_left: u64,
    flush_due: bool,
    faulty_until: Time,
    replayed: bool,
    pub(crate) steps: u64,
}

impl World {
    pub(crate) fn new(seed: u64, traced: bool) -> Self {
        let mut ctx = Ctx::new(Rng::new(seed), traced);
        let profile = format!("{:?}", ctx.profile);
        ctx.say(|| profile);
        let server = Server::new(&mut ctx);
        ctx.after(0, Ev::Start);
        ctx.after(200 * MS, Ev::Act);
        Self {
            acts_left: ctx.profile.acts,
            ctx,
            server,
            disk: Arc::default(),
            process: None,
            runs: 0,
            flush_due: false,
            faulty_until: 0,
            replayed: false,
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
            self.handle_due();
            self.settle();
        }
    }

    fn next_at(&self) -> Time {
        let mut next = self.ctx.next_at().min(self.server.next_timeout());
        if let Some(process) = &self.process {
            let apps = process.apps.iter().map(|app| app.next_timeout(&self.ctx));
            let due = apps.min().unwrap_or(NEVER).min(process.stop_by.unwrap_or(NEVER));
            next = next.min(due.max(process.paused_until));
        }
        if self.faulty_until > self.ctx.now {
            next = next.min(self.faulty_until);
        }
        next
    }

    fn handle_due(&mut self) {
        if self.faulty_until <= self.ctx.now {
            self.disk.set_faulty(false);
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
            Ev::Start => self.start(),
            Ev::Flush => {
                self.flush_due = false;
                self.disk.flush();
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
        let Some(process) = &mut self.process else { return };
        process.apps.iter_mut().for_each(|app| app.link.receive(conn, data.clone()));
    }

    /// Lets the process do what it can do now.
    fn settle(&mut self) {
        for round in 0.. {
            let moved = self.step();
            if self.disk.has_crashed() {
                return self.crash();
            }
            if self.disk.has_pending() && !self.flush_due {
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

    fn step(&mut self) -> bool {
        let Some(process) = &mut self.process else { return false };
        if process.paused_until > self.ctx.now {
            return false;
        }
        let mut moved = false;
        for app in &mut process.apps {
            moved |= app.step(&mut self.ctx, &mut self.server, &self.disk);
            if self.disk.has_crashed() {
                return false;
            }
        }
        self.step_stop() || moved
    }

    /// A process that is being stopped: waits for what is under way, then says goodbye.
    fn step_stop(&mut self) -> bool {
        let Some(process) = &mut self.process else { return false };
        let Some(stop_by) = process.stop_by else { return false };
        let over = stop_by <= self.ctx.now;
        if !process.said_goodbye {
            if !over && !process.apps.iter().all(App::is_idle) {
                return false;
            }
            process.said_goodbye = true;
            process.stop_by = Some(self.ctx.now + 2 * SEC);
            for app in &mut process.apps {
                app.say_goodbye(&mut self.ctx, &mut self.server, &self.disk);
            }
            return true;
        }
        if !over && !process.apps.iter().all(|app| app.link.is_gone()) {
            return false;
        }
        self.disk.flush();
        self.ctx.saw(Rare::PoliteEnd, 1);
        self.ctx.say(|| "the process has ended".to_owned());
        self.end_process(usize::MAX);
        true
    }

    fn start(&mut self) {
        if self.process.is_some() {
            return;
        }
        self.runs += 1;
        let (run, disk_run) = (self.runs, self.disk.begin_run());
        self.ctx.say(|| format!("the process starts: run {run}"));
        self.ctx.note(7);
        let mut apps = Vec::new();
        for number in 0..self.ctx.profile.apps {
            let app = App::open(&mut self.ctx, &self.disk, disk_run, number, run);
            if self.disk.has_crashed() {
                return self.crash();
            }
            match app {
                Some(app) => apps.push(app),
                // The disk does not take the first write: somebody starts it again.
                None => return self.end_process(usize::MAX),
            }
        }
        self.process =
            Some(Process { apps, run, paused_until: 0, stop_by: None, said_goodbye: false });
    }

    fn crash(&mut self) {
        self.ctx.saw(Rare::Crash, 1);
        self.ctx.say(|| "the process dies".to_owned());
        self.ctx.note(8);
        let kept = self.ctx.rng.index(self.disk.pending() + 1);
        self.end_process(kept);
    }

    /// The process is gone, its connections with it; another starts after a while.
    fn end_process(&mut self, kept: usize) {
        if let Some(process) = &mut self.process {
            for app in &mut process.apps {
                app.note_end(&mut self.ctx, &self.disk, kept == usize::MAX);
                if let Some(conn) = app.link.conn() {
                    // The operating system closes the socket, unless the machine is gone too.
                    let silent = self.ctx.strikes(200);
                    self.server.network.cut(&mut self.ctx, conn, silent, Some(true));
                }
            }
        }
        self.process = None;
        self.disk.end_run(kept);
        oracle::run_ended(&mut self.ctx);
        let pause = self.ctx.rng.range(50 * MS, 3 * SEC);
        self.ctx.after(pause, Ev::Start);
    }

    /// The next thing that somebody does, or that goes wrong.
    fn act(&mut self) {
        self.acts_left -= 1;
        self.ctx.note(9);
        if self.acts_left > 0 {
            let pause = self.ctx.rng.below(self.ctx.profile.act_every);
            self.ctx.after(pause, Ev::Act);
        }
        let faults: u64 = self.ctx.profile.faults.iter().map(|(weight, _)| weight).sum();
        let mut choice = self.ctx.rng.below(1000 + faults);
        if choice < 1000 {
            return self.act_well(choice < 550);
        }
        choice -= 1000;
        for (weight, fault) in self.ctx.profile.faults.clone() {
            if choice < weight {
                return self.strike(fault);
            }
            choice -= weight;
        }
    }

    fn act_well(&mut self, app: bool) {
        if !app {
            return contacts::act(&mut self.server, &mut self.ctx);
        }
        let at = self.ctx.rng.index(self.ctx.profile.apps);
        let now = self.ctx.now;
        let Some(process) = &mut self.process else { return };
        if process.paused_until > now || process.stop_by.is_some() {
            return;
        }
        let app = &mut process.apps[at];
        if self.ctx.rng.permille(150) {
            app.replay(&mut self.ctx, &self.disk);
        } else {
            calls::act(app, &mut self.ctx, &mut self.server, &self.disk);
        }
    }

    fn any_conn(&mut self) -> Option<u32> {
        let at = self.ctx.rng.index(self.ctx.profile.apps);
        self.process.as_ref()?.apps.get(at)?.link.conn()
    }

    fn strike(&mut self, fault: Fault) {
        self.ctx.say(|| format!("fault: {fault:?}"));
        let now = self.ctx.now;
        let a_while = self.ctx.rng.range(100 * MS, 12 * SEC);
        self.ctx.stalled |=
            matches!(fault, Fault::ServerPause | Fault::ProcessPause | Fault::Blocked);
        match fault {
            Fault::Cut | Fault::HalfOpen => {
                if let Some(conn) = self.any_conn() {
                    let silent = fault == Fault::HalfOpen;
                    self.server.network.cut(&mut self.ctx, conn, silent, None);
                }
            }
            Fault::ServerRestart => {
                let politely = self.ctx.rng.permille(500);
                if self.server.up {
                    self.server.restart(&mut self.ctx, politely, a_while);
                }
            }
            Fault::ServerPause => {
                self.server.paused_until = self.server.paused_until.max(now + a_while);
                self.ctx.after(a_while, Ev::Tick);
            }
            Fault::ProcessPause => {
                if let Some(process) = &mut self.process {
                    process.paused_until = process.paused_until.max(now + a_while);
                    self.ctx.after(a_while, Ev::Tick);
                }
            }
            Fault::Blocked => {
                if let Some(conn) = self.any_conn() {
                    let blocked_until = &mut self.server.network.conn(conn).blocked_until;
                    *blocked_until = (now + a_while).max(*blocked_until);
                    self.ctx.after(a_while, Ev::Tick);
                }
            }
            Fault::Crash => {
                if self.process.is_some() {
                    self.crash();
                }
            }
            Fault::CrashAtWrite => {
                let (writes, committed) = (self.ctx.rng.range(1, 8), self.ctx.rng.permille(500));
                self.disk.crash_after(writes, committed);
            }
            Fault::Stop => self.stop(),
            Fault::DiskFull => {
                self.disk.set_faulty(true);
                self.faulty_until = self.faulty_until.max(now + a_while);
            }
            Fault::ClockForth => self.ctx.utc_offset += 86_400 * SEC as i64,
            Fault::ClockBack => {
                self.ctx.utc_offset -= self.ctx.rng.below(3 * 86_400) as i64 * SEC as i64;
            }
            Fault::ContactVanishes => contacts::vanish(&mut self.server, &mut self.ctx),
            Fault::Poison | Fault::AppDown => self.strike_app(fault, a_while),
            Fault::Misrouted => self.server.misroute(&mut self.ctx),
        }
    }

    fn strike_app(&mut self, fault: Fault, a_while: Time) {
        let at = self.ctx.rng.index(self.ctx.profile.apps);
        let now = self.ctx.now;
        let Some(process) = &mut self.process else { return };
        if process.paused_until > now || process.stop_by.is_some() {
            return;
        }
        let app = &mut process.apps[at];
        if fault == Fault::Poison {
            app.tell_time(&mut self.ctx);
            calls::send_message(app, &mut self.ctx, &mut self.server, true);
        } else {
            app.down_until = now + 3 * a_while;
        }
    }

    fn stop(&mut self) {
        let patience = self.ctx.now + self.ctx.rng.range(0, 3 * SEC);
        let Some(process) = &mut self.process else { return };
        if process.stop_by.is_none() {
            process.stop_by = Some(patience);
            process.apps.iter_mut().for_each(|app| app.stop(&mut self.ctx));
        }
    }

    // ---- The end

    /// No more faults: what was broken is mended.
    fn calm_down(&mut self) {
        self.ctx.say(|| "no more faults from here on".to_owned());
        self.ctx.turbulent = false;
        self.disk.calm();
        self.faulty_until = 0;
        for contact in &mut self.server.contacts {
            if contact.vanished_until != NEVER && contact.vanished_until > self.ctx.now {
                contact.vanished_until = self.ctx.now;
            }
        }
    }

    fn is_at_rest(&self) -> bool {
        let Some(process) = &self.process else { return false };
        let usable = process.stop_by.is_none() && process.paused_until <= self.ctx.now;
        usable && !self.disk.has_pending() && process.apps.iter().all(App::is_at_rest)
    }

    /// At rest for the first time, each dead letter is delivered after all; says whether there are any.
    fn replay_dead_letters(&mut self) -> bool {
        let (ctx, disk) = (&mut self.ctx, &self.disk);
        let Some(process) = self.process.as_mut().filter(|_| !self.replayed) else { return false };
        self.replayed = true;
        let replayed = process.apps.iter_mut().map(|app| {
            let mut count = 0;
            while app.replay(ctx, disk) {
                count += 1;
            }
            count
        });
        replayed.sum::<u32>() > 0
    }

    fn is_connected(&self) -> bool {
        self.process.as_ref().is_some_and(|it| it.apps.iter().all(|app| app.link.is_ready()))
    }

    fn no_rest(&mut self) {
        let state = match &self.process {
            Some(process) => process.apps.iter().map(App::describe).collect::<Vec<_>>().join("; "),
            None => "no process".to_owned(),
        };
        self.ctx.violated(|| format!("no rest after the last fault: {state}"));
    }

    fn presence_is_right(&self) -> bool {
        let Some(process) = &self.process else { return false };
        let contacts = || 0..self.server.contacts.len();
        let right = |app: &App| contacts().all(|it| shown(&self.server, app, it).is_none());
        process.apps.iter().all(right)
    }

    fn check_rest(&mut self) {
        let (faults, oracle) = (self.disk.faults(), &self.ctx.oracle);
        let (repeated, expired, poisonous) = (oracle.dups, oracle.expired, oracle.poisonous);
        self.ctx.saw(Rare::DiskFault, faults);
        self.ctx.saw(Rare::Repeated, repeated);
        self.ctx.saw(Rare::Expired, expired);
        self.ctx.saw(Rare::Poisonous, poisonous);
        let Some(process) = &self.process else { return };
        let mut standing = Vec::new();
        for app in &process.apps {
            let conn = app.link.conn().filter(|conn| !self.server.network.is_broken(*conn));
            standing.push(conn);
        }
        oracle::settle(&mut self.ctx, &standing, process.run);
        for app in &process.apps {
            for contact in 0..self.server.contacts.len() {
                check_pair(&mut self.ctx, &self.server, app, contact);
                // Else an answer may have been written to a stream that broke.
                if self.ctx.profile.durable && faults == 0 {
                    check_answered(&mut self.ctx, &self.server, (app, process.run), contact);
                }
            }
        }
    }
}

/// What an app shows of a contact and what is true, where that is known and not the same.
fn shown(server: &Server, app: &App, contact: usize) -> Option<(Option<Show>, Option<Show>)> {
    let it = &server.contacts[contact];
    let vanished = it.vanished_until == NEVER;
    if !app.relation(contact).to || !(vanished || it.apps[app.number].relation.from) {
        return None;
    }
    let show = |number: usize| Show::from_number(number as i64);
    let truth = it.best().filter(|_| !vanished).and_then(show);
    let address = contacts::address(contact);
    let shown = app.shows(&address);
    (shown != truth).then_some((shown, truth))
}

/// Both sides agree on subscriptions, and the app knows the contact's presence.
fn check_pair(ctx: &mut Ctx, server: &Server, app: &App, contact: usize) {
    let address = contacts::address(contact);
    let here = app.relation(contact).name();
    let it = &server.contacts[contact];
    let there = &it.apps[app.number];
    if let Some((shown, truth)) = shown(server, app, contact) {
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
    let told_otherwise = ctx.oracle.told_otherwise(app.number, contact);
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
fn check_answered(ctx: &mut Ctx, server: &Server, (app, run): (&App, u32), contact: usize) {
    let it = &server.contacts[contact];
    let waits = it.apps[app.number].relation.asked && !it.was_gone;
    let full = ctx.seen[Rare::OutboxFull as usize] > 0;
    if waits && !full && ctx.oracle.request_was_taken(app.number, contact, run) {
        let address = contacts::address(contact);
        ctx.violated(|| format!("{address} asked app {} and waits for ever", app.number));
    }
}
