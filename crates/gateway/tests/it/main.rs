//! The listener and the lean HTTP server, over real TLS.

mod bounds;
mod front;
mod requests;
mod rig;
mod sharing;
