//! The development server's sockets.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::{DevEvent, Inner};
use crate::net::stats::random;
use crate::stream::{AcceptConfig, AcceptEvent, AcceptStream, StreamError};
use crate::xml::Limits;

const LOGIN_TIMEOUT: Duration = Duration::from_secs(15);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
const READ_BYTES: usize = 16 * 1024;

/// Accepts components until the server stops.
pub(super) async fn serve(inner: Arc<Inner>, listener: TcpListener) {
    let mut stop = inner.stop.subscribe();
    let mut sessions = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((socket, _)) => {
                sessions.spawn(session(Arc::clone(&inner), socket));
            }
            // Out of descriptors, perhaps: others may become free.
            Err(error) => {
                tracing::warn!(%error, "the development server cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        while sessions.try_join_next().is_some() {}
    }
    drop(listener);
    while sessions.join_next().await.is_some() {}
    inner.events.end();
}

async fn session(inner: Arc<Inner>, socket: TcpStream) {
    let _ = socket.set_nodelay(true);
    let config = AcceptConfig {
        id: format!("{:x}{:x}", random(), random()),
        components: vec![(inner.config.domain.clone(), inner.config.secret.clone())],
        limits: Limits::default(),
        login_timeout: LOGIN_TIMEOUT,
    };
    let origin = Instant::now();
    let stream = AcceptStream::new(config, Duration::ZERO);
    let mut session = Session { inner, socket, stream, origin, ours: false };
    if let Err(error) = session.run().await {
        tracing::debug!(%error, "the component's connection broke");
    }
    session.leave();
}

struct Session {
    inner: Arc<Inner>,
    socket: TcpStream,
    stream: AcceptStream,
    origin: Instant,
    /// This session is the component's one.
    ours: bool,
}

impl Session {
    async fn run(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; READ_BYTES];
        let mut stop = self.inner.stop.subscribe();
        let mut stopping = false;
        while self.handle_events() {
            self.send();
            let mut out = Vec::new();
            if self.stream.poll_transmit(&mut out) {
                self.socket.write_all(&out).await?;
            }
            let room = self.inner.events.room() > 0;
            let due = self.stream.poll_timeout().map(|due| self.origin + due);
            tokio::select! {
                count = self.socket.read(&mut buffer), if room => {
                    let count = count?;
                    self.stream.handle_input(self.origin.elapsed(), &buffer[..count]);
                }
                () = sleep(due) => self.stream.handle_timeout(self.origin.elapsed()),
                () = self.inner.wake.notified(), if self.ours => {}
                _ = stop.wait_for(|stop| *stop), if !stopping => {
                    stopping = true;
                    let deadline = self.origin.elapsed() + CLOSE_TIMEOUT;
                    self.stream.close(deadline, Some(StreamError::new("system-shutdown")));
                }
            }
        }
        let mut out = Vec::new();
        if self.stream.poll_transmit(&mut out) {
            self.socket.write_all(&out).await?;
        }
        self.socket.shutdown().await
    }

    /// Says whether the session goes on.
    fn handle_events(&mut self) -> bool {
        let mut seen = Vec::new();
        let mut goes_on = true;
        while let Some(event) = self.stream.poll_event() {
            match event {
                AcceptEvent::Authenticated(_) => self.enter(&mut seen),
                AcceptEvent::Stanza(stanza) => {
                    let mut state = self.inner.state();
                    let routed = state.world.route(&stanza);
                    state.out.extend(routed.back);
                    seen.extend(routed.user.map(|user| DevEvent::Stanza { user, stanza }));
                }
                AcceptEvent::Skipped(error) => {
                    tracing::warn!(%error, "the component sent something unacceptable");
                }
                AcceptEvent::Closed(reason) => {
                    tracing::debug!(%reason, "the component's stream ended");
                    goes_on = false;
                }
            }
        }
        self.inner.events.push_all(&mut seen);
        goes_on
    }

    /// One component at a time, as Prosody has it: the second is refused.
    fn enter(&mut self, seen: &mut Vec<DevEvent>) {
        let mut state = self.inner.state();
        if state.connected {
            let deadline = self.origin.elapsed() + CLOSE_TIMEOUT;
            let error = StreamError::new("conflict").with_text("Component already connected");
            self.stream.close(deadline, Some(error));
            return;
        }
        state.connected = true;
        state.out.clear();
        self.ours = true;
        self.stream.accept();
        seen.push(DevEvent::Connected);
    }

    fn send(&mut self) {
        if !self.ours {
            return;
        }
        for stanza in self.inner.state().out.drain(..) {
            // A stream that is closing takes nothing more.
            let _ = self.stream.send(stanza.as_bytes());
        }
    }

    fn leave(&mut self) {
        if self.ours {
            self.inner.state().connected = false;
            self.inner.events.push_all(&mut vec![DevEvent::Disconnected]);
        }
    }
}

async fn sleep(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}
