//! What SQL finds of the lines that agents were told are safe.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::api::Api;
use crate::sum::Sum;

/// Lines in the tables, beside what agents believe.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Account {
    /// Lines of the agents' own making that the server took: one row, a large snapshot, the agent's own
    /// words.
    pub taken: u64,
    /// Distinct tags that SQL finds.
    pub found: u64,
    /// Rows of tags that it finds once more.
    pub doubled: u64,
    /// Seconds until the last was found.
    pub seconds: f64,
}

/// The tag of a row that nobody scheduled.
const TAG: &str = "split_part(split_part(columns, '\"instance_id\":\"', 2), '\"', 1)";

impl Account {
    /// Asks until everything is found, at most so long.
    pub fn settle(api: &Api, sum: &Sum, most: Duration) -> anyhow::Result<Self> {
        let began = Instant::now();
        let taken =
            ["own", "large", "status"].map(|of| sum.taken_of.get(of).unwrap_or(&0)).into_iter();
        let taken: u64 = taken.sum();
        loop {
            let account = Self { taken, ..Self::look(api)? };
            if account.found >= taken || began.elapsed() > most {
                return Ok(Self { seconds: began.elapsed().as_secs_f64(), ..account });
            }
            std::thread::sleep(Duration::from_secs(2));
        }
    }

    fn look(api: &Api) -> anyhow::Result<Self> {
        let other = |what: &str, name: &str| {
            api.sql(&format!("SELECT COUNT({what}) AS n FROM osquery_other WHERE name = '{name}'"))
        };
        let words = |what: &str| {
            let from = "FROM agent_log WHERE message LIKE '%Executing scheduled query osq-%'";
            api.sql(&format!("SELECT COUNT({what}) AS n {from}"))
        };
        let distinct = format!("DISTINCT {TAG}");
        let (own, statuses) =
            (other(&distinct, "loadgen_osquery_info")?, words("DISTINCT message")?);
        // All rows of a large snapshot have the tag of their line; that one came twice is not seen.
        let large = other(&distinct, "loadgen_large")?;
        let rows = other("*", "loadgen_osquery_info")? + words("*")?;
        Ok(Self {
            found: own + statuses + large,
            doubled: rows - own - statuses,
            ..Self::default()
        })
    }

    /// Lines the server said it had, and has not.
    pub fn missing(&self) -> u64 {
        self.taken.saturating_sub(self.found)
    }
}
