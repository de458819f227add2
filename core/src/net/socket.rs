//! Sockets that any thread may write to, and how they are made.

#[cfg(feature = "tls")]
use std::io::IoSlice;
use std::io::{self, Read};
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

    /// Whether [`Socket::try_write_held`] makes a difference.
    pub(crate) fn can_hold(&self) -> bool {
        cfg!(target_os = "linux") && matches!(self.kind, Kind::Tcp(_))
    }

    /// Writes what the kernel is to hold until more is written or [`Socket::push`] is called; a fifth
    /// of a second at most.
    pub(crate) fn try_write_held(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.kind {
            #[cfg(target_os = "linux")]
            Kind::Tcp(stream) => stream.try_io(Interest::WRITABLE, || {
                let flags = libc::MSG_MORE | libc::MSG_NOSIGNAL;
                SockRef::from(stream).send_with_flags(bytes, flags)
            }),
            _ => self.try_write(bytes),
        }
    }

    /// Sends what the kernel holds.
    pub(crate) fn push(&self) {
        if let Kind::Tcp(stream) = &self.kind
            && let Err(error) = stream.set_nodelay(true)
        {
            tracing::debug!(%error, "what the kernel holds will go by itself");
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn what_is_held_goes_when_it_is_pushed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let endpoint = Endpoint::Tcp { host: "127.0.0.1".into(), port };
        let socket = Socket::dial(&endpoint, Duration::from_secs(60)).await.unwrap();
        let peer = Socket::tcp(listener.accept().await.unwrap().0).unwrap();
        let mut held = 0;
        for _ in 0..10 {
            let mut buffer = [0; 8];
            socket.writable().await.unwrap();
            assert_eq!(socket.try_write_held(b"abc").unwrap(), 3);
            let early = peer.read_now(&mut buffer);
            held += usize::from(early.is_err());
            socket.push();
            if early.is_err() {
                peer.readable().await.unwrap();
                assert_eq!(peer.read_now(&mut buffer).unwrap(), 3);
            }
            assert_eq!(&buffer[..3], b"abc");
        }
        // The kernel lets it go by itself when we are suspended for a fifth of a second.
        assert!(held > 0, "nothing was held");
    }
}
