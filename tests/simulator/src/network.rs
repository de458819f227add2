//! The network: streams of bytes that are late, split, cut at any byte, or dead without a word.

use crate::ctx::{Ctx, Ev, MS, Rare, SEC, Time};

#[derive(Debug, Default)]
pub(crate) struct Conn {
    /// Bytes in this direction vanish: to the server, to the process.
    deaf: [bool; 2],
    /// When the last byte so far arrives, in each direction.
    last: [Time; 2],
    /// The end is on its way, or there.
    over: [bool; 2],
    /// The process's socket takes nothing before.
    pub(crate) blocked_until: Time,
    /// Something was lost on it.
    pub(crate) broken: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Network {
    conns: Vec<Conn>,
}

impl Network {
    pub(crate) fn connect(&mut self) -> u32 {
        self.conns.push(Conn::default());
        self.conns.len() as u32 - 1
    }

    pub(crate) fn conn(&mut self, conn: u32) -> &mut Conn {
        &mut self.conns[conn as usize]
    }

    /// Writes bytes to the other end.
    pub(crate) fn write(&mut self, ctx: &mut Ctx, conn: u32, to_server: bool, mut data: Vec<u8>) {
        if data.is_empty() {
            return;
        }
        ctx.note_bytes(&data);
        let cut = ctx.strikes(ctx.profile.cut_in_write);
        if cut {
            data.truncate(ctx.rng.index(data.len() + 1));
        }
        let side = usize::from(!to_server);
        if self.conns[conn as usize].deaf[side] || self.conns[conn as usize].over[side] {
            self.conns[conn as usize].broken = true;
        } else if !data.is_empty() {
            self.send(ctx, conn, to_server, data);
        }
        if cut {
            ctx.say(|| format!("connection {conn} is cut in mid-write"));
            self.cut(ctx, conn, false, Some(to_server));
        }
    }

    fn send(&mut self, ctx: &mut Ctx, conn: u32, to_server: bool, mut data: Vec<u8>) {
        while data.len() > 1 && ctx.strikes(ctx.profile.splits) {
            let rest = data.split_off(ctx.rng.range(1, data.len() as u64 - 1) as usize);
            self.schedule(ctx, conn, to_server, std::mem::replace(&mut data, rest));
        }
        self.schedule(ctx, conn, to_server, data);
    }

    fn schedule(&mut self, ctx: &mut Ctx, conn: u32, to_server: bool, data: Vec<u8>) {
        let delay = 10 + ctx.rng.below(ctx.profile.latency);
        let last = &mut self.conns[conn as usize].last[usize::from(!to_server)];
        *last = (*last).max(ctx.now + delay);
        ctx.at(*last, Ev::Bytes { conn, to_server, data });
    }

    /// One end closes: the other learns of it after what was written before.
    pub(crate) fn close(&mut self, ctx: &mut Ctx, conn: u32, to_server: bool) {
        let side = usize::from(!to_server);
        let it = self.conn(conn);
        if !it.over[side] && !it.deaf[side] {
            it.over[side] = true;
            self.schedule(ctx, conn, to_server, Vec::new());
        }
    }

    /// The connection breaks, of what is under way nothing more arrives. Each end learns of it, some
    /// time or, if `silent`, only by asking; the server in any case after half a minute. In the
    /// direction `kept` what was written before still arrives.
    pub(crate) fn cut(&mut self, ctx: &mut Ctx, conn: u32, silent: bool, kept: Option<bool>) {
        ctx.saw(if silent { Rare::HalfOpen } else { Rare::Cut }, 1);
        self.conn(conn).broken = true;
        for to_server in [true, false] {
            let side = usize::from(!to_server);
            let it = self.conn(conn);
            if it.over[side] {
                continue;
            }
            it.over[side] = true;
            it.deaf[side] = kept != Some(to_server);
            if to_server || !silent {
                let most = if silent { 30 * SEC } else { 300 * MS };
                let at = ctx.now + ctx.rng.below(most);
                ctx.at(at.max(it.last[side]) + 1, Ev::Bytes { conn, to_server, data: Vec::new() });
            }
        }
    }

    /// Whether bytes that were under way may arrive.
    pub(crate) fn arrives(&self, conn: u32, to_server: bool) -> bool {
        !self.conns[conn as usize].deaf[usize::from(!to_server)]
    }

    /// Whether something may have been lost on it.
    pub(crate) fn is_broken(&self, conn: u32) -> bool {
        self.conns[conn as usize].broken
    }
}
