//! To a server: TCP (through a proxy where one is set), TLS against pinned CAs, HTTP, WebSocket.

mod dial;
mod http;
mod proxy;
mod trust;
mod url;

pub use dial::{Connection, Dialer, Error, Socket};
pub use http::{Response, get, post_json, websocket};
pub use proxy::{Proxy, ProxyRules};
pub use trust::{CaError, CaSet};
pub use url::{BadUrl, ServerUrl};
