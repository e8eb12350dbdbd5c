//! What is whole at the beginning of JSON whose end is missing.

use std::ops::Range;

/// Entries of an array or members of an object.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Entries {
    /// Those that are whole, without the commas.
    pub whole: Vec<Range<usize>>,
    /// Where the one begins that is not.
    pub broken: Option<usize>,
}

/// Where the content of the member `name` begins, if that opens with `bracket`.
pub(super) fn member(text: &str, name: &str, bracket: char) -> Option<usize> {
    let quoted = format!("\"{name}\"");
    let at = text.find(&quoted)? + quoted.len();
    let value = text[at..].trim_start().strip_prefix(':')?.trim_start().strip_prefix(bracket)?;
    Some(text.len() - value.len())
}

/// Splits from `from`, which is behind an opening bracket, to its closing one; at most `max`.
pub(super) fn entries(text: &str, from: usize, max: usize) -> Entries {
    let mut found = Entries::default();
    let (mut depth, mut in_string, mut escaped) = (0_u32, false, false);
    let mut start = from;
    for (at, byte) in text.bytes().enumerate().skip(from) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            b',' | b'}' | b']' if depth == 0 => {
                let entry = text[start..at].trim_end();
                let begin = start + entry.len() - entry.trim_start().len();
                // Nothing between two commas, or before the closing bracket.
                if begin == start + entry.len() {
                    return found;
                }
                found.whole.push(begin..start + entry.len());
                start = at + 1;
                if byte != b',' || found.whole.len() >= max {
                    return found;
                }
            }
            b'}' | b']' => depth -= 1,
            _ => {}
        }
    }
    found.broken = Some(start);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_and_brackets_do_not_mislead() {
        let text = r#" { "data" : [ {"a":"],}\"["} , {"b":[1,{}]},{"c":"#;
        let from = member(text, "data", '[').unwrap();
        let found = entries(text, from, 100);
        let whole: Vec<_> = found.whole.iter().map(|range| &text[range.clone()]).collect();
        assert_eq!(whole, [r#"{"a":"],}\"["}"#, r#"{"b":[1,{}]}"#]);
        assert_eq!(&text[found.broken.unwrap()..], r#"{"c":"#);
    }

    #[test]
    fn a_closed_array_has_nothing_broken() {
        for (text, count) in [("[]", 0), ("[1]", 1), ("[1,2] x", 2)] {
            let found = entries(text, 1, 100);
            assert_eq!((found.whole.len(), found.broken), (count, None), "{text}");
        }
        assert_eq!(entries("[1,2,3]", 1, 2).whole.len(), 2);
        assert_eq!(entries("[1,,3]", 1, 9).whole.len(), 1);
    }
}
