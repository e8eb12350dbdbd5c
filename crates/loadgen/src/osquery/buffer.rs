//! The log buffer: bounded, oldest first, emptied only by an answer.

use std::collections::VecDeque;

/// Lines of one flush, over both kinds.
pub(super) const LINES_PER_FLUSH: usize = 1024;

/// Which log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Result,
    Status,
}

impl Kind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Result => "result",
            Self::Status => "status",
        }
    }
}

/// Lines that nobody has taken yet.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    results: VecDeque<Box<[u8]>>,
    statuses: VecDeque<Box<[u8]>>,
}

impl Buffer {
    /// Adds a line; how many old ones were forgotten for it.
    pub(super) fn push(&mut self, kind: Kind, line: Vec<u8>, most: usize) -> u64 {
        let lines = self.of(kind);
        lines.push_back(line.into());
        let over = lines.len().saturating_sub(most);
        lines.drain(..over);
        over as u64
    }

    /// What goes out now: result lines first, as real agents count them.
    pub(super) fn next(&self, kind: Kind) -> Vec<&[u8]> {
        let results = self.results.len().min(LINES_PER_FLUSH);
        let (lines, most) = match kind {
            Kind::Result => (&self.results, results),
            Kind::Status => (&self.statuses, LINES_PER_FLUSH - results),
        };
        lines.iter().take(most).map(|line| &**line).collect()
    }

    /// An answer came that the agent takes for success: the first `count` are gone.
    pub(super) fn taken(&mut self, kind: Kind, count: usize) {
        let lines = self.of(kind);
        let count = count.min(lines.len());
        lines.drain(..count);
        if lines.is_empty() {
            *lines = VecDeque::new();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.results.len() + self.statuses.len()
    }

    fn of(&mut self, kind: Kind) -> &mut VecDeque<Box<[u8]>> {
        match kind {
            Kind::Result => &mut self.results,
            Kind::Status => &mut self.statuses,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_go_first_and_the_oldest_is_forgotten() {
        let mut buffer = Buffer::default();
        for n in 0..1030_u32 {
            assert_eq!(buffer.push(Kind::Result, n.to_string().into(), 2000), 0);
        }
        assert_eq!(buffer.push(Kind::Status, b"s".to_vec(), 2000), 0);
        assert_eq!(buffer.next(Kind::Result).len(), LINES_PER_FLUSH);
        assert!(buffer.next(Kind::Status).is_empty(), "status lines starve under a backlog");
        buffer.taken(Kind::Result, LINES_PER_FLUSH);
        assert_eq!(buffer.next(Kind::Result)[0], b"1024");
        assert_eq!(buffer.next(Kind::Status).len(), 1);
        assert_eq!(buffer.push(Kind::Result, b"new".to_vec(), 3), 4);
        assert_eq!(buffer.len(), 4);
    }
}
