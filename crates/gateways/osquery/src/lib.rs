//! The gateway of osquery agents.
