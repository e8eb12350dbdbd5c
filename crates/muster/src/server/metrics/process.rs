//! What the system says of this process, under the names that all programs use.

use std::fmt::Error;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use rustix::process::{Resource, getrlimit};

use super::out::{BYTES, Out, PLAIN, SECONDS};

/// Reads `/proc/self` when it is asked; without it there are no such metrics.
#[derive(Debug)]
pub struct Process;

impl Collector for Process {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut out = Out(encoder);
        let Ok(process) = procfs::process::Process::myself() else { return Ok(()) };
        if let Ok(stat) = process.stat() {
            let ticks = procfs::ticks_per_second() as f64;
            let cpu = (stat.utime + stat.stime) as f64 / ticks;
            out.seconds("process_cpu", "Processor time of all threads", cpu)?;
            let page = procfs::page_size();
            out.gauge("process_resident_memory", "Memory in use", BYTES, stat.rss * page)?;
            out.gauge("process_virtual_memory", "Address space in use", BYTES, stat.vsize)?;
            let threads = stat.num_threads.unsigned_abs();
            out.gauge("process_threads", "Threads", PLAIN, threads)?;
            if let Ok(boot) = procfs::boot_time_secs() {
                let started = boot as f64 + stat.starttime as f64 / ticks;
                let help = "When the process started, since 1970";
                out.gauges("process_start_time", help, SECONDS, [(&[] as _, started)])?;
            }
        }
        if let Ok(open) = process.fd_count() {
            out.gauge("process_open_fds", "Open files", PLAIN, open as u64)?;
        }
        let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        out.gauge("process_max_fds", "Files that may be open", PLAIN, most)
    }
}
