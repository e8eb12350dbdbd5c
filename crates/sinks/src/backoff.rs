//! Pauses between attempts: longer each time, never equal for two sinks.

use std::time::Duration;

/// The pause after so many failures in a row: `first`, doubled up to `most`, and of that between one
/// half and all, by chance. What the destination asks for counts when it is longer, up to `most`.
pub(crate) fn pause(
    first: Duration,
    most: Duration,
    failures: u32,
    asked: Option<Duration>,
) -> Duration {
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(most);
    let chance: f64 = rand::random();
    doubled.mul_f64(0.5 + chance / 2.0).max(asked.unwrap_or_default().min(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        let (first, most) = (Duration::from_secs(1), Duration::from_secs(300));
        for (failures, longest) in [(0, 1), (1, 1), (2, 2), (5, 16), (10, 300), (u32::MAX, 300)] {
            let longest = Duration::from_secs(longest);
            let pause = pause(first, most, failures, None);
            assert!(pause >= longest / 2 && pause <= longest, "{failures}: {pause:?}");
        }
        assert_eq!(pause(first, most, 1, Some(Duration::from_secs(60))), Duration::from_secs(60));
        assert_eq!(pause(first, most, 1, Some(Duration::from_secs(9999))), most);
    }
}
