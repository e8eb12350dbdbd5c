//! The query child alone, for the tests: what `muster agent-query` is in the real program.

fn main() -> std::process::ExitCode {
    muster_agent::query::child_main()
}
