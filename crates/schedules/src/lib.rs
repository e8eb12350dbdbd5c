//! What agents run by themselves, and the configuration they are given.
