//! The last log lines, in memory, for debug archives.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing_subscriber::fmt::MakeWriter;

/// Bytes of log lines that are kept; the oldest go first.
pub const RING_BYTES_MAX: usize = 1 << 20;
/// Longest line that is kept whole.
const LINE_BYTES_MAX: usize = 4096;

/// The last lines of a process's log. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct LogRing(Arc<Mutex<Lines>>);

#[derive(Debug, Default)]
struct Lines {
    lines: VecDeque<Box<[u8]>>,
    byte_count: usize,
    dropped: u64,
}

impl LogRing {
    /// Keeps one line, and forgets the oldest ones when there are too many.
    pub fn push(&self, line: &[u8]) {
        let line = &line[..line.len().min(LINE_BYTES_MAX)];
        let mut kept = self.0.lock();
        kept.byte_count += line.len();
        kept.lines.push_back(line.into());
        while kept.byte_count > RING_BYTES_MAX
            && let Some(oldest) = kept.lines.pop_front()
        {
            kept.byte_count -= oldest.len();
            kept.dropped += 1;
        }
    }

    /// The lines that are kept, oldest first, after a sentence about those that are not.
    #[must_use]
    pub fn text(&self) -> String {
        let kept = self.0.lock();
        let mut text = String::with_capacity(kept.byte_count + 80);
        if kept.dropped > 0 {
            text.push_str(&format!("({} older lines are not kept in memory)\n", kept.dropped));
        }
        for line in &kept.lines {
            text.push_str(&String::from_utf8_lossy(line));
            if !line.ends_with(b"\n") {
                text.push('\n');
            }
        }
        text
    }
}

/// Collects one event, and keeps it as a line when it is complete.
#[derive(Debug)]
pub struct RingWriter {
    ring: LogRing,
    line: Vec<u8>,
}

impl Write for RingWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let room = LINE_BYTES_MAX.saturating_sub(self.line.len());
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for RingWriter {
    fn drop(&mut self) {
        if !self.line.is_empty() {
            self.ring.push(&self.line);
        }
    }
}

impl<'a> MakeWriter<'a> for LogRing {
    type Writer = RingWriter;

    fn make_writer(&'a self) -> RingWriter {
        RingWriter { ring: self.clone(), line: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_newest_within_its_bound() {
        let ring = LogRing::default();
        for n in 0..2000 {
            ring.push(format!("{n:04} {}", "x".repeat(1000)).as_bytes());
        }
        let text = ring.text();
        assert!(text.len() <= RING_BYTES_MAX + 4096, "{}", text.len());
        assert!(text.starts_with("(") && text.contains("1999 x") && !text.contains("\n0000 x"));
    }

    #[test]
    fn cuts_lines_that_are_too_long() {
        let ring = LogRing::default();
        ring.make_writer().write_all(&[b'y'; 100_000]).unwrap();
        assert_eq!(ring.text().len(), LINE_BYTES_MAX + 1);
    }
}
