//! What sending and echoing cost this process, in CPU, against a server that does nothing
//! (`cargo bench -p appxmpp --bench connection`).
//!
//! The server is a child process that speaks just enough XEP-0114, so its CPU is not counted.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use appxmpp::net::{App, AppConfig, Backend, Connection, ConnectionConfig, Event, block_on};
use appxmpp::ns;
use appxmpp::service::{InboundServices, MessageCall, Status};
use appxmpp::stream::Batch;
use appxmpp::xml::Limits;

const S: Duration = Duration::from_secs(1);
const BODY: &str = "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789";
const WINDOW: usize = 256;

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    match args.next().as_deref() {
        Some("null-server") => null_server(args.next().as_deref() == Some("echo")),
        Some(only) => run(Some(only)),
        None => run(None),
    }
}

fn run(only: Option<&str>) {
    let benches: [(&str, fn()); 6] = [
        ("raw", raw),
        ("send", send),
        ("batch", batch),
        ("app-send", app_send),
        ("app-many", app_many),
        ("echo", echo),
    ];
    for (name, bench) in benches {
        if only.is_none_or(|only| name.contains(only)) {
            bench();
        }
    }
}

/// Prints CPU and wall time for each of `count` operations.
fn measure(name: &str, count: usize, work: impl FnOnce()) {
    let (cpu, wall) = (cpu_time(), Instant::now());
    work();
    let (cpu, wall) = (cpu_time() - cpu, wall.elapsed());
    let each = |time: Duration| time.as_secs_f64() * 1e6 / count as f64;
    println!(
        "{name:<44} {:>7.2} us CPU {:>8.2} us wall {:>9.0}/s",
        each(cpu),
        each(wall),
        count as f64 / wall.as_secs_f64()
    );
}

/// User and system time of this process, in ticks of 10 ms.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

fn message() -> String {
    format!(
        "<message from='bot@null.example' to='alice@example.net' type='chat' id='1'><body>{BODY}</body></message>"
    )
}

fn raw() {
    let server = Server::start("sink");
    let mut socket = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    socket.set_nodelay(true).unwrap();
    let xml = message();
    measure("one write(2) for each stanza", 300_000, || {
        for _ in 0..300_000 {
            socket.write_all(xml.as_bytes()).unwrap();
        }
    });
}

fn send() {
    let server = Server::start("sink");
    let connection = server.connect();
    let xml = message();
    measure("Connection::send_blocking", 300_000, || {
        for _ in 0..300_000 {
            connection.send_blocking(&xml, S).unwrap();
        }
    });
    let paced = Duration::from_micros(100);
    measure("Connection::send_blocking, one each 100 us", 30_000, || {
        for _ in 0..30_000 {
            connection.send_blocking(&xml, S).unwrap();
            std::thread::sleep(paced);
        }
    });
    measure("(sleeping alone)", 30_000, || {
        for _ in 0..30_000 {
            std::thread::sleep(paced);
        }
    });
}

fn batch() {
    let server = Server::start("sink");
    let connection = server.connect();
    let mut batch = Batch::new();
    for _ in 0..1000 {
        batch.push(message().as_bytes(), ns::COMPONENT, &Limits::default()).unwrap();
    }
    measure("Connection::send_many, each of 1000", 3_000_000, || {
        for _ in 0..3000 {
            assert_eq!(connection.send_many_blocking(batch.clone(), 10 * S).written, 1000);
        }
    });
}

fn app_send() {
    let server = Server::start("sink");
    let app = server.app();
    let call = MessageCall {
        jids: &["alice@example.net"],
        body: BODY,
        from: None,
        type_: "chat",
        raw_xml: false,
    };
    measure("App::send_message_blocking", 300_000, || {
        for _ in 0..300_000 {
            let statuses = app.send_message_blocking(&call, S).unwrap();
            assert_eq!(statuses, [Status::NoError]);
        }
    });
}

