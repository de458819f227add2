use proptest::prelude::*;

use super::super::tests::Folder;
use super::*;

fn queue() -> QueueName {
    "bot.example.com".into()
}

fn row(first: u64, heads: &[&[u8]], tail: &[u8]) -> OutboxRow {
    OutboxRow {
        first,
        expires: Duration::from_millis(1_790_000_000_000 + first),
        heads: heads.iter().map(|head| Bytes::copy_from_slice(head)).collect(),
        tail: Bytes::copy_from_slice(tail),
    }
}

fn open(folder: &Folder) -> (Log, Contents) {
    Log::open(Log::path_of(&folder.file())).unwrap().expect("nobody else has it")
}

fn fresh(folder: &Folder) -> Log {
    let (mut log, left) = open(folder);
    assert_eq!(left, Contents::default());
    log.restart().unwrap();
    log
}

fn put(log: &mut Log, row: &OutboxRow) {
    assert!(log.put(&[(&queue(), row)]).unwrap(), "no room");
}

fn rows(contents: Contents) -> Vec<OutboxRow> {
    let done = contents.done.get(&queue()).copied().unwrap_or_default();
    let rows = contents.rows.into_iter().map(|(_, row)| row);
    rows.filter(|row| row.last() > done).collect()
}

#[test]
fn what_was_put_is_there_after_a_crash() {
    let folder = Folder::new("log");
    let mut log = fresh(&folder);
    let other = QueueName::from("other.example.com");
    let (one, two) = (row(1, &[b"<a/>", b"", b"\0\xff"], b"tail"), row(7, &[b"x"], b""));
    assert!(log.put(&[(&queue(), &one), (&other, &two)]).unwrap());
    log.set_done(&other, 3);
    put(&mut log, &row(4, &[&vec![b'y'; 3 * PAGE]], b""));
    drop(log);
    let (_, left) = open(&folder);
    assert_eq!((left.damaged, left.done.get(&other)), (0, Some(&3)));
    let expected =
        vec![(queue(), one), (queue(), row(4, &[&vec![b'y'; 3 * PAGE]], b"")), (other, two)];
    assert_eq!(left.rows, expected);
}

#[test]
fn what_is_done_makes_room_and_the_file_stays_small() {
    let folder = Folder::new("log-room");
    let mut log = fresh(&folder);
    let large = vec![b'z'; 20 * PAGE];
    for number in 1..=200 {
        put(&mut log, &row(number, &[&large], b""));
        log.set_done(&queue(), number.saturating_sub(3));
    }
    let size = log.file.metadata().unwrap().len();
    assert!(size < 120 * PAGE as u64, "{size}");
    drop(log);
    let left = rows(open(&folder).1);
    // The last record knows what was done when it was written.
    assert_eq!(left.iter().map(|row| row.first).collect::<Vec<_>>(), [197, 198, 199, 200]);
}

#[test]
fn there_is_no_room_for_more_than_the_file_may_hold() {
    let folder = Folder::new("log-full");
    let mut log = fresh(&folder);
    let large = row(1, &[&vec![b'z'; PAGES / 2 * PAGE]], b"");
    put(&mut log, &large);
    let two = row(2, &[&vec![b'z'; PAGES / 2 * PAGE]], b"");
    assert!(!log.put(&[(&queue(), &two)]).unwrap());
    put(&mut log, &row(3, &[b"small"], b""));
    log.set_done(&queue(), 1);
    assert!(log.put(&[(&queue(), &two)]).unwrap());
    let whole = row(4, &[&vec![b'z'; PAGES * PAGE]], b"");
    assert!(!log.put(&[(&queue(), &whole)]).unwrap());
}

#[test]
fn a_second_process_gets_none_and_reads_what_is_there() {
    let folder = Folder::new("log-locked");
    let mut log = fresh(&folder);
    put(&mut log, &row(1, &[b"x"], b""));
    let path = Log::path_of(&folder.file());
    assert!(Log::open(path.clone()).unwrap().is_none());
    assert_eq!(rows(Log::peek(&path).unwrap()), [row(1, &[b"x"], b"")]);
    log.clear().unwrap();
    assert_eq!(Log::peek(&path).unwrap(), Contents::default());
    drop(log);
    assert!(Log::open(path).unwrap().is_some());
}

