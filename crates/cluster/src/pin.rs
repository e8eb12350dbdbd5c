//! Pins: which part of a job an instance does, decided by people instead of by hashing.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Job;

/// Part `k` of `n` of a job, written `2/3`: of its partitions every `n`th, from the `k`th on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pin {
    k: u16,
    n: u16,
}

/// Not a part of a job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPin {
    /// Not two numbers, or not in order.
    #[error("{0:?} is no part; write for example \"2/3\" for the second of three")]
    NoPart(String),
    /// There is no such job.
    #[error("there is no job {0:?} to pin; jobs are {jobs}", jobs = names())]
    NoJob(String),
    /// More parts than the job has partitions.
    #[error("{job} has {most} partitions and cannot be cut into {parts} parts", most = job.partitions(), job = job.name())]
    TooMany {
        /// Which job.
        job: Job,
        /// Into how many.
        parts: u16,
    },
}

fn names() -> String {
    Job::ALL
        .iter()
        .filter(|job| !job.is_share())
        .map(|job| job.name())
        .collect::<Vec<_>>()
        .join(", ")
}

impl Pin {
    /// Whether a partition belongs to this part.
    #[must_use]
    pub fn holds(self, partition: u16) -> bool {
        partition % self.n == self.k - 1
    }

    /// Into how many parts the job is cut.
    #[must_use]
    pub fn parts(self) -> u16 {
        self.n
    }
}

impl FromStr for Pin {
    type Err = BadPin;

    fn from_str(text: &str) -> Result<Self, BadPin> {
        let bad = || BadPin::NoPart(text.to_owned());
        let (k, n) = text.split_once('/').ok_or_else(bad)?;
        let number = |text: &str| text.trim().parse::<u16>().map_err(|_| bad());
        let (k, n) = (number(k)?, number(n)?);
        if (1..=n).contains(&k) { Ok(Self { k, n }) } else { Err(bad()) }
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.k, self.n)
    }
}

/// The parts an instance is pinned to, by job; a job that is not named is shared as ever.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Pins(BTreeMap<Job, Pin>);

impl Pins {
    /// Reads names of jobs and their parts.
    ///
    /// # Errors
    /// [`BadPin`].
    pub fn parse<'a>(
        pins: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) -> Result<Self, BadPin> {
        let read = |(name, part): (&String, &String)| {
            let job = Job::from_name(name).filter(|job| !job.is_share());
            let job = job.ok_or_else(|| BadPin::NoJob(name.clone()))?;
            let pin: Pin = part.parse()?;
            if pin.n > job.partitions() {
                return Err(BadPin::TooMany { job, parts: pin.n });
            }
            Ok((job, pin))
        };
        pins.into_iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// The part of a job, when it is pinned.
    #[must_use]
    pub fn get(&self, job: Job) -> Option<Pin> {
        self.0.get(&job).copied()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (Job, Pin)> {
        self.0.iter().map(|(job, pin)| (*job, *pin))
    }
}

/// What another version wrote and this one cannot read is left out.
impl From<BTreeMap<String, String>> for Pins {
    fn from(pins: BTreeMap<String, String>) -> Self {
        let one = |(name, part): (&String, &String)| Self::parse([(name, part)]).ok();
        Self(pins.iter().filter_map(one).flat_map(|pins| pins.0).collect())
    }
}

impl From<Pins> for BTreeMap<String, String> {
    fn from(pins: Pins) -> Self {
        pins.iter().map(|(job, pin)| (job.name().to_owned(), pin.to_string())).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Pin, Pins};
    use crate::Job;

    #[test]
    fn the_parts_of_a_job_are_all_of_it_and_do_not_meet() {
        for n in 1..=64u16 {
            let parts: Vec<Pin> = (1..=n).map(|k| format!("{k}/{n}").parse().unwrap()).collect();
            for partition in 0..64 {
                let holders = parts.iter().filter(|part| part.holds(partition)).count();
                assert_eq!(holders, 1, "{partition} of {n}");
            }
        }
    }

    #[test]
    fn what_is_no_part_is_refused_with_what_to_write() {
        for bad in ["", "2", "0/3", "4/3", "1/0", "a/b", "-1/3"] {
            let error = bad.parse::<Pin>().unwrap_err().to_string();
            assert!(error.contains("for example"), "{error}");
        }
        let read = |job: &str, part: &str| {
            Pins::parse(&BTreeMap::from([(job.to_owned(), part.to_owned())]))
        };
        let pins = read("shards", "2/3").unwrap();
        assert_eq!(pins.get(Job::Shards).unwrap().to_string(), "2/3");
        assert_eq!(pins.get(Job::Dispatch), None);
        assert!(read("shard", "2/3").unwrap_err().to_string().contains("jobs are shards"));
        assert!(read("compact", "1/2").unwrap_err().to_string().contains("1 partitions"));
        assert!(read("requests", "1/2").is_err(), "shares of limits are no work to pin");
        let text = serde_json::to_string(&pins).unwrap();
        assert_eq!(serde_json::from_str::<Pins>(&text).unwrap(), pins);
        let newer: Pins = serde_json::from_str(r#"{"shards":"1/2","thinking":"1/9"}"#).unwrap();
        assert_eq!(newer.iter().count(), 1);
    }
}
