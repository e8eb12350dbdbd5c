//! One port for all agents: TLS, and then whichever protocol claims the connection.
//!
//! - [`serve`]: accepts within bounds, and drains.
//! - [`Protocol`]: a protocol on the port.
//! - [`Proxies`]: whose word about the agent's address counts.

mod connection;
mod fallback;
mod options;
mod protocol;
mod proxies;
mod rewound;
mod serve;
mod shutdown;
mod sources;

pub use options::ListenerOptions;
pub use protocol::{FIRST_BYTES_MAX, Opened, Opening, Protocol, Tls};
pub use proxies::Proxies;
pub(crate) use proxies::source_of;
pub use serve::serve;
pub use shutdown::Shutdown;
