//! What the outbox costs: CPU time of this process and rate of 100,000 messages, with and without it.
//! `cargo bench -p appxmpp --features sqlite --bench outbox`
//!
//! The server is a process of its own, so that its work is not counted.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use appxmpp::auth::Secret;
use appxmpp::net::{App, AppConfig, ConnectionConfig, Endpoint};
use appxmpp::service::{MessageCall, Status};
use appxmpp::stanza::StanzaKind;
use appxmpp::store::{MemoryStore, SqliteStore};
use appxmpp::stream::{AcceptConfig, AcceptEvent, AcceptStream};
use appxmpp::xml::Limits;

type Any<T> = Result<T, Box<dyn Error>>;
type Load<'a> = &'a dyn Fn(&App) -> Any<()>;

const DOMAIN: &str = "bot.example.com";

/// How many messages are sent: 100,000, or what the environment variable `MESSAGES` says.
fn count() -> usize {
    std::env::var("MESSAGES").ok().and_then(|count| count.parse().ok()).unwrap_or(100_000)
}
const S: Duration = Duration::from_secs(1);

/// Takes connections one after the other, reads, and answers pings as a server does.
fn sink() -> Any<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    println!("{}", listener.local_addr()?.port());
    for socket in listener.incoming() {
        serve(socket?)?;
    }
    Ok(())
}

fn serve(mut socket: TcpStream) -> Any<()> {
    socket.set_nodelay(true)?;
    let config = AcceptConfig {
        id: "bench".into(),
        components: vec![(DOMAIN.into(), Secret::new("secret"))],
        limits: Limits::default(),
        login_timeout: 15 * S,
    };
    let mut stream = AcceptStream::new(config, Duration::ZERO);
    let (mut input, mut output) = (vec![0; 256 * 1024], Vec::new());
    loop {
        while let Some(event) = stream.poll_event() {
            match event {
                AcceptEvent::Authenticated(_) => stream.accept(),
                AcceptEvent::Stanza(iq) if iq.kind() == StanzaKind::Iq => stream.send(iq.raw())?,
                AcceptEvent::Closed(_) => return Ok(()),
                _ => {}
            }
        }
        if stream.poll_transmit(&mut output) {
            socket.write_all(&output)?;
            output.clear();
        }
        let count = socket.read(&mut input)?;
        stream.handle_input(Duration::ZERO, &input[..count]);
    }
}

struct Server {
    process: Child,
    port: u16,
}

impl Server {
    fn start() -> Any<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut process = command.arg("sink").stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        Ok(Self { process, port: line.trim().parse()? })
    }

    fn app(&self, store: Option<&std::path::Path>, durable: bool) -> Any<App> {
        let endpoint = Endpoint::Tcp { host: "127.0.0.1".into(), port: self.port };
        let connection = ConnectionConfig::new(DOMAIN, Secret::new("secret"), endpoint)?;
        let mut config = AppConfig::new("shop", connection)?;
        config.store = match store {
            Some(path) => Box::new(SqliteStore::open(path)?),
            None => Box::new(MemoryStore::new()),
        };
        config.durable = durable;
        let app = App::open(config)?;
        assert!(app.wait_ready(10 * S)?, "the server does not answer");
        Ok(app)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// User and system time of this process, in seconds: the threads' that run, to the nanosecond.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).filter_map(|it| it.parse::<u64>().ok()).sum();
    ticks as f64 / 100.0
}

