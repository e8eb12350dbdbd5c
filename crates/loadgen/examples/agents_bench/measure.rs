//! What the kernel says of a process and of itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;

/// Caches of the kernel that sockets live in. The socket's dentry (192 bytes) shares its cache with
/// files and is left out.
const SOCKET_CACHES: [&str; 6] =
    ["TCP", "TCPv6", "sock_inode_cache", "filp", "eventpoll_epi", "eventpoll_pwq"];

/// Memory at one moment.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Memory {
    /// Of the process.
    pub resident_bytes: u64,
    /// Of that, what is not pages of files.
    pub anonymous_bytes: u64,
    /// Of the kernel, all of it.
    pub slab_bytes: u64,
    /// Of the kernel, in the caches of sockets.
    pub socket_bytes: u64,
}

/// Memory of this process and of the kernel.
pub fn memory(pid: u32) -> anyhow::Result<Memory> {
    let status = format!("/proc/{pid}/status");
    let (resident, anonymous) = (field(&status, "VmRSS:")?, field(&status, "RssAnon:")?);
    let slab = field("/proc/meminfo", "Slab:")?;
    // Only root may read it; without it there is the total alone.
    let slabinfo = std::fs::read_to_string("/proc/slabinfo").unwrap_or_default();
    let cache = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| words.get(at)?.parse::<u64>().ok();
        let known = words.first().is_some_and(|name| SOCKET_CACHES.contains(name));
        known.then(|| Some(number(1)? * number(3)?)).flatten()
    };
    Ok(Memory {
        resident_bytes: resident * 1024,
        anonymous_bytes: anonymous * 1024,
        slab_bytes: slab * 1024,
        socket_bytes: slabinfo.lines().filter_map(cache).sum(),
    })
}

fn field(path: &str, name: &str) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.with_context(|| format!("no {name} in {path}"))
}

/// Processor time of a process so far, in seconds.
#[derive(Clone, Debug, Default)]
pub struct Cpu {
    /// All threads, those that have ended too.
    pub total: f64,
    /// Threads that live, by number: name and time.
    threads: BTreeMap<u32, (String, f64)>,
}

/// Processor time of a process between two moments, in seconds.
#[derive(Clone, Debug, Default)]
pub struct Used {
    /// All of it.
    pub total: f64,
    /// By the names of threads; under [`ENDED`] those that did not live at the end.
    pub threads: BTreeMap<String, f64>,
}

/// Stands for threads that have ended.
pub const ENDED: &str = "(ended)";

/// What a process has used so far.
pub fn cpu(pid: u32) -> anyhow::Result<Cpu> {
    // Exact to the nanosecond, where `/proc/PID/stat` has hundredths of a second.
    let clock = nix::time::clock_getcpuclockid(nix::unistd::Pid::from_raw(pid.cast_signed()))?;
    let total = Duration::from(nix::time::clock_gettime(clock)?).as_secs_f64();
    let mut threads = BTreeMap::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        let read = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let name = read("comm").trim().to_owned();
        let nanos = read("schedstat").split_whitespace().next().and_then(|n| n.parse::<f64>().ok());
        let number = task.file_name().to_str().and_then(|number| number.parse().ok());
        let number = number.context("a thread without a number")?;
        threads.insert(number, (name, nanos.unwrap_or_default() / 1e9));
    }
    Ok(Cpu { total, threads })
}

impl Cpu {
    /// What was used since then.
    pub fn since(&self, before: &Self) -> Used {
        let total = self.total - before.total;
        let mut threads: BTreeMap<String, f64> = BTreeMap::new();
        for (number, (name, now)) in &self.threads {
            let then = before.threads.get(number).map_or(0.0, |(_, then)| *then);
            *threads.entry(name.clone()).or_default() += now - then;
        }
        let ended = total - threads.values().sum::<f64>();
        threads.insert(ENDED.to_owned(), ended);
        Used { total, threads }
    }
}

impl Used {
    /// Without what an idle process uses in this time.
    pub fn above(mut self, idle: &Self, share: f64) -> Self {
        self.total -= idle.total * share;
        for (name, used) in &mut self.threads {
            *used -= idle.threads.get(name).copied().unwrap_or_default() * share;
        }
        self
    }
}

/// Waits until a process is nearly idle (below 8 % of a core for two seconds), at most so long.
pub fn settle(pid: u32, most: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + most;
    while Instant::now() < end {
        let before = cpu(pid)?.total;
        std::thread::sleep(Duration::from_secs(2));
        if cpu(pid)?.total - before < 0.16 {
            break;
        }
    }
    Ok(())
}

/// The load average of the last minute: what else the machine did.
pub fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or_default()
}

/// Now, in microseconds since 1970: the simulators' clock.
pub fn now() -> i64 {
    use muster_types::Clock;
    muster_types::SystemClock.now().0
}
