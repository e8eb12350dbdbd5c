//! How busy this process is, as it tells the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use muster_cluster::Load;
use muster_gateway::{Admissions, Metrics, Sessions};
use muster_stream::Pressure;
use tokio::sync::watch;

/// From when on an instance is not to be sent anybody any more.
#[derive(Clone, Debug, Default)]
pub struct Draining(Arc<AtomicBool>);

impl Draining {
    /// From now on.
    pub fn begin(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Where the numbers come from.
pub struct Busy {
    pub metrics: Arc<Metrics>,
    pub sessions: Arc<Sessions>,
    pub admissions: Arc<Admissions>,
    pub pressure: watch::Receiver<Pressure>,
    pub draining: Draining,
    cpu: Option<(Instant, u64)>,
}

impl Busy {
    /// With nothing measured yet.
    pub fn new(
        metrics: Arc<Metrics>,
        sessions: Arc<Sessions>,
        admissions: Arc<Admissions>,
        pressure: watch::Receiver<Pressure>,
        draining: Draining,
    ) -> Self {
        Self { metrics, sessions, admissions, pressure, draining, cpu: None }
    }

    /// How busy it is now; CPU since the last time.
    pub fn tell(&mut self) -> Load {
        let pressure = *self.pressure.borrow();
        Load {
            connections: self.metrics.connections_open.get(),
            sessions: self.sessions.len() as u64,
            bytes_in_flight: self.admissions.bytes_in_flight() as u64,
            backlog_bytes: pressure.used_bytes,
            backlog_max_bytes: pressure.quota_bytes,
            cpu_percent: self.cpu_percent(),
            memory_bytes: resident_bytes().unwrap_or(0),
            draining: self.draining.0.load(Ordering::Acquire),
        }
    }

    fn cpu_percent(&mut self) -> u32 {
        let (Some(used), now) = (cpu_ms(), Instant::now()) else { return 0 };
        let before = self.cpu.replace((now, used));
        let Some((at, before)) = before else { return 0 };
        let passed = u64::try_from(now.duration_since(at).as_millis()).unwrap_or(u64::MAX).max(1);
        u32::try_from(used.saturating_sub(before) * 100 / passed).unwrap_or(u32::MAX)
    }
}

/// CPU time of this process so far, in milliseconds; user and system.
fn cpu_ms() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // After the name, which may hold anything: fields 14 and 15 of proc(5), in ticks of 10 ms.
    let rest = stat.rsplit_once(')')?.1;
    let mut fields = rest.split_whitespace().skip(11).map(str::parse::<u64>);
    Some((fields.next()?.ok()? + fields.next()?.ok()?) * 10)
}

fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernel_is_read_rightly() {
        let began = std::time::Instant::now();
        while super::cpu_ms().unwrap() < 20 {
            assert!(began.elapsed().as_secs() < 20, "no CPU time is seen");
        }
        let resident = super::resident_bytes().unwrap();
        assert!((1 << 20..1 << 34).contains(&resident), "{resident}");
    }
}
