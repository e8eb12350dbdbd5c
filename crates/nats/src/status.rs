//! What has happened to a connection.

use async_nats::Event;

/// What has happened to a connection so far; numbers only rise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// There is a server now.
    pub connected: bool,
    /// How often there began to be one; all but the first are reconnects.
    pub connects: u64,
    /// How often a subscription dropped messages as nobody read them in time.
    pub slow_consumers: u64,
    /// The server said that it is about to stop; the connection moves on by itself when it does.
    pub lame_duck: bool,
    /// The last error that was told.
    pub last_error: Option<String>,
}

impl Status {
    /// How often a lost connection came back.
    #[must_use]
    pub fn reconnects(&self) -> u64 {
        self.connects.saturating_sub(1)
    }

    pub(crate) fn see(&mut self, event: &Event) {
        match event {
            Event::Connected => {
                self.connected = true;
                self.lame_duck = false;
                self.connects += 1;
            }
            Event::Disconnected | Event::Closed => self.connected = false,
            Event::LameDuckMode => self.lame_duck = true,
            Event::SlowConsumer(_) => self.slow_consumers += 1,
            Event::ServerError(error) => self.last_error = Some(error.to_string()),
            Event::ClientError(error) => self.last_error = Some(error.to_string()),
            Event::Draining => {}
        }
    }
}
