//! Functions on text.

/// The piece at `index` of `text`, cut at any of the characters of `at`; empty pieces do not count.
pub(super) fn split<'a>(text: &'a str, at: &str, index: usize) -> Option<&'a str> {
    text.split(|c| at.contains(c)).filter(|piece| !piece.is_empty()).nth(index)
}

/// The path without its last component.
pub(super) fn parent_directory(path: &str) -> Option<String> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let (parent, _) = path.rsplit_once('/')?;
    Some(if parent.is_empty() { "/" } else { parent }.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_and_parents() {
        assert_eq!(split("a,,b;c", ",;", 1), Some("b"));
        assert_eq!(split("a", ",", 3), None);
        assert_eq!(parent_directory("/etc/ssh/"), Some("/etc".into()));
        assert_eq!(parent_directory("/etc"), Some("/".into()));
        assert_eq!(parent_directory("etc"), None);
    }
}
