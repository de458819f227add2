use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use appxmpp::ns;
use appxmpp::xml::{Limits, Scope};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);
const NO_CONTENT: &str = "HTTP/1.1 204 No Content\r\n\r\n";
const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
/// Says nothing at all.
const SILENCE: &str = "";

/// A web app that answers as told, and then with 204.
struct Web {
    port: u16,
    script: Arc<Mutex<VecDeque<&'static str>>>,
    /// The ids of the deliveries that come.
    posts: mpsc::UnboundedReceiver<String>,
    house: Arc<House>,
}

struct House {
    posts: mpsc::UnboundedSender<String>,
    /// Each answer takes one.
    answers: Semaphore,
    connections: AtomicUsize,
    open: AtomicUsize,
    most_open: AtomicUsize,
}

impl Web {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let web = Self::at(port);
        web.listen(listener);
        web
    }

    /// It does not listen yet.
    fn at(port: u16) -> Self {
        let (sender, posts) = mpsc::unbounded_channel();
        let house = Arc::new(House {
            posts: sender,
            answers: Semaphore::new(1000),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            most_open: AtomicUsize::new(0),
        });
        Self { port, script: Arc::default(), posts, house }
    }

    fn listen(&self, listener: TcpListener) {
        let (script, house) = (Arc::clone(&self.script), Arc::clone(&self.house));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                house.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(stream, Arc::clone(&script), Arc::clone(&house)));
            }
        });
    }

    fn answers(self, script: &[&'static str]) -> Self {
        self.script.lock().unwrap().extend(script);
        self
    }

    async fn post(&mut self) -> String {
        within(self.posts.recv()).await.unwrap()
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens in time")
}

async fn serve(
    mut stream: TcpStream,
    script: Arc<Mutex<VecDeque<&'static str>>>,
    house: Arc<House>,
) {
    let mut read = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = end_of_request(&read) {
                break end;
            }
            if !matches!(stream.read_buf(&mut read).await, Ok(1..)) {
                return;
            }
        };
        let id = header(&read[..end], "appxmpp-delivery").unwrap();
        read.drain(..end);
        let open = house.open.fetch_add(1, Ordering::SeqCst) + 1;
        house.most_open.fetch_max(open, Ordering::SeqCst);
        house.posts.send(id).unwrap();
        house.answers.acquire().await.unwrap().forget();
        house.open.fetch_sub(1, Ordering::SeqCst);
        let answer = script.lock().unwrap().pop_front().unwrap_or(NO_CONTENT);
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

fn end_of_request(read: &[u8]) -> Option<usize> {
    let head = memchr::memmem::find(read, b"\r\n\r\n")? + 4;
    let length: usize = header(&read[..head], "content-length")?.parse().unwrap();
    (read.len() >= head + length).then_some(head + length)
}

fn header(head: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(head).into_owned();
    let lines = text.lines().filter_map(|line| line.split_once(": "));
    lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, it)| it.to_owned())
}

/// Tells what became of each delivery.
struct Told {
    settled: mpsc::UnboundedSender<(u64, Option<&'static str>)>,
    /// Each delivery that is settled takes one.
    room: Semaphore,
}

impl Outbox for Told {
    async fn send(&self, _: String) {}

    async fn settle(&self, id: u64, dead: Option<&'static str>, _: Option<String>) {
        self.room.acquire().await.unwrap().forget();
        self.settled.send((id, dead)).unwrap();
    }

    fn charge(&self, _: Charge) -> appxmpp::Result<()> {
        Ok(())
    }

    fn keeps(&self) -> bool {
        false
    }

    fn holds(&self) -> bool {
        true
    }
}

struct Files;

impl config::Surroundings for Files {
    fn var(&self, name: &str) -> Option<String> {
        let vars = HashMap::from([
            ("APPXMPP_BACKEND", "component://bot.example@127.0.0.1"),
            ("APPXMPP_SECRET", "s"),
        ]);
        vars.get(name).map(|value| (*value).to_owned())
    }

