//! Names of objects: never used twice, meaningless but for the day they are listed by.

use muster_types::Timestamp;
use uuid::Uuid;

use crate::Error;

/// Longest name.
const NAME_BYTES: usize = 512;

/// A day counted from 1970-01-01 as `yyyy-mm-dd`.
#[must_use]
pub fn day_name(day: i64) -> String {
    // Days to civil date, by counting years from March, in eras of 400 years.
    let z = day.clamp(-700_000, 2_900_000) + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{:02}", doy - (153 * mp + 2) / 5 + 1)
}

/// A new name for a segment of this day.
#[must_use]
pub fn segment_name(day: i64, writer: &str) -> String {
    format!("{}/{}-{}", segment_folder(day), safe(writer), Uuid::now_v7())
}

/// A new name for a payload that a stream record refers to.
#[must_use]
pub fn payload_name(at: Timestamp, writer: &str) -> String {
    format!("{}/{}-{}", payload_folder(at.day()), safe(writer), Uuid::now_v7())
}

pub(crate) fn segment_folder(day: i64) -> String {
    format!("seg/v1/{}", day_name(day))
}

pub(crate) fn payload_folder(day: i64) -> String {
    format!("payload/v1/{}", day_name(day))
}

fn safe(writer: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' };
    writer.chars().take(64).map(safe).collect()
}

/// Names are relative paths of letters, digits, `-`, `_` and `.`, without hidden parts: nothing
/// that leaves the archive or that a store would have to escape.
pub(crate) fn check(name: &str) -> Result<(), Error> {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    if name.len() <= NAME_BYTES && name.split('/').all(part) {
        Ok(())
    } else {
        Err(Error::BadName(name.chars().take(80).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_names() {
        assert_eq!(day_name(0), "1970-01-01");
        assert_eq!(day_name(-1), "1969-12-31");
        assert_eq!(day_name(11_016), "2000-02-29");
        assert_eq!(day_name(20_777), "2026-11-20");
        assert_eq!(day_name(47_540), "2100-02-28");
        assert_eq!(day_name(47_541), "2100-03-01");
    }

    #[test]
    fn only_plain_names_pass() {
        check(&segment_name(20_777, "host/a-1")).unwrap();
        check(&payload_name(Timestamp(5), "7")).unwrap();
        for bad in ["", "/a", "a/", "a//b", "../a", "a/../b", ".a", "a b", "ä", "a%2f", "a\0"] {
            assert!(matches!(check(bad), Err(Error::BadName(_))), "{bad}");
        }
        assert!(check(&"a".repeat(513)).is_err());
    }
}
