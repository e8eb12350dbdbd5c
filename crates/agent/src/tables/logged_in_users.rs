//! `logged_in_users`: the records of utmp(5).

use std::fs;

use crate::table::{Column, Row, Rows, Scan, Table};

/// The table.
pub(super) struct LoggedInUsers;

const COLUMNS: &[Column] = &[
    Column::text("type"),
    Column::text("user"),
    Column::text("tty"),
    Column::text("host"),
    Column::big("time"),
    Column::int("pid"),
    // Windows.
    Column::text("sid").hidden(),
    Column::text("registry_hive").hidden(),
];

/// Length of a record: 64-bit Linux keeps the 32-bit layout.
const RECORD: usize = 384;

impl Table for LoggedInUsers {
    fn name(&self) -> &'static str {
        "logged_in_users"
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn rows(&self, _scan: &Scan) -> Rows {
        let bytes = ["/run/utmp", "/var/run/utmp"]
            .iter()
            .find_map(|path| fs::read(path).ok())
            .unwrap_or_default();
        let rows: Vec<Row> = bytes.chunks_exact(RECORD).filter_map(row).collect();
        Box::new(rows.into_iter())
    }
}

fn row(record: &[u8]) -> Option<Row> {
    let number = |at: usize| Some(i32::from_le_bytes(record.get(at..at + 4)?.try_into().ok()?));
    let text = |at: usize, length: usize| {
        let bytes = record.get(at..at + length).unwrap_or_default();
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    };
    let kind = match record.first()? {
        1 => "runlevel",
        2 => "boot_time",
        3 => "new_time",
        4 => "old_time",
        5 => "init",
        6 => "login",
        7 => "user",
        8 => "dead",
        9 => "acct",
        // An empty slot.
        _ => return None,
    };
    Some(vec![
        kind.into(),
        text(44, 32).into(),
        text(8, 32).into(),
        text(76, 256).into(),
        number(340)?.into(),
        number(4)?.into(),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Value;

    #[test]
    fn a_record_is_read_field_by_field() {
        let mut record = vec![0; RECORD];
        record[0] = 7;
        record[4..8].copy_from_slice(&4711i32.to_le_bytes());
        record[8..13].copy_from_slice(b"pts/3");
        record[44..47].copy_from_slice(b"ana");
        record[76..84].copy_from_slice(b"10.0.0.9");
        record[340..344].copy_from_slice(&1_700_000_000i32.to_le_bytes());
        let expected: Row = vec![
            "user".into(),
            "ana".into(),
            "pts/3".into(),
            "10.0.0.9".into(),
            Value::Int(1_700_000_000),
            Value::Int(4711),
        ];
        assert_eq!(row(&record), Some(expected));
        assert_eq!(row(&vec![0; RECORD]), None);
    }
}
