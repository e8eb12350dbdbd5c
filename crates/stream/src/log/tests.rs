//! Tests that need the inside of the log: failing disks and damaged files.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use muster_types::{Class, Pos, Record, Shard};

use super::disk::{Disk, RealDisk};
use super::{Log, LogOptions, OnCorrupt, OpenError};
use crate::conformance::{read, read_all, record};
use crate::{AppendError, ReadError, Stream};

/// A real disk that fails on request.
#[derive(Default)]
struct FaultyDisk {
    sync_fails: AtomicBool,
    no_room: AtomicBool,
    used_up: AtomicU64,
}

impl Disk for FaultyDisk {
    fn allocate(&self, file: &File, len: u64) -> io::Result<()> {
        if self.no_room.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        RealDisk.allocate(file, len)
    }

    fn write_at(&self, file: &File, parts: &[Bytes], offset: u64) -> io::Result<()> {
        RealDisk.write_at(file, parts, offset)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        if self.sync_fails.load(Ordering::SeqCst) {
            return Err(io::Error::from_raw_os_error(5));
        }
        RealDisk.sync(file)
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok((10 << 30) - self.used_up.load(Ordering::SeqCst))
    }
}

struct Bed {
    dir: tempfile::TempDir,
    disk: Arc<FaultyDisk>,
    fatal: Arc<AtomicUsize>,
}

impl Bed {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir, disk: Arc::default(), fatal: Arc::default() }
    }

    fn open(&self, on_corrupt: OnCorrupt) -> Result<Arc<Log>, OpenError> {
        let fatal = self.fatal.clone();
        let on_fatal = Arc::new(move |_: &str| {
            fatal.fetch_add(1, Ordering::SeqCst);
        });
        let options = LogOptions::new(self.dir.path(), 64 << 20, on_fatal);
        let options = LogOptions { segment_bytes: 64 << 10, ..options };
        Log::open_on(options, on_corrupt, self.disk.clone())
    }

    fn log(&self) -> Arc<Log> {
        self.open(OnCorrupt::Refuse).unwrap()
    }

    fn segments(&self) -> Vec<PathBuf> {
        super::recover::segment_paths(self.dir.path()).unwrap()
    }
}

fn of(class: Class, agent: u32, bytes: usize) -> Vec<Record> {
    let mut record = record(agent, &"x".repeat(bytes));
    record.class = class;
    vec![record]
}

/// Flips one byte of a file.
fn damage(path: &Path, offset: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
}

#[tokio::test]
async fn a_failed_fdatasync_poisons_the_log() {
    let bed = Bed::new();
    let log = bed.log();
    log.append(vec![record(1, "kept")]).await.unwrap();
    bed.disk.sync_fails.store(true, Ordering::SeqCst);
    let appends = (0..5).map(|n| log.append(vec![record(n, "lost")]));
    for result in futures_util::future::join_all(appends).await {
        assert!(matches!(result, Err(AppendError::Fatal(_))), "{result:?}");
    }
    // Nothing is tried again, even when the disk works again.
    bed.disk.sync_fails.store(false, Ordering::SeqCst);
    let again = log.append(vec![record(1, "x")]).await;
    assert!(matches!(again, Err(AppendError::Fatal(_))));
    log.close().await;
    assert_eq!(bed.fatal.load(Ordering::SeqCst), 1);
    let mut reader = log.reader(vec![(Shard::new(1).unwrap(), Pos(0))]).await.unwrap();
    read(&mut *reader, 1).await;
    assert!(matches!(reader.next(1).await, Err(ReadError::Unavailable(_))));
    drop(log);
    let log = bed.log();
    assert!(log.append(vec![record(1, "a new process")]).await.is_ok());
}