/// Sends from many tasks at once.
fn tasks(app: &App, tasks: usize, recipients: usize) -> Any<()> {
    let (count, body) = (count(), "x".repeat(100));
    let jids: Vec<String> = (0..recipients).map(|i| format!("user{i}@example.com")).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build()?;
    let next = std::sync::Arc::new(AtomicUsize::new(0));
    let running: Vec<_> = (0..tasks)
        .map(|_| {
            let (app, body, jids, next) = (app.clone(), body.clone(), jids.clone(), next.clone());
            runtime.spawn(async move {
                let jids: Vec<&str> = jids.iter().map(String::as_str).collect();
                let call = MessageCall {
                    jids: &jids,
                    body: &body,
                    from: None,
                    type_: "chat",
                    raw_xml: false,
                };
                while next.fetch_add(recipients, Ordering::Relaxed) < count {
                    let sent = app.send_message(&call).await;
                    assert!(sent.is_ok_and(|sent| sent.iter().all(|it| *it == Status::NoError)));
                }
            })
        })
        .collect();
    for task in running {
        runtime.block_on(task)?;
    }
    Ok(())
}

/// Sends from many threads at once.
fn threads(app: &App, threads: usize) {
    let (count, body) = (count(), "x".repeat(100));
    let next = AtomicUsize::new(0);
    let call = MessageCall {
        jids: &["user@example.com"],
        body: &body,
        from: None,
        type_: "chat",
        raw_xml: false,
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while next.fetch_add(1, Ordering::Relaxed) < count {
                    let sent = app.send_message_blocking(&call, 60 * S);
                    assert!(sent.is_ok_and(|sent| sent == [Status::NoError]));
                }
            });
        }
    });
}

/// Seconds of CPU, and of the clock until the server has read everything.
fn measure(app: App, run: Load<'_>) -> Any<(f64, f64)> {
    // The log has grown to its size and the threads are there.
    run(&app)?;
    while app.stats()?.outbox.is_some_and(|outbox| outbox.waiting > 0) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let (cpu_before, started) = (cpu(), Instant::now());
    run(&app)?;
    app.close_blocking(60 * S);
    Ok((cpu() - cpu_before, started.elapsed().as_secs_f64()))
}

fn main() -> Any<()> {
    if std::env::args().any(|argument| argument == "sink") {
        return sink();
    }
    let folder = std::env::temp_dir().join(format!("appxmpp-bench-outbox-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let server = Server::start()?;
    let loads: [(&str, Load<'_>); 6] = [
        ("1000 tasks, a recipient each", &|app| tasks(app, 1000, 1)),
        ("64 tasks, 100 recipients each", &|app| tasks(app, 64, 100)),
        ("16 tasks, 100 recipients each", &|app| tasks(app, 16, 100)),
        ("100 tasks, a recipient each", &|app| tasks(app, 100, 1)),
        ("a task, 100 recipients a call", &|app| tasks(app, 1, 100)),
        ("32 threads, a recipient each", &|app| {
            threads(app, 32);
            Ok(())
        }),
    ];
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let wanted = if wanted.starts_with('-') { String::new() } else { wanted };
    let only = std::env::var("ONLY").ok();
    let rounds = std::env::var("ROUNDS").ok().and_then(|it| it.parse().ok()).unwrap_or(3);
    println!(
        "{} messages: CPU and time without the outbox, with it, and how they compare",
        count()
    );
    for (name, load) in loads.into_iter().filter(|(name, _)| name.contains(&wanted)) {
        let mut best = [(f64::INFINITY, f64::INFINITY); 2];
        for turn in 0..rounds {
            let path = folder.join(format!("{}-{turn}.db", name.len()));
            for (durable, best) in [false, true].into_iter().zip(&mut best) {
                if only
                    .as_deref()
                    .is_some_and(|only| only != if durable { "with" } else { "without" })
                {
                    continue;
                }
                let store = durable.then_some(path.as_path());
                let (cpu, wall) = measure(server.app(store, durable)?, load)?;
                *best = (best.0.min(cpu), best.1.min(wall));
            }
        }
        let [without, with] = best;
        println!(
            "{name:<44} {:.2} s {:.2} s | {:.2} s {:.2} s | CPU x {:.2}, rate x {:.2}",
            without.0,
            without.1,
            with.0,
            with.1,
            with.0 / without.0,
            without.1 / with.1
        );
    }
    drop(server);
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}
