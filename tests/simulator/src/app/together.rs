//! What an app does that several processes serve: `core/src/net/sharing.rs` and `turns.rs`, and the
//! part of `outbox.rs` that waits for others.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use appxmpp::service::gate::LOOK;
use appxmpp::service::outbox::Accepted;
use appxmpp::service::{Bequest, Delivery, Legacy, Service, Suspense, Turns};
use appxmpp::store::{Behind, Change, Fellows, OutboxRow, Turn};

use super::{App, Deliveries, Outcome, Task, Told};
use crate::ctx::{Ctx, NEVER, Rare, Time, duration, time};

pub(super) struct Together {
    /// The store has news.
    news: Arc<AtomicBool>,
    turns: Turns,
    pub(super) suspense: Suspense,
    bequest: Bequest,
    /// When the database was asked for the others, when its answer is there, and the answer.
    look: Option<(Time, Time, appxmpp::Result<Fellows>)>,
}

/// How far a take-over is.
pub(super) struct Adoption {
    /// What is ours now.
    taken: Vec<Delivery>,
    step: Step,
}

enum Step {
    /// What was left is read, and there then.
    Reading(Time, Option<Legacy>),
    /// The database gets it.
    Storing(Vec<Delivery>),
    /// The connection waits for others to be taken over from.
    Waiting(Time),
}

impl Together {
    pub(super) fn new(service: &Service) -> Self {
        let news = Arc::new(AtomicBool::new(false));
        let wake = Arc::clone(&news);
        service.on_news(move || wake.store(true, Ordering::Relaxed));
        Self {
            news,
            turns: Turns::default(),
            suspense: Suspense::default(),
            bequest: Bequest::default(),
            look: None,
        }
    }
}

impl Adoption {
    pub(super) fn due(&self) -> Time {
        match self.step {
            Step::Reading(at, _) | Step::Waiting(at) => at,
            Step::Storing(_) => NEVER,
        }
    }
}

impl App {
    fn a_while(ctx: &mut Ctx) -> Time {
        ctx.now + 1 + ctx.rng.below(ctx.profile.latency)
    }

    /// When the database is to be asked whose turn it is.
    pub(super) fn turn_due(&self) -> Time {
        match &self.deliveries {
            Deliveries::Inbox(inbox) if inbox.has_waiting() => time(self.together.turns.due()),
            _ => NEVER,
        }
    }

    /// When the others are to be looked at.
    pub(super) fn together_due(&self) -> Time {
        let look = match &self.together.look {
            Some((_, at, _)) => *at,
            None => self.together.suspense.due().map_or(NEVER, time),
        };
        look.min(self.hand_over_due().map_or(NEVER, time))
    }

    fn hand_over_due(&self) -> Option<std::time::Duration> {
        let undecided = self.outbox.is_undecided();
        let can = self.service.is_shared() && (undecided || self.outbox.can_hand_over());
        self.together.bequest.due(undecided).filter(|_| can)
    }

    /// Whether others go on with the app in the place of this process.
    pub(crate) fn is_evicted(&self) -> bool {
        self.service.is_evicted()
    }

    /// Hears what the others are up to; says whether there was anything.
    pub(super) fn hear_news(&mut self, ctx: &mut Ctx) -> bool {
        if !self.together.news.swap(false, Ordering::Relaxed) || self.service.is_evicted() {
            return false;
        }
        self.task = self.read_legacy(ctx, Vec::new());
        true
    }

    /// Asks whose turn it is, if that is due.
    pub(super) fn ask_turns(&mut self, ctx: &mut Ctx) -> bool {
        let Some((waiting, behind)) = self.behind(ctx) else { return false };
        self.task = Task::Asking { until: Self::a_while(ctx), waiting, behind };
        true
    }

    /// [`App::ask_turns`] while something else is waited for.
    pub(super) fn release_now(&mut self, ctx: &mut Ctx) -> bool {
        let Some((waiting, behind)) = self.behind(ctx) else { return false };
        self.release(ctx, &waiting, behind);
        true
    }

