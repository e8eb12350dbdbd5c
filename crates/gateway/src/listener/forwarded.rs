//! The lines of `X-Forwarded-For` in one request.

/// Proxies that add a line each, one behind the other; older lines do not count.
const LINES_MAX: usize = 4;

/// The last lines of `X-Forwarded-For`. Some proxies add to the line there is, some add a line.
#[derive(Clone, Copy, Debug, Default)]
pub struct ForwardedFor<'a> {
    /// The newest first.
    lines: [&'a str; LINES_MAX],
    count: usize,
}

impl<'a> ForwardedFor<'a> {
    /// One more line, below the others. One that is no text is nobody's address.
    pub fn push(&mut self, line: Option<&'a str>) {
        self.lines.rotate_right(1);
        self.lines[0] = line.unwrap_or_default();
        self.count = LINES_MAX.min(self.count + 1);
    }

    /// The lines, the newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &'a str> {
        self.lines.into_iter().take(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept() {
        let mut lines = ForwardedFor::default();
        assert_eq!(lines.newest_first().count(), 0);
        for line in [Some("a"), None, Some("c"), Some("d"), Some("e")] {
            lines.push(line);
        }
        assert_eq!(lines.newest_first().collect::<Vec<_>>(), ["e", "d", "c", ""]);
    }
}
