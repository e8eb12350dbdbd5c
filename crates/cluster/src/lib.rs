//! Which processes run, who of them does what, and the few things they share.
//!
//! An instance registers with one row and renews it with one heartbeat. A lease is the right to
//! work one partition of a [`Job`]; it is alive as long as its holder's heartbeat is. No instance
//! ever calls another: all of this is rows of the catalog, and hints.

mod clash;
mod error;
mod facts;
mod feed;
mod formats;
mod instance;
mod job;
mod lease;
pub mod limit;
mod member;
mod pin;
mod role;
mod round;
pub mod secrets;
mod service;
mod share;
mod wanted;

pub use clash::Clash;
pub use error::Error;
pub use facts::{Facts, Listeners, Load};
pub use feed::FeedCursor;
pub use formats::{Formats, StoredFormat, Written, raise_formats, stored_formats};
pub use instance::{Instance, InstanceInfo, instances};
pub use job::Job;
pub use lease::Held;
#[doc(hidden)]
pub use member::Member;
pub use pin::{BadPin, Pin, Pins};
pub use role::{Role, Roles, UnknownRole};
pub use service::{Cluster, Options, Service};

use muster_catalog::Statement;

/// The statements of this crate, for the tests that prepare all of them.
#[must_use]
pub fn statements() -> Vec<&'static Statement> {
    [formats::STATEMENTS, instance::STATEMENTS, round::STATEMENTS, secrets::STATEMENTS].concat()
}
