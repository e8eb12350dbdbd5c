//! The SQL child as a program of its own, for this crate's tests: `muster sql-worker` needs no more.

fn main() -> std::process::ExitCode {
    muster_query::worker_main()
}
