//! Names of columns as SQL sees them.

use std::borrow::Cow;

use crate::{limits, system};

/// Columns that SQL adds to every result table: what an endpoint sends cannot pass for them.
const COMPUTED: [&str; 2] = ["endpoint", "endpoint_name"];

/// A name without regard to case. ASCII only, as SQL folds identifiers.
#[must_use]
pub fn fold(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// Whether a folded name is that of a system column.
#[must_use]
pub fn is_system(folded: &str) -> bool {
    system::SYSTEM_COLUMNS.iter().any(|column| column.name == folded)
        || system::CURRENT_COLUMNS.contains(&folded)
}

/// The name under which a column of an agent is stored: folded, and with one more underscore when
/// it is a system column's name, or such a name with underscores behind it. So no two folded names
/// ever meet in one column. `None` when it is no usable name, and its values go to `_extra`.
#[must_use]
pub fn sql_name(name: &str) -> Option<Cow<'_, str>> {
    if name.is_empty()
        || name.len() > limits::COLUMN_NAME_BYTES
        || name.chars().any(char::is_control)
    {
        return None;
    }
    let folded = fold(name);
    let stem = folded.trim_end_matches('_');
    if is_system(stem) || COMPUTED.contains(&stem) {
        Some(Cow::Owned(format!("{folded}_")))
    } else {
        Some(folded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fold_and_give_way_to_system_columns() {
        let named = |name| sql_name(name).map(Cow::into_owned);
        assert_eq!(named("Pid").as_deref(), Some("pid"));
        assert_eq!(named("agent").as_deref(), Some("agent_"));
        assert_eq!(named("AGENT_").as_deref(), Some("agent__"));
        assert_eq!(named("_raw").as_deref(), Some("_raw_"));
        assert_eq!(named("agents").as_deref(), Some("agents"));
        assert_eq!(named("Größe").as_deref(), Some("größe"));
        assert_eq!(named(""), None);
        assert_eq!(named("a\nb"), None);
        assert_eq!(named(&"x".repeat(129)), None);
    }
}