    fn read(&self, _: &Path) -> std::io::Result<String> {
        Err(std::io::ErrorKind::NotFound.into())
    }
}

type Settled = mpsc::UnboundedReceiver<(u64, Option<&'static str>)>;

/// An engine whose callback is at `port`.
fn engine(port: u16, change: impl FnOnce(&mut config::App)) -> (Arc<Engine<Told>>, Settled) {
    let mut app = config::load(None, &Files).unwrap().apps.pop().unwrap();
    app.callback_url = Some(format!("http://127.0.0.1:{port}/"));
    app.webhook_pause = Duration::from_millis(1);
    app.webhook_longest_pause = PATIENCE;
    change(&mut app);
    let (sender, settled) = mpsc::unbounded_channel();
    let told = Told { settled: sender, room: Semaphore::new(1000) };
    (Engine::new(Arc::new(app), Arc::default(), told), settled)
}

impl Engine<Told> {
    fn deliver(self: &Arc<Self>, id: u64, sender: &str) {
        let xml = format!("<message from='{sender}@example/r' to='bot.example' id='{id}'/>");
        let scope = Scope::stream(ns::COMPONENT);
        let stanza = Stanza::parse(xml.into(), &scope, &Limits::default()).unwrap();
        self.queue(self.callback_of(id, stanza));
    }

    fn has_retried(&self) -> bool {
        !self.metrics.render().contains("appxmpp_delivery_retries_total 0\n")
    }
}

#[tokio::test]
async fn an_attempt_that_fails_is_followed_by_one_that_succeeds() {
    for failure in [UNAVAILABLE, SILENCE] {
        let mut web = Web::start().await.answers(&[failure]);
        let (engine, mut settled) = engine(web.port, |app| {
            app.webhook_timeout =
                if failure == SILENCE { Duration::from_millis(50) } else { PATIENCE };
        });
        engine.deliver(7, "alice");
        let ids = [web.post().await, web.post().await];
        assert_eq!(ids[0], ids[1], "the same delivery");
        assert_eq!(within(settled.recv()).await, Some((7, None)), "{failure}");
    }
}

#[tokio::test]
async fn an_app_that_is_started_late_gets_what_came_before() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let mut web = Web::at(socket.local_addr().unwrap().port());
    let (engine, mut settled) = engine(web.port, |_| {});
    engine.deliver(7, "alice");
    within(async {
        while !engine.has_retried() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    web.listen(socket.listen(8).unwrap());
    web.post().await;
    assert_eq!(within(settled.recv()).await, Some((7, None)));
}

#[tokio::test]
async fn an_app_is_not_asked_again_before_it_said() {
    let later = "HTTP/1.1 503 Later\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";
    let mut web = Web::start().await.answers(&[later]);
    let (engine, mut settled) = engine(web.port, |_| {});
    engine.deliver(7, "alice");
    web.post().await;
    let asked = Instant::now();
    web.post().await;
    // The answer, from which the second counts, comes after its request was read.
    assert!(asked.elapsed() >= Duration::from_secs(1));
    assert_eq!(within(settled.recv()).await, Some((7, None)));
}

#[tokio::test]
async fn no_more_run_at_once_than_may() {
    let mut web = Web::start().await;
    web.house.answers.forget_permits(1000);
    let (engine, mut settled) = engine(web.port, |app| app.webhook_concurrency = 2);
    for (id, sender) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
        engine.deliver(id as u64, sender);
    }
    for _ in 0..2 {
        web.post().await;
    }
    for _ in 0..3 {
        web.house.answers.add_permits(1);
        within(settled.recv()).await.unwrap();
        web.post().await;
    }
    web.house.answers.add_permits(2);
    for _ in 0..2 {
        within(settled.recv()).await.unwrap();
    }
    assert_eq!(web.house.most_open.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn what_became_due_while_another_one_was_settled_is_attempted_after_it() {
    let mut web = Web::start().await.answers(&[UNAVAILABLE]);
    web.house.answers.forget_permits(1000);
    let pause = Duration::from_millis(100);
    let (engine, mut settled) = engine(web.port, |app| {
        (app.webhook_concurrency, app.webhook_pause) = (1, pause);
    });
    engine.outbox.room.forget_permits(1000);
    engine.deliver(1, "alice");
    let first = web.post().await;
    engine.deliver(2, "bob");
    web.house.answers.add_permits(3);
    web.post().await;
    // Bob's is answered, and settled only after the time at which alice's is due.
    tokio::time::sleep(2 * pause).await;
    engine.outbox.room.add_permits(2);
    assert_eq!(web.post().await, first);
    assert_eq!(within(settled.recv()).await, Some((2, None)));
    assert_eq!(within(settled.recv()).await, Some((1, None)));
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let web = Web::start().await;
    let (engine, mut settled) = engine(web.port, |_| {});
    for id in 0..3 {
        engine.deliver(id, "alice");
        assert_eq!(within(settled.recv()).await, Some((id, None)));
    }
    assert_eq!(web.house.connections.load(Ordering::Relaxed), 1);
}
