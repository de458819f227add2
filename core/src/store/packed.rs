//! Messages that follow each other as one row of a database: its work for a row is many times that
//! for a message in it.

use std::time::Duration;

use bytes::Bytes;

use super::{OutboxRow, QueueName};

/// How large a row gets at most before another is begun.
const BYTES: usize = 64 * 1024;

/// One row.
#[derive(Debug, Default)]
pub(super) struct Packed {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) expires: Duration,
    /// The lengths of the heads, four bytes each, the lowest first.
    pub(super) lengths: Vec<u8>,
    pub(super) heads: Vec<u8>,
    pub(super) tail: Bytes,
}

impl Packed {
    fn begin(row: &OutboxRow) -> Self {
        Self { first: row.first, tail: row.tail.clone(), ..Self::default() }
    }

    fn add(&mut self, row: &OutboxRow) {
        self.last = row.last();
        self.expires = self.expires.max(row.expires);
        for head in &row.heads {
            let length = u32::try_from(head.len()).unwrap_or(u32::MAX);
            self.lengths.extend(length.to_le_bytes());
            self.heads.extend_from_slice(head);
        }
    }

    fn takes(&self, row: &OutboxRow) -> bool {
        row.first == self.last + 1
            && row.tail.is_empty()
            && self.tail.is_empty()
            && self.heads.len() < BYTES
    }
}

/// The rows for what is put, queue by queue and in the order of the numbers.
pub(super) fn pack<'q>(mut puts: Vec<(&'q QueueName, &OutboxRow)>) -> Vec<(&'q QueueName, Packed)> {
    puts.sort_by_key(|(queue, row)| (*queue, row.first));
    let mut packed: Vec<(&QueueName, Packed)> = Vec::new();
    for (queue, row) in puts {
        match packed.last_mut() {
            Some((same, last)) if *same == queue && last.takes(row) => last.add(row),
            _ => {
                let mut begun = Packed::begin(row);
                begun.add(row);
                packed.push((queue, begun));
            }
        }
    }
    packed
}

/// The heads of a row, taken apart.
pub(super) fn unpack(mut heads: Bytes, lengths: &[u8]) -> Vec<Bytes> {
    let (lengths, _) = lengths.as_chunks::<4>();
    let lengths = lengths.iter().map(|length| u32::from_le_bytes(*length) as usize);
    lengths.map(|length| heads.split_to(length.min(heads.len()))).collect()
}

/// How a database keeps a time.
pub(super) fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
