//! The codec through its public functions.

mod bodies;
mod kit;
mod logs;
mod never_panics;
mod writes;
