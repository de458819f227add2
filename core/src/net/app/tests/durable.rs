//! Messages that survive cuts and restarts, on real loopback sockets.

use std::sync::Arc;

use super::*;
use crate::net::peer::{Peer, Server};
use crate::ns;
use crate::stanza::{Condition, StanzaError};
use crate::store::{
    Change, ContactKey, ContactState, DeadLetter, Durability, MemoryStore, Row, Store,
};
use crate::stream::Barrier;

const TO: &str = "romeo@example.net";

fn durable(server: &Server, disk: &Arc<MemoryStore>) -> AppConfig {
    let mut connection = server.config();
    connection.barrier = Some(Barrier { stanzas: 4, within: Duration::from_millis(5) });
    let mut config = AppConfig::new("app", connection).unwrap();
    config.store = Box::new(Arc::clone(disk));
    config.durable = true;
    config
}

async fn send(app: &App, body: &str) -> Status {
    app.send_message(&call(&[TO], body)).await.unwrap()[0]
}

fn stored(disk: &MemoryStore) -> usize {
    let mut rows = 0;
    disk.load_queue("bot.example", &mut |row| rows += usize::from(matches!(row, Row::Outbox(_))))
        .unwrap();
    rows
}

fn outbox(app: &App) -> crate::service::OutboxStats {
    app.stats().unwrap().outbox.unwrap()
}

/// What the server gets next: a message as (id, body), or a ping.
enum Got {
    Message(String, String),
    Ping(Box<Stanza>),
}

async fn got(peer: &mut Peer) -> Got {
    loop {
        let stanza = tokio::time::timeout(20 * S, peer.stanza()).await.expect("nothing came");
        match stanza.kind() {
            StanzaKind::Message => {
                let body = stanza.body().unwrap().into_owned();
                return Got::Message(stanza.id().unwrap().to_owned(), body);
            }
            StanzaKind::Iq => return Got::Ping(Box::new(stanza)),
            _ => {}
        }
    }
}

/// Takes `count` messages and answers pings meanwhile.
async fn messages(peer: &mut Peer, count: usize) -> Vec<(String, String)> {
    let mut all = Vec::new();
    while all.len() < count {
        match got(peer).await {
            Got::Message(id, body) => all.push((id, body)),
            Got::Ping(ping) => answer(peer, &ping).await,
        }
    }
    all
}

/// A server routes a ping to the component's own domain back to the component.
async fn answer(peer: &mut Peer, ping: &Stanza) {
    peer.send(std::str::from_utf8(ping.raw()).unwrap()).await;
}

