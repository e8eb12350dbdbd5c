//! The command line of `muster loadgen osquery`.

use std::path::PathBuf;

use clap::Args;

/// A simulated fleet of osquery agents.
#[derive(Args, Clone, Debug)]
pub struct OsqueryOptions {
    /// Where agents connect: https://NAME:PORT.
    #[arg(long)]
    pub server: String,
    /// File with the CAs that sign the server's certificate.
    #[arg(long)]
    pub ca: PathBuf,
    /// The enrolment secret.
    #[arg(long, env = "MUSTER_ENROL_SECRET", hide_env_values = true)]
    pub secret: String,
    /// How many hosts.
    #[arg(long, default_value_t = 100)]
    pub hosts: u32,
    /// Number of the first host, so that several processes make one fleet.
    #[arg(long, default_value_t = 0)]
    pub first: u32,
    /// Seconds over which hosts start, evenly.
    #[arg(long, default_value_t = 10.0)]
    pub start: f64,
    /// Seconds between polls for distributed queries.
    #[arg(long, default_value_t = 10.0)]
    pub distributed_interval: f64,
    /// Seconds between fetches of the configuration.
    #[arg(long, default_value_t = 60.0)]
    pub config_interval: f64,
    /// Seconds between flushes of the log.
    #[arg(long, default_value_t = 10.0)]
    pub log_interval: f64,
    /// Lines of a host's own making at each flush, beside what its schedule gives; a fraction is the
    /// chance of one.
    #[arg(long, default_value_t = 0.2)]
    pub lines: f64,
    /// Chance of a snapshot line of 100 KB to 1 MB at each flush.
    #[arg(long, default_value_t = 0.0003)]
    pub large: f64,
    /// Packages that a host lists when it is asked for its software.
    #[arg(long, default_value_t = 1600)]
    pub packages: usize,
    /// Lines a host keeps; beyond, the oldest are forgotten.
    #[arg(long, default_value_t = 1_000_000)]
    pub buffer_lines: usize,
    /// Hosts in a hundred of a release before 5.23: no Authorization header. A fifth of them are of one
    /// before 5.8, with its rules for discovery, carves and waits.
    #[arg(long, default_value_t = 50)]
    pub old_percent: u32,
    /// Hosts in a hundred of the others that fetch their configuration with an etag, as no release does
    /// yet.
    #[arg(long, default_value_t = 10)]
    pub etag_percent: u32,
    /// Hosts in a hundred that compress their logs.
    #[arg(long, default_value_t = 50)]
    pub gzip_percent: u32,
    /// Hosts in a hundred that use the paths under /api/v1/osquery; the others leave out the v1.
    #[arg(long, default_value_t = 50)]
    pub v1_percent: u32,
    /// Hosts in a thousand whose rows hold bytes that are not UTF-8.
    #[arg(long, default_value_t = 10)]
    pub dirty_permille: u32,
    /// Hosts, from the first, that come in pairs with the same hardware UUID.
    #[arg(long, default_value_t = 0)]
    pub clones: u32,
    /// Longest time a query takes, in milliseconds; zero answers at once.
    #[arg(long, default_value_t = 30)]
    pub query_ms: u64,
    /// Size of a file that is carved, in bytes.
    #[arg(long, default_value_t = 300_000)]
    pub carve_bytes: usize,
    /// Block size of carves, in bytes.
    #[arg(long, default_value_t = 65_536)]
    pub carve_block_bytes: usize,
    /// Not what agents do, but what reaches a server behind a balancer that ends their TLS: all
    /// requests go over this many connections that stay open. Zero: a connection for each request.
    #[arg(long, default_value_t = 0)]
    pub keep_alive: usize,
    /// Loopback addresses that requests come from, when the server is on loopback: each has ports of
    /// its own.
    #[arg(long, default_value_t = 16)]
    pub addresses: u8,
    /// End after this many seconds; without it at Ctrl-C, SIGTERM or `stop` on standard input.
    #[arg(long, value_name = "SECONDS")]
    pub duration: Option<u64>,
    /// Print a report every so many seconds, as a JSON line; always one at the end.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub interval: u64,
    /// Report the buckets that latencies are counted in, for programs that add up several reports.
    #[arg(long)]
    pub buckets: bool,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// After the end, flush what is buffered for this many seconds more, without making new lines.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub drain: u64,
}

impl OsqueryOptions {
    /// Whether a host belongs to the share that a percentage gives; which hosts does not depend on
    /// the other shares.
    pub(crate) fn share(host: u32, salt: u32, of: u32, size: u32) -> bool {
        let mixed = host.wrapping_mul(0x9E37_79B1).wrapping_add(salt.wrapping_mul(0x85EB_CA77));
        (mixed ^ (mixed >> 15)) % of < size
    }
}
