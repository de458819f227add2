//! What the app calls, and what has to come of it.

use appxmpp::ErrorKind;
use appxmpp::service::{MessageCall, PresenceCall, Resource, Status};

use crate::app::App;
use crate::contacts;
use crate::ctx::{Ctx, Rare, time};
use crate::disk::Disk;
use crate::link::Submitted;
use crate::oracle::Oracle;
use crate::server::Server;

/// One call, of any kind.
pub(crate) fn act(app: &mut App, ctx: &mut Ctx, server: &mut Server, disk: &dyn Disk) {
    app.tell_time(ctx);
    match ctx.rng.below(10) {
        0..=6 => send_message(app, ctx, server, false),
        7 => send_invite(app, ctx, server, disk),
        8 => send_presence(app, ctx, server),
        _ => {
            let contact = contacts::address(0);
            if app.service.get_presence(&[&contact], None).is_ok() {
                app.used.counts[Resource::ApiCalls as usize] += 1;
            }
        }
    }
}

/// A message, or several of one call, to different contacts and perhaps to somebody who is none.
pub(crate) fn send_message(app: &mut App, ctx: &mut Ctx, server: &mut Server, poison: bool) {
    let call = ctx.oracle.next_call();
    let first = ctx.rng.index(ctx.profile.contacts);
    let count =
        if poison || ctx.rng.permille(600) { 1 } else { ctx.rng.index(ctx.profile.contacts) + 1 };
    let recipients: Vec<usize> = (0..count).map(|at| (first + at) % ctx.profile.contacts).collect();
    let mut jids: Vec<String> = recipients.iter().map(|it| contacts::address(*it)).collect();
    let invalid = ctx.rng.permille(60);
    if invalid {
        jids.insert(0, "not an address".to_owned());
    }
    let mut body = format!("m{call} ");
    if poison {
        body.push_str("POISON");
    } else if ctx.rng.permille(100) {
        body.push_str(&"x".repeat(1200));
    }
    let jids: Vec<&str> = jids.iter().map(String::as_str).collect();
    let message =
        MessageCall { jids: &jids, body: &body, from: None, type_: "chat", raw_xml: false };
    let made = app.service.send_message(&message);
    ctx.say(|| {
        format!(
            "app {} sends m{call} to {recipients:?}: {:?}",
            app.number,
            made.as_ref().map(|made| &made.statuses)
        )
    });

    let counts = &mut app.used.counts;
    let used = counts[Resource::RecipientsMessaged as usize] + count as u64;
    let over = ctx.profile.quota_recipients.is_some_and(|limit| used > limit);
    let sending = match made {
        Ok(sending) if !over => sending,
        Err(error) if over && error.kind() == ErrorKind::OverQuota => {
            return ctx.saw(Rare::OverQuota, 1);
        }
        other => {
            let what = other.map(|sending| sending.statuses);
            return ctx.violated(|| format!("m{call}, quota used up: {over}, gives {what:?}"));
        }
    };
    counts[Resource::ApiCalls as usize] += 1;
    counts[Resource::RecipientsMessaged as usize] = used;
    counts[Resource::DataSent as usize] += (count * body.len()) as u64;

    let expected = invalid.then_some(Status::InvalidJid).into_iter();
    let expected = expected.chain(recipients.iter().map(|_| Status::NoError));
    if !expected.eq(sending.statuses.iter().copied()) || sending.stanzas.len() != count {
        return ctx.violated(|| format!("m{call} has the statuses {:?}", sending.statuses));
    }
    let utc = time(ctx.utc());
    let durable = ctx.profile.durable;
    let mut messages = Vec::with_capacity(count);
    for (stanza, contact) in sending.stanzas.iter().zip(&recipients) {
        let pair = (app.number, *contact);
        let (flags, of_run) = ((durable, poison), (app.run(), ctx.now));
        messages.push(ctx.oracle.made(pair, call, &stanza.to_bytes(), utc, flags, of_run));
    }
    if durable {
        return app.keep(ctx, &sending, &messages);
    }
    let stanzas: Vec<_> = sending.stanzas.iter().map(|stanza| stanza.to_bytes()).collect();
    let written = match app.link.submit(ctx, server, &stanzas, None) {
        Submitted::Taken(_, conn) => Some(conn),
        Submitted::Full | Submitted::NotReady => None,
    };
    for message in messages {
        let message = &mut ctx.oracle.messages[message];
        (message.promised, message.denied) = (written.is_some(), written.is_none());
        message.written_on = written;
    }
}

fn send_invite(app: &mut App, ctx: &mut Ctx, server: &mut Server, disk: &dyn Disk) {
    let number = ctx.rng.index(ctx.profile.contacts);
    let contact = contacts::address(number);
    let before = app.relation(disk, number);
    let faults = disk.faults();
    let invited = app.service.send_invite(&contact, None);
    if disk.has_crashed() {
        return;
    }
    ctx.say(|| format!("app {} invites {contact}: {}", app.number, invited.is_ok()));
    let counts = &mut app.used.counts;
    let used = counts[Resource::InvitationsSent as usize] + 1;
    if ctx.profile.quota_invitations.is_some_and(|limit| used > limit) {
        if invited.map_err(|error| error.kind()) != Err(ErrorKind::OverQuota) {
            ctx.violated(|| format!("an invitation beyond the quota went to {contact}"));
        }
        return;
    }
    counts[Resource::ApiCalls as usize] += 1;
    counts[Resource::InvitationsSent as usize] = used;
    if disk.faults() > faults && disk.database().is_some() {
        ctx.oracle.pairs[app.number][number].disputed = true;
        return;
    }
    let mut after = before;
    after.ask();
    let not_stored = disk.faults() > faults && before.name() != after.name();
    if not_stored {
        after = before;
    }
    app.changed(ctx, disk, number, (before, after), not_stored);
    match invited {
        Ok(_) if not_stored => ctx.violated(|| "an invitation was not stored".to_owned()),
        Ok(stanza) => app.send_one(ctx, server, number, stanza),
        Err(_) if not_stored => {}
        Err(error) => ctx.violated(|| format!("an invitation fails: {error}")),
    }
}

fn send_presence(app: &mut App, ctx: &mut Ctx, server: &mut Server) {
    let contact = ctx.rng.index(ctx.profile.contacts);
    let unavailable = ctx.rng.permille(200);
    let jid = contacts::address(contact);
    let type_ = if unavailable { "unavailable" } else { "" };
    let show = ctx.rng.pick(&["", "away", "dnd", "chat", "xa"]);
    let call = PresenceCall { jid: &jid, type_, show, status: Some("busy"), from: None };
    match app.service.send_presence(&call) {
        Ok(stanza) => {
            app.used.counts[Resource::ApiCalls as usize] += 1;
            Oracle::presence(ctx, app.number, contact, unavailable);
            app.send_one(ctx, server, contact, stanza);
        }
        Err(error) => ctx.violated(|| format!("presence to {jid} fails: {error}")),
    }
}
