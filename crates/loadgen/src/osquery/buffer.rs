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

/// What a line came from; those who count the server's rows want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Source {
    /// Made up, one row.
    Own,
    /// Made up, 100 KB to 1 MB.
    Large,
    /// The server's own schedule.
    Scheduled,
    Status,
}

impl Source {
    pub(super) const ALL: [Self; 4] = [Self::Own, Self::Large, Self::Scheduled, Self::Status];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Large => "large",
            Self::Scheduled => "scheduled",
            Self::Status => "status",
        }
    }

    fn kind(self) -> Kind {
        if self == Self::Status { Kind::Status } else { Kind::Result }
    }
}

#[derive(Debug)]
struct Line {
    source: Source,
    bytes: Box<[u8]>,
}

/// Lines that nobody has taken yet.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    results: VecDeque<Line>,
    statuses: VecDeque<Line>,
}

impl Buffer {
    /// Adds a line; how many old ones were forgotten for it.
    pub(super) fn push(&mut self, source: Source, line: Vec<u8>, most: usize) -> u64 {
        let lines = self.of(source.kind());
        lines.push_back(Line { source, bytes: line.into() });
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
        lines.iter().take(most).map(|line| &*line.bytes).collect()
    }

    /// An answer came that the agent takes for success: the first `count` are gone. How many there
    /// were of each source.
    pub(super) fn taken(&mut self, kind: Kind, count: usize) -> [u64; Source::ALL.len()] {
        let lines = self.of(kind);
        let count = count.min(lines.len());
        let mut counts = [0; Source::ALL.len()];
        for line in lines.drain(..count) {
            counts[line.source as usize] += 1;
        }
        if lines.is_empty() {
            *lines = VecDeque::new();
        }
        counts
    }

    pub(super) fn len(&self) -> usize {
        self.results.len() + self.statuses.len()
    }

    fn of(&mut self, kind: Kind) -> &mut VecDeque<Line> {
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
            assert_eq!(buffer.push(Source::Own, n.to_string().into(), 2000), 0);
        }
        assert_eq!(buffer.push(Source::Status, b"s".to_vec(), 2000), 0);
        assert_eq!(buffer.next(Kind::Result).len(), LINES_PER_FLUSH);
        assert!(buffer.next(Kind::Status).is_empty(), "status lines starve under a backlog");
        assert_eq!(buffer.taken(Kind::Result, LINES_PER_FLUSH), [1024, 0, 0, 0]);
        assert_eq!(buffer.next(Kind::Result)[0], b"1024");
        assert_eq!(buffer.next(Kind::Status).len(), 1);
        assert_eq!(buffer.push(Source::Large, b"new".to_vec(), 3), 4);
        assert_eq!(buffer.len(), 4);
    }
}
