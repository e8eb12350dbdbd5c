//! Admission: whether a message is taken now. Decided here, worded by each gateway as its agents
//! need it: osquery as a non-empty error body, Velociraptor by reading later, Fleetspeak by late
//! acks, native by reading later or a retry-after.

use std::sync::Arc;
use std::time::Duration;

use muster_stream::{Pressure, Stream};
use muster_types::{AgentNo, Class, Clock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::bucket::{Buckets, Rate};
use crate::budget::{Budget, Permit};
use crate::metrics::{Metrics, Refusal};

/// What becomes of a message.
#[derive(Debug)]
pub enum Admission {
    /// Take it; the permit is held until it is appended.
    Go(Permit),
    /// Not before this has passed, and then ask again, or wait with [`Admissions::wait`]. A gateway
    /// whose agents cannot wait words it as a refusal.
    Wait {
        /// Zero when it is only the byte budget that is used up.
        at_least: Duration,
    },
    /// Not now.
    Refuse {
        /// When to come again.
        retry_after: Duration,
    },
    /// Take it off the agent's hands and forget it: it would come again for ever.
    TakeAndDrop {
        /// What to record in its place.
        recorded: &'static str,
    },
}

/// What was done about a message before it was decided on.
#[derive(Debug, Default)]
pub struct Offer {
    /// What was taken from the budget for it.
    pub held: Option<Permit>,
    /// Bytes of it that were [paid](Admissions::pay) for.
    pub paid: usize,
}

/// Bounds on what is taken.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes of messages in flight, all agents together.
    pub budget_bytes: u32,
    /// What one agent may send.
    pub rate: Rate,
    /// Largest message of any agent.
    pub message_bytes_max: usize,
    /// Agents that owe nothing are forgotten this often.
    pub sweep_every: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            budget_bytes: Budget::DEFAULT_BYTES,
            rate: Rate::default(),
            message_bytes_max: 32 << 20,
            sweep_every: Duration::from_secs(60),
        }
    }
}

/// Decides; one per process, shared by all gateways.
#[derive(Debug)]
pub struct Admissions {
    options: Options,
    budget: Budget,
    buckets: Buckets,
    pressure: watch::Receiver<Pressure>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

/// Told to agents while the stream is full.
const FULL_RETRY: Duration = Duration::from_secs(15);

impl Admissions {
    /// Admission in front of this stream.
    #[must_use]
    pub fn new(
        options: Options,
        stream: &dyn Stream,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let budget = Budget::new(options.budget_bytes);
        let buckets = Buckets::new(options.rate);
        Self { options, budget, buckets, pressure: stream.pressure(), clock, metrics }
    }

    /// Decides on one message before its bytes are read.
    #[must_use]
    pub fn ask(&self, agent: AgentNo, class: Class, bytes: usize) -> Admission {
        self.ask_with(agent, class, bytes, Offer::default())
    }

    /// The same after the bytes were read, with what was done about them before.
    #[must_use]
    pub fn ask_with(&self, agent: AgentNo, class: Class, bytes: usize, offer: Offer) -> Admission {
        if bytes > self.options.message_bytes_max {
            self.metrics.refused(Refusal::Oversize);
            return Admission::TakeAndDrop { recorded: "message over the size limit" };
        }
        let pressure = *self.pressure.borrow();
        if class == Class::Status && pressure.used_bytes > pressure.quota_bytes / 10 * 9 {
            self.refused_class(class);
            return Admission::TakeAndDrop { recorded: "status dropped, stream nearly full" };
        }
        if let Err(retry_after) = self.has_room(class) {
            return Admission::Refuse { retry_after };
        }
        let Some(permit) = offer.held.or_else(|| self.budget.try_take(bytes)) else {
            self.metrics.refused(Refusal::Budget);
            return Admission::Wait { at_least: Duration::ZERO };
        };
        let owed = bytes.saturating_sub(offer.paid);
        if (offer.paid == 0 || owed > 0)
            && let Err(at_least) = self.pay(agent, owed)
        {
            return Admission::Wait { at_least };
        }
        Admission::Go(permit)
    }