    fn behind(&self, ctx: &mut Ctx) -> Option<(Vec<Turn>, appxmpp::Result<Vec<Behind>>)> {
        let Deliveries::Inbox(inbox) = &self.deliveries else { return None };
        if self.turn_due() > ctx.now {
            return None;
        }
        ctx.saw(Rare::TurnAwaited, 1);
        let waiting = inbox.waiting();
        let waiting = self.service.turns(waiting.iter().map(|delivery| &**delivery));
        let behind = match waiting.is_empty() {
            true => Ok(Vec::new()),
            false => self.service.behind(&waiting),
        };
        Some((waiting, behind))
    }

    /// The database has said whose turn it is.
    pub(super) fn release(
        &mut self,
        ctx: &Ctx,
        waiting: &[Turn],
        behind: appxmpp::Result<Vec<Behind>>,
    ) {
        let turns = &mut self.together.turns;
        let free = match behind {
            Ok(behind) => turns.judge(ctx.now(), waiting, &behind),
            Err(_) => turns.judge(ctx.now(), &[], &[]),
        };
        if let Deliveries::Inbox(inbox) = &mut self.deliveries {
            inbox.release(&free);
        }
    }

    fn read_legacy(&self, ctx: &mut Ctx, taken: Vec<Delivery>) -> Task {
        // A fault is logged, and what was left comes again.
        let legacy = self.service.next_legacy().ok().flatten();
        Task::Adopting(Adoption { taken, step: Step::Reading(Self::a_while(ctx), legacy) })
    }

    /// Goes on with a take-over, as far as it can now.
    pub(super) fn adopt(&mut self, ctx: &mut Ctx, adoption: Adoption) -> bool {
        let Adoption { taken, step } = adoption;
        if adoption_waits(&step, ctx.now, self.link.is_taking_over()) {
            self.task = Task::Adopting(Adoption { taken, step });
            return false;
        }
        match step {
            Step::Reading(_, Some(Legacy { messages, deliveries, changes })) => {
                self.store_legacy(ctx, messages, changes);
                self.task = Task::Adopting(Adoption { taken, step: Step::Storing(deliveries) });
            }
            Step::Reading(_, None) if !taken.is_empty() && self.link.is_taking_over() => {
                let step = Step::Waiting(ctx.now + time(LOOK));
                self.task = Task::Adopting(Adoption { taken, step });
            }
            Step::Waiting(_) => self.task = self.read_legacy(ctx, taken),
            Step::Reading(_, None) | Step::Storing(_) => self.take_over(ctx, taken),
        }
        true
    }

    fn store_legacy(&mut self, ctx: &mut Ctx, messages: Vec<OutboxRow>, mut changes: Vec<Change>) {
        let rows = self.outbox.adopt(messages);
        let calls = Accepted::calls(&rows);
        let adopted = rows.iter().map(|row| row.heads.len()).sum::<usize>();
        self.surplus.0 = self.surplus.0.max(ctx.profile.outbox_room()) + adopted;
        let what = format!("{} rows of messages", rows.len());
        ctx.say(|| format!("app {}: run {} takes over, {what}", self.number, self.run));
        let put = |row| Change::OutboxPut(Arc::clone(self.service.queue()), row);
        changes.extend(rows.into_iter().map(put));
        let told = Arc::clone(&self.told);
        let done = move |stored| {
            let news = Told::Adopted(calls, Outcome::of(stored));
            told.lock().unwrap_or_else(PoisonError::into_inner).push(news);
        };
        self.service.submit_placed(changes, Box::new(done));
    }

