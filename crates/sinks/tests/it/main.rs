//! Sinks against real destinations: servers of these tests that fail, hang and refuse, files, and
//! syslog listeners.

mod elastic;
mod file;
mod http;
mod kit;
mod lag;
mod server;
mod syslog;
