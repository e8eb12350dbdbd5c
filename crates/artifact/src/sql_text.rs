//! Named parameters in SQL text: finding them, and writing values in as literals.
//!
//! Agents that bind parameters (native) get the text and the values. Agents that take only text
//! (osquery) get [`render_sql`]. Both see the same `:name` outside of strings, quoted identifiers
//! and comments, by SQLite's lexical rules (<https://sqlite.org/lang_expr.html#parameters>).

use std::borrow::Cow;
use std::ops::Range;

use crate::{Bound, Value};

/// What [`render_sql`] takes its values from.
pub type SqlParams = Bound;

/// The names used as `:name`, in order of first use, each once.
#[must_use]
pub fn named_parameters(sql: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for place in places(sql) {
        let name = &sql[place.start + 1..place.end];
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The text with every known `:name` replaced by its value as a literal; unknown ones stay.
#[must_use]
pub fn render_sql<'a>(sql: &'a str, values: &SqlParams) -> Cow<'a, str> {
    let mut out = String::new();
    let mut copied = 0;
    for place in places(sql) {
        if let Some(value) = values.get(&sql[place.start + 1..place.end]) {
            out.push_str(&sql[copied..place.start]);
            push_literal(&mut out, value);
            copied = place.end;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(sql);
    }
    out.push_str(&sql[copied..]);
    Cow::Owned(out)
}

fn push_literal(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("NULL"),
        Value::Bool(true) => out.push('1'),
        Value::Bool(false) => out.push('0'),
        Value::Int(n) => out.push_str(&n.to_string()),
        Value::Float(n) => out.push_str(&format!("{n:e}")),
        Value::Text(text) => {
            // A NUL would end the text for SQLite; nothing else but the quote is special.
            out.push('\'');
            out.push_str(&text.replace('\0', "").replace('\'', "''"));
            out.push('\'');
        }
    }
}

/// Byte ranges of `:name`, rising.
fn places(sql: &str) -> Vec<Range<usize>> {
    let bytes = sql.as_bytes();
    let mut found = Vec::new();
    let mut i = 0;
    while i < bytes.len() {
        i = match bytes[i] {
            quote @ (b'\'' | b'"' | b'`') => skip_past(bytes, i + 1, &[quote]),
            b'[' => skip_past(bytes, i + 1, b"]"),
            b'-' if bytes.get(i + 1) == Some(&b'-') => skip_past(bytes, i + 2, b"\n"),
            b'/' if bytes.get(i + 1) == Some(&b'*') => skip_past(bytes, i + 2, b"*/"),
            b':' => {
                let word = bytes[i + 1..]
                    .iter()
                    .take_while(|b| b.is_ascii_alphanumeric() || **b == b'_')
                    .count();
                if word > 0 {
                    found.push(i..i + 1 + word);
                }
                i + 1 + word
            }
            _ => i + 1,
        };
    }
    found
}

/// The index after the next `end` at or after `from`; the end of the text when there is none. A
/// doubled quote inside a string ends it and opens the next one, which comes to the same.
fn skip_past(bytes: &[u8], from: usize, end: &[u8]) -> usize {
    bytes
        .get(from..)
        .and_then(|rest| rest.windows(end.len()).position(|window| window == end))
        .map_or(bytes.len(), |at| from + at + end.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_real_parameters_are_found() {
        let sql = "SELECT ':no', \":no\", [:no], `:no` -- :no\n /* :no */ FROM t WHERE a=:a AND b=:b_2 OR c=:a AND x='it''s :no'";
        assert_eq!(named_parameters(sql), ["a", "b_2"]);
        assert_eq!(named_parameters("a::b ':unterminated"), ["b"]);
    }

    #[test]
    fn values_become_literals_that_cannot_break_out() {
        let values = Bound::from([
            ("a".into(), Value::Text("x' OR '1'='1".into())),
            ("n".into(), Value::Int(-5)),
            ("z".into(), Value::Null),
        ]);
        assert_eq!(
            render_sql("SELECT ':a' WHERE a = :a AND n > :n AND z IS :z AND :other", &values),
            "SELECT ':a' WHERE a = 'x'' OR ''1''=''1' AND n > -5 AND z IS NULL AND :other"
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_survived(sql in ".{0,80}", value in ".{0,20}") {
            let values = Bound::from([("a".into(), Value::Text(value))]);
            let _ = render_sql(&sql, &values);
        }
    }
}
