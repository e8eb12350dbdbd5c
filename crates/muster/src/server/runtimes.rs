//! Separate runtimes, so that nobody waits behind somebody else's work.
//!
//! They share the cores, so threads also carry a nice value: people first, then agents, then the fold,
//! then compaction. Each runtime is small: a request never needs more than one thread at a time.

use anyhow::Context;
use rustix::process::{Pid, setpriority_process};
use rustix::thread::gettid;
use tokio::runtime::{Builder, Runtime};

/// The runtimes of one server process.
pub struct Runtimes {
    /// People and programs: REST, sign-in, live pages.
    pub api: Runtime,
    /// Agents: handshakes, links, appends.
    pub agents: Runtime,
    /// The fold, dispatch, catalog services.
    pub work: Runtime,
    /// Health and metrics: answers while all others are saturated.
    pub health: Runtime,
}

impl Runtimes {
    /// Builds them for this machine's cores.
    ///
    /// # Errors
    /// When threads cannot be had.
    pub fn new() -> anyhow::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let most = cores.saturating_sub(1).max(1);
        Ok(Self {
            api: build("api", 0, most.min(4))?,
            agents: build("agents", 2, most)?,
            work: build("work", 5, most.min(4))?,
            health: build("health", 0, 1)?,
        })
    }
}

fn build(name: &'static str, nice: i32, threads: usize) -> anyhow::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name(name)
        .on_thread_start(move || lower_priority(nice))
        .enable_all()
        .build()
        .with_context(|| format!("start the {name} threads"))
}

/// Linux keeps a nice value per thread. A refusal costs fairness, not correctness.
fn lower_priority(nice: i32) {
    if nice > 0 {
        let thread: Option<Pid> = Some(gettid());
        if let Err(error) = setpriority_process(thread, nice) {
            tracing::debug!(%error, nice, "thread priority stays as it is");
        }
    }
}
