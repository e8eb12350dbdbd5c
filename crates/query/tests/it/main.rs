//! SQL over a real catalog and a real archive.

mod access;
mod answers;
mod kit;
mod refused;
