//! Bytes that wait to be written to one socket, and who waits for that.

use std::collections::VecDeque;
use std::io;
use std::task::Waker;

use super::config::Bounds;
use super::inbound::register;
use super::socket::Socket;
use super::tls::Session;

/// What is kept of the write buffer's memory while it is empty.
const KEPT_BYTES: usize = 256 * 1024;

/// The write side of one link.
pub(super) struct Outbound {
    bounds: Bounds,
    buffer: Vec<u8>,
    head: usize,
    /// How many bytes from the head on are encrypted, but not all written.
    encrypted: usize,
    written: u64,
    /// End position and number of the stanzas that are not yet written as a whole.
    queued: VecDeque<(u64, usize)>,
    stanzas: usize,
    writers: Vec<(u64, Waker)>,
    room: Vec<Waker>,
}

impl Outbound {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            buffer: Vec::new(),
            head: 0,
            encrypted: 0,
            written: 0,
            queued: VecDeque::new(),
            stanzas: 0,
            writers: Vec::new(),
            room: Vec::new(),
        }
    }

    /// Whether `bytes` more may be queued. An empty queue takes anything, so that no call is too
    /// big for ever.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.is_empty()
            || (self.stanzas < self.bounds.stanzas && self.waiting() + bytes <= self.bounds.bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting() == 0
    }

    /// How many bytes wait.
    pub(super) fn waiting(&self) -> usize {
        self.buffer.len() - self.head
    }

    /// How many stanzas wait.
    pub(super) fn stanzas(&self) -> usize {
        self.stanzas
    }

    /// How many bytes the socket has taken.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Where bytes are added at the end.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        if self.is_empty() {
            self.buffer.clear();
            self.head = 0;
        } else if self.head > self.buffer.len() / 2 {
            self.buffer.drain(..self.head);
            self.head = 0;
        }
        &mut self.buffer
    }

    /// The position after the last byte that was added.
    pub(super) fn end(&self) -> u64 {
        self.written + self.waiting() as u64
    }

    /// Counts `stanzas` that end where the buffer now ends.
    pub(super) fn count(&mut self, stanzas: usize) {
        self.stanzas += stanzas;
        self.queued.push_back((self.end(), stanzas));
    }

    /// Writes, through `tls` if there is one, until all is written or the socket takes no more.
    pub(super) fn flush(&mut self, socket: &Socket, tls: Option<&mut Session>) -> io::Result<()> {
        let written = match tls {
            None => self.write(|bytes| socket.try_write(bytes)),
            Some(session) => self.write_encrypted(socket, session),
        };
        match written {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => self.settle(),
        }
        Ok(())
    }

    /// Writes as [`Outbound::flush`] does, unencrypted, what the kernel is to hold for more.
    pub(super) fn flush_held(&mut self, socket: &Socket) -> io::Result<()> {
        match self.write(|bytes| socket.try_write_held(bytes)) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => self.settle(),
        }
        Ok(())
    }

    fn write(&mut self, mut write: impl FnMut(&[u8]) -> io::Result<usize>) -> io::Result<()> {
        while !self.is_empty() {
            match write(&self.buffer[self.head..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.advance(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Bytes count as written when all that they were encrypted into is.
    fn write_encrypted(&mut self, socket: &Socket, session: &mut Session) -> io::Result<()> {
        loop {
            session.flush(socket)?;
            let written = std::mem::take(&mut self.encrypted);
            self.advance(written);
            if self.is_empty() || session.is_handshaking() {
                return Ok(());
            }
            self.encrypted = session.encrypt(&self.buffer[self.head..])?;
            if self.encrypted == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
    }

    fn advance(&mut self, count: usize) {
        self.head += count;
        self.written += count as u64;
    }

    /// Wakes `waker` when everything up to `end` is written.
    pub(super) fn wake_when_written(&mut self, end: u64, waker: &Waker) {
        let known = |(at, known): &&mut (u64, Waker)| *at == end && known.will_wake(waker);
        if self.writers.iter_mut().find(known).is_none() {
            self.writers.push((end, waker.clone()));
        }
    }

    /// Wakes `waker` when there is room again.
    pub(super) fn wake_when_room(&mut self, waker: &Waker) {
        register(&mut self.room, waker);
    }

    /// Wakes whoever waits for room.
    pub(super) fn wake_room(&mut self) {
        self.room.drain(..).for_each(Waker::wake);
    }

    /// Wakes everybody: the link is gone.
    pub(super) fn wake_all(&mut self) {
        self.writers.drain(..).for_each(|(_, waker)| waker.wake());
        self.room.drain(..).for_each(Waker::wake);
    }

    fn settle(&mut self) {
        while let Some((end, stanzas)) = self.queued.front()
            && *end <= self.written
        {
            self.stanzas -= stanzas;
            self.queued.pop_front();
        }
        let written = self.written;
        self.writers.extract_if(.., |(end, _)| *end <= written).for_each(|(_, waker)| waker.wake());
        if self.has_room(0) {
            self.room.drain(..).for_each(Waker::wake);
        }
        if self.is_empty() && self.buffer.capacity() > KEPT_BYTES {
            self.buffer = Vec::new();
            self.head = 0;
        }
    }
}
