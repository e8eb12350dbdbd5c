//! When a hunt stops itself, and what it says then.

use crate::Limits;

/// Which limit made a hunt pause. The first word of a pause's reason names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseRule {
    /// Too many endpoints failed or timed out.
    Errors,
    /// Too many rows an endpoint.
    Rows,
    /// Too many bytes an endpoint.
    Bytes,
    /// Too many bytes altogether.
    Total,
    /// The canary did not answer.
    Canary,
}

/// What a hunt has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Endpoints with an answer of any kind, unsupported ones left out.
    pub ended: u64,
    /// Of these, failed or timed out.
    pub errors: u64,
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
}

impl PauseRule {
    const ALL: [Self; 5] = [Self::Errors, Self::Rows, Self::Bytes, Self::Total, Self::Canary];

    fn word(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::Rows => "rows",
            Self::Bytes => "bytes",
            Self::Total => "total",
            Self::Canary => "canary",
        }
    }

    /// The rule that a reason names; `None` for what a person wrote.
    #[must_use]
    pub fn of_reason(reason: &str) -> Option<Self> {
        let (word, _) = reason.split_once(": ")?;
        Self::ALL.into_iter().find(|rule| rule.word() == word)
    }

    /// A reason for those who may not know how much there is of everything: the rule, without its numbers. What
    /// a person wrote stays.
    #[must_use]
    pub fn in_general(reason: &str) -> String {
        let Some(rule) = Self::of_reason(reason) else { return reason.to_owned() };
        rule.reason(match rule {
            Self::Errors => "too many endpoints failed or timed out",
            Self::Rows => "an endpoint gave too many rows on average",
            Self::Bytes => "an endpoint gave too many bytes on average",
            Self::Total => "too many bytes came in altogether",
            Self::Canary => "the canary did not answer",
        })
    }

    /// Takes the limit away.
    pub(crate) fn lift(self, limits: &mut Limits) {
        match self {
            Self::Errors => limits.pause_error_share = 1.0,
            Self::Rows => limits.pause_rows_per_endpoint = 1 << 40,
            Self::Bytes => limits.pause_bytes_per_endpoint = 1 << 50,
            Self::Total => limits.pause_total_bytes = 1 << 60,
            Self::Canary => limits.canary = 0,
        }
    }

    pub(crate) fn reason(self, text: &str) -> String {
        format!("{}: {text}", self.word())
    }
}

impl Tally {
    /// Why the hunt must pause now, for people.
    #[must_use]
    pub fn pause_reason(&self, limits: &Limits, canary_done: bool) -> Option<String> {
        let enough = canary_done || self.ended >= u64::from(limits.pause_error_floor);
        let per_endpoint = |sum: u64| sum / self.ended.max(1);
        let share = self.errors as f64 / self.ended.max(1) as f64;
        let (rule, text) = if enough && self.ended > 0 && share > limits.pause_error_share {
            let text = format!(
                "{} of {} endpoints that answered failed or timed out, more than {} %",
                self.errors,
                self.ended,
                limits.pause_error_share * 100.0
            );
            (PauseRule::Errors, text)
        } else if self.ended > 0 && per_endpoint(self.rows) > limits.pause_rows_per_endpoint {
            let (average, limit) = (per_endpoint(self.rows), limits.pause_rows_per_endpoint);
            (
                PauseRule::Rows,
                format!("an endpoint gave {average} rows on average, more than {limit}"),
            )
        } else if self.ended > 0 && per_endpoint(self.bytes) > limits.pause_bytes_per_endpoint {
            let (average, limit) = (per_endpoint(self.bytes), limits.pause_bytes_per_endpoint);
            (
                PauseRule::Bytes,
                format!("an endpoint gave {average} bytes on average, more than {limit}"),
            )
        } else {
            return self.total_reason(limits);
        };
        Some(rule.reason(&text))
    }

    /// As [`Tally::pause_reason`], for hunts that only the total bounds.
    pub(crate) fn total_reason(&self, limits: &Limits) -> Option<String> {
        let (sum, limit) = (self.bytes, limits.pause_total_bytes);
        (sum > limit).then(|| {
            PauseRule::Total.reason(&format!("{sum} bytes came in altogether, more than {limit}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_fires_above_its_limit_and_resuming_lifts_it() {
        let limits = Limits {
            pause_rows_per_endpoint: 10,
            pause_bytes_per_endpoint: 1_000,
            pause_total_bytes: 5_000,
            ..Limits::default()
        };
        let quiet = Tally { ended: 20, errors: 10, rows: 200, bytes: 5_000 };
        assert_eq!(quiet.pause_reason(&limits, false), None);
        for (tally, rule) in [
            (Tally { errors: 11, ..quiet }, PauseRule::Errors),
            (Tally { rows: 220, ..quiet }, PauseRule::Rows),
            (Tally { ended: 2, errors: 0, rows: 0, bytes: 2_002 }, PauseRule::Bytes),
            (Tally { bytes: 5_001, ..quiet }, PauseRule::Total),
        ] {
            let reason = tally.pause_reason(&limits, false).unwrap();
            assert_eq!(PauseRule::of_reason(&reason), Some(rule), "{reason}");
            let told = PauseRule::in_general(&reason);
            assert!(!told.contains(|c: char| c.is_ascii_digit()), "{told}");
            assert_eq!(PauseRule::of_reason(&told), Some(rule), "{told}");
            let mut lifted = limits;
            rule.lift(&mut lifted);
            lifted.validate().unwrap();
            assert_eq!(tally.pause_reason(&lifted, false), None);
        }
        assert_eq!(PauseRule::of_reason("lunch"), None);
    }

    #[test]
    fn few_errors_mean_nothing_until_enough_have_ended() {
        let tally = Tally { ended: 3, errors: 3, ..Tally::default() };
        assert_eq!(tally.pause_reason(&Limits::default(), false), None);
        assert!(tally.pause_reason(&Limits::default(), true).is_some());
    }
}
