//! Paths out of predicates: `=` names one, `LIKE` takes `%` (one level) and `%%` (all below, last only).

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::table::{Predicate, Scan, Value};

/// Paths on their way.
pub(crate) type Paths = Box<dyn Iterator<Item = PathBuf> + Send>;

/// Links are not followed on the way down, and trees deeper than this are not walked.
const DEPTH_MAX: usize = 64;

/// The paths that the predicates on a `path` and a `directory` column name. Only absolute ones.
pub(crate) fn paths(scan: &Scan, path: usize, directory: usize) -> Paths {
    let mut found: Paths = Box::new(std::iter::empty());
    if let Some(predicate) = scan.on(path).next() {
        // SQLite tests the others on each row.
        found = match predicate {
            Predicate::Equal(Value::Text(path)) => exactly(path),
            Predicate::Like(pattern) => matching(pattern),
            Predicate::Equal(_) => found,
        };
    } else if let Some(predicate) = scan.on(directory).next() {
        let directories = match predicate {
            Predicate::Equal(Value::Text(path)) => exactly(path),
            Predicate::Like(pattern) => matching(pattern),
            Predicate::Equal(_) => found,
        };
        found = Box::new(directories.flat_map(|directory| children(&directory)));
    }
    found
}

/// Directory and last component, as text.
pub(crate) fn split(path: &Path) -> (String, String) {
    let text = |part: &OsStr| String::from_utf8_lossy(part.as_bytes()).into_owned();
    let directory = path.parent().map(|parent| text(parent.as_os_str())).unwrap_or_default();
    (directory, path.file_name().map(text).unwrap_or_default())
}

fn exactly(path: &str) -> Paths {
    if path.starts_with('/') && !path.contains('\0') {
        Box::new(std::iter::once(PathBuf::from(path)))
    } else {
        Box::new(std::iter::empty())
    }
}

/// The paths that fit a pattern.
pub(crate) fn matching(pattern: &str) -> Paths {
    if !pattern.starts_with('/') || pattern.contains('\0') {
        return Box::new(std::iter::empty());
    }
    let mut paths: Paths = Box::new(std::iter::once(PathBuf::from("/")));
    let components: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty()).collect();
    let last = components.len().saturating_sub(1);
    for (at, component) in components.into_iter().enumerate() {
        let component = component.to_owned();
        paths = if at == last && component.contains("%%") {
            // `/etc/%%` and `/etc/ssh%%`: what fits here, and all below it.
            let first = component.replace("%%", "%");
            Box::new(paths.flat_map(move |base| below(&base, &first)))
        } else if component.contains('%') {
            Box::new(paths.flat_map(move |base| fitting(&base, &component)))
        } else {
            Box::new(paths.map(move |base| base.join(&component)))
        };
    }
    Box::new(paths.filter(|path| path.symlink_metadata().is_ok()))
}

/// The entries of a directory, by name; none when it may not be read.
fn children(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<OsString> = entries.flatten().map(|entry| entry.file_name()).collect();
    names.sort_unstable();
    names.into_iter().map(|name| directory.join(name)).collect()
}

fn fitting(base: &Path, pattern: &str) -> Vec<PathBuf> {
    let mut children = children(base);
    children.retain(|path| path.file_name().is_some_and(|name| fits(pattern, name.as_bytes())));
    children
}

/// What fits in `base`, and everything below it, breadth first.
fn below(base: &Path, pattern: &str) -> impl Iterator<Item = PathBuf> + use<> {
    let depth = base.components().count() + DEPTH_MAX;
    let mut queue: VecDeque<PathBuf> = fitting(base, pattern).into();
    std::iter::from_fn(move || {
        let path = queue.pop_front()?;
        if path.components().count() < depth
            && path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir())
        {
            queue.extend(children(&path));
        }
        Some(path)
    })
}

/// Whether a name fits a pattern in which `%` stands for any run of bytes.
fn fits(pattern: &str, name: &[u8]) -> bool {
    let mut parts = pattern.split('%').map(str::as_bytes);
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        if part.is_empty() {
            continue;
        }
        let Some(at) = rest.windows(part.len()).position(|window| window == part) else {
            return false;
        };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percent_stands_for_any_run() {
        assert!(fits("%", b""));
        assert!(fits("%.conf", b"a.conf"));
        assert!(fits("ssh%conf%", b"sshd_config"));
        assert!(fits("a%b%c", b"aXbYbZc"));
        assert!(!fits("a%b", b"a"));
        assert!(!fits("ab%b", b"ab"));
        assert!(!fits("a", b"ab"));
    }

    #[test]
    fn one_level_and_all_below() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("a/b/c")).unwrap();
        fs::create_dir_all(root.join("x")).unwrap();
        for name in ["a/one.conf", "a/b/two.conf", "a/b/c/three", "x/one.conf"] {
            fs::write(root.join(name), "").unwrap();
        }
        // A loop, which must not be followed.
        std::os::unix::fs::symlink(root, root.join("a/loop")).unwrap();
        let found = |pattern: &str| -> Vec<String> {
            let mut names: Vec<String> = matching(&format!("{}{pattern}", root.display()))
                .map(|path| path.strip_prefix(root).unwrap().to_str().unwrap().to_owned())
                .collect();
            names.sort();
            names
        };
        assert_eq!(found("/%"), ["a", "x"]);
        assert_eq!(found("/%/one.conf"), ["a/one.conf", "x/one.conf"]);
        assert_eq!(found("/a/%.conf"), ["a/one.conf"]);
        assert_eq!(
            found("/a/%%"),
            ["a/b", "a/b/c", "a/b/c/three", "a/b/two.conf", "a/loop", "a/one.conf"]
        );
        assert_eq!(found("/none/%"), [""; 0]);
        assert_eq!(found("/a/one.conf"), ["a/one.conf"]);
    }
}