#[tokio::test]
async fn a_full_disk_refuses_rows_takes_life_cycle_facts_and_recovers() {
    let bed = Bed::new();
    let log = bed.log();
    // The spare is there as soon as something was appended.
    log.append(of(Class::Collected, 1, 10)).await.unwrap();
    bed.disk.no_room.store(true, Ordering::SeqCst);
    let mut kept = 1;
    loop {
        match log.append(of(Class::Collected, 1, 8000)).await {
            Ok(_) => kept += 1,
            Err(AppendError::Full { .. }) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(kept < 12, "the present file is filled, and no other");
    let mut facts = 0;
    while log.append(of(Class::LifeCycle, 2, 8000)).await.is_ok() {
        facts += 1;
    }
    assert!((4..12).contains(&facts), "{facts} facts in the spare");
    assert_eq!(bed.fatal.load(Ordering::SeqCst), 0);
    bed.disk.no_room.store(false, Ordering::SeqCst);
    log.pressure().wait_for(|pressure| !pressure.stopped).await.unwrap();
    log.append(of(Class::Collected, 1, 8000)).await.unwrap();
    drop(log);
    assert_eq!(read_all(&*bed.log(), kept + facts + 1).await.len(), kept + facts + 1);
}

#[tokio::test]
async fn below_the_reserve_only_life_cycle_facts_are_taken() {
    let bed = Bed::new();
    let log = bed.log();
    let mut pressure = log.pressure();
    bed.disk.used_up.store((9 << 30) + 1, Ordering::SeqCst);
    pressure.wait_for(|pressure| pressure.stopped).await.unwrap();
    let refused = log.append(of(Class::Collected, 1, 10)).await;
    assert!(matches!(refused, Err(AppendError::Full { .. })));
    log.append(of(Class::LifeCycle, 1, 10)).await.unwrap();
    bed.disk.used_up.store(0, Ordering::SeqCst);
    pressure.wait_for(|pressure| !pressure.stopped).await.unwrap();
    log.append(of(Class::Status, 1, 10)).await.unwrap();
}

#[tokio::test]
async fn a_second_opener_is_refused() {
    let bed = Bed::new();
    let log = bed.log();
    let error = bed.open(OnCorrupt::Refuse).unwrap_err().to_string();
    let pid = std::process::id().to_string();
    assert!(error.contains("is in use by process") && error.contains(&pid), "{error}");
    log.close().await;
    bed.open(OnCorrupt::Refuse).unwrap();
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_not_read_again() {
    let bed = Bed::new();
    let log = bed.log();
    let positions = log.append((0..3).map(|n| record(n, "abc")).collect()).await.unwrap();
    drop(log);
    // The second of three records is torn; the third stands behind it, whole.
    std::fs::remove_file(bed.dir.path().join("trims")).unwrap();
    damage(&bed.segments()[0], positions[1].0 + 20);
    let log = bed.log();
    let again = log.append(vec![record(1, "abc")]).await.unwrap();
    assert_eq!(again[0], positions[1], "it goes on where it was cut");
    drop(log);
    let all = read_all(&*bed.log(), 2).await;
    assert_eq!(all.iter().map(|entry| entry.pos).collect::<Vec<_>>(), positions[..2]);
}

#[tokio::test]
async fn durable_records_that_are_damaged_are_never_skipped_silently() {
    let bed = Bed::new();
    let log = bed.log();
    let mut positions = Vec::new();
    for n in 0..30 {
        positions.extend(log.append(vec![record(n, &"y".repeat(9000))]).await.unwrap());
    }
    drop(log);
    assert!(bed.segments().len() > 3);
    // In the last file, below what is known to have been durable: not a torn tail.
    let last = bed.segments().pop().unwrap();
    damage(&last, 64 + 30);
    let error = bed.open(OnCorrupt::Refuse).unwrap_err();
    assert!(
        matches!(&error, OpenError::Corrupt { offset: 64, path, .. } if *path == last),
        "{error}"
    );
    damage(&last, 64 + 30);
    // In a sealed file: found when it is read.
    let first = bed.segments()[0].clone();
    damage(&first, positions[1].0 + 30);
    let log = bed.log();
    let from_start = || Shard::all().map(|shard| (shard, Pos(0))).collect();
    let mut reader = log.reader(from_start()).await.unwrap();
    assert_eq!(reader.next(1).await.unwrap()[0].pos, positions[0]);
    let error = reader.next(1).await.unwrap_err().to_string();
    let names = format!("{} is damaged at offset {}", first.display(), positions[1].0);
    assert!(error.contains(&names), "{error}");
    drop(log);
    let log = bed.open(OnCorrupt::Skip).unwrap();
    let mut reader = log.reader(from_start()).await.unwrap();
    let rest = read(&mut *reader, 29).await;
    assert!(rest.iter().all(|entry| entry.pos != positions[1]));
    assert_eq!(log.metrics().corrupt_skipped.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn trimmed_files_are_removed() {
    let bed = Bed::new();
    let log = bed.log();
    let mut last = [Pos(0); 2];
    for n in 0..40 {
        let agent = n % 2;
        last[agent as usize] = log.append(of(Class::Collected, agent, 8000)).await.unwrap()[0];
    }
    let files = bed.segments().len();
    log.trim(Shard::new(0).unwrap(), last[0]).await;
    log.close().await;
    assert_eq!(bed.segments().len(), files, "the other shard needs them");
    drop(log);
    let log = bed.log();
    let mut pressure = log.pressure();
    log.trim(Shard::new(1).unwrap(), last[1]).await;
    pressure.wait_for(|pressure| pressure.used_bytes < 64 << 10).await.unwrap();
    assert_eq!(bed.segments().len(), 1);
}
