//! Counters as plain atomics; whoever serves metrics reads them.

use muster_types::AgentKind;
pub use muster_types::measure::Counter;

/// Why something was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The byte budget is used up; the agent waits.
    Budget,
    /// The agent sends more than its rate; it waits.
    Rate,
    /// The stream is full.
    StreamFull,
    /// The stream cannot be reached.
    StreamUnavailable,
    /// The message is too large.
    Oversize,
    /// The agent could not prove who it is, or is not known.
    Unauthenticated,
    /// Wrong secret or ticket, malformed or untimely enrolment.
    Enrolment,
    /// As many connections as there may be: nobody was accepted until one ended.
    Connections,
    /// Too many connections of one address.
    ConnectionsOfSource,
}

impl Refusal {
    /// All reasons, in the order they are shown.
    pub const ALL: [Self; 9] = [
        Self::Budget,
        Self::Rate,
        Self::StreamFull,
        Self::StreamUnavailable,
        Self::Oversize,
        Self::Unauthenticated,
        Self::Enrolment,
        Self::Connections,
        Self::ConnectionsOfSource,
    ];

    /// The word used as a label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Budget => "budget",
            Self::Rate => "rate",
            Self::StreamFull => "stream_full",
            Self::StreamUnavailable => "stream_unavailable",
            Self::Oversize => "oversize",
            Self::Unauthenticated => "unauthenticated",
            Self::Enrolment => "enrolment",
            Self::Connections => "connections",
            Self::ConnectionsOfSource => "connections_of_source",
        }
    }
}

macro_rules! metrics {
    ($($(#[doc = $help:literal])* $name:ident,)*) => {
        /// What the gateways of one process count.
        #[derive(Debug, Default)]
        pub struct Metrics {
            $($(#[doc = $help])* pub $name: Counter,)*
            refusals: [Counter; Refusal::ALL.len()],
            protocols: [ProtocolMetrics; 2],
        }

        impl Metrics {
            /// Name, help and value of each number, but for refusals.
            #[must_use]
            pub fn read(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![$((stringify!($name), concat!($($help),*), self.$name.get()),)*]
            }
        }
    };
}

metrics! {
    /// Agents connected now.
    sessions,
    /// Connections accepted.
    connections,
    /// Connections open now, agents or not.
    connections_open,
    /// Handshakes and requests that did not finish in time or failed.
    handshakes_failed,
    /// Connections of balancers that did not begin with a good PROXY header.
    proxy_headers_bad,
    /// Messages received.
    frames_in,
    /// Messages sent.
    frames_out,
    /// Bytes of messages received.
    bytes_in,
    /// Bytes of messages sent.
    bytes_out,
    /// Messages made durable and acknowledged.
    appended,
    /// Times that what could not be stored was tried again on the connection it came on.
    append_retries,
    /// Messages kept as objects because of their size.
    claim_checks,
    /// Tasks handed to agents.
    tasks_delivered,
    /// Tasks ended at once because the agent cannot run them.
    tasks_unsupported,
    /// Cancels handed to agents.
    cancels,
    /// Messages that are no messages of their protocol; the connection is closed.
    malformed,
    /// Messages over the size limit; the connection is closed.
    oversize,
    /// Agents that read too slowly or stopped answering; the connection is closed.
    slow,
    /// Connections closed because the same agent opened a newer one.
    replaced,
    /// Copies of an agent that were found and told to take an identity of their own.
    clones,
    /// Lines of agents' own logs that were dropped because the stream was nearly full.
    status_dropped,
    /// Messages with answers to tasks that were refused because the stream was nearly full.
    refused_collected,
    /// Messages with scheduled results that were refused because their share of the stream was full.
    refused_scheduled,
    /// Messages of agents' own logs that were refused or dropped because their share was full.
    refused_status,
    /// Blocks of uploads that were not taken.
    blocks_refused,
    /// Agents enrolled.
    enrolled,
    /// HTTP requests of polling agents that were answered.
    requests,
    /// HTTP requests of polling agents that did not come whole in their time.
    requests_late,
}

/// What one protocol counts, once it is known that a connection speaks it.
#[derive(Debug, Default)]
pub struct ProtocolMetrics {
    /// Connections that began to speak it.
    pub connections: Counter,
    refusals: [Counter; Refusal::ALL.len()],
}

impl ProtocolMetrics {
    /// Refusals for one reason.
    #[must_use]
    pub fn refusals(&self, why: Refusal) -> u64 {
        self.refusals[why as usize].get()
    }
}

impl Metrics {
    /// The counters of one protocol.
    #[must_use]
    pub fn of(&self, kind: AgentKind) -> &ProtocolMetrics {
        &self.protocols[usize::from(kind == AgentKind::Osquery)]
    }

    /// Counts a refusal by one protocol.
    pub fn refused_by(&self, kind: AgentKind, why: Refusal) {
        self.of(kind).refusals[why as usize].inc();
        self.refused(why);
    }

    /// Counts a refusal.
    pub fn refused(&self, why: Refusal) {
        self.refusals[why as usize].inc();
    }

    /// Refusals for one reason.
    #[must_use]
    pub fn refusals(&self, why: Refusal) -> u64 {
        self.refusals[why as usize].get()
    }
}
