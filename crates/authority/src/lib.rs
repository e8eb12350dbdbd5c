//! The CAs of an installation.
//!
//! Agents and people trust them, and nobody else, to vouch for the servers. They are kept in the catalog,
//! their keys sealed. One of them signs the servers' certificates. Another can be added, which agents are
//! told to trust as well; when all know it, it signs instead; then the first is retired.

mod authorities;
mod authority;
mod error;
mod stored;

pub use authorities::{Authorities, CAS_MAX, Known, add_in, retire_in, sign_in};
pub use authority::{Authority, Leaf, LeafPem};
pub use error::Error;
pub use stored::NAME;