fn app_many() {
    let server = Server::start("sink");
    let app = server.app();
    let jids: Vec<_> = (0..1000).map(|n| format!("user{n}@example.net")).collect();
    let jids: Vec<_> = jids.iter().map(String::as_str).collect();
    let call = MessageCall { jids: &jids, body: BODY, from: None, type_: "chat", raw_xml: false };
    measure("App::send_message_blocking, each of 1000", 2_000_000, || {
        for _ in 0..2000 {
            let statuses = app.send_message_blocking(&call, 10 * S).unwrap();
            assert!(statuses.iter().all(|status| *status == Status::NoError));
        }
    });
}

fn echo() {
    let server = Server::start("echo");
    let connection = server.connect();
    let count = 1_000_000;
    measure("component echo, 256 outstanding", count, || {
        let mut left = count;
        block_on(
            async {
                while left > 0 {
                    let mut batch = Batch::new();
                    for event in connection.next_events(WINDOW).await.unwrap() {
                        let Event::Stanza(stanza) = event else { continue };
                        let reply = reply(&stanza);
                        batch.push(reply.as_bytes(), ns::COMPONENT, &Limits::default()).unwrap();
                        left = left.saturating_sub(1);
                    }
                    assert!(connection.send_many(batch).await.error.is_none());
                }
            },
            None,
        );
    });
}

fn reply(stanza: &appxmpp::stanza::Stanza) -> String {
    appxmpp::stanza::StanzaBuilder::message()
        .from(stanza.to().unwrap().as_str())
        .to(stanza.from().unwrap().as_str())
        .type_("chat")
        .id(stanza.id().unwrap())
        .body(&stanza.body().unwrap())
        .finish()
}

struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(mode: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["null-server", mode])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, port: line.trim().parse().unwrap() }
    }

    fn backend(&self) -> Backend {
        let text = format!("component://null.example:secret@127.0.0.1:{}", self.port);
        Backend::parse(&text).unwrap()
    }

    fn connect(&self) -> Connection {
        let config = ConnectionConfig::for_backend(&self.backend(), None).unwrap();
        let connection = Connection::open(config).unwrap();
        assert!(connection.wait_ready(10 * S).unwrap());
        connection
    }

    fn app(&self) -> App {
        let config =
            AppConfig::for_backend(&self.backend(), None, None, InboundServices::ALL).unwrap();
        let app = App::open(config).unwrap();
        assert!(app.wait_ready(10 * S).unwrap());
        app
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn null_server(echo: bool) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    let (mut socket, _) = listener.accept().unwrap();
    socket.set_nodelay(true).unwrap();
    let mut buffer = vec![0; 256 * 1024];
    if !echo {
        // The raw writer sends no header; nothing is answered then.
        let first = socket.read(&mut buffer).unwrap();
        if buffer[..first].starts_with(b"<?xml") {
            log_in(&mut socket, &mut buffer);
        }
        while socket.read(&mut buffer).unwrap_or(0) > 0 {}
        return;
    }
    let _ = socket.read(&mut buffer).unwrap();
    log_in(&mut socket, &mut buffer);
    let stanza = format!(
        "<message from='alice@example.net/home' to='bot@null.example' type='chat' id='1'><body>{BODY}</body></message>"
    );
    socket.write_all(stanza.repeat(WINDOW).as_bytes()).unwrap();
    let mut half = Vec::new();
    loop {
        let count = socket.read(&mut buffer).unwrap_or(0);
        if count == 0 {
            return;
        }
        half.extend_from_slice(&buffer[..count]);
        let replies = memchr::memmem::find_iter(&half, b"</message>").count();
        let end = memchr::memmem::rfind(&half, b"</message>").map_or(0, |at| at + 10);
        half.drain(..end);
        if socket.write_all(stanza.repeat(replies).as_bytes()).is_err() {
            return;
        }
    }
}

fn log_in(socket: &mut TcpStream, buffer: &mut [u8]) {
    socket
        .write_all(b"<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' from='null.example' id='1'>")
        .unwrap();
    let _ = socket.read(buffer).unwrap();
    socket.write_all(b"<handshake/>").unwrap();
}
