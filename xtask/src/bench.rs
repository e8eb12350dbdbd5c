//! Benchmarks: each measures Muster and its ceiling in one run and prints the ratio.

use crate::steps::{self, cargo};

/// Name, package, example.
const BENCHES: [(&str, &str, &str); 4] = [
    ("append", "muster-stream", "append_bench"),
    ("columns", "muster-results", "columns_bench"),
    ("intake", "muster-intake", "intake_bench"),
    ("sql", "muster-query", "sql_bench"),
];

/// Runs those whose name holds `filter`.
pub fn run(filter: Option<&str>) -> anyhow::Result<()> {
    for (name, package, example) in BENCHES {
        if filter.is_none_or(|filter| name.contains(filter)) {
            steps::run(&mut cargo(&[
                "run",
                "--release",
                "--locked",
                "-p",
                package,
                "--example",
                example,
            ]))?;
        }
    }
    Ok(())
}
