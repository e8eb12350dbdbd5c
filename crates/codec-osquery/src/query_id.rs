//! Names of our distributed queries.

use std::fmt;

use muster_types::{HuntNo, TaskId};

/// What a distributed query is for, as its name tells.
///
/// Agents run what they took in the lexicographic order of the names, and answer when all are
/// done. Hunts come first, because somebody waits for them; inventory comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QueryId<'a> {
    /// `h12`, `h12.3`: a hunt's task, with its attempt when it is not the first.
    Hunt(TaskId),
    /// `p7`: a policy.
    Policy(u64),
    /// `v480231:inventory.users`: one source of the inventory, in one round.
    Inventory {
        /// The round, so that the newest of several answers is known.
        round: u32,
        /// What is reported, as in a schedule.
        source: &'a str,
    },
}

impl<'a> QueryId<'a> {
    /// Reads a name; `None` when it is not one of ours.
    #[must_use]
    pub fn parse(name: &'a str) -> Option<Self> {
        let rest = name.get(1..)?;
        match name.as_bytes().first()? {
            b'h' => {
                let (hunt, attempt) = match rest.split_once('.') {
                    Some((hunt, attempt)) => (hunt, digits(attempt)?),
                    None => (rest, 1),
                };
                let attempt = u16::try_from(attempt).ok()?;
                Some(Self::Hunt(TaskId { hunt: HuntNo(digits(hunt)?), attempt }))
            }
            b'p' => digits(rest).map(Self::Policy),
            b'v' => {
                let (round, source) = rest.split_once(':')?;
                let round = u32::try_from(digits(round)?).ok()?;
                (!source.is_empty()).then_some(Self::Inventory { round, source })
            }
            _ => None,
        }
    }
}

fn digits(text: &str) -> Option<u64> {
    let all = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    all.then(|| text.parse().ok()).flatten()
}

impl fmt::Display for QueryId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hunt(TaskId { hunt, attempt: 1 }) => write!(f, "h{hunt}"),
            Self::Hunt(TaskId { hunt, attempt }) => write!(f, "h{hunt}.{attempt}"),
            Self::Policy(no) => write!(f, "p{no}"),
            Self::Inventory { round, source } => write!(f, "v{round}:{source}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_stand_in_the_order_in_which_they_run() {
        let ids = [
            QueryId::Hunt(TaskId { hunt: HuntNo(12), attempt: 1 }),
            QueryId::Hunt(TaskId { hunt: HuntNo(12), attempt: 3 }),
            QueryId::Policy(7),
            QueryId::Inventory { round: 480_231, source: "inventory.users" },
        ];
        let names = ids.map(|id| id.to_string());
        assert_eq!(names, ["h12", "h12.3", "p7", "v480231:inventory.users"]);
        assert!(names.is_sorted());
        for (id, name) in ids.iter().zip(&names) {
            assert_eq!(QueryId::parse(name), Some(*id));
        }
    }

    #[test]
    fn other_names_are_not_ours() {
        let names = [
            "",
            "h",
            "h+1",
            "h1.",
            "h1.70000",
            "hé",
            "p",
            "p-1",
            "v1",
            "v1:",
            "v:x",
            "é1",
            "fleet_detail_query_users",
            "h99999999999999999999",
        ];
        for name in names {
            assert_eq!(QueryId::parse(name), None, "{name}");
        }
    }
}
