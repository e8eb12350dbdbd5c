//! Evidence to be found.

use std::fmt;
use std::str::FromStr;

/// A kind of evidence, each visible in several tables, as the real thing would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Plant {
    /// `crontab`, `file`, `hash`: `/etc/cron.d/sysstat-update` fetches and runs a script every seven
    /// minutes.
    CronDropper,
    /// `processes`, `process_open_sockets`: `/dev/shm/.x/kdevtmpfsi` mines, connected to
    /// 203.0.113.77:3333.
    Miner,
    /// `users`: a second account with uid 0, `support2`.
    RootTwin,
    /// `processes`, `listening_ports`: `nc` listens on 0.0.0.0:31337.
    ShellListener,
    /// `processes`: `/tmp/.update` runs although its file is gone (`on_disk` = 0).
    DeletedBinary,
}

/// A plant and on how many endpoints it stands: `cron-dropper=3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlantCount {
    /// Which.
    pub plant: Plant,
    /// On how many.
    pub count: u32,
}

/// Not the name of a plant, or not a count.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0:?} is no plant; write NAME=COUNT with one of {names}", names = Plant::names())]
pub struct UnknownPlant(String);

impl Plant {
    /// All plants.
    pub const ALL: [Self; 5] =
        [Self::CronDropper, Self::Miner, Self::RootTwin, Self::ShellListener, Self::DeletedBinary];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CronDropper => "cron-dropper",
            Self::Miner => "miner",
            Self::RootTwin => "root-twin",
            Self::ShellListener => "shell-listener",
            Self::DeletedBinary => "deleted-binary",
        }
    }

    fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }
}

impl fmt::Display for Plant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for PlantCount {
    type Err = UnknownPlant;

    fn from_str(text: &str) -> Result<Self, UnknownPlant> {
        let unknown = || UnknownPlant(text.to_owned());
        let (name, count) = text.split_once('=').ok_or_else(unknown)?;
        let plant = Plant::ALL.into_iter().find(|plant| plant.name() == name);
        Ok(Self { plant: plant.ok_or_else(unknown)?, count: count.parse().map_err(|_| unknown())? })
    }
}
