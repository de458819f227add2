//! A file beside the database where messages wait that the server will have read in a moment.
//!
//! A message is in the outbox for as long as one answer of the server takes. Through SQLite it would
//! be written four times for that (write-ahead log and file, once to put it and once to remove it);
//! here it is written once, and the place is used again when it is done. What waits for longer is
//! moved to the database, so this file stays small; and so is everything when the store is closed.
//!
//! The file is a header page and records. Each group of calls is one record of whole pages, flushed
//! alone, so no flushed page is written again while it counts. It goes to the first place that is
//! free, whatever was there: the records' numbers say in which order they were written, and the last
//! one says which messages are done. Nothing is ever removed.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};

use crate::store::{OutboxRow, QueueName};

const PAGE: usize = 4096;
/// How large the file gets, its header included.
const PAGES: usize = 8192;
const MAGIC: [u8; 8] = *b"axmplog1";
/// Mark, number, length and checksum.
const HEADER: usize = 8 + 8 + 4 + 4;

/// What a log held when it was opened, or holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    /// Rows in the order of their numbers; some may be done.
    pub(super) rows: Vec<(QueueName, OutboxRow)>,
    /// Up to which number each queue is done.
    pub(super) done: BTreeMap<QueueName, u64>,
    /// Records that could not be read.
    pub(super) damaged: usize,
}

/// A record whose rows are not all done.
#[derive(Debug)]
struct Live {
    page: usize,
    pages: usize,
    /// The last number of each queue.
    last: Vec<(QueueName, u64)>,
}

/// The log of a store. One process has it at a time.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
    /// Marks this opening's records. Nobody who writes a message can guess it, so no message can
    /// look like a record.
    mark: u64,
    number: u64,
    /// In the order in which they were written.
    live: VecDeque<Live>,
    /// Their pages: where each begins and how many they are.
    used: BTreeMap<usize, usize>,
    done: BTreeMap<QueueName, u64>,
    buffer: Vec<u8>,
}

