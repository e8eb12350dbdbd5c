//! The SQL child as a program of its own, for this crate's tests.

fn main() -> std::process::ExitCode {
    muster_query::worker_main()
}
