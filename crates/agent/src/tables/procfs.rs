//! Reading `/proc`: small files, lossy text, and processes that vanish while they are looked at.
//!
//! Parsed by hand rather than through the procfs crate, because a table wants a few fields of each
//! process, must give NULL for what it may not read, and must not fail on what it does not know.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

/// A file's text, with what is not UTF-8 replaced.
pub(super) fn read(path: impl AsRef<Path>) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    Some(match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

/// A file's text without the white space around it; `None` when empty or unreadable.
pub(super) fn read_trimmed(path: impl AsRef<Path>) -> Option<String> {
    let text = read(path)?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Where a symbolic link points, as text.
pub(super) fn link(path: impl AsRef<Path>) -> Option<String> {
    let bytes = fs::read_link(path).ok()?.into_os_string().into_vec();
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The processes asked for: one, or all there are.
pub(super) fn pids(only: Option<i64>) -> Vec<i64> {
    if let Some(pid) = only {
        // A thread id also has a /proc entry, though it is not listed: it is no process.
        let is_process = pid > 0
            && read(format!("/proc/{pid}/status")).is_some_and(|status| {
                field(&status, "Tgid:").and_then(|text| text.parse().ok()) == Some(pid)
            });
        return if is_process { vec![pid] } else { Vec::new() };
    }
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let mut pids: Vec<i64> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids
}

/// The value of a `Key: value` line.
pub(super) fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim)
}

/// The numbers of a `Key: 1 2 3 kB` line.
pub(super) fn numbers(text: &str, key: &str) -> Vec<i64> {
    field(text, key)
        .map(|value| value.split_whitespace().filter_map(|word| word.parse().ok()).collect())
        .unwrap_or_default()
}

/// A `Key: n kB` line in bytes.
pub(super) fn kilobytes(text: &str, key: &str) -> Option<i64> {
    numbers(text, key).first().map(|kilobytes| kilobytes.saturating_mul(1024))
}

/// When the machine started, in seconds since 1970.
pub(super) fn boot_time() -> Option<i64> {
    field(&read("/proc/stat")?, "btime")?.parse().ok()
}
