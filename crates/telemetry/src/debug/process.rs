//! What the system says of this process. Never its environment's values, nor its arguments as they are.

use rustix::process::{Resource, getrlimit};
use serde_json::{Value, json};

use crate::redact::redact_arguments;

/// Files of `/proc` that hold no secrets.
const FILES: [&str; 14] = [
    "self/status",
    "self/limits",
    "self/stat",
    "self/io",
    "self/sched",
    "self/smaps_rollup",
    "self/cgroup",
    "self/net/sockstat",
    "self/net/sockstat6",
    "loadavg",
    "meminfo",
    "stat",
    "uptime",
    "version",
];
/// And of a control group, where there is one.
const CGROUP: [&str; 5] = ["cpu.max", "cpu.stat", "memory.current", "memory.max", "memory.events"];

/// Name in the archive and text.
pub(super) fn files() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for file in FILES {
        // Newer or older kernels lack some of them.
        if let Ok(text) = std::fs::read_to_string(format!("/proc/{file}")) {
            found.push((format!("proc/{}", file.replace('/', "-")), text));
        }
    }
    let group = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = group.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/").to_owned();
    for file in CGROUP {
        if let Ok(text) = std::fs::read_to_string(format!("/sys/fs/cgroup{group}/{file}")) {
            found.push((format!("cgroup/{file}"), text));
        }
    }
    found
}

/// Command line without secrets, names of the environment, limits.
pub(super) fn about() -> Value {
    let mut names: Vec<String> =
        std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
    names.sort();
    let arguments = std::env::args_os().map(|text| text.to_string_lossy().into_owned());
    let limit = |resource| {
        let limit = getrlimit(resource);
        json!({"current": limit.current, "maximum": limit.maximum})
    };
    json!({
        "pid": std::process::id(),
        "arguments": redact_arguments(arguments),
        "environment_names": names,
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "limits": {
            "open_files": limit(Resource::Nofile),
            "processes": limit(Resource::Nproc),
            "address_space_bytes": limit(Resource::As),
            "core_bytes": limit(Resource::Core),
        },
    })
}
