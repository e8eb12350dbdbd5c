//! From the stream to the archive: the fold, the worker that commits what it comes to, and the janitor.

pub mod fold;
