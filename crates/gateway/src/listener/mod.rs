//! One port for all agents: TLS, and then whichever protocol claims the connection.
//!
//! - [`Protocol`]: a protocol on the port.
//! - [`Proxies`]: whose word about the agent's address counts.

mod options;
mod protocol;
mod proxies;
mod shutdown;

pub use options::ListenerOptions;
pub use protocol::{FIRST_BYTES_MAX, Opened, Opening, Protocol, Tls};
pub use proxies::Proxies;
pub use shutdown::Shutdown;