/// Answers pings until the app knows that everything was read.
async fn settle(peer: &mut Peer, app: &App) {
    while outbox(app).waiting > 0 {
        tokio::select! {
            got = got(peer) => match got {
                Got::Ping(ping) => answer(peer, &ping).await,
                Got::Message(_, body) => panic!("{body} came again"),
            },
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
    }
}

#[tokio::test]
async fn a_message_is_safe_before_there_is_a_server() {
    let (server, disk) = (Server::start().await, Arc::new(MemoryStore::new()));
    let app = open(durable(&server, &disk));
    for body in ["1", "2"] {
        assert_eq!(send(&app, body).await, Status::NoError);
    }
    assert_eq!(stored(&disk), 2);
    let mut peer = server.accept_ready().await;
    let bodies: Vec<_> = messages(&mut peer, 2).await.into_iter().map(|it| it.1).collect();
    assert_eq!(bodies, ["1", "2"]);
    settle(&mut peer, &app).await;
    app.service().unwrap().sync().unwrap();
    assert_eq!(stored(&disk), 0);
    let stats = outbox(&app);
    assert_eq!((stats.accepted, stats.done, stats.repeated), (2, 2, 0));
}

#[tokio::test]
async fn a_message_survives_a_restart_with_its_id() {
    let (server, disk) = (Server::start().await, Arc::new(MemoryStore::new()));
    let app = open(durable(&server, &disk));
    let mut peer = server.accept_ready().await;
    app.connection().unwrap().ready().await.unwrap();
    assert_eq!(send(&app, "once").await, Status::NoError);
    // It arrives, but the server says nothing about it.
    let first = loop {
        if let Got::Message(id, body) = got(&mut peer).await {
            break (id, body);
        }
    };
    drop((app, peer));

    let app = open(durable(&server, &disk));
    let mut peer = server.accept_ready().await;
    assert_eq!(messages(&mut peer, 1).await, [first]);
    settle(&mut peer, &app).await;
    assert_eq!(send(&app, "next").await, Status::NoError);
    assert_eq!(messages(&mut peer, 1).await[0].1, "next");
    settle(&mut peer, &app).await;
    drop((app, peer));
    assert_eq!(stored(&disk), 0);
}

#[tokio::test]
async fn cuts_in_mid_stream_lose_nothing_and_keep_the_order() {
    let (server, disk) = (Server::start().await, Arc::new(MemoryStore::new()));
    let app = open(durable(&server, &disk));
    let sender = {
        let app = app.clone();
        tokio::spawn(async move {
            for i in 0..400 {
                assert_eq!(send(&app, &format!("{i:03}")).await, Status::NoError);
                tokio::task::yield_now().await;
            }
        })
    };
    let mut seen: Vec<(String, String)> = Vec::new();
    let mut repeated = 0;
    for read in [3, 90, 1, 400] {
        let mut peer = server.accept_ready().await;
        for _ in 0..read {
            if seen.len() == 400 {
                break;
            }
            let (id, body) = messages(&mut peer, 1).await.remove(0);
            if let Some(known) = seen.iter().find(|it| it.1 == body) {
                assert_eq!(known.0, id, "the repeat of {body} has another id");
                repeated += 1;
            } else {
                seen.push((id, body));
            }
        }
        if seen.len() == 400 {
            settle(&mut peer, &app).await;
            break;
        }
    }
    sender.await.unwrap();
    let mut peer = None;
    while seen.len() < 400 {
        let peer = match &mut peer {
            Some(peer) => peer,
            none => none.insert(server.accept_ready().await),
        };
        let (id, body) = messages(peer, 1).await.remove(0);
        if !seen.iter().any(|it| it.1 == body) {
            seen.push((id, body));
        }
    }
    let bodies: Vec<_> = seen.iter().map(|it| it.1.clone()).collect();
    assert_eq!(bodies, (0..400).map(|i| format!("{i:03}")).collect::<Vec<_>>());
    assert!(repeated <= outbox(&app).repeated, "{repeated} came twice");
}

#[tokio::test]
async fn what_is_over_the_bound_is_refused() {
    let (server, disk) = (Server::start().await, Arc::new(MemoryStore::new()));
    let mut config = durable(&server, &disk);
    config.outbox.stanzas = 3;
    let app = open(config);
    let jids = [TO, "no@address@x", TO, TO, TO];
    let statuses = app.send_message(&call(&jids, "hi")).await.unwrap();
    use Status::{InvalidJid, NoError, OtherError};
    assert_eq!(statuses, [NoError, InvalidJid, NoError, NoError, OtherError]);
    assert_eq!(send(&app, "one more").await, OtherError);
    assert_eq!(outbox(&app).refused, 2);
}

#[tokio::test]
async fn a_message_that_the_server_hates_stops_nobody_else() {
    let (server, disk) = (Server::start().await, Arc::new(MemoryStore::new()));
    let app = open(durable(&server, &disk));
    for body in ["poison", "fine"] {
        assert_eq!(send(&app, body).await, Status::NoError);
    }
    loop {
        let mut peer = server.accept_ready().await;
        let (_, body) = messages(&mut peer, 1).await.remove(0);
        if body == "fine" {
            break;
        }
        peer.refuse("policy-violation").await;
    }
    assert_eq!(outbox(&app).poisonous, 1);
}

/// A store whose disk is full, but for the number of the run.
#[derive(Debug)]
struct Full;

impl Store for Full {
    fn load(&self, _: &mut dyn FnMut(ContactKey, ContactState)) -> Result<()> {
        Ok(())
    }

    fn apply(&self, changes: Vec<Change>, _: Durability) -> Result<()> {
        if changes.iter().all(|change| matches!(change, Change::Count(..))) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Store, "the disk is full"))
    }

    fn load_queue(&self, _: &str, _: &mut dyn FnMut(Row)) -> Result<()> {
        Ok(())
    }

    fn dead_letters(&self, _: &str, _: &mut dyn FnMut(DeadLetter)) -> Result<()> {
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn what_the_store_does_not_take_is_neither_promised_nor_sent() {
    let server = Server::start().await;
    let mut config = durable(&server, &Arc::default());
    config.store = Box::new(Full);
    let app = open(config);
    let _peer = server.accept_ready().await;
    app.connection().unwrap().ready().await.unwrap();
    assert_eq!(send(&app, "hi").await, Status::OtherError);
    let stats = outbox(&app);
    assert_eq!((stats.not_stored, stats.waiting, stats.in_flight), (1, 0, 0));
    assert_eq!(app.connection().unwrap().stats().unwrap().stanzas_out, 0);
}

#[tokio::test]
async fn a_delivery_that_the_store_does_not_take_is_sent_back() {
    let server = Server::start().await;
    let mut config = durable(&server, &Arc::default());
    config.store = Box::new(Full);
    let app = open(config);
    let mut peer = server.accept_ready().await;
    say(&mut peer, "keep me").await;
    let answer = tokio::time::timeout(20 * S, peer.stanza()).await.expect("no answer");
    let element = answer.element().unwrap();
    let error = StanzaError::from_element(element.child("error", ns::COMPONENT).unwrap());
    assert_eq!(error.condition, Condition::ResourceConstraint);
    assert_eq!((app.stats().unwrap().refused, app.stats().unwrap().deliveries), (1, 0));
}

#[tokio::test]
async fn a_sender_learns_of_a_refusal_also_where_the_stream_is_cut_just_then() {
    let (server, disk) = (Server::start().await, Arc::new(MemoryStore::new()));
    let mut config = durable(&server, &disk);
    config.lanes = LaneLimits { per_sender: 1, ..LaneLimits::default() };
    let app = open(config);
    let mut peer = server.accept_ready().await;
    for body in ["taken", "refused"] {
        say(&mut peer, body).await;
    }
    wait(|| outbox(&app).waiting == 1).await;
    // Whatever of the answer was on its way.
    drop(peer);
    let mut peer = server.accept_ready().await;
    let answer = loop {
        let stanza = tokio::time::timeout(20 * S, peer.stanza()).await.expect("no answer");
        if stanza.kind() == StanzaKind::Message {
            break stanza;
        }
        answer(&mut peer, &stanza).await;
    };
    assert_eq!(answer.error().unwrap().condition, Condition::ResourceConstraint);
    app.service().unwrap().sync().unwrap();
    let mut kept = 0;
    let count = &mut |row| kept += usize::from(matches!(row, Row::Inbox(_)));
    disk.load_queue("bot.example", count).unwrap();
    assert_eq!((kept, app.stats().unwrap().refused), (1, 1));
}

#[tokio::test]
async fn closing_waits_until_the_server_has_read_everything() {
    let (server, disk) = (Server::start().await, Arc::new(MemoryStore::new()));
    let app = open(durable(&server, &disk));
    let mut peer = server.accept_ready().await;
    app.connection().unwrap().ready().await.unwrap();
    assert_eq!(send(&app, "last").await, Status::NoError);
    let closing = {
        let app = app.clone();
        tokio::spawn(async move { app.close(20 * S).await })
    };
    assert_eq!(messages(&mut peer, 1).await[0].1, "last");
    loop {
        match peer.next().await {
            crate::stream::AcceptEvent::Stanza(it) if it.kind() == StanzaKind::Iq => {
                answer(&mut peer, &it).await;
            }
            crate::stream::AcceptEvent::Closed(_) => break,
            _ => {}
        }
    }
    closing.await.unwrap();
    assert_eq!(stored(&disk), 0);
    assert_eq!(send(&app, "after").await, Status::OtherError);
}

async fn say(peer: &mut Peer, body: &str) {
    let to = "app@bot.example";
    peer.send(&format!("<message from='{ROMEO}' to='{to}'><body>{body}</body></message>")).await;
}

#[tokio::test]
async fn what_the_app_did_not_handle_comes_again_with_its_id() {
    let (server, disk) = (Server::start().await, Arc::new(MemoryStore::new()));
    let app = open(durable(&server, &disk));
    let mut peer = server.accept_ready().await;
    for body in ["handled", "dropped", "never taken"] {
        say(&mut peer, body).await;
    }
    claim(&app).await.done(Outcome::Handled);
    let dropped = claim(&app).await;
    let id = dropped.id;
    assert_eq!(dropped.field("body"), Some("dropped"));
    drop((dropped, app, peer));

    let app = open(durable(&server, &disk));
    let peer = server.accept_ready().await;
    let again = claim(&app).await;
    assert_eq!((again.id, again.field("body")), (id, Some("dropped")));
    drop(again);
    let mut last = claim(&app).await;
    assert_eq!(last.field("body"), Some("never taken"));
    last.done(Outcome::Failed);
    drop((last, app, peer));
    let app = open(durable(&server, &disk));
    assert_eq!(claim(&app).await.field("body"), Some("dropped"), "a failure is an answer");
    let mut peer = server.accept_ready().await;
    say(&mut peer, "new").await;
    let new = claim(&app).await;
    assert_eq!(new.field("body"), Some("new"));
    assert_ne!(new.id, id);
}

/// The presence that the server gets next, as (type, to), and its id.
async fn presence(peer: &mut Peer) -> (String, String, String) {
    loop {
        let stanza = tokio::time::timeout(20 * S, peer.stanza()).await.expect("nothing came");
        match stanza.kind() {
            StanzaKind::Presence => {
                let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
                let to = stanza.to().map(|to| to.to_string()).unwrap_or_default();
                return (text(stanza.type_()), to, text(stanza.id()));
            }
            StanzaKind::Iq => answer(peer, &stanza).await,
            _ => panic!("{:?}", stanza.raw()),
        }
    }
}

#[tokio::test]
async fn presence_and_invitations_survive_a_restart_without_a_server() {
    let (silent, server) = (Server::start().await, Server::start().await);
    let disk = Arc::new(MemoryStore::new());
    let app = open(durable(&silent, &disk));
    assert_eq!(app.send_invite(TO, None).await.unwrap(), Status::NoError);
    let call = PresenceCall { jid: TO, type_: "", show: "dnd", status: None, from: None };
    assert_eq!(app.send_presence(&call).await.unwrap(), Status::NoError);
    assert_eq!(stored(&disk), 2);
    drop(app);

    let app = open(durable(&server, &disk));
    let mut peer = server.accept_ready().await;
    let (mut types, mut ids) = (Vec::new(), Vec::new());
    while types.len() < 2 || !types.contains(&String::new()) {
        let (type_, to, id) = presence(&mut peer).await;
        assert_eq!(to, TO);
        types.push(type_);
        ids.push(id);
    }
    assert!(types.contains(&"subscribe".to_owned()), "{types:?}");
    settle_presence(&mut peer, &app).await;
    app.service().unwrap().sync().unwrap();
    assert_eq!(stored(&disk), 0);
}

/// As [`settle`], whatever presence comes.
async fn settle_presence(peer: &mut Peer, app: &App) {
    while outbox(app).waiting > 0 {
        tokio::select! {
            stanza = peer.stanza() => if stanza.kind() == StanzaKind::Iq {
                answer(peer, &stanza).await;
            },
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
        }
    }
}

#[tokio::test]
async fn an_accepted_subscription_is_confirmed_even_if_the_stream_breaks_there() {
    let (server, disk) = (Server::start().await, Arc::new(MemoryStore::new()));
    let app = open(durable(&server, &disk));
    let mut peer = server.accept_ready().await;
    peer.send("<presence from='romeo@example.net' to='app@bot.example' type='subscribe'/>").await;
    // The answer is written, and the server goes away without having read it.
    while outbox(&app).in_flight == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(peer);
    let mut peer = server.accept_ready().await;
    let mut types = Vec::new();
    while !["subscribed", "subscribe"].iter().all(|it| types.iter().any(|known| known == it)) {
        types.push(presence(&mut peer).await.0);
    }
    settle_presence(&mut peer, &app).await;
    assert!(outbox(&app).repeated >= 2, "{:?}", outbox(&app));
}
