//! kill -9 of the agent's process at random moments: nothing is lost, nothing comes twice.

#[expect(dead_code, reason = "other tests use the rest")]
mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command};
use std::time::Duration;

use common::{Ca, Server, contents};
use muster_codec_native::{Ack, AgentFrame};
use rand::{Rng, SeedableRng};

const TASKS: u64 = 20;
const ROWS: usize = 20_000;

/// Killed also when the test fails.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(server: &Server, dir: &std::path::Path) -> Agent {
    let query = common::child().program;
    let ca = dir.join("ca.pem");
    std::fs::write(&ca, &server.ca_pem).unwrap();
    let child = Command::new(query.with_file_name("agent"))
        .args([server.url().as_ref(), ca.as_os_str(), dir.join("data").as_os_str()])
        .arg(query)
        .spawn();
    Agent(child.unwrap())
}

/// What the server's fold makes of the batches: repeats removed by number, the first end wins.
#[derive(Default)]
struct Fold {
    seen: BTreeSet<(u64, u64)>,
    last: BTreeMap<u64, u64>,
    rows: BTreeMap<u64, usize>,
    ended: BTreeSet<u64>,
}

impl Fold {
    fn take(&mut self, batch: &muster_codec_native::Batch) {
        if !self.seen.insert((batch.stream, batch.seq)) {
            return;
        }
        let before = self.last.insert(batch.stream, batch.seq).unwrap_or(0);
        assert_eq!(batch.seq, before + 1, "a gap");
        for hunt in 1..=TASKS {
            let (rows, end) = contents(batch, hunt);
            *self.rows.entry(hunt).or_default() += rows.len();
            if let Some(end) = end {
                assert_eq!(end.outcome, None, "{}", end.message);
                self.ended.insert(hunt);
            }
        }
    }
}

#[tokio::test]
async fn rows_are_exact_whenever_the_agent_dies() {
    let rounds: u32 = std::env::var("MUSTER_KILLS").map_or(5, |text| text.parse().unwrap());
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
    let (ca, dir) = (Ca::new("CA"), tempfile::tempdir().unwrap());
    let mut server = Server::start(&ca).await;
    let mut fold = Fold::default();
    let sql = format!(
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < {ROWS}) \
         SELECT x, hex(x) AS y FROM n"
    );
    for round in 0..=rounds {
        let agent = start(&server, dir.path());
        let (mut link, _) = server.welcomed().await;
        for hunt in (1..=TASKS).filter(|hunt| !fold.ended.contains(hunt)) {
            link.task(hunt, &sql).await;
        }
        let mut unacked = 0;
        let talk = async {
            while fold.ended.len() < TASKS as usize {
                let Some(AgentFrame::Batch(batch)) = link.hear().await else { return };
                fold.take(&batch);
                // Some acknowledgements are still to come when the link ends; never as many as the
                // agent may have in flight, or both sides would wait for each other.
                unacked += 1;
                if unacked == 3 || rng.random_bool(0.8) {
                    unacked = 0;
                    link.say(Ack { stream: batch.stream, seq: batch.seq }).await;
                }
            }
        };
        let life = if round == rounds { 60_000 } else { 40 + u64::from(round * 131 % 400) };
        let _ = tokio::time::timeout(Duration::from_millis(life), talk).await;
        drop(agent);
    }
    assert_eq!(fold.ended.len(), TASKS as usize);
    for (hunt, rows) in &fold.rows {
        assert_eq!(*rows, ROWS, "task {hunt}");
    }
}
