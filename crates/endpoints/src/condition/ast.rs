//! What a condition is made of.

use super::like::Pattern;

/// A column of `endpoints`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    Endpoint,
    Name,
    Platform,
    OsName,
    OsVersion,
    Arch,
    AgentKind,
    AgentVersion,
    Hostname,
    EnrolledAt,
    LastSeen,
    Online,
    Label,
}

/// What a column may be compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// Whole numbers.
    Int,
    /// Text.
    Text,
    /// Times.
    Time,
    /// True or false.
    Bool,
}

/// Columns that a condition may name.
pub const COLUMNS: [(&str, ColumnKind); 13] = [
    ("endpoint", ColumnKind::Int),
    ("name", ColumnKind::Text),
    ("platform", ColumnKind::Text),
    ("os_name", ColumnKind::Text),
    ("os_version", ColumnKind::Text),
    ("arch", ColumnKind::Text),
    ("agent_kind", ColumnKind::Text),
    ("agent_version", ColumnKind::Text),
    ("hostname", ColumnKind::Text),
    ("enrolled_at", ColumnKind::Time),
    ("last_seen", ColumnKind::Time),
    ("online", ColumnKind::Bool),
    ("label", ColumnKind::Text),
];

const ORDER: [Column; 13] = [
    Column::Endpoint,
    Column::Name,
    Column::Platform,
    Column::OsName,
    Column::OsVersion,
    Column::Arch,
    Column::AgentKind,
    Column::AgentVersion,
    Column::Hostname,
    Column::EnrolledAt,
    Column::LastSeen,
    Column::Online,
    Column::Label,
];

impl Column {
    pub(super) fn named(name: &str) -> Option<(Self, ColumnKind)> {
        let at = COLUMNS.iter().position(|(known, _)| *known == name)?;
        Some((ORDER[at], COLUMNS[at].1))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// A time, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    At(i64),
    /// This long after now; negative before.
    FromNow(i64),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr {
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    Literal(bool),
    IsNull(Column),
    Online,
    Int(Op, i64),
    Time(Column, Op, Moment),
    Text(Column, Op, String),
    TextIn(Column, Vec<String>),
    Like(Column, Pattern),
}

impl Expr {
    pub(super) fn is_volatile(&self) -> bool {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().any(Self::is_volatile),
            Self::Not(inner) => inner.is_volatile(),
            Self::Online
            | Self::Time(Column::LastSeen, ..)
            | Self::Time(_, _, Moment::FromNow(_))
            | Self::IsNull(Column::LastSeen | Column::Online) => true,
            _ => false,
        }
    }
}
