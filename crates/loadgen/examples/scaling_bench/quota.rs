//! A share of a core for a process and its children.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Length of the kernel's accounting period; short, so that a server is never away for long.
const PERIOD_MICROS: u32 = 20_000;

/// A control group; its processes go back when this is dropped.
pub struct Quota {
    folder: PathBuf,
    parent: PathBuf,
}

impl Quota {
    /// A group that may use `percent` of a core.
    pub fn new(index: usize, percent: u32) -> anyhow::Result<Self> {
        let micros = PERIOD_MICROS / 100 * percent;
        let name = format!("muster-bench-{}-{index}", std::process::id());
        for root in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new) {
            let controllers = fs::read_to_string(root.join("cgroup.controllers"));
            if controllers.is_ok_and(|text| text.split_whitespace().any(|word| word == "cpu")) {
                // Allowed only where nobody sits in the root.
                let _ = fs::write(root.join("cgroup.subtree_control"), "+cpu");
                let quota = Self { folder: root.join(&name), parent: root.to_owned() };
                fs::create_dir(&quota.folder)?;
                fs::write(quota.folder.join("cpu.max"), format!("{micros} {PERIOD_MICROS}"))
                    .context("set cpu.max")?;
                return Ok(quota);
            }
        }
        let old = Path::new("/sys/fs/cgroup/cpu");
        if !old.join("cpu.cfs_quota_us").exists() && !old.join("tasks").exists() {
            bail!("there is no control group for processor time here; run as root");
        }
        let quota = Self { folder: old.join(&name), parent: old.to_owned() };
        fs::create_dir(&quota.folder)?;
        fs::write(quota.folder.join("cpu.cfs_period_us"), PERIOD_MICROS.to_string())?;
        fs::write(quota.folder.join("cpu.cfs_quota_us"), micros.to_string())?;
        Ok(quota)
    }

    /// Puts a process into it, all of its threads.
    pub fn with(self, pid: u32) -> anyhow::Result<Self> {
        fs::write(self.folder.join("cgroup.procs"), pid.to_string()).context("limit a process")?;
        Ok(self)
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        let members = fs::read_to_string(self.folder.join("cgroup.procs")).unwrap_or_default();
        for pid in members.lines() {
            let _ = fs::write(self.parent.join("cgroup.procs"), pid);
        }
        let _ = fs::remove_dir(&self.folder);
    }
}
