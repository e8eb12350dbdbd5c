//! Identifiers. Numbers that people see are dense and never reused.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How many shards there are. Written into every store; it never changes.
pub const SHARDS: u8 = 64;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = std::num::ParseIntError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

number!(
    /// A tenant. There is one by default, number 1.
    OrgId(u16)
);
number!(
    /// One enrolment of one agent program. Starts at 1, never reused.
    AgentNo(u32)
);
number!(
    /// One machine, as people see it. Starts at 1, never reused.
    EndpointNo(u32)
);
number!(
    /// A hunt, a live query or a collection. Starts at 1, never reused.
    HuntNo(u64)
);
number!(
    /// A label.
    LabelNo(u64)
);
number!(
    /// A file taken from an endpoint. Starts at 1, never reused.
    UploadNo(u64)
);
number!(
    /// A place in the stream: opaque, rising within a shard, with gaps. Zero is before everything.
    Pos(u64)
);
number!(
    /// Raised at each take-over of a lease; fences the previous holder at the rows it writes.
    Epoch(u64)
);
number!(
    /// Raised at each start of an instance.
    Incarnation(u64)
);

impl OrgId {
    /// The organisation every installation has.
    pub const DEFAULT: Self = Self(1);
}

impl AgentNo {
    /// The shard all records of this agent meet in, for ever.
    #[must_use]
    pub fn shard(self) -> Shard {
        Shard((self.0 % u32::from(SHARDS)) as u8)
    }

    /// The index of this agent within its shard, dense.
    #[must_use]
    pub fn local(self) -> u32 {
        self.0 / u32::from(SHARDS)
    }

    /// The inverse of [`AgentNo::shard`] and [`AgentNo::local`]; `None` when it overflows.
    #[must_use]
    pub fn from_parts(shard: Shard, local: u32) -> Option<Self> {
        local.checked_mul(u32::from(SHARDS))?.checked_add(u32::from(shard.0)).map(Self)
    }
}

/// The unit of order and of worker leases: agent number modulo [`SHARDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Shard(u8);

impl Shard {
    /// A shard by number; `None` at or above [`SHARDS`].
    #[must_use]
    pub fn new(n: u8) -> Option<Self> {
        (n < SHARDS).then_some(Self(n))
    }

    /// The number, below [`SHARDS`].
    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }

    /// The number as an index.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// All shards, rising.
    pub fn all() -> impl Iterator<Item = Self> + Clone {
        (0..SHARDS).map(Self)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One server process, for as long as its data folder lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceId(pub Uuid);

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The task of one agent in one hunt. The agent is known from where the identifier stands.
///
/// Redelivery by repeating keeps the attempt; a new attempt is a new identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskId {
    /// The hunt (or live query, or collection).
    pub hunt: HuntNo,
    /// From 1.
    pub attempt: u16,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.hunt, self.attempt)
    }
}
