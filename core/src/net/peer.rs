//! A server for tests: the accept side of the stream on a real loopback socket.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::backend::Endpoint;
use super::config::ConnectionConfig;
use crate::auth::Secret;
use crate::stanza::Stanza;
use crate::stream::{AcceptConfig, AcceptEvent, AcceptStream, Closed, StreamError};
use crate::xml::Limits;

pub(crate) const DOMAIN: &str = "bot.example";

pub(crate) struct Server {
    listener: TcpListener,
    pub(crate) port: u16,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_on(0).await
    }

    pub(crate) async fn start_on(port: u16) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(([127, 0, 0, 1], port).into()).unwrap();
        let listener = socket.listen(16).unwrap();
        let port = listener.local_addr().unwrap().port();
        Self { listener, port }
    }

    pub(crate) fn config(&self) -> ConnectionConfig {
        let endpoint = Endpoint::Tcp { host: "127.0.0.1".into(), port: self.port };
        ConnectionConfig::new(DOMAIN, Secret::new("test"), endpoint).unwrap()
    }

    /// The next connection, before anything is read.
    pub(crate) async fn accept(&self) -> Peer {
        self.accept_with("test").await
    }

    pub(crate) async fn accept_with(&self, secret: &str) -> Peer {
        let (socket, _) = self.listener.accept().await.unwrap();
        let config = AcceptConfig {
            id: "id".into(),
            components: vec![(DOMAIN.into(), Secret::new(secret))],
            limits: Limits::default(),
            login_timeout: Duration::from_secs(15),
        };
        Peer { socket, stream: AcceptStream::new(config, Duration::ZERO) }
    }

    /// The next connection, logged in.
    pub(crate) async fn accept_ready(&self) -> Peer {
        let mut peer = self.accept().await;
        match peer.next().await {
            AcceptEvent::Authenticated(domain) => assert_eq!(domain, DOMAIN),
            other => panic!("{other:?}"),
        }
        peer.stream.accept();
        peer.flush().await;
        peer
    }
}

pub(crate) struct Peer {
    pub(crate) socket: TcpStream,
    pub(crate) stream: AcceptStream,
}

impl Peer {
    pub(crate) async fn next(&mut self) -> AcceptEvent {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let event = self.stream.poll_event();
            self.flush().await;
            if let Some(event) = event {
                return event;
            }
            let count = self.socket.read(&mut buffer).await.unwrap_or(0);
            self.stream.handle_input(Duration::ZERO, &buffer[..count]);
        }
    }

    pub(crate) async fn stanza(&mut self) -> Stanza {
        match self.next().await {
            AcceptEvent::Stanza(stanza) => stanza,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn closed(&mut self) -> Closed {
        match self.next().await {
            AcceptEvent::Closed(closed) => closed,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn send(&mut self, xml: &str) {
        self.stream.send(xml.as_bytes()).unwrap();
        self.flush().await;
    }

    /// Writes `xml` whatever the state of the stream.
    pub(crate) async fn write(&mut self, xml: &str) {
        self.socket.write_all(xml.as_bytes()).await.unwrap();
    }

    pub(crate) async fn refuse(&mut self, condition: &'static str) {
        self.stream.close(Duration::ZERO, Some(StreamError::new(condition)));
        self.flush().await;
    }

    pub(crate) async fn flush(&mut self) {
        let mut out = Vec::new();
        if self.stream.poll_transmit(&mut out) {
            let _ = self.socket.write_all(&out).await;
        }
    }
}