impl Log {
    /// Where the log of the store in `path` is.
    pub(super) fn path_of(path: &Path) -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        name.push("-outbox");
        name.into()
    }

    /// Opens the log in `path`, and hands over what an earlier process left in it; `None` if another
    /// process has it. The contents stay in the file until [`Log::restart`].
    pub(super) fn open(path: PathBuf) -> io::Result<Option<(Self, Contents)>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let contents = read(&mut file)?;
        let log = Self {
            path,
            file,
            mark: 0,
            number: 0,
            live: VecDeque::new(),
            used: BTreeMap::new(),
            done: BTreeMap::new(),
            buffer: Vec::new(),
        };
        Ok(Some((log, contents)))
    }

    /// Begins anew: what was in the file counts no more.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        let is_new = self.mark == 0;
        self.mark = RandomState::new().hash_one(std::process::id());
        self.live.clear();
        self.used.clear();
        let mut header = Vec::with_capacity(PAGE);
        header.put_slice(&MAGIC);
        header.put_u64_le(self.mark);
        header.put_u32_le(crc32fast::hash(&header));
        header.resize(PAGE, 0);
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&header)?;
        self.file.sync_all()?;
        // The file's name must survive as well as what is in it.
        #[cfg(unix)]
        if let Some(folder) = self.path.parent().filter(|_| is_new) {
            let here = folder.as_os_str().is_empty();
            File::open(if here { Path::new(".") } else { folder })?.sync_all()?;
        }
        Ok(())
    }

    /// Writes rows as one record, on disk when this returns; `false` if there is no room for them.
    /// After a fault nothing has changed: the next record takes the same place.
    pub(super) fn put(&mut self, rows: &[(&QueueName, &OutboxRow)]) -> io::Result<bool> {
        let Some((page, pages)) = self.encode(rows) else { return Ok(false) };
        self.write(page)?;
        self.file.sync_data()?;
        let mut last: Vec<(QueueName, u64)> = Vec::new();
        for (queue, row) in rows {
            match last.iter_mut().find(|(known, _)| known == *queue) {
                Some((_, last)) => *last = row.last().max(*last),
                None => last.push(((*queue).clone(), row.last())),
            }
        }
        self.keep(Live { page, pages, last });
        Ok(true)
    }

    /// Every row of a queue up to this number is done. The file learns of it with the next record.
    pub(super) fn set_done(&mut self, queue: &QueueName, up_to: u64) {
        let done = self.done.entry(queue.clone()).or_default();
        *done = up_to.max(*done);
        let is_done =
            |live: &Live| live.last.iter().all(|(queue, last)| self.done.get(queue) >= Some(last));
        while self.live.front().is_some_and(is_done) {
            if let Some(gone) = self.live.pop_front() {
                self.used.remove(&gone.page);
            }
        }
    }

    fn keep(&mut self, record: Live) {
        self.used.insert(record.page, record.pages);
        self.live.push_back(record);
    }

    /// Has the file say what is done, without waiting for the disk. A fault costs a repetition after
    /// a crash, and nothing else.
    pub(super) fn note_done(&mut self) -> io::Result<()> {
        let Some((page, pages)) = self.encode(&[]) else { return Ok(()) };
        self.write(page)?;
        self.keep(Live { page, pages, last: Vec::new() });
        Ok(())
    }

    /// Whether every row is done.
    pub(super) fn is_empty(&self) -> bool {
        self.live.iter().all(|live| live.last.is_empty())
    }

    /// What is in the file now.
    pub(super) fn contents(&mut self) -> io::Result<Contents> {
        let mut contents = read(&mut self.file)?;
        contents.done.clone_from(&self.done);
        Ok(contents)
    }

    /// Empties the file, whose contents are elsewhere now.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.live.clear();
        self.used.clear();
        self.file.set_len(0)
    }

    /// What is in the log of another process, as far as it can be read while that one writes.
    pub(super) fn peek(path: &Path) -> io::Result<Contents> {
        match File::open(path) {
            Ok(mut file) => read(&mut file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Contents::default()),
            Err(error) => Err(error),
        }
    }

    /// Makes a record, and finds a place for it.
    fn encode(&mut self, rows: &[(&QueueName, &OutboxRow)]) -> Option<(usize, usize)> {
        let buffer = &mut self.buffer;
        buffer.clear();
        buffer.resize(HEADER, 0);
        put_len(buffer, self.done.len());
        for (queue, up_to) in &self.done {
            put_bytes(buffer, queue.as_bytes());
            buffer.put_u64_le(*up_to);
        }
        put_len(buffer, rows.len());
        for (queue, row) in rows {
            put_bytes(buffer, queue.as_bytes());
            buffer.put_u64_le(row.first);
            buffer.put_u64_le(u64::try_from(row.expires.as_millis()).unwrap_or(u64::MAX));
            put_len(buffer, row.heads.len());
            row.heads.iter().for_each(|head| put_len(buffer, head.len()));
            row.heads.iter().for_each(|head| buffer.put_slice(head));
            put_bytes(buffer, &row.tail);
            if buffer.len() > PAGE * PAGES {
                return None;
            }
        }
        let pages = buffer.len().div_ceil(PAGE);
        let place = self.place(pages)?;
        self.number += 1;
        let length = u32::try_from(self.buffer.len() - HEADER).ok()?;
        let mut head = Vec::with_capacity(HEADER);
        head.put_u64_le(self.mark);
        head.put_u64_le(self.number);
        head.put_u32_le(length);
        let sum = checksum(&head, &self.buffer[HEADER..]);
        head.put_u32_le(sum);
        self.buffer[..HEADER].copy_from_slice(&head);
        self.buffer.resize(pages * PAGE, 0);
        Some((place, pages))
    }

    /// The first of so many free pages in a row. A record that is overwritten loses its first page
    /// first: before a free place is the header or a record that counts.
    fn place(&self, pages: usize) -> Option<usize> {
        let mut free = 1;
        for (&page, &used) in &self.used {
            if free + pages <= page {
                return Some(free);
            }
            free = page + used;
        }
        (free + pages <= PAGES).then_some(free)
    }

    fn write(&mut self, page: usize) -> io::Result<()> {
        self.file.seek(SeekFrom::Start((page * PAGE) as u64))?;
        self.file.write_all(&self.buffer)
    }
}

fn checksum(head: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(body);
    hasher.finalize()
}

fn put_len(buffer: &mut Vec<u8>, length: usize) {
    // A call has at most 1 MiB, a domain at most 1023 bytes.
    buffer.put_u32_le(u32::try_from(length).unwrap_or(u32::MAX));
}

