//! Contacts, with their own servers: what they say to the apps, and what they make of what apps say.

use crate::ctx::{Ctx, MS, SEC, Time};
use crate::oracle::{Inbound, Kind, attribute};
use crate::roster::{Relation, Verb};
use crate::server::Server;

const SHOWS: [&str; 5] = ["", "away", "dnd", "chat", "xa"];

/// A resource of a contact: its priority is its number, so that there are no ties.
#[derive(Debug, Clone, Copy, Default)]
struct Resource {
    available: bool,
    show: usize,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Side {
    /// The contact's own view of the subscriptions with the app.
    pub(crate) relation: Relation,
    /// What the contact last heard of the app's presence.
    pub(crate) sees: bool,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Contact {
    resources: [Resource; 2],
    pub(crate) apps: Vec<Side>,
    /// Its server is gone: it says nothing and hears nothing.
    pub(crate) vanished_until: Time,
    /// It was gone once: it may not have heard a question that is not asked again on the same stream.
    pub(crate) was_gone: bool,
    /// When the next stanza may reach it.
    pub(crate) last: Time,
}

pub(crate) fn address(contact: usize) -> String {
    format!("c{contact}@users.example")
}

pub(crate) fn of_address(address: &str) -> Option<usize> {
    let (local, rest) = address.split_once('@')?;
    rest.starts_with("users.example").then(|| local.strip_prefix('c')?.parse().ok()).flatten()
}

pub(crate) fn domain(app: usize) -> String {
    format!("a{app}.example")
}

pub(crate) fn own(app: usize) -> String {
    format!("bot@a{app}.example")
}

/// The id of a contact's stanza: who, to which app, and which of them.
pub(crate) fn of_id(id: &str) -> Option<(usize, usize, usize)> {
    let mut parts = id.strip_prefix('k')?.split('-').map(|part| part.parse().ok());
    let parts = (parts.next()??, parts.next()??, parts.next()??);
    Some(parts)
}

impl Contact {
    pub(crate) fn new(ctx: &mut Ctx, apps: usize) -> Self {
        let mut resource = || Resource { available: ctx.rng.permille(600), show: ctx.rng.index(5) };
        Self {
            resources: [resource(), resource()],
            apps: vec![Side::default(); apps],
            ..Self::default()
        }
    }

    /// The show of the resource that counts.
    pub(crate) fn best(&self) -> Option<usize> {
        self.resources.iter().rev().find(|it| it.available).map(|it| it.show)
    }
}

/// A stanza of a contact goes to the server: `rest` follows from, to and id.
fn say(
    server: &mut Server,
    ctx: &mut Ctx,
    (contact, app): (usize, usize),
    resource: &str,
    (name, rest): (&str, &str),
    kind: Kind,
) {
    let inbound = &mut ctx.oracle.pairs[app][contact].inbound;
    let number = inbound.len();
    inbound.push(Inbound::new(kind));
    let (own, domain) = (own(app), domain(app));
    let to = if kind == Kind::Iq && number.is_multiple_of(2) { &domain } else { &own };
    let xml = format!(
        "<{name} from='c{contact}@users.example{resource}' to='{to}' id='k{contact}-{app}-{number}'{rest}"
    );
    ctx.say(|| format!("contact {contact} says {xml}"));
    server.send_to(ctx, app, contact, xml.as_bytes());
}

pub(crate) fn subscription(server: &mut Server, ctx: &mut Ctx, pair: (usize, usize), verb: Verb) {
    let rest = format!(" type='{}'/>", verb.as_str());
    let of_pair = &mut ctx.oracle.pairs[pair.1][pair.0];
    of_pair.request = (verb == Verb::Subscribe).then_some(of_pair.inbound.len());
    say(server, ctx, pair, "", ("presence", &rest), Kind::Presence);
}

/// Tells an app what one resource is up to; `from` none: the contact as a whole is gone.
fn tell(server: &mut Server, ctx: &mut Ctx, pair: (usize, usize), resource: Option<usize>) {
    let Some(number) = resource else {
        return say(server, ctx, pair, "", ("presence", " type='unavailable'/>"), Kind::Presence);
    };
    let Resource { available, show } = server.contacts[pair.0].resources[number];
    let rest = if available {
        let show = SHOWS[show];
        let show = if show.is_empty() { String::new() } else { format!("<show>{show}</show>") };
        format!(">{show}<priority>{number}</priority></presence>")
    } else {
        " type='unavailable'/>".to_owned()
    };
    say(server, ctx, pair, &format!("/r{number}"), ("presence", &rest), Kind::Presence);
}

/// What a contact's server tells whoever may see its presence.
fn tell_all(server: &mut Server, ctx: &mut Ctx, pair: (usize, usize)) {
    let there = server.contacts[pair.0].resources.map(|resource| resource.available);
    for (number, _) in there.iter().enumerate().filter(|(_, available)| **available) {
        tell(server, ctx, pair, Some(number));
    }
    if there == [false; 2] {
        tell(server, ctx, pair, None);
    }
}

/// A contact does something of its own accord.
pub(crate) fn act(server: &mut Server, ctx: &mut Ctx) {
    let contact = ctx.rng.index(server.contacts.len());
    let app = ctx.rng.index(ctx.profile.apps);
    let pair = (contact, app);
    if server.contacts[contact].vanished_until > ctx.now {
        return;
    }
    match ctx.rng.below(10) {
        0..=4 => {
            let burst = if ctx.rng.permille(200) { 4 } else { 1 };
            for _ in 0..burst {
                let rest = " type='chat'><body>hello</body></message>";
                say(server, ctx, pair, "/r0", ("message", rest), Kind::Message);
            }
        }
        5 => {
            let query = ctx.rng.pick(&[
                "ping xmlns='urn:xmpp:ping'",
                "query xmlns='jabber:iq:version'",
                "query xmlns='http://jabber.org/protocol/disco#info'",
                "x xmlns='urn:unknown'",
            ]);
            let rest = format!(" type='get'><{query}/></iq>");
            say(server, ctx, pair, "/r1", ("iq", &rest), Kind::Iq);
        }
        6 => {
            server.contacts[contact].apps[app].relation.ask();
            subscription(server, ctx, pair, Verb::Subscribe);
        }
        7 => {
            let resource = ctx.rng.index(2);
            let (available, show) = (ctx.rng.permille(700), ctx.rng.index(5));
            server.contacts[contact].resources[resource] = Resource { available, show };
            for app in 0..ctx.profile.apps {
                if server.contacts[contact].apps[app].relation.from {
                    tell(server, ctx, (contact, app), Some(resource));
                }
            }
        }
        8 => {
            let relation = &mut server.contacts[contact].apps[app].relation;
            (relation.to, relation.asked) = (false, false);
            subscription(server, ctx, pair, Verb::Unsubscribe);
        }
        _ => {
            let relation = &mut server.contacts[contact].apps[app].relation;
            if std::mem::take(&mut relation.from) {
                subscription(server, ctx, pair, Verb::Unsubscribed);
            }
        }
    }
}

/// A contact's server gets a stanza of an app.
pub(crate) fn hear(server: &mut Server, ctx: &mut Ctx, contact: usize, xml: &str) {
    if server.contacts[contact].vanished_until > ctx.now || !xml.starts_with("<presence") {
        return;
    }
    let from = attribute(xml, "from").unwrap_or_default();
    let local = from.split(['/']).next().unwrap_or_default();
    let Some(app) = (0..ctx.profile.apps).find(|app| own(*app) == local) else {
        return ctx.violated(|| format!("contact {contact} got {xml} from nobody it knows"));
    };
    let pair = (contact, app);
    let type_ = attribute(xml, "type").unwrap_or_default().to_owned();
    if let Some(verb) = Verb::parse(&type_) {
        return hear_verb(server, ctx, pair, verb);
    }
    let side = &mut server.contacts[contact].apps[app];
    match type_.as_str() {
        "" => side.sees = true,
        "unavailable" => side.sees = false,
        // RFC 6121 section 4.3.2.
        "probe" if side.relation.from => tell_all(server, ctx, pair),
        "probe" => subscription(server, ctx, pair, Verb::Unsubscribed),
        _ => {}
    }
}

fn hear_verb(server: &mut Server, ctx: &mut Ctx, pair: (usize, usize), verb: Verb) {
    let relation = &mut server.contacts[pair.0].apps[pair.1].relation;
    let could_see = relation.from;
    relation.hear(verb);
    match verb {
        Verb::Subscribe if could_see || ctx.rng.permille(750) => {
            relation.from = true;
            subscription(server, ctx, pair, Verb::Subscribed);
            tell_all(server, ctx, pair);
        }
        Verb::Subscribe if ctx.rng.permille(500) => {
            subscription(server, ctx, pair, Verb::Unsubscribed);
        }
        Verb::Unsubscribe if could_see => tell(server, ctx, pair, None),
        _ => {}
    }
}

/// A contact's server vanishes for some time; coming back, the contact logs in again.
pub(crate) fn vanish(server: &mut Server, ctx: &mut Ctx) {
    let contact = ctx.rng.index(server.contacts.len());
    let until = if ctx.rng.permille(500) { u64::MAX } else { ctx.now + ctx.rng.range(1, 20) * SEC };
    ctx.say(|| format!("contact {contact}'s server vanishes"));
    let it = &mut server.contacts[contact];
    (it.vanished_until, it.was_gone) = (until, true);
}

/// Contacts whose server is back tell of their presence.
pub(crate) fn reappear(server: &mut Server, ctx: &mut Ctx) {
    for contact in 0..server.contacts.len() {
        let until = server.contacts[contact].vanished_until;
        if until == 0 || until > ctx.now {
            continue;
        }
        server.contacts[contact].vanished_until = 0;
        for app in 0..ctx.profile.apps {
            if server.contacts[contact].apps[app].relation.from {
                tell_all(server, ctx, (contact, app));
            }
        }
    }
}

/// When a stanza of an app reaches a contact: in order for each, in any order for different ones.
pub(crate) fn due(server: &mut Server, ctx: &mut Ctx, contact: usize) -> Time {
    let delay = ctx.rng.below(20 * MS);
    let last = &mut server.contacts[contact].last;
    *last = (*last).max(ctx.now + delay) + 1;
    *last
}