    /// Whether the stream takes messages of this class: each class has a share of its quota, so that
    /// what is least precious is refused first.
    ///
    /// # Errors
    /// When to come again.
    pub fn has_room(&self, class: Class) -> Result<(), Duration> {
        let pressure = *self.pressure.borrow();
        let limit = pressure.quota_bytes / 100 * muster_stream::share_percent(class);
        // A stream that does not tell its quota judges by itself.
        let is_over = pressure.quota_bytes > 0 && pressure.used_bytes >= limit;
        if pressure.stopped || is_over {
            self.refused_class(class);
            return Err(FULL_RETRY);
        }
        Ok(())
    }

    /// Takes a message of so many bytes from what this agent may send, before it is read: one agent with
    /// many connections holds no more memory than its burst.
    ///
    /// # Errors
    /// How long until it may; nothing was taken.
    pub fn pay(&self, agent: AgentNo, bytes: usize) -> Result<(), Duration> {
        let paid = self.buckets.take(agent, bytes, self.clock.now());
        paid.inspect_err(|_| self.metrics.refused(Refusal::Rate))
    }

    fn refused_class(&self, class: Class) {
        self.metrics.refused(Refusal::StreamFull);
        match class {
            Class::LifeCycle => {}
            Class::Collected => self.metrics.refused_collected.inc(),
            Class::Scheduled => self.metrics.refused_scheduled.inc(),
            Class::Status => self.metrics.refused_status.inc(),
        }
    }

    /// Waits until a message may be taken: for gateways that can leave it unread meanwhile.
    ///
    /// # Errors
    /// When waiting does not help; the verdict, never [`Admission::Go`] or [`Admission::Wait`].
    ///
    /// # Cancel safety
    /// Safe: a dropped call takes nothing but its turn.
    pub async fn wait(
        &self,
        agent: AgentNo,
        class: Class,
        bytes: usize,
    ) -> Result<Permit, Admission> {
        loop {
            match self.ask(agent, class, bytes) {
                Admission::Go(permit) => return Ok(permit),
                Admission::Wait { at_least: Duration::ZERO } => {
                    drop(self.budget.take(bytes).await);
                }
                Admission::Wait { at_least } => tokio::time::sleep(at_least).await,
                verdict => return Err(verdict),
            }
        }
    }

    /// Whether half of the byte budget is free: as long as it is, messages may be kept for what they wait
    /// for, and everybody else has room.
    #[must_use]
    pub fn is_half_free(&self) -> bool {
        self.budget.used() <= self.options.budget_bytes as usize / 2
    }

    /// The byte budget, for those that read large messages.
    #[must_use]
    pub fn budget(&self) -> Budget {
        self.budget.clone()
    }

    /// Bytes in flight now.
    #[must_use]
    pub fn bytes_in_flight(&self) -> usize {
        self.budget.used()
    }

    /// Forgets agents that owe nothing, now and then, until `shutdown`.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let work = async {
            loop {
                tokio::time::sleep(self.options.sweep_every).await;
                self.buckets.sweep(self.clock.now());
            }
        };
        let _: Option<()> = shutdown.run_until_cancelled(work).await;
    }
}

#[cfg(test)]
mod tests {
    use muster_stream::memory::MemoryStream;
    use muster_types::{TestClock, Timestamp};

    use super::*;

    #[tokio::test]
    async fn agents_that_owe_nothing_are_forgotten() {
        let clock = Arc::new(TestClock::new(Timestamp(1_000_000_000)));
        let options = Options { sweep_every: Duration::from_millis(5), ..Options::default() };
        let metrics = Arc::new(Metrics::default());
        let admissions = Admissions::new(options, &MemoryStream::new(), clock.clone(), metrics);
        let admissions = Arc::new(admissions);
        for agent in 0..1000 {
            admissions.pay(AgentNo(agent), 1 << 20).unwrap();
        }
        assert_eq!(admissions.buckets.tracked(), 1000);
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(admissions.clone().run(shutdown.clone()));
        clock.advance(Duration::from_secs(1));
        let swept = async {
            while admissions.buckets.tracked() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), swept).await.expect("nobody sweeps");
        shutdown.cancel();
        running.await.unwrap();
    }
}
