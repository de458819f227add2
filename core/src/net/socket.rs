//! Sockets that any thread may write to, and how they are made.

use std::io::{self, Read};
#[cfg(feature = "tls")]
use std::io::IoSlice;
use std::os::fd::AsRawFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::backend::Endpoint;
use super::runtime::Listed;

/// The operating system probes a silent TCP connection after this long, in case nobody else does.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);

/// A connected socket.
pub(crate) struct Socket {
    kind: Kind,
    _listed: Listed,
}

enum Kind {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Connects to `endpoint` within `limit`.
    pub(crate) async fn dial(endpoint: &Endpoint, limit: Duration) -> io::Result<Self> {
        let connect = async {
            match endpoint {
                Endpoint::Tcp { host, port } => {
                    TcpStream::connect((host.as_str(), *port)).await.and_then(Self::tcp)
                }
                Endpoint::Unix(path) => Ok(Self::unix(UnixStream::connect(path).await?)),
            }
        };
        timeout(limit, connect).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    pub(crate) fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(TCP_KEEPALIVE))?;
        let _listed = Listed::new(stream.as_raw_fd());
        Ok(Self { kind: Kind::Tcp(stream), _listed })
    }

    pub(crate) fn unix(stream: UnixStream) -> Self {
        let _listed = Listed::new(stream.as_raw_fd());
        Self { kind: Kind::Unix(stream), _listed }
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        match &self.kind {
            Kind::Tcp(stream) => stream.readable().await,
            Kind::Unix(stream) => stream.readable().await,
        }
    }

    pub(crate) async fn writable(&self) -> io::Result<()> {
        match &self.kind {
            Kind::Tcp(stream) => stream.writable().await,
            Kind::Unix(stream) => stream.writable().await,
        }
    }

    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len();
        let mut emptied = None;
        let mut read = |count: io::Result<usize>| match count? {
            count if count == 0 || count == room => Ok(count),
            // There is room left, so the socket is empty: it is not read again, only to learn that,
            // before the kernel says that there is more.
            count => {
                emptied = Some(count);
                Err(io::ErrorKind::WouldBlock.into())
            }
        };
        let result = match &self.kind {
            Kind::Tcp(stream) => {
                stream.try_io(Interest::READABLE, || read(stream.try_read(buffer)))
            }
            Kind::Unix(stream) => {
                stream.try_io(Interest::READABLE, || read(stream.try_read(buffer)))
            }
        };
        emptied.map_or(result, Ok)
    }

    /// Reads what is there, whatever the runtime knows of it.
    pub(crate) fn read_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.kind {
            Kind::Tcp(stream) => (&*SockRef::from(stream)).read(buffer),
            Kind::Unix(stream) => (&*SockRef::from(stream)).read(buffer),
        }
    }

    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.kind {
            Kind::Tcp(stream) => stream.try_write(bytes),
            Kind::Unix(stream) => stream.try_write(bytes),
        }
    }

    #[cfg(feature = "tls")]
    pub(crate) fn try_write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match &self.kind {
            Kind::Tcp(stream) => stream.try_write_vectored(pieces),
            Kind::Unix(stream) => stream.try_write_vectored(pieces),
        }
    }

    /// Whether the other end is on this machine, as far as the socket knows.
    #[cfg(feature = "client")]
    pub(crate) fn is_local(&self) -> bool {
        match &self.kind {
            Kind::Tcp(stream) => stream.peer_addr().is_ok_and(|peer| peer.ip().is_loopback()),
            Kind::Unix(_) => true,
        }
    }
}
