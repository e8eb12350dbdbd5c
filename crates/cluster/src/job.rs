//! What is leased.

use crate::Role;

/// Work that is cut into partitions, each done by one instance at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Job {
    /// Folding: a partition is a shard.
    Shards,
    /// Recruiting for hunts: a partition is a hash of the hunt.
    Dispatch,
    /// Scheduled tasks.
    Schedule,
    /// Compaction, sweeping and retention of the archive.
    Compact,
    /// Sending rows to log destinations: a partition is a hash of the sink.
    Sinks,
    /// Storing uploads whose blocks are in.
    Uploads,
    /// No work: a partition is a share of the limits on enrolments.
    Enrolments,
    /// No work: a partition is a share of the limits on requests of people and programs.
    Requests,
}

impl Job {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Shards,
        Self::Dispatch,
        Self::Schedule,
        Self::Compact,
        Self::Sinks,
        Self::Uploads,
        Self::Enrolments,
        Self::Requests,
    ];

    /// How many partitions it has, for ever.
    #[must_use]
    pub fn partitions(self) -> u16 {
        match self {
            Self::Shards => u16::from(muster_types::SHARDS),
            Self::Dispatch | Self::Sinks => 16,
            Self::Schedule | Self::Compact | Self::Uploads => 1,
            Self::Enrolments | Self::Requests => crate::limit::SHARES,
        }
    }

    /// The role that does it.
    #[must_use]
    pub fn role(self) -> Role {
        match self {
            Self::Shards | Self::Compact | Self::Sinks | Self::Uploads => Role::Worker,
            Self::Dispatch | Self::Schedule => Role::Scheduler,
            Self::Enrolments => Role::Frontend,
            Self::Requests => Role::Api,
        }
    }

    /// The name in the catalog.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Shards => "shards",
            Self::Dispatch => "dispatch",
            Self::Schedule => "schedule",
            Self::Compact => "compact",
            Self::Sinks => "sinks",
            Self::Uploads => "uploads",
            Self::Enrolments => "enrolments",
            Self::Requests => "requests",
        }
    }

    /// Whether its partitions are shares of a limit, which are kept without sight of the catalog and
    /// taken over late.
    #[must_use]
    pub fn is_share(self) -> bool {
        matches!(self, Self::Enrolments | Self::Requests)
    }

    /// The job of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|job| job.name() == name)
    }
}
