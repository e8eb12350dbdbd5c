//! Statements: named SQL texts, one for both databases or one each.

/// One SQL statement. Made by [`crate::statements!`].
#[derive(Clone, Copy, Debug)]
pub struct Statement {
    /// The constant's name, for errors and plan snapshots.
    pub name: &'static str,
    /// The text for SQLite.
    pub sqlite: &'static str,
    /// The text for PostgreSQL; mostly the same.
    pub postgres: &'static str,
    /// Scanning a whole table is fine here, because the table stays small.
    pub scans: bool,
}

/// The highest `$n` of a text, which is how many arguments it takes.
#[must_use]
pub const fn parameter_count(text: &str) -> usize {
    let bytes = text.as_bytes();
    let (mut at, mut highest) = (0, 0);
    while at < bytes.len() {
        if bytes[at] == b'$' {
            let mut n = 0;
            while at + 1 < bytes.len() && bytes[at + 1].is_ascii_digit() {
                n = n * 10 + (bytes[at + 1] - b'0') as usize;
                at += 1;
            }
            if n > highest {
                highest = n;
            }
        }
        at += 1;
    }
    highest
}

/// Defines [`Statement`] constants and `STATEMENTS`, the list of them all.
///
/// ```
/// muster_catalog::statements! {
///     /// One text for both.
///     pub GET_LABEL = "SELECT name FROM label WHERE no = $1";
///     /// A scan of a small table is fine.
///     pub small LIST_LABELS = "SELECT no, name FROM label ORDER BY no";
///     /// Where the databases differ.
///     NAMES = {
///         sqlite: "SELECT name FROM label WHERE no IN (SELECT value FROM json_each($1))",
///         postgres: "SELECT name FROM label WHERE no IN (SELECT value::bigint FROM jsonb_array_elements_text($1::jsonb))"
///     };
/// }
/// assert_eq!(STATEMENTS.len(), 3);
/// ```
#[macro_export]
macro_rules! statements {
    (@define [$($list:ident)*]) => {
        /// Every statement of this module.
        pub const STATEMENTS: &[&$crate::Statement] = &[$(&$list),*];
        // Tests define statements without listing them.
        const _: &[&$crate::Statement] = STATEMENTS;
    };
    (@define [$($list:ident)*] $(#[$meta:meta])* $vis:vis small $name:ident = $text:tt; $($rest:tt)*) => {
        $crate::statements!(@one [$(#[$meta])*] [$vis] $name true $text);
        $crate::statements!(@define [$($list)* $name] $($rest)*);
    };
    (@define [$($list:ident)*] $(#[$meta:meta])* $vis:vis $name:ident = $text:tt; $($rest:tt)*) => {
        $crate::statements!(@one [$(#[$meta])*] [$vis] $name false $text);
        $crate::statements!(@define [$($list)* $name] $($rest)*);
    };
    (@one [$($meta:tt)*] [$vis:vis] $name:ident $scans:literal
        { sqlite: $sqlite:expr, postgres: $postgres:expr $(,)? }) => {
        $($meta)*
        $vis const $name: $crate::Statement = $crate::Statement {
            name: stringify!($name),
            sqlite: $sqlite,
            postgres: $postgres,
            scans: $scans,
        };
    };
    (@one [$($meta:tt)*] [$vis:vis] $name:ident $scans:literal $text:literal) => {
        $($meta)*
        $vis const $name: $crate::Statement = $crate::Statement {
            name: stringify!($name),
            sqlite: $text,
            postgres: $text,
            scans: $scans,
        };
    };
    ($($all:tt)*) => {
        $crate::statements!(@define [] $($all)*);
    };
}

#[cfg(test)]
mod tests {
    #[test]
    fn counts_the_highest_parameter() {
        assert_eq!(super::parameter_count("SELECT 1"), 0);
        assert_eq!(super::parameter_count("SELECT $2, $1, $2"), 2);
        assert_eq!(super::parameter_count("VALUES ($1,$12)"), 12);
    }
}
