//! Measured rounds: single tasks, tasks to all by Muster and by the bare server, hunts.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use muster_loadgen::TaskTimes;
use muster_testkit::steady_port;
use serde::Serialize;
use serde_json::json;

use crate::api::Api;
use crate::fleet::{Fleet, Target};
use crate::measure::{self, Used};

/// After the last agent has a task, what follows it (facts, the fold) is counted this long.
const TAIL: Duration = Duration::from_secs(4);

/// Tasks to all of one measurement, one after the other: a single one takes little more than the noise of what an
/// idle server does. All are open at once for agents that say nothing, which is more than a real fleet has.
const TASKS: u64 = 4;
/// Seconds that a task to all may take: longer than a measurement, because its end, and telling everybody to stop,
/// would be counted too. What agents have open is over before the next one.
const OPEN: u64 = 20;
/// Then they are over, and the server has noted it.
pub const ENDED: Duration = Duration::from_secs(OPEN + 5);
/// What an idle server does is counted this long.
const IDLE: Duration = Duration::from_secs(6);

/// Milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Times {
    /// How many.
    pub count: usize,
    /// Half are below.
    pub p50: f64,
    /// 99 of 100 are below.
    pub p99: f64,
    /// None is above.
    pub max: f64,
}

impl Times {
    /// Of these, in microseconds.
    pub fn of(mut micros: Vec<i64>) -> Self {
        micros.sort_unstable();
        let at = |share: f64| {
            let rank = (micros.len() as f64 * share).ceil() as usize;
            micros.get(rank.clamp(1, micros.len().max(1)) - 1).copied().unwrap_or_default() as f64
                / 1000.0
        };
        Self { count: micros.len(), p50: at(0.5), p99: at(0.99), max: at(1.0) }
    }
}

/// Times of single tasks: from the API's answer, and from just before the request.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Single {
    /// From the moment its acceptance was read.
    pub accepted: Times,
    /// From the moment the request was sent.
    pub sent: Times,
}

/// Asks agents of `probe` (endpoints 1 to its length) one after the other until `done`. Of each task
/// when the request was sent, when its acceptance was read, and when the agent read the task.
pub fn singles(
    api: &Api,
    probe: &mut Fleet,
    pause: Duration,
    mut done: impl FnMut(usize) -> bool,
) -> anyhow::Result<Vec<(i64, i64, i64)>> {
    api.warm()?;
    let mut asked = Vec::new();
    while !done(asked.len()) {
        let endpoint = 1 + asked.len() as u64 % probe.len;
        asked.push(api.query(&json!({ "endpoints": [endpoint] }), 5)?);
        std::thread::sleep(pause);
    }
    let (mut times, began) = (TaskTimes::new(), Instant::now());
    loop {
        std::thread::sleep(Duration::from_millis(500));
        times.extend(probe.report()?.task_times);
        let missing = asked.iter().filter(|asked| !times.contains_key(&asked.no)).count();
        if missing == 0 {
            break;
        }
        ensure!(began.elapsed() < Duration::from_secs(20), "{missing} tasks never came");
    }
    let read =
        |no: u64| times.get(&no).and_then(|times| times.first()).copied().unwrap_or_default();
    Ok(asked.iter().map(|asked| (asked.sent, asked.accepted, read(asked.no))).collect())
}

/// Percentiles of them.
pub fn single(found: &[(i64, i64, i64)]) -> Single {
    Single {
        accepted: Times::of(found.iter().map(|(_, accepted, read)| read - accepted).collect()),
        sent: Times::of(found.iter().map(|(sent, _, read)| read - sent).collect()),
    }
}

/// Tasks to all.
#[derive(Clone, Debug, Serialize)]
pub struct ToAll {
    /// From acceptance (bare: from the word) to each agent.
    pub times: Times,
    /// Microseconds of processor time per agent and task, all of the process, above what it uses idle.
    pub cpu_micros: f64,
    /// The same by names of threads.
    pub threads: std::collections::BTreeMap<String, f64>,
}

/// What `work` takes of a process, in this many parts.
fn used(
    pid: u32,
    parts: u64,
    work: impl FnOnce() -> anyhow::Result<Times>,
) -> anyhow::Result<ToAll> {
    let (start, began) = (measure::cpu(pid)?, Instant::now());
    std::thread::sleep(IDLE);
    let (before, idle_time) = (measure::cpu(pid)?, began.elapsed());
    let idle = before.since(&start);
    let began = Instant::now();
    let times = work()?;
    std::thread::sleep(TAIL);
    let share = began.elapsed().as_secs_f64() / idle_time.as_secs_f64();
    let used: Used = measure::cpu(pid)?.since(&before).above(&idle, share);
    let each = |seconds: f64| seconds * 1e6 / parts as f64;
    let threads = used.threads.into_iter().map(|(name, seconds)| (name, each(seconds)));
    Ok(ToAll {
        times,
        cpu_micros: each(used.total),
        threads: threads.filter(|(_, micros)| *micros > 0.05).collect(),
    })
}

