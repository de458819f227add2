//! What somebody does next, and what goes wrong.

use super::{Medium, World};
use crate::ctx::{Ev, MS, SEC, Time};
use crate::profile::Fault;
use crate::{calls, contacts};

impl World {
    /// The next thing that somebody does, or that goes wrong.
    pub(super) fn act(&mut self) {
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
        let (slot, now) = (self.any_slot(), self.ctx.now);
        let Some(process) = &mut self.slots[slot] else { return };
        if !process.takes_calls(now) {
            return;
        }
        let app = &mut process.apps[at];
        if self.ctx.rng.permille(150) {
            app.replay(&mut self.ctx, &*process.disk);
        } else {
            calls::act(app, &mut self.ctx, &mut self.server, &*process.disk);
        }
    }

    fn any_conn(&mut self) -> Option<u32> {
        let at = self.ctx.rng.index(self.ctx.profile.apps);
        let slot = self.any_slot();
        self.slots[slot].as_ref()?.apps.get(at)?.link.conn()
    }

    fn any_slot(&mut self) -> usize {
        if self.slots.len() > 1 { self.ctx.rng.index(self.slots.len()) } else { 0 }
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
                let slot = self.any_slot();
                if let Some(process) = &mut self.slots[slot] {
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
                let slot = self.any_slot();
                if self.slots[slot].is_some() {
                    self.crash(slot);
                }
            }
            Fault::CrashAtWrite => {
                let (writes, committed) = (self.ctx.rng.range(1, 8), self.ctx.rng.permille(500));
                let slot = self.any_slot();
                if let Some(process) = &self.slots[slot] {
                    process.disk.crash_after(writes, committed);
                }
            }
            Fault::Stop => {
                let slot = self.any_slot();
                self.stop(slot);
            }
            Fault::DiskFull => {
                self.medium.set_faulty(true);
                self.faulty_until = self.faulty_until.max(now + a_while);
            }
            Fault::ClockForth => self.ctx.utc_offset += 86_400 * SEC as i64,
            Fault::ClockBack => {
                self.ctx.utc_offset -= self.ctx.rng.below(3 * 86_400) as i64 * SEC as i64;
            }
            Fault::ContactVanishes => contacts::vanish(&mut self.server, &mut self.ctx),
            Fault::Poison | Fault::AppDown => self.strike_app(fault, a_while),
            Fault::Misrouted => self.server.misroute(&mut self.ctx),
            Fault::DatabaseCut => {
                let (slot, silent) = (self.any_slot(), self.ctx.rng.permille(300));
                // One moment, or longer than anybody waits.
                let until = now + if self.ctx.rng.permille(300) { 1 } else { a_while };
                if let Some(process) = &self.slots[slot] {
                    process.cut_off(until, silent);
                    self.ctx.at(until, Ev::Tick);
                }
            }
            Fault::DatabaseRestart => self.restart_database(now + a_while),
        }
    }

    fn strike_app(&mut self, fault: Fault, a_while: Time) {
        let at = self.ctx.rng.index(self.ctx.profile.apps);
        let (slot, now) = (self.any_slot(), self.ctx.now);
        let Some(process) = self.slots[slot].as_mut().filter(|it| it.takes_calls(now)) else {
            return;
        };
        let app = &mut process.apps[at];
        if fault == Fault::Poison {
            app.tell_time(&mut self.ctx);
            calls::send_message(app, &mut self.ctx, &mut self.server, true);
        } else {
            app.down_until = now + 3 * a_while;
        }
    }

    fn restart_database(&mut self, until: Time) {
        if let Medium::Shared(database) = &self.medium
            && database.is_up()
        {
            database.restart(until);
            let processes = self.slots.iter().flatten();
            processes.for_each(|process| process.cut_off(until, false));
            self.ctx.at(until, Ev::Tick);
        }
    }

    pub(super) fn stop(&mut self, slot: usize) {
        let patience = self.ctx.now + self.ctx.rng.range(0, 3 * SEC);
        let Some(process) = &mut self.slots[slot] else { return };
        if process.stop_by.is_none() {
            process.stop_by = Some(patience);
            process.apps.iter_mut().for_each(|app| app.stop(&mut self.ctx));
        }
    }
}
