//! Running one query: in a child process of its own, which may be killed at any moment.
//!
//! A query never runs inside the agent. The child (`muster agent-query`) reads one [`Request`],
//! limits its own memory, runs the statement over the tables and writes rows and one [`End`]; the
//! parent keeps time and the byte limit and kills what goes beyond. So neither an endless join nor
//! a hostile `group_concat` can touch the agent's process.

mod child;
mod engine;
mod hint;
mod json;
mod protocol;
mod runner;
mod statement;

pub use child::child_main;
pub use engine::{Answer, Bounds, Engine, Error};
pub use protocol::{Chunk, End, Limits, Request};
pub use runner::{Command, Finished, Runner};
