//! How fast a hunt goes and when it stops itself.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Bounds of one hunt. What a caller leaves out takes the default.
///
/// Live queries and collections ignore `rate_per_second` and `canary`: somebody waits for them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Endpoints recruited per second, at most [`Limits::RATE_MAX`].
    pub rate_per_second: u32,
    /// Endpoints recruited first; the rest follow when 90 % of these have ended and their errors are
    /// below `pause_error_share`. Zero: none.
    pub canary: u32,
    /// The hunt pauses when more than this share of the ended endpoints failed or timed out.
    pub pause_error_share: f64,
    /// The share is looked at when this many endpoints have ended (or the canary is through).
    pub pause_error_floor: u32,
    /// The hunt pauses when the ended endpoints gave more rows than this on average.
    pub pause_rows_per_endpoint: u64,
    /// The hunt pauses when the ended endpoints gave more bytes than this on average.
    pub pause_bytes_per_endpoint: u64,
    /// The hunt pauses when all rows together are above this.
    pub pause_total_bytes: u64,
    /// The hunt recruits no more endpoints than this. Zero: no cap.
    pub endpoints_max: u32,
    /// An endpoint's task ends by itself after this.
    pub task_timeout_ms: u64,
    /// An endpoint sends no more rows than this for its task.
    pub task_rows_max: u64,
    /// An endpoint sends no more bytes of rows than this for its task.
    pub task_bytes_max: u64,
    /// An endpoint uses no more memory than this for its task.
    pub task_memory_bytes: u64,
}

/// A limit that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} must be {wanted}, not {given}")]
pub struct LimitsError {
    /// Which limit.
    pub name: &'static str,
    /// What it may be.
    pub wanted: String,
    /// What it was.
    pub given: String,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rate_per_second: 100,
            canary: 50,
            pause_error_share: 0.5,
            pause_error_floor: 20,
            pause_rows_per_endpoint: 100_000,
            pause_bytes_per_endpoint: 64 << 20,
            pause_total_bytes: 50 << 30,
            endpoints_max: 0,
            task_timeout_ms: 600_000,
            task_rows_max: 1_000_000,
            task_bytes_max: 1 << 30,
            task_memory_bytes: 256 << 20,
        }
    }
}

impl Limits {
    /// The fastest recruitment.
    pub const RATE_MAX: u32 = 20_000;
    /// The longest life of one task.
    pub const TASK_TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);

    /// Refuses what cannot be, naming the first limit that is wrong.
    ///
    /// # Errors
    /// [`LimitsError`].
    pub fn validate(&self) -> Result<(), LimitsError> {
        let timeout_max = Self::TASK_TIMEOUT_MAX.as_millis() as u64;
        within("rate_per_second", u64::from(self.rate_per_second), 1, u64::from(Self::RATE_MAX))?;
        within("canary", u64::from(self.canary), 0, 100_000)?;
        if !(self.pause_error_share > 0.0 && self.pause_error_share <= 1.0) {
            return Err(LimitsError {
                name: "pause_error_share",
                wanted: "above 0 and at most 1".to_owned(),
                given: self.pause_error_share.to_string(),
            });
        }
        within("pause_error_floor", u64::from(self.pause_error_floor), 1, 1_000_000)?;
        within("pause_rows_per_endpoint", self.pause_rows_per_endpoint, 1, 1 << 40)?;
        within("pause_bytes_per_endpoint", self.pause_bytes_per_endpoint, 1, 1 << 50)?;
        within("pause_total_bytes", self.pause_total_bytes, 1, 1 << 60)?;
        within("task_timeout_ms", self.task_timeout_ms, 100, timeout_max)?;
        within("task_rows_max", self.task_rows_max, 1, 1 << 40)?;
        within("task_bytes_max", self.task_bytes_max, 1, 1 << 40)?;
        within("task_memory_bytes", self.task_memory_bytes, 1 << 20, 1 << 40)
    }

    /// `task_timeout_ms` as a duration.
    #[must_use]
    pub fn task_timeout(&self) -> Duration {
        Duration::from_millis(self.task_timeout_ms)
    }
}

fn within(name: &'static str, given: u64, least: u64, most: u64) -> Result<(), LimitsError> {
    if (least..=most).contains(&given) {
        return Ok(());
    }
    let wanted = format!("from {least} to {most}");
    Err(LimitsError { name, wanted, given: given.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_gaps_take_them() {
        Limits::default().validate().unwrap();
        let read: Limits = serde_json::from_str(r#"{"rate_per_second": 5}"#).unwrap();
        assert_eq!(read, Limits { rate_per_second: 5, ..Limits::default() });
        assert!(serde_json::from_str::<Limits>(r#"{"rates": 5}"#).is_err());
    }

    #[test]
    fn what_cannot_be_is_named() {
        let too_fast = Limits { rate_per_second: 20_001, ..Limits::default() };
        let error = too_fast.validate().unwrap_err();
        assert_eq!(error.to_string(), "rate_per_second must be from 1 to 20000, not 20001");
        let share = Limits { pause_error_share: f64::NAN, ..Limits::default() };
        assert_eq!(share.validate().unwrap_err().name, "pause_error_share");
    }
}