    /// The database has said whether what was left is ours.
    pub(super) fn adopted(&mut self, ctx: &mut Ctx, calls: &[Accepted], stored: &Outcome) {
        for accepted in calls {
            match stored {
                Outcome::Stored(_) => self.outbox.stored(accepted),
                _ => self.outbox.not_stored(accepted),
            }
        }
        let task = std::mem::replace(&mut self.task, Task::Idle);
        let Task::Adopting(Adoption { mut taken, step: Step::Storing(left) }) = task else {
            self.task = task;
            return;
        };
        if stored.is_stored() {
            ctx.saw(Rare::TakenOver, 1);
            self.together.suspense.taken_over();
            taken.extend(left);
        }
        self.task = self.read_legacy(ctx, taken);
    }

    fn take_over(&mut self, ctx: &mut Ctx, taken: Vec<Delivery>) {
        ctx.say(|| format!("app {}: {} deliveries are taken over", self.number, taken.len()));
        self.surplus.1 += taken.len();
        ctx.saw(Rare::RestoredDelivery, taken.len() as u64);
        if let Deliveries::Inbox(inbox) = &mut self.deliveries {
            taken.into_iter().for_each(|delivery| inbox.restore(ctx.now(), ctx.utc(), delivery));
        }
    }

    /// Messages are handed over to a process that can send them.
    pub(super) fn hand_over(&mut self, ctx: &mut Ctx) {
        if !self.service.is_shared() {
            return;
        }
        let now = duration(ctx.now);
        self.together.bequest.note(now, self.link.is_standby());
        if self.hand_over_due().is_none_or(|due| due > now) {
            return;
        }
        let bequest = &mut self.together.bequest;
        let hands_over = self.outbox.is_undecided()
            || (bequest.finds_heir(&self.service.fellows()) && self.service.holds());
        bequest.looked(now);
        if !hands_over {
            return;
        }
        let Some(numbers) = self.outbox.hand_over() else { return };
        ctx.saw(Rare::HandedOver, 1);
        ctx.oracle.hands_over(self.run, self.number);
        ctx.say(|| format!("app {}: run {} hands over {numbers:?}", self.number, self.run));
        self.giving_up = true;
        let told = Arc::clone(&self.told);
        let done = move |stored: appxmpp::Result<()>| {
            let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
            told.push(Told::Forgotten(stored.is_ok()));
        };
        self.service.submit(self.service.bequeath(&numbers), Box::new(done));
    }

    /// Whether what is held may go; `true` if the writer waits for word of the others.
    pub(super) fn look(&mut self, ctx: &mut Ctx) -> bool {
        let due = self.together.suspense.due().is_some_and(|due| due <= ctx.now());
        match self.together.look.take() {
            None if due => {
                let asked = (ctx.now, Self::a_while(ctx), self.service.fellows());
                self.together.look = Some(asked);
                true
            }
            None => false,
            Some((asked_at, at, asked)) if at > ctx.now => {
                self.together.look = Some((asked_at, at, asked));
                true
            }
            Some((asked_at, _, asked)) => {
                self.together.suspense.looked(duration(asked_at), &asked);
                self.hold();
                false
            }
        }
    }

    fn hold(&mut self) {
        match self.together.suspense.from() {
            Some(from) => self.outbox.hold(from),
            None => self.outbox.release(),
        }
    }

    /// Messages were stored; if others wait elsewhere, these may have to wait for them.
    pub(super) fn suspect(&mut self, ctx: &Ctx, calls: &[Accepted], stored: &Outcome) {
        if let Outcome::Stored(placed) = stored
            && placed.elsewhere
            && let Some(first) = calls.first()
        {
            self.together.suspense.begin(first.first(), ctx.now());
            self.hold();
        }
    }

    /// Why nothing is to be sent through this process now.
    pub(super) fn sends_elsewhere(&self) -> bool {
        self.service.is_shared() && (self.link.is_standby() || self.link.is_taking_over())
    }
}

fn adoption_waits(step: &Step, now: Time, taking_over: bool) -> bool {
    match step {
        Step::Reading(at, _) => *at > now,
        Step::Waiting(at) => *at > now && taking_over,
        Step::Storing(_) => true,
    }
}
