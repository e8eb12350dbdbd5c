//! The tests of whole systems are in `tests/`; they need `MUSTER_BIN`, see `cargo xtask test`.