/// Tasks to all by Muster. The fleet must be mute.
pub fn to_all(pid: u32, api: &Api, fleet: &mut Fleet) -> anyhow::Result<ToAll> {
    fleet.report()?;
    used(pid, fleet.len * TASKS, || {
        let mut times = Vec::new();
        for _ in 0..TASKS {
            api.warm()?;
            let asked = api.query(&json!({}), OPEN)?;
            times.extend(received(fleet, asked.no)?.into_iter().map(|at| at - asked.accepted));
        }
        Ok(Times::of(times))
    })
}

/// When each agent of the fleet got the task of a hunt.
pub fn received(fleet: &mut Fleet, no: u64) -> anyhow::Result<Vec<i64>> {
    let (mut all, began) = (Vec::new(), Instant::now());
    while (all.len() as u64) < fleet.len {
        ensure!(began.elapsed() < Duration::from_secs(60), "{} of {}", all.len(), fleet.len);
        std::thread::sleep(Duration::from_millis(500));
        all.extend(fleet.report()?.task_times.remove(&no).unwrap_or_default());
    }
    Ok(all)
}

/// The bare server, with as many links.
pub struct Bare {
    child: Child,
    answers: std::io::Lines<BufReader<std::process::ChildStdout>>,
    fleet: Fleet,
    sent: u64,
}

impl Bare {
    /// Starts it and its fleet.
    pub fn start(dir: &std::path::Path, agents: u32, per_process: u32) -> anyhow::Result<Self> {
        let (port, ca) = (steady_port()?, dir.join("bare-ca.pem"));
        let mut child = Command::new(std::env::current_exe()?)
            .args(["bare", "--port", &port.to_string(), "--ca"])
            .arg(&ca)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().context("no output")?;
        let mut answers = BufReader::new(output).lines();
        answers.next().context("the bare server did not start")??;
        let url = format!("https://127.0.0.1:{port}");
        let target = Target { url: &url, ca: &ca, secret: "bare" };
        let mut fleet = Fleet::start(&target, 0, agents, per_process, 1)?;
        let most = Duration::from_secs(300);
        fleet.wait("enrolment", most, |sum, len| sum.enrolled == len)?;
        fleet.say("mute")?;
        fleet.say("online")?;
        fleet.wait("links", most, |sum, len| sum.connected == len)?;
        Ok(Self { child, answers, fleet, sent: 0 })
    }

    /// Its memory.
    pub fn memory(&self) -> anyhow::Result<measure::Memory> {
        measure::memory(self.child.id())
    }

    /// Tasks to all.
    pub fn ask_all(&mut self) -> anyhow::Result<ToAll> {
        let Self { child, answers, fleet, sent } = self;
        let (pid, words) = (child.id(), child.stdin.as_mut().context("no input")?);
        used(pid, fleet.len * TASKS, || {
            let mut times = Vec::new();
            for _ in 0..TASKS {
                *sent += 1;
                let began = measure::now();
                writeln!(words, "send {sent}")?;
                answers.next().context("the bare server ended")??;
                times.extend(received(fleet, *sent)?.into_iter().map(|at| at - began));
            }
            Ok(Times::of(times))
        })
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A hunt that everybody answers.
#[derive(Clone, Debug, Serialize)]
pub struct Hunt {
    /// Endpoints that answered.
    pub endpoints: u64,
    /// Rows that SQL found.
    pub rows: u64,
    /// Seconds until the API counted the last answer: durable, folded, committed.
    pub complete_seconds: f64,
    /// Seconds until SQL had answered after that.
    pub sql_seconds: f64,
    /// Microseconds of processor time per agent, all of the server.
    pub cpu_micros: f64,
    /// The same by names of threads.
    pub threads: std::collections::BTreeMap<String, f64>,
}

/// Asks all endpoints; each answers `rows` rows.
pub fn hunt(pid: u32, api: &Api, agents: u64, rows: u64, paced: bool) -> anyhow::Result<Hunt> {
    let mut seen = None;
    let all = used(pid, agents, || {
        api.warm()?;
        let began = Instant::now();
        let asked = if paced {
            let limits = json!({ "rate_per_second": 20_000, "canary": 0 });
            api.ask("/v1/hunts", &json!({ "query": crate::api::QUERY, "limits": limits }))?
        } else {
            api.query(&json!({}), 60)?
        };
        loop {
            let (answered, _, row_count) = api.coverage(asked.no)?;
            if answered == agents {
                ensure!(row_count == agents * rows, "{row_count} rows of {answered} endpoints");
                break;
            }
            ensure!(began.elapsed() < Duration::from_secs(120), "{answered} of {agents} answered");
            // Not often: each look goes over the whole fleet.
            std::thread::sleep(Duration::from_millis(100));
        }
        seen = Some((asked.no, began.elapsed()));
        Ok(Times::default())
    })?;
    let (no, complete) = seen.context("no hunt")?;
    let began = Instant::now();
    let found = api.sql(&format!("SELECT COUNT(*) AS n FROM hunt_{no}"))?;
    ensure!(found == agents * rows, "SQL sees {found} rows");
    Ok(Hunt {
        endpoints: agents,
        rows: found,
        complete_seconds: complete.as_secs_f64(),
        sql_seconds: began.elapsed().as_secs_f64(),
        cpu_micros: all.cpu_micros,
        threads: all.threads,
    })
}
