//! The listeners of one process.

use std::net::{SocketAddr, TcpListener};

use crate::config::{Config, Skipped};

/// The listeners of one process, bound.
pub struct Listeners {
    /// For people and programs.
    pub operators: TcpListener,
    /// For agents.
    pub agents: TcpListener,
    /// Health and metrics.
    pub metrics: TcpListener,
    /// Ports that others had, for the operator to see.
    pub skipped: Vec<Skipped>,
}

impl Listeners {
    /// Binds what the configuration asks for.
    ///
    /// # Errors
    /// When no port of a range is free.
    pub fn bind(config: &Config) -> anyhow::Result<Self> {
        let (operators, mut skipped) = config.listeners.operators.bind()?;
        let (agents, more) = config.listeners.agents.bind()?;
        skipped.extend(more);
        let (metrics, more) = config.listeners.metrics.bind()?;
        skipped.extend(more);
        Ok(Self { operators, agents, metrics, skipped })
    }
}

/// Where a listener is bound.
pub fn address(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().expect("a bound socket has an address")
}
