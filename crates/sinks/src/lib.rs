//! Log destinations: rows of results to the systems people already watch.
//!
//! A sink reads what workers have committed, by the manifest and never from the stream, so a dead
//! destination holds nothing but itself. Its place is one stream position per shard, kept in the
//! catalog; the rows behind it are found through the commit numbers of segments, whatever
//! compaction has made of them meanwhile. One instance works a sink at a time, by lease and epoch.
//!
//! What is promised: every row that is in the archive when its turn comes reaches the destination at
//! least once, in the order of its agent, under an id that is the same at every attempt. What is
//! not: rows that retention or a deletion took away first. They are counted and shown.

mod backoff;
mod cells;
mod check;
mod deliver;
mod destination;
mod error;
mod event;
mod filter;
mod gauges;
mod head;
mod marks;
mod model;
mod part;
mod position;
mod progress;
mod pump;
mod read;
mod service;
mod sinks;
mod store;
mod window;
mod windows;

pub use error::{Error, Refusal};
pub use event::ENVELOPE_VERSION;
pub use filter::Filter;
pub use gauges::{Gauge, Gauges};
pub use model::{Batch, Destination, ElasticAuth, NewSink, Sink, SyslogTransport, WebhookFormat};
pub use progress::{Progress, RefusedRow, Status};
pub use service::{Deps, Options, Service};
pub use sinks::Sinks;

use muster_catalog::Statement;

/// The statements of this crate, for the tests that prepare all of them.
#[must_use]
pub fn statements() -> Vec<&'static Statement> {
    [head::STATEMENTS, marks::STATEMENTS, progress::STATEMENTS, read::STATEMENTS, store::STATEMENTS]
        .concat()
}
