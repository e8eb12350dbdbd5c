//! Processor time of processes with their children.

use std::collections::HashMap;

/// Seconds that processes, their children, and children that have ended have used.
pub fn cpu(roots: &[u32]) -> f64 {
    let mut table: HashMap<u32, (u32, u64)> = HashMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
        if let Some(read) = read(pid) {
            table.insert(pid, read);
        }
    }
    let belongs = |mut pid: u32| {
        while let Some((parent, _)) = table.get(&pid) {
            if roots.contains(&pid) {
                return true;
            }
            pid = *parent;
        }
        false
    };
    let ticks: u64 = table.iter().filter(|(pid, _)| belongs(**pid)).map(|(_, (_, t))| t).sum();
    ticks as f64 / rustix::param::clock_ticks_per_second().max(1) as f64
}

/// Parent, and ticks of the process and of its children that have ended.
fn read(pid: u32) -> Option<(u32, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let ticks = (11..=14).map(number).sum::<Option<u64>>()?;
    Some((u32::try_from(number(1)?).ok()?, ticks))
}
