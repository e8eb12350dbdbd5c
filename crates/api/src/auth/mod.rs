//! Who asks: passwords, tokens, sessions, and the principal made of them.

pub(crate) mod allowance;
pub mod bootstrap;
pub mod login;
pub mod password;
pub mod principal;
pub(crate) mod requests;
pub mod store;
pub mod throttle;
pub mod token;
