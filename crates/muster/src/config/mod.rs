//! Configuration: one YAML file, below the environment, below flags.
//!
//! Unknown keys are refused with a suggestion. Environment variables are `MUSTER_` and the path of
//! the key with two underscores between its parts: `MUSTER_LOG__LEVEL=debug`.

mod front;
mod listen;
mod load;
mod model;
mod network;
mod port_owner;
mod sample;
mod units;

pub use listen::{Listen, Skipped};
pub use load::{Overrides, load};
pub use model::{Config, ListenerName, LogConfig, LogFormat, OsqueryIdentifier, RoleName};
pub use network::Network;
pub use sample::{redacted_yaml, sample, schema};
pub use units::{Size, Span};
