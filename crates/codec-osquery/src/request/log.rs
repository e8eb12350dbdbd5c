//! Log lines.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::scan::{entries, member};
use super::{Error, utf8};
use crate::body::{Body, lossy};
use crate::lenient::Text;

/// Lines of one request that are taken; agents send 1,024 unless they are told otherwise.
pub const LINES_MAX: u32 = 65_536;

/// Which log lines are of. Each has its own order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum LogType {
    /// Results of scheduled queries.
    Result = 1,
    /// The agent's own status.
    Status = 2,
}

impl LogType {
    fn of(word: &str) -> Result<Self, Error> {
        match word {
            "result" => Ok(Self::Result),
            "status" => Ok(Self::Status),
            _ => Err(Error::Member("log_type")),
        }
    }
}

/// Lines of one log, not read yet.
#[derive(Debug, PartialEq, Eq)]
pub struct LogRequest {
    /// Empty when it stands in the header only, or was cut off.
    pub node_key: String,
    /// Which log.
    pub log_type: LogType,
    /// The body as text; all of it, so that it can become the payload where it is.
    pub(crate) text: Bytes,
    /// Where in it the lines stand that are taken, as JSON with commas between them.
    pub(crate) lines: Range<usize>,
    /// How many those are.
    pub line_count: u32,
    /// What was over a cap; to be recorded, never refused: a refused body comes for ever.
    pub dropped: Option<String>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Members<'a> {
    #[serde(borrow)]
    data: Option<Lines<'a>>,
    #[serde(borrow)]
    log_type: Text<'a>,
    #[serde(borrow)]
    node_key: Text<'a>,
}

/// Where the lines begin and end.
#[derive(Default)]
struct Lines<'a> {
    first: Option<&'a str>,
    last: Option<&'a str>,
    /// Lines up to `last`, and all.
    taken: u32,
    all: u64,
}

impl<'de: 'a, 'a> Deserialize<'de> for Lines<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Of;
        impl<'de> Visitor<'de> for Of {
            type Value = Lines<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of lines")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut lines = Lines::default();
                while let Some(line) = seq.next_element::<&RawValue>()? {
                    lines.all += 1;
                    if lines.taken < LINES_MAX {
                        lines.taken += 1;
                        let line = line.get();
                        lines.first = lines.first.or(Some(line));
                        lines.last = Some(line);
                    }
                }
                Ok(lines)
            }
        }
        from.deserialize_seq(Of)
    }
}

impl LogRequest {
    /// The lines that are taken, as JSON with commas between them.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.text[self.lines.clone()]
    }

    /// Reads a body. Of one that was cut, the lines that are whole are taken; its log type stands at
    /// its end, and is `result` when that was not kept, because only results grow so large.
    ///
    /// # Errors
    /// When it is not the JSON of a log request.
    pub fn parse(body: &Body) -> Result<Self, Error> {
        let text = lossy(&body.head);
        if body.is_cut() {
            return Self::parse_cut(body, text);
        }
        let Members { data, log_type, node_key } = serde_json::from_str(utf8(&text)?)?;
        let lines = data.unwrap_or_default();
        let over = lines.all - u64::from(lines.taken);
        let at = |part: &str| part.as_ptr() as usize - text.as_ptr() as usize;
        let taken = lines.first.zip(lines.last);
        let taken = taken.map_or(0..0, |(first, last)| at(first)..at(last) + last.len());
        Ok(Self {
            node_key: node_key.0.into_owned(),
            log_type: LogType::of(&log_type.0)?,
            lines: taken,
            line_count: lines.taken,
            dropped: (over > 0)
                .then(|| format!("{over} lines of one request beyond {LINES_MAX} were dropped")),
            text,
        })
    }

    fn parse_cut(body: &Body, text: Bytes) -> Result<Self, Error> {
        let head = utf8(&text)?;
        let from = member(head, "data", '[').ok_or(Error::Member("data"))?;
        // Cut out by brackets alone: up to the first that is no JSON.
        let is_json =
            |line: &Range<usize>| serde_json::from_str::<IgnoredAny>(&head[line.clone()]).is_ok();
        let mut lines = entries(head, from, LINES_MAX as usize).whole;
        lines.truncate(lines.iter().take_while(|line| is_json(line)).count());
        let to = lines.last().map_or(from, |last| last.end);
        let ends = body.ends(&["log_type", "node_key"]);
        let end = ends.iter().find_map(|end| serde_json::from_str::<Members<'_>>(end).ok());
        let end = end.unwrap_or_default();
        let line_count = u32::try_from(lines.len()).unwrap_or(LINES_MAX);
        let log_type = match &*end.log_type.0 {
            "" => LogType::Result,
            word => LogType::of(word)?,
        };
        let lost = body.byte_count.saturating_sub(to as u64);
        Ok(Self {
            node_key: end.node_key.0.into_owned(),
            log_type,
            lines: from..to,
            line_count,
            dropped: Some(format!(
                "a request of {} bytes was over the limit: {line_count} lines were taken, \
                 {lost} bytes dropped",
                body.byte_count
            )),
            text,
        })
    }
}
