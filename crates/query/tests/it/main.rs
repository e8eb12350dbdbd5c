//! SQL over a real catalog and a real archive.

mod access;
mod answers;
mod child;
mod current;
mod inventory;
mod kit;
mod open_tasks;
mod refused;
mod statements;
