//! The command line of `muster loadgen native`.

use std::path::PathBuf;

use clap::Args;

use crate::fleet::PlantCount;

/// A simulated fleet of native agents.
#[derive(Args, Clone, Debug)]
pub struct NativeOptions {
    /// Where agents connect: https://NAME:PORT (repeatable). Each begins with one of them, and goes on to
    /// the next when it fails.
    #[arg(long = "server", required = true)]
    pub servers: Vec<String>,
    /// File with the CAs that sign the server's certificate.
    #[arg(long)]
    pub ca: PathBuf,
    /// The enrolment secret; its labels are the fleet's.
    #[arg(long, env = "MUSTER_ENROL_SECRET", hide_env_values = true)]
    pub secret: Option<String>,
    /// File with the enrolment secret.
    #[arg(long)]
    pub secret_file: Option<PathBuf>,
    /// How many endpoints.
    #[arg(long, default_value_t = 100)]
    pub endpoints: u32,
    /// How many of them enrol and then stay away until `online` is said on standard input, or SIGUSR1.
    #[arg(long, default_value_t = 0)]
    pub offline: u32,
    /// What everything follows from.
    #[arg(long, default_value_t = 7)]
    pub seed: u64,
    /// Evidence on exactly this many endpoints: cron-dropper=3 (repeatable).
    #[arg(long = "plant", value_name = "NAME=COUNT")]
    pub plants: Vec<PlantCount>,
    /// Endpoints that answer every task with an error.
    #[arg(long, default_value_t = 0)]
    pub failing: u32,
    /// Endpoints that take tasks and never answer.
    #[arg(long, default_value_t = 0)]
    pub silent: u32,
    /// Endpoints that also answer for others, twice, and to questions that nobody asked.
    #[arg(long, default_value_t = 0)]
    pub lying: u32,
    /// Answer every task with this many made-up rows instead of running its query (benchmarks).
    #[arg(long, value_name = "ROWS")]
    pub canned: Option<u32>,
    /// New connections per second.
    #[arg(long, default_value_t = 500)]
    pub ramp: u32,
    /// Reconnect storms once all are connected: every link is dropped at once and comes back.
    #[arg(long, default_value_t = 0)]
    pub storm: u32,
    /// End after this many seconds; without it at Ctrl-C, SIGTERM or `stop` on standard input.
    #[arg(long, value_name = "SECONDS")]
    pub duration: Option<u64>,
    /// Print a report every so many seconds, as a JSON line; always one at the end.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub interval: u64,
    /// Threads that hold links.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// Number of the first endpoint, so that several processes make one fleet.
    #[arg(long, default_value_t = 0)]
    pub first: u32,
    /// Report when each task was received (benchmarks).
    #[arg(long)]
    pub task_times: bool,
}
