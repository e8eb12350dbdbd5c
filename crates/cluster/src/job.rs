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
}

impl Job {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Shards, Self::Dispatch, Self::Schedule, Self::Compact, Self::Sinks, Self::Uploads];

    /// How many partitions it has, for ever.
    #[must_use]
    pub fn partitions(self) -> u16 {
        match self {
            Self::Shards => u16::from(muster_types::SHARDS),
            Self::Dispatch | Self::Sinks => 16,
            Self::Schedule | Self::Compact | Self::Uploads => 1,
        }
    }

    /// The role that does it.
    #[must_use]
    pub fn role(self) -> Role {
        match self {
            Self::Shards | Self::Compact | Self::Sinks | Self::Uploads => Role::Worker,
            Self::Dispatch | Self::Schedule => Role::Scheduler,
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
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|job| job.name() == name)
    }
}
