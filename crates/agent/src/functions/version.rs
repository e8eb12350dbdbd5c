//! Comparing version numbers.

use std::cmp::Ordering;

/// Compares runs of digits as numbers and runs of letters as text; `~` sorts before the end, as in
/// Debian's and RPM's orders; an epoch (`1:`) decides first.
pub(super) fn compare(left: &str, right: &str) -> Ordering {
    let epoch = |text: &str| -> (u64, usize) {
        match text.split_once(':').and_then(|(epoch, _)| Some((epoch, epoch.parse().ok()?))) {
            Some((text, epoch)) => (epoch, text.len() + 1),
            None => (0, 0),
        }
    };
    let ((left_epoch, left_at), (right_epoch, right_at)) = (epoch(left), epoch(right));
    let (left, right) = (pieces(&left[left_at..]), pieces(&right[right_at..]));
    left_epoch.cmp(&right_epoch).then_with(|| {
        for at in 0..left.len().max(right.len()) {
            let order = rank(left.get(at)).cmp(&rank(right.get(at)));
            if order.is_ne() {
                return order;
            }
        }
        Ordering::Equal
    })
}

/// A run of one kind of character.
enum Piece<'a> {
    Tilde,
    Letters(&'a str),
    Digits(&'a str),
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let run = |keep: fn(char) -> bool| rest.find(|c| !keep(c)).unwrap_or(rest.len());
        let length = if first == '~' {
            pieces.push(Piece::Tilde);
            1
        } else if first.is_ascii_digit() {
            let length = run(|c| c.is_ascii_digit());
            pieces.push(Piece::Digits(rest[..length].trim_start_matches('0')));
            length
        } else if first.is_ascii_alphabetic() {
            let length = run(|c| c.is_ascii_alphabetic());
            pieces.push(Piece::Letters(&rest[..length]));
            length
        } else {
            // Dots, dashes and the like only separate.
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    pieces
}

/// Tilde before the end, the end before letters, letters before numbers; longer numbers are larger.
fn rank<'a>(piece: Option<&Piece<'a>>) -> (u8, usize, &'a str) {
    match piece {
        Some(Piece::Tilde) => (0, 0, ""),
        None => (1, 0, ""),
        Some(Piece::Letters(text)) => (2, 0, text),
        Some(Piece::Digits(text)) => (3, text.len(), text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_sort_as_packagers_mean_them() {
        let rising = ["1.0~rc1", "1.0", "1.0a", "1.0.1", "1.2", "1.10", "1.10-1", "2", "1:0.1"];
        for pair in rising.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
        assert_eq!(compare("01.2", "1.02"), Ordering::Equal);
    }
}
