//! Variables of the environment in texts: `$NAME` and `${NAME}`; `\$` is a dollar sign.

/// The text with its variables replaced. A dollar sign that no name follows stands for itself.
///
/// # Errors
/// What `lookup` says of the first variable that it does not know.
pub(super) fn replaced(
    text: &str,
    lookup: impl Fn(&str) -> Result<String, String>,
) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, after) = (&rest[..at], &rest[at + 1..]);
        if let Some(before) = before.strip_suffix('\\') {
            out.push_str(before);
            out.push('$');
            rest = after;
            continue;
        }
        out.push_str(before);
        match name(after) {
            Some((name, after)) => {
                out.push_str(&lookup(name)?);
                rest = after;
            }
            None => {
                out.push('$');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// The name that a text begins with, after a dollar sign, and what follows it.
fn name(text: &str) -> Option<(&str, &str)> {
    let braced = text.strip_prefix('{');
    let inner = braced.unwrap_or(text);
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (name, after) = inner.split_at(inner.find(|c| !is_part(c)).unwrap_or(inner.len()));
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    match braced {
        Some(_) => Some((name, after.strip_prefix('}')?)),
        None => Some((name, after)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_and_nothing_else() {
        let lookup = |name: &str| match name {
            "A" | "A_1" => Ok(format!("<{name}>")),
            name => Err(name.to_owned()),
        };
        for (text, expected) in [
            ("", Ok("")),
            ("plain", Ok("plain")),
            ("$A", Ok("<A>")),
            ("${A}", Ok("<A>")),
            ("x${A}y$A_1-$A", Ok("x<A>y<A_1>-<A>")),
            ("$A$A", Ok("<A><A>")),
            ("\\$A \\${A}", Ok("$A ${A}")),
            ("a$ $1 $$ ${ ${A ${} $-", Ok("a$ $1 $$ ${ ${A ${} $-")),
            ("é$A$é", Ok("é<A>$é")),
            ("$A $B $C", Err("B")),
            ("${B}", Err("B")),
        ] {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(replaced(text, lookup), expected, "{text}");
        }
    }
}
