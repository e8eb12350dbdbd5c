//! The bus plane: hints, at most once. Losing one costs latency, never correctness.
//!
//! [`local::LocalBus`] is the embedded bus; [`nats`] joins instances, [`relay`] processes of one
//! machine. [`conformance`] holds every implementation to the contract of [`Bus`].

mod api;
pub mod conformance;
mod counted;
pub mod local;
pub mod nats;
pub mod relay;
mod ring;

pub use api::{Bus, Hint, Subscription, Topic};
pub use counted::CountedBus;
