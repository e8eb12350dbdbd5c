//! The tables of a platform, read from `schema/*.txt`.

use muster_artifact::Platform;

/// A table that agents of a platform have.
#[derive(Clone, Debug)]
pub struct Table {
    pub name: &'static str,
    pub columns: Vec<Column>,
}

/// One of its columns.
#[derive(Clone, Debug)]
pub struct Column {
    pub name: &'static str,
    pub kind: Kind,
    /// The table tells nothing useful unless one column so marked is constrained.
    pub must: bool,
    pub hidden: bool,
}

/// What its values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Whole,
    Fraction,
}

impl Kind {
    /// The type it is declared with in SQL, and found again by.
    pub fn sql(self) -> &'static str {
        match self {
            Self::Text => "TEXT",
            Self::Whole => "BIGINT",
            Self::Fraction => "DOUBLE",
        }
    }
}

/// All tables of a platform, by name.
pub fn tables(platform: Platform) -> Vec<Table> {
    let text = match platform {
        Platform::Linux => include_str!("../../schema/linux.txt"),
        Platform::Darwin => include_str!("../../schema/darwin.txt"),
        Platform::Windows => include_str!("../../schema/windows.txt"),
    };
    let mut tables: Vec<Table> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let columns = if line.starts_with(' ') {
            line
        } else {
            let (name, columns) = line.split_once(':').expect("a line is `table: column …`");
            tables.push(Table { name, columns: Vec::new() });
            columns
        };
        let table = tables.last_mut().expect("columns follow their table");
        table.columns.extend(columns.split_whitespace().map(column));
    }
    tables
}

fn column(word: &'static str) -> Column {
    let (name, marks) = word.split_once(':').expect("a column is `name:type`");
    let kind = match marks.as_bytes()[0] {
        b't' => Kind::Text,
        b'i' => Kind::Whole,
        b'd' => Kind::Fraction,
        other => panic!("{word}: type {:?}", char::from(other)),
    };
    Column { name, kind, must: marks.contains('!'), hidden: marks.contains('^') }
}