#[test]
fn a_message_cannot_look_like_a_record() {
    let folder = Folder::new("log-forged");
    let mut log = fresh(&folder);
    put(&mut log, &row(1, &[b"real"], b""));
    let real = std::fs::read(Log::path_of(&folder.file())).unwrap()[PAGE..].to_vec();
    log.restart().unwrap();
    // The record of the time before, at the beginning of a page.
    let mut body = vec![b' '; PAGE];
    body.extend(&real);
    put(&mut log, &row(2, &[&vec![b' '; 2 * PAGE]], b""));
    let start = log.buffer.windows(8).position(|it| it == [b' '; 8]).unwrap();
    body.drain(..start);
    put(&mut log, &row(3, &[&body], b""));
    drop(log);
    let left = open(&folder).1;
    assert_eq!(left.damaged, 0);
    assert_eq!(rows(left).iter().map(|row| row.first).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn damage_is_noticed() {
    let folder = Folder::new("log-damaged");
    let mut log = fresh(&folder);
    for number in 1..=3 {
        put(&mut log, &row(number, &[&[b'x'; 100]], b""));
    }
    drop(log);
    let path = Log::path_of(&folder.file());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[2 * PAGE + 100] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let left = open(&folder).1;
    assert_eq!(left.damaged, 1);
    assert_eq!(rows(left).iter().map(|row| row.first).collect::<Vec<_>>(), [1, 3]);
}

/// A crash at every byte of the last write: whatever part of its pages reached the file, everything
/// flushed before is there, and the last record as a whole or not at all.
#[test]
fn a_write_that_was_cut_off_costs_nothing_but_itself() {
    let folder = Folder::new("log-torn");
    let path = Log::path_of(&folder.file());
    let pages = 1..6_usize;
    let step = (pages, 0..4_u64);
    let config = proptest::test_runner::Config {
        cases: 40,
        failure_persistence: None,
        ..Default::default()
    };
    let steps = (proptest::collection::vec(step, 1..30), any::<u64>());
    proptest::test_runner::TestRunner::new(config)
        .run(&steps, |(steps, tear)| {
            let _ = std::fs::remove_file(&path);
            let mut log = fresh(&folder);
            let mut before = Vec::new();
            let (mut done, mut told) = (0, 0);
            for (number, (pages, lag)) in (1..).zip(&steps) {
                before = std::fs::read(&path).unwrap();
                told = done;
                put(
                    &mut log,
                    &row(number, &[&vec![b'a' + (number % 26) as u8; pages * PAGE - 100]], b""),
                );
                done = done.max(number.saturating_sub(*lag + 1));
                log.set_done(&queue(), done);
            }
            drop(log);
            let after = std::fs::read(&path).unwrap();
            before.resize(after.len(), 0);
            let changed = before.iter().zip(&after).take_while(|(a, b)| a == b).count();
            let end = after.len()
                - before.iter().rev().zip(after.iter().rev()).take_while(|(a, b)| a == b).count();
            let cut = changed + (tear % (end - changed + 1) as u64) as usize;
            let torn = [&after[..cut], &before[cut..]].concat();
            std::fs::write(&path, torn).unwrap();
            let left = open(&folder).1;
            prop_assert_eq!(left.damaged, 0);
            let last = steps.len() as u64;
            let numbers: Vec<_> = rows(left).iter().map(|row| row.first).collect();
            // What was done may come again, what was not done must be there, the last may be.
            let whole: Vec<_> = (told + 1..=last).collect();
            let needed: Vec<_> = (done + 1..last).collect();
            prop_assert!(
                needed.iter().all(|it| numbers.contains(it)),
                "{:?} of {:?}",
                numbers,
                needed
            );
            prop_assert!(cut < end || numbers == whole, "{:?} of {:?}", numbers, whole);
            Ok(())
        })
        .unwrap();
}
