//! The bus plane: hints, at most once. Losing one costs latency, never correctness.

mod api;

pub use api::{Bus, Hint, Subscription, Topic};
