//! An HTTP/1.1 server that a hostile client can neither fill nor hang.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use appxmpp::{Error, ErrorKind, Result};
use hyper::server::conn::http1;
use hyper_util::rt::TokioTimer;
use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio::sync::{Semaphore, watch};

use crate::config::{Http, Listen};
use crate::guest::{Guest, House, Serve};
use crate::metrics::Metrics;

/// How many header lines a request may have.
const MAX_HEADERS: usize = 100;
/// How many connections may wait to be accepted, as far as the system lets them: who comes when there
/// is no room tries again a second later.
const BACKLOG: u32 = 16_384;
/// How long to wait when the system has no more descriptors.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// A socket that listens.
pub struct Server(Socket);

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, std::path::PathBuf),
}

impl Server {
    /// Listens.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the address is in use or not this machine's.
    pub async fn bind(listen: &Listen) -> Result<Self> {
        let failed = |place: String, error: std::io::Error| {
            Error::new(ErrorKind::Config, format!("cannot listen on {place}: {error}"))
        };
        match listen {
            Listen::Tcp(address) => listen_on(*address)
                .map(|listener| Self(Socket::Tcp(listener)))
                .map_err(|error| failed(address.to_string(), error)),
            Listen::Unix(path) => {
                remove_stale(path);
                UnixListener::bind(path)
                    .map(|listener| Self(Socket::Unix(listener, path.clone())))
                    .map_err(|error| failed(path.display().to_string(), error))
            }
        }
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        match &self.0 {
            Socket::Tcp(listener) => {
                listener.local_addr().map(|address| address.to_string()).unwrap_or_default()
            }
            Socket::Unix(_, path) => format!("unix:{}", path.display()),
        }
    }

    /// Serves until `closing` turns true; returns when the last connection has ended.
    pub async fn serve<S: Serve>(
        self,
        service: S,
        http: Http,
        metrics: Arc<Metrics>,
        mut closing: watch::Receiver<bool>,
    ) {
        let house = Arc::new(House {
            builder: builder(&http),
            patience: http.header_timeout,
            service,
            metrics,
            write_timeout: http.write_timeout,
        });
        let most = http.max_connections.min(Semaphore::MAX_PERMITS);
        let places = Arc::new(Semaphore::new(most));
        let stop = closing.clone();
        loop {
            let place = tokio::select! {
                place = Arc::clone(&places).acquire_owned() => place,
                () = turned(&mut closing) => break,
            };
            let Ok(place) = place else { break };
            let guest = Guest { house: Arc::clone(&house), stop: stop.clone(), place };
            tokio::select! {
                accepted = self.0.accept(guest) => if accepted.is_err() {
                    tokio::time::sleep(EXHAUSTED).await;
                },
                () = turned(&mut closing) => break,
            }
        }
        if let Socket::Unix(_, path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
        drop(self.0);
        // Every place is free again when the last connection has ended.
        let all = u32::try_from(most).unwrap_or(u32::MAX);
        let _ = places.acquire_many(all).await;
    }
}

impl Socket {
    async fn accept<S: Serve>(&self, guest: Guest<S>) -> std::io::Result<()> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await.inspect_err(log)?;
                let _ = stream.set_nodelay(true);
                tokio::spawn(guest.serve(stream));
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await.inspect_err(log)?;
                tokio::spawn(guest.serve(stream));
            }
        }
        Ok(())
    }
}

fn listen_on(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn log(error: &std::io::Error) {
    tracing::warn!("cannot accept an HTTP connection: {error}");
}

fn builder(http: &Http) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(http.header_timeout)
        .max_buf_size(http.max_header_bytes)
        .max_headers(MAX_HEADERS)
        // One write for head and body; most answers have none.
        .writev(false);
    builder
}

/// Waits until the value is true, or can never be.
pub(crate) async fn turned(value: &mut watch::Receiver<bool>) {
    let _ = value.wait_for(|value| *value).await;
}

/// Removes a socket that nobody listens on any more.
fn remove_stale(path: &Path) {
    use std::os::unix::fs::FileTypeExt as _;
    let is_socket = path.symlink_metadata().is_ok_and(|meta| meta.file_type().is_socket());
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err() {
        let _ = std::fs::remove_file(path);
    }
}
