//! Telemetry through real stores and real sockets.

mod debug;
mod statements;
mod traces;
