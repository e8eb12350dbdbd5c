//! `users`: the accounts of `/etc/passwd`.

use crate::table::{Column, Row, Rows, Scan, Table, Value};

use super::procfs::read;

/// The table.
pub(super) struct Users;

const COLUMNS: &[Column] = &[
    Column::big("uid").index(),
    Column::big("gid"),
    Column::big("uid_signed"),
    Column::big("gid_signed"),
    Column::text("username"),
    Column::text("description"),
    Column::text("directory"),
    Column::text("shell"),
    Column::text("uuid"),
    Column::int("include_remote").hidden(),
    // Windows and macOS, and the agent's namespaces.
    Column::text("type").hidden(),
    Column::int("is_hidden").hidden(),
    Column::int("pid_with_namespace").hidden(),
    Column::text("mount_namespace_id").hidden(),
];

impl Table for Users {
    fn name(&self) -> &'static str {
        "users"
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn rows(&self, scan: &Scan) -> Rows {
        let only = scan.equals_int(0);
        let text = read("/etc/passwd").unwrap_or_default();
        let rows: Vec<Row> = text
            .lines()
            .filter_map(row)
            .filter(|row| only.is_none_or(|uid| row[0] == Value::Int(uid)))
            .collect();
        Box::new(rows.into_iter())
    }
}

/// A line of passwd(5); comments, NIS entries and what is damaged are left out.
fn row(line: &str) -> Option<Row> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _password, uid, gid, description, directory, shell] = fields.as_slice() else {
        return None;
    };
    if name.starts_with(['#', '+', '-']) {
        return None;
    }
    let (uid, gid): (u32, u32) = (uid.parse().ok()?, gid.parse().ok()?);
    Some(vec![
        uid.into(),
        gid.into(),
        uid.cast_signed().into(),
        gid.cast_signed().into(),
        (*name).into(),
        (*description).into(),
        (*directory).into(),
        (*shell).into(),
        "".into(),
        0.into(),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_lines_are_left_out() {
        assert!(row("# comment").is_none());
        assert!(row("+::::::").is_none());
        assert!(row("short:x:1").is_none());
        let nobody = row("nobody:x:4294967294:65534:n:/:/bin/false").unwrap();
        assert_eq!(nobody[0], Value::Int(4_294_967_294));
        assert_eq!(nobody[2], Value::Int(-2));
    }
}
