//! The command line's side of the API: contexts, HTTP, and errors that become exit codes.

mod context;
mod error;
mod http;
mod sse;

pub use context::{Context, Contexts};
pub use error::{CliError, Exit};
pub use http::Client;
pub use sse::{Event, Events};
