//! `processes`: one row per process.

use crate::table::{Column, Row, Rows, Scan, Table, Value, hash};

use super::procfs::{boot_time, field, kilobytes, link, numbers, pids, read};

/// The table.
pub(super) struct Processes;

const COLUMNS: &[Column] = &[
    Column::big("pid").index(),
    Column::text("name"),
    Column::text("path"),
    Column::text("cmdline"),
    Column::text("state"),
    Column::text("cwd"),
    Column::text("root"),
    Column::big("uid"),
    Column::big("gid"),
    Column::big("euid"),
    Column::big("egid"),
    Column::big("suid"),
    Column::big("sgid"),
    Column::int("on_disk"),
    Column::big("wired_size"),
    Column::big("resident_size"),
    Column::big("total_size"),
    Column::big("user_time"),
    Column::big("system_time"),
    Column::big("disk_bytes_read"),
    Column::big("disk_bytes_written"),
    Column::big("start_time"),
    Column::big("parent"),
    Column::big("pgroup"),
    Column::int("threads"),
    Column::int("nice"),
    Column::text("cgroup_path"),
    // Windows and macOS.
    Column::int("elevated_token").hidden(),
    Column::int("secure_process").hidden(),
    Column::text("protection_type").hidden(),
    Column::int("virtual_process").hidden(),
    Column::big("elapsed_time").hidden(),
    Column::big("handle_count").hidden(),
    Column::big("percent_processor_time").hidden(),
    Column::big("upid").hidden(),
    Column::big("uppid").hidden(),
    Column::int("cpu_type").hidden(),
    Column::int("cpu_subtype").hidden(),
    Column::int("translated").hidden(),
];

/// Columns that each cost a file of their own.
const PATH: usize = 2;
const CMDLINE: usize = 3;
const CWD: usize = 5;
const ROOT: usize = 6;
const ON_DISK: usize = 13;
const READ: usize = 19;
const WRITTEN: usize = 20;
const CGROUP: usize = 26;

impl Table for Processes {
    fn name(&self) -> &'static str {
        "processes"
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn identity(&self, row: &[Value]) -> u64 {
        hash(row.get(..1).unwrap_or_default())
    }

    fn rows(&self, scan: &Scan) -> Rows {
        let scan = scan.clone();
        let boot = boot_time();
        let pids = pids(scan.equals_int(0));
        Box::new(pids.into_iter().filter_map(move |pid| row(pid, boot, &scan)))
    }
}

/// One process; `None` when it has gone.
fn row(pid: i64, boot: Option<i64>, scan: &Scan) -> Option<Row> {
    let dir = format!("/proc/{pid}");
    let file = |name: &str| format!("{dir}/{name}");
    let stat = Stat::parse(&read(file("stat"))?)?;
    let status = read(file("status"))?;
    let (uids, gids) = (numbers(&status, "Uid:"), numbers(&status, "Gid:"));
    let id = |ids: &[i64], at: usize| ids.get(at).copied();

    let exe = if scan.uses(PATH) || scan.uses(ON_DISK) { link(file("exe")) } else { None };
    let (path, on_disk) = match exe {
        Some(path) => match path.strip_suffix(" (deleted)") {
            Some(path) => (path.to_owned(), 0),
            None => (path, 1),
        },
        // A kernel thread, or not ours to look at.
        None => (String::new(), -1),
    };
    let io = (scan.uses(READ) || scan.uses(WRITTEN)).then(|| read(file("io"))).flatten();
    let io = |key: &str| io.as_deref().and_then(|io| numbers(io, key).first().copied());
    let linked = |column: usize, name: &str| {
        Value::from(if scan.uses(column) { link(file(name)) } else { None })
    };
    let milliseconds = |ticks: i64| ticks.saturating_mul(1000) / ticks_per_second();
    let cgroup = if scan.uses(CGROUP) { read(file("cgroup")) } else { None };

    Some(vec![
        pid.into(),
        stat.name.into(),
        path.into(),
        if scan.uses(CMDLINE) { cmdline(&dir) } else { Value::Null },
        stat.state.into(),
        linked(CWD, "cwd"),
        linked(ROOT, "root"),
        id(&uids, 0).into(),
        id(&gids, 0).into(),
        id(&uids, 1).into(),
        id(&gids, 1).into(),
        id(&uids, 2).into(),
        id(&gids, 2).into(),
        on_disk.into(),
        0.into(),
        kilobytes(&status, "VmRSS:").unwrap_or(0).into(),
        kilobytes(&status, "VmSize:").unwrap_or(0).into(),
        milliseconds(stat.user_ticks).into(),
        milliseconds(stat.system_ticks).into(),
        io("read_bytes:").into(),
        io("write_bytes:").into(),
        boot.map(|boot| boot + stat.start_ticks / ticks_per_second()).into(),
        stat.parent.into(),
        stat.group.into(),
        field(&status, "Threads:").and_then(|text| text.parse::<i64>().ok()).into(),
        stat.nice.into(),
        cgroup.as_deref().and_then(cgroup_path).into(),
    ])
}