fn put_bytes(buffer: &mut Vec<u8>, bytes: &[u8]) {
    put_len(buffer, bytes.len());
    buffer.put_slice(bytes);
}

/// Every record of the file's last opening, wherever it is.
fn read(file: &mut File) -> io::Result<Contents> {
    let mut contents = Contents::default();
    let mut all = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut all)?;
    let Some(mark) = mark_of(&all) else { return Ok(contents) };
    let all = Bytes::from(all);
    let (mut found, mut broken) = (BTreeMap::new(), Vec::new());
    for page in 1..all.len() / PAGE {
        match record(&all, page, mark) {
            Found::Record(number, body) => {
                found.insert(number, body);
            }
            Found::Broken(number) => broken.push(number),
            Found::Nothing => {}
        }
    }
    // The last one was being written when the process ended: nobody was told that it is kept.
    let newest = found.last_key_value().map_or(0, |(number, _)| *number);
    contents.damaged = broken.into_iter().filter(|number| *number < newest).count();
    let mut rows = BTreeMap::new();
    for body in found.into_values() {
        let read = parse(body, |queue, row: OutboxRow| {
            rows.insert((queue, row.first), row);
        });
        match read {
            // The later record knows better.
            Some(done) => contents.done = done,
            None => contents.damaged += 1,
        }
    }
    contents.rows = rows.into_iter().map(|((queue, _), row)| (queue, row)).collect();
    Ok(contents)
}

fn mark_of(file: &[u8]) -> Option<u64> {
    let (header, mut sum) = file.get(..20)?.split_at(16);
    let known = header.starts_with(&MAGIC) && sum.get_u32_le() == crc32fast::hash(header);
    known.then(|| (&header[8..]).get_u64_le())
}

enum Found {
    Nothing,
    Broken(u64),
    Record(u64, Bytes),
}

fn record(file: &Bytes, page: usize, mark: u64) -> Found {
    let start = page * PAGE;
    let Some(head) = file.get(start..start + HEADER) else { return Found::Nothing };
    let (known, mut rest) = head.split_at(HEADER - 4);
    let mut fields = known;
    if fields.get_u64_le() != mark {
        return Found::Nothing;
    }
    let (number, length) = (fields.get_u64_le(), fields.get_u32_le() as usize);
    let body = start + HEADER..(start + HEADER).saturating_add(length);
    match file.get(body.clone()) {
        Some(bytes) if checksum(known, bytes) == rest.get_u32_le() => {
            Found::Record(number, file.slice(body))
        }
        _ => Found::Broken(number),
    }
}

/// Hands over the rows of a record; returns what it says is done, or nothing if it makes no sense.
fn parse(
    mut body: Bytes,
    mut each: impl FnMut(QueueName, OutboxRow),
) -> Option<BTreeMap<QueueName, u64>> {
    let body = &mut body;
    let mut done = BTreeMap::new();
    for _ in 0..body.try_get_u32_le().ok()? {
        let queue = name(body)?;
        done.insert(queue, body.try_get_u64_le().ok()?);
    }
    for _ in 0..body.try_get_u32_le().ok()? {
        let queue = name(body)?;
        let first = body.try_get_u64_le().ok()?;
        let expires = Duration::from_millis(body.try_get_u64_le().ok()?);
        let count = body.try_get_u32_le().ok()? as usize;
        if body.len() / 4 < count {
            return None;
        }
        let lengths: Vec<_> = (0..count).map(|_| body.get_u32_le() as usize).collect();
        let heads = lengths.into_iter().map(|length| take(body, length)).collect::<Option<_>>()?;
        let tail = bytes(body)?;
        each(queue, OutboxRow { first, expires, heads, tail });
    }
    Some(done)
}

fn take(body: &mut Bytes, length: usize) -> Option<Bytes> {
    (length <= body.len()).then(|| body.split_to(length))
}

fn bytes(body: &mut Bytes) -> Option<Bytes> {
    let length = body.try_get_u32_le().ok()? as usize;
    take(body, length)
}

fn name(body: &mut Bytes) -> Option<QueueName> {
    std::str::from_utf8(&bytes(body)?).ok().map(QueueName::from)
}

#[cfg(test)]
mod tests;
