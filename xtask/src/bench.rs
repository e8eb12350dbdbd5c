//! Benchmarks: each measures Muster and its ceiling in one run and prints the ratio.

use std::process::Command;

use crate::steps::{self, cargo};

/// One benchmark.
struct Bench {
    name: &'static str,
    package: &'static str,
    example: &'static str,
    args: &'static [&'static str],
    /// Whether it starts servers: it needs the release binary.
    servers: bool,
}

const fn plain(name: &'static str, package: &'static str, example: &'static str) -> Bench {
    Bench { name, package, example, args: &[], servers: false }
}

const fn with_servers(name: &'static str, args: &'static [&'static str]) -> Bench {
    Bench { name, package: "muster-loadgen", example: "agents_bench", args, servers: true }
}

const fn osquery(name: &'static str, args: &'static [&'static str]) -> Bench {
    Bench { name, package: "muster-loadgen", example: "osquery_bench", args, servers: true }
}

const BENCHES: [Bench; 18] = [
    plain("append", "muster-stream", "append_bench"),
    plain("jetstream", "muster-stream", "jetstream_bench"),
    plain("hint", "muster-bus", "hint_latency"),
    plain("columns", "muster-results", "columns_bench"),
    plain("intake", "muster-intake", "intake_bench"),
    plain("sql", "muster-query", "sql_bench"),
    plain("software", "muster-query", "current_bench"),
    with_servers("agents", &["agents", "--agents", "10000"]),
    with_servers("startup", &["startup", "--agents", "100000"]),
    osquery("osquery-idle", &["idle"]),
    osquery("osquery-mix-kept", &["mix", "--mode", "kept"]),
    osquery("osquery-mix-new", &["mix", "--mode", "new"]),
    osquery("osquery-herd", &["herd"]),
    osquery("osquery-hunt", &["hunt"]),
    osquery("osquery-memory", &["memory"]),
    Bench {
        name: "delivery",
        package: "muster-loadgen",
        example: "cluster_bench",
        args: &["delivery"],
        servers: true,
    },
    Bench {
        name: "catalog",
        package: "muster-loadgen",
        example: "cluster_bench",
        args: &["catalog"],
        servers: true,
    },
    Bench {
        name: "scaling",
        package: "muster-loadgen",
        example: "scaling_bench",
        args: &[],
        servers: true,
    },
];

/// Runs those whose name holds `filter`.
pub fn run(filter: Option<&str>) -> anyhow::Result<()> {
    for bench in BENCHES {
        if filter.is_none_or(|filter| bench.name.contains(filter)) {
            if bench.servers {
                steps::run(&mut cargo(&["build", "--release", "--locked", "-p", "muster"]))?;
            }
            steps::run(&mut command(&bench))?;
        }
    }
    Ok(())
}

fn command(bench: &Bench) -> Command {
    let mut command = cargo(&["run", "--release", "--locked", "-p", bench.package]);
    command.args(["--example", bench.example, "--"]).args(bench.args);
    if bench.servers {
        command.env("MUSTER_BIN", steps::target_dir().join("release/muster"));
    }
    command
}
