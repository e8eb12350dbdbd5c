//! Checks of statements.