fn ticks_per_second() -> i64 {
    rustix::param::clock_ticks_per_second().cast_signed().max(1)
}

/// The arguments, with spaces where the kernel has NULs; what is not UTF-8 is replaced.
fn cmdline(dir: &str) -> Value {
    read(format!("{dir}/cmdline")).map(|text| text.trim_end_matches('\0').replace('\0', " ")).into()
}

/// The unified hierarchy's path, else the first one named.
fn cgroup_path(text: &str) -> Option<String> {
    let unified = text.lines().find_map(|line| line.strip_prefix("0::"));
    let first = || text.lines().next().and_then(|line| line.splitn(3, ':').nth(2));
    unified.or_else(first).map(str::to_owned)
}

/// The fields of `/proc/PID/stat` (proc_pid_stat(5)).
#[derive(Debug, PartialEq)]
struct Stat {
    name: String,
    state: String,
    parent: i64,
    group: i64,
    user_ticks: i64,
    system_ticks: i64,
    nice: i64,
    start_ticks: i64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name stands in parentheses and may hold any character, parentheses and spaces too.
        let (_, rest) = text.split_once('(')?;
        let (name, rest) = rest.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        // `fields[0]` is field 3 of the manual page.
        let number = |field: usize| fields.get(field - 3)?.parse::<i64>().ok();
        Some(Self {
            name: name.to_owned(),
            state: (*fields.first()?).to_owned(),
            parent: number(4)?,
            group: number(5)?,
            user_ticks: number(14)?,
            system_ticks: number(15)?,
            nice: number(19)?,
            start_ticks: number(22)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_is_read_whole() {
        let text = "7 (a) (b c) S 1 2 3 0 -1 4194560 1 2 3 4 50 60 7 8 20 -5 1 0 9000 0 0";
        let stat = Stat::parse(text).unwrap();
        assert_eq!(stat.name, "a) (b c");
        assert_eq!((stat.state.as_str(), stat.parent, stat.group), ("S", 1, 2));
        assert_eq!((stat.user_ticks, stat.system_ticks), (50, 60));
        assert_eq!((stat.nice, stat.start_ticks), (-5, 9000));
    }

    #[test]
    fn the_costly_columns_stand_where_they_are_looked_for() {
        let names = [
            (PATH, "path"),
            (CMDLINE, "cmdline"),
            (CWD, "cwd"),
            (ROOT, "root"),
            (ON_DISK, "on_disk"),
            (READ, "disk_bytes_read"),
            (WRITTEN, "disk_bytes_written"),
            (CGROUP, "cgroup_path"),
        ];
        for (at, name) in names {
            assert_eq!(COLUMNS[at].name, name);
        }
    }

    #[test]
    fn the_unified_cgroup_wins() {
        assert_eq!(cgroup_path("1:cpu:/a\n0::/b\n").as_deref(), Some("/b"));
        assert_eq!(cgroup_path("1:cpu:/a:c\n").as_deref(), Some("/a:c"));
    }
}
