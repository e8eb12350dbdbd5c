//! kill -9 while records are appended: every acknowledged one is there, in order, once.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use muster_stream::conformance::{content, record};
use muster_stream::log::{Log, LogOptions};
use muster_stream::{Reader, Stream};
use muster_types::{Pos, Shard};
use rand::Rng;

const KILLS: u32 = 6;
const WRITERS: u32 = 4;
const DIR: &str = "MUSTER_TEST_LOG_DIR";

fn open(dir: &Path) -> Arc<Log> {
    let options = LogOptions::new(dir, 1 << 30, Arc::new(|why: &str| panic!("{why}")));
    Log::open(LogOptions { segment_bytes: 256 << 10, reserve_bytes: 0, ..options }).expect("a log")
}

/// Not a test: what the child process does. It appends for ever and prints what is acknowledged.
#[test]
fn writer_process() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let log = open(Path::new(&dir));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let log = log.clone();
            tasks.spawn(async move {
                for n in 0u64.. {
                    let (pid, filling) = (std::process::id(), "x".repeat(n as usize % 3000));
                    let content = format!("{pid}/{n}/{writer}/{filling}");
                    let positions = log.append(vec![record(writer, &content)]).await.unwrap();
                    // One write, so that the parent never reads half a line of two.
                    let line = format!("\nacked {writer} {} {content}\n", positions[0]);
                    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
                }
            });
        }
        tasks.join_all().await;
    });
}

/// Lets a child write, kills it at a random moment, and returns what it had acknowledged.
fn write_and_kill(dir: &Path) -> Vec<(u32, Pos, String)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["writer_process", "--exact", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acked = Vec::new();
    let moment = rand::rng().random_range(1..800);
    let mut killed = false;
    // After the kill what is left in the pipe was acknowledged too.
    while let Some(Ok(line)) = lines.next() {
        let mut words = line.split(' ');
        if let (Some("acked"), Some(writer), Some(pos), Some(content)) =
            (words.next(), words.next(), words.next(), words.next())
        {
            acked.push((writer.parse().unwrap(), pos.parse().unwrap(), content.to_owned()));
        }
        if acked.len() >= moment && !killed {
            killed = true;
            std::thread::sleep(Duration::from_micros(rand::rng().random_range(0..3000)));
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    // The last line may have been cut off.
    acked.pop();
    acked
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut acked: Vec<(u32, Pos, String)> = Vec::new();
    for _ in 0..KILLS {
        let path = dir.path().to_owned();
        acked.extend(tokio::task::spawn_blocking(move || write_and_kill(&path)).await.unwrap());
        let log = open(dir.path());
        let marker = log.append(vec![record(WRITERS, "after the kill")]).await.unwrap();
        let after = (0..=WRITERS as u8).map(|n| (Shard::new(n).unwrap(), Pos(0))).collect();
        let found = read_until(&mut *log.reader(after).await.unwrap(), marker[0]).await;
        let mut count: HashMap<&str, u32> = HashMap::new();
        for (_, content) in found.values().flatten() {
            *count.entry(content).or_default() += 1;
        }
        for (writer, pos, content) in &acked {
            assert_eq!(count.get(content.as_str()), Some(&1), "{content:.40}");
            assert!(found[writer].contains(&(*pos, content.clone())));
        }
        for (writer, records) in found.iter().filter(|(writer, _)| **writer != WRITERS) {
            assert!(records.is_sorted_by_key(|(pos, _)| *pos));
            let numbers: Vec<(&str, u64)> = records.iter().map(|(_, c)| numbers(c)).collect();
            for pair in numbers.windows(2) {
                let follows = pair[1] == (pair[0].0, pair[0].1 + 1);
                assert!(follows || pair[1].1 == 0, "writer {writer}: {pair:?}");
            }
        }
    }
    assert!(acked.len() > KILLS as usize);
}

type Found = HashMap<u32, Vec<(Pos, String)>>;

async fn read_until(reader: &mut dyn Reader, last: Pos) -> Found {
    let mut found = Found::new();
    loop {
        for entry in reader.next(64 << 10).await.unwrap() {
            let text = String::from_utf8(content(&entry).to_vec()).unwrap();
            found.entry(entry.record.agent.0).or_default().push((entry.pos, text));
            if entry.pos == last {
                return found;
            }
        }
    }
}

/// Process and number of a record's content.
fn numbers(content: &str) -> (&str, u64) {
    let mut parts = content.split('/');
    (parts.next().unwrap(), parts.next().unwrap().parse().unwrap())
}
