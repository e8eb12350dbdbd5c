//! The wire of osquery agents: what they post, what they are answered, and what is kept of it.
