//! One port for all agents: TLS, and then whichever protocol claims the connection.
//!
//! - [`serve`]: accepts within bounds, and drains.
//! - [`Protocol`]: a protocol on the port.
//! - [`Front`]: what stands in front of it: whose word about the agent's address counts, by
//!   `X-Forwarded-For` or the PROXY protocol, and where TLS ends.

mod connection;
mod fallback;
mod forwarded;
mod front;
mod options;
mod protocol;
mod proxies;
mod proxy_protocol;
mod rewound;
mod serve;
mod shutdown;
mod sources;
mod wire;

pub use forwarded::ForwardedFor;
pub use front::{Front, TlsEnds};
pub use options::ListenerOptions;
pub use protocol::{FIRST_BYTES_MAX, Opened, Opening, Protocol};
pub use proxies::Proxies;
pub(crate) use proxies::source_of;
pub use serve::serve;
pub use shutdown::Shutdown;
pub use wire::{Stream, Wire};
