//! How an app is opened: with what was kept from before.

use std::cell::Cell;
use std::sync::Arc;

use appxmpp::service::{
    Inbox, LaneLimits, Lanes, Outbox, OutboxLimits, Pace, Quotas, Resource, Retry, Service,
    ServiceConfig,
};

use super::{App, Deliveries, Gathering, Mailbox, Task, Together, usage};
use crate::contacts;
use crate::ctx::{Ctx, MS, Rare, SEC, duration};
use crate::disk::Disk;
use crate::link::Link;
use crate::profile::Profile;
use crate::roster::Relation;

fn quotas(profile: &Profile) -> Quotas {
    let mut quotas = Quotas::default();
    if let Some(limit) = profile.quota_recipients {
        quotas = quotas.with(Resource::RecipientsMessaged, limit);
    }
    if let Some(limit) = profile.quota_invitations {
        quotas = quotas.with(Resource::InvitationsSent, limit);
    }
    quotas
}

fn deliveries(profile: &Profile) -> Deliveries {
    let limits = LaneLimits {
        deliveries: profile.lane_deliveries,
        per_sender: profile.lane_per_sender,
        ..LaneLimits::default()
    };
    let retry = Retry {
        first: duration(200 * MS),
        longest: duration(5 * SEC),
        deadline: duration(20 * SEC),
    };
    match profile.durable {
        true => Deliveries::Inbox(Inbox::new(limits, retry)),
        false => Deliveries::Lanes(Lanes::new(limits)),
    }
}

fn config(ctx: &Ctx, number: usize, run: u32) -> Option<ServiceConfig> {
    let mut config = ServiceConfig::new("bot", &contacts::domain(number)).ok()?;
    config.id_prefix = format!("i{run}-");
    config.pace = Pace {
        probes_per_second: 100,
        patience: duration(2 * SEC),
        refresh: Some(duration(10 * SEC)),
    };
    config.quotas = quotas(&ctx.profile);
    Some(config)
}

impl App {
    pub(crate) fn open(
        ctx: &mut Ctx,
        disk: &Arc<dyn Disk>,
        number: usize,
        run: u32,
    ) -> Option<Self> {
        Self::check_kept(ctx, &**disk, number);
        let service = match Service::new(config(ctx, number, run)?, Arc::clone(disk).open()) {
            Ok(service) => service,
            // A database may be out of reach.
            Err(_) if disk.database().is_some() => return None,
            Err(error) => {
                ctx.violated(|| format!("the store cannot be opened: {error}"));
                return None;
            }
        };
        let used = disk.used(&contacts::domain(number), ctx.utc());
        service.set_utc(ctx.utc());
        let profile = ctx.profile.clone();
        let mut deliveries = deliveries(&profile);
        if let Deliveries::Inbox(inbox) = &mut deliveries {
            // A store that does not take the number of the run ends the start.
            let restored = service.restore_deliveries().ok()?;
            restored.into_iter().for_each(|delivery| inbox.restore(ctx.now(), ctx.utc(), delivery));
        }
        let mut outbox = Outbox::new(OutboxLimits {
            stanzas: profile.outbox_stanzas,
            bytes: profile.outbox_bytes,
            expiry: duration(profile.expiry),
        });
        let (rows, done) = service.take_outbox();
        outbox.restore(rows, done);
        if service.is_shared() {
            outbox.leave_room();
        }
        ctx.oracle.opened(run, number, service.queue());
        let (own, contacts) = (contacts::own(number), ctx.profile.contacts);
        let kept = |contact| disk.subscription(&own, &contacts::address(contact));
        let relations = (0..contacts).map(|it| (Relation::of(kept(it)), false)).collect();
        let waiting = match &deliveries {
            Deliveries::Inbox(inbox) => inbox.len(),
            Deliveries::Lanes(_) => 0,
        };
        let stats = outbox.stats();
        ctx.saw(Rare::RestoredMessage, stats.waiting as u64);
        ctx.saw(Rare::RestoredDelivery, waiting as u64);
        ctx.say(|| format!("app {number} opens: {} to send, {waiting} to deliver", stats.waiting));
        Some(Self {
            number,
            surplus: (stats.waiting, waiting),
            outbox,
            gathering: Gathering::default(),
            storing: false,
            giving_up: false,
            cut: 0,
            deliveries,
            link: Link::new(number, ctx.now + ctx.rng.below(50 * MS), &service),
            together: Together::new(&service),
            service,
            task: Task::Idle,
            backlog: Vec::new(),
            backlog_until: 0,
            running: Vec::new(),
            told: Mailbox::default(),
            task_until: 0,
            writer_until: 0,
            expiry_at: ctx.now,
            run,
            used,
            keeping: usage::Keeping::new(ctx.now),
            looks: Cell::new(0),
            relations,
            stopping: false,
            down_until: 0,
            seen: (0, 0),
        })
    }
}
