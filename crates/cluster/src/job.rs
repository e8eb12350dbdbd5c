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
}

impl Job {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Shards, Self::Dispatch, Self::Schedule, Self::Compact];

    /// How many partitions it has, for ever.
    #[must_use]
    pub fn partitions(self) -> u16 {
        match self {
            Self::Shards => u16::from(muster_types::SHARDS),
            Self::Dispatch => 16,
            Self::Schedule | Self::Compact => 1,
        }
    }

    /// The role that does it.
    #[must_use]
    pub fn role(self) -> Role {
        match self {
            Self::Shards | Self::Compact => Role::Worker,
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
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|job| job.name() == name)
    }
}
