//! `os_version`: one row out of os-release(5).

use crate::table::{Column, Rows, Scan, Table, Value};

use super::procfs::read;

/// The table.
pub(super) struct OsVersion;

const COLUMNS: &[Column] = &[
    Column::text("name"),
    Column::text("version"),
    Column::int("major"),
    Column::int("minor"),
    Column::int("patch"),
    Column::text("build"),
    Column::text("platform"),
    Column::text("platform_like"),
    Column::text("codename"),
    Column::text("arch"),
    // Windows and macOS, and the agent's namespaces.
    Column::text("extra").hidden(),
    Column::big("install_date").hidden(),
    Column::int("revision").hidden(),
    Column::int("pid_with_namespace").hidden(),
    Column::text("mount_namespace_id").hidden(),
];

impl Table for OsVersion {
    fn name(&self) -> &'static str {
        "os_version"
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn rows(&self, _scan: &Scan) -> Rows {
        let os = OsRelease::read();
        let number = |at: usize| Value::Int(os.numbers().get(at).copied().unwrap_or(0));
        Box::new(std::iter::once(vec![
            os.get("NAME").unwrap_or("Linux").into(),
            os.get("VERSION").or_else(|| os.get("VERSION_ID")).into(),
            number(0),
            number(1),
            number(2),
            os.get("BUILD_ID").unwrap_or_default().into(),
            os.get("ID").unwrap_or("linux").into(),
            os.get("ID_LIKE").unwrap_or_default().into(),
            os.get("VERSION_CODENAME").unwrap_or_default().into(),
            rustix::system::uname().machine().to_string_lossy().into_owned().into(),
        ]))
    }
}

/// The file's keys and values.
#[derive(Debug)]
pub(crate) struct OsRelease(String);

impl OsRelease {
    /// Reads it where the distribution put it; empty when there is none.
    pub(crate) fn read() -> Self {
        let files = ["/etc/os-release", "/usr/lib/os-release"];
        Self(files.iter().find_map(read).unwrap_or_default())
    }

    /// A value without its quotes.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0.lines().find_map(|line| {
            let (name, value) = line.split_once('=')?;
            (name.trim() == key).then(|| value.trim().trim_matches(['"', '\'']))
        })
    }

    /// The parts of the version: `22.04.3` is 22, 4, 3.
    fn numbers(&self) -> Vec<i64> {
        let text = self.get("VERSION_ID").or_else(|| self.get("VERSION")).unwrap_or_default();
        text.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lose_their_quotes_and_versions_are_split() {
        let os = OsRelease("NAME=\"Debian GNU/Linux\"\nVERSION_ID='22.04.3'\nID=debian\n".into());
        assert_eq!(os.get("NAME"), Some("Debian GNU/Linux"));
        assert_eq!(os.get("ID"), Some("debian"));
        assert_eq!(os.numbers(), [22, 4, 3]);
        assert_eq!(OsRelease(String::new()).numbers(), [0; 0]);
    }
}
