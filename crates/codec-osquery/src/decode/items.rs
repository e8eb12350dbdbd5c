//! Items of a log, each with the hashes of the lines it came from.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};
use muster_types::{Delta, Fact, Facts, Repeat, RowFormat, Rows, Timestamp};
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_64;

use super::rows::Decorator;
use crate::LogType;

/// What rows of a line have in common.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Part<'a> {
    pub source: Cow<'a, str>,
    pub endpoint_time: Option<Timestamp>,
    pub delta: Delta,
    pub decorations: Option<&'a str>,
}

/// Items in the making. A line may become several, and lines that follow each other and differ in
/// nothing but their row become one. A line that comes again becomes the same, with the same hashes.
pub(super) struct Items<'a> {
    text: &'a Bytes,
    log: LogType,
    items: Vec<Fact>,
    hashes: Vec<u64>,
    groups: Vec<u32>,
    /// Hash of the line at hand, and of what else it becomes.
    hash: u64,
    open: Option<(Part<'a>, Vec<Bytes>)>,
    decorator: Decorator,
}

impl<'a> Items<'a> {
    pub fn new(text: &'a Bytes, log: LogType) -> Self {
        Self {
            text,
            log,
            items: Vec::new(),
            hashes: Vec::new(),
            groups: Vec::new(),
            hash: 0,
            open: None,
            decorator: Decorator::default(),
        }
    }

    /// Everything until the next call comes from this line.
    pub fn begin(&mut self, line: &RawValue) {
        self.hash = xxh3_64(line.get().as_bytes());
    }

    /// Rows of the line at hand: an array, or one row.
    pub fn rows(&mut self, part: Part<'a>, format: RowFormat, json: &str) {
        let rows = self.decorator.rows(self.text, format, json, part.decorations);
        let source = rows.left_out.then(|| part.source.clone().into_owned());
        match format {
            RowFormat::Array => {
                self.close();
                self.push(fact(part, format, rows.json), 1);
                self.hashed();
            }
            RowFormat::Lines => {
                let is_row = json.starts_with('{');
                match &mut self.open {
                    // What is no row must not take others with it when it is refused.
                    Some((open, lines)) if is_row && is_alike(open, &part) => {
                        lines.push(one_line(rows.json));
                    }
                    _ => {
                        self.close();
                        self.open = Some((part, vec![one_line(rows.json)]));
                    }
                }
                if !is_row {
                    self.close();
                }
                self.hashed();
            }
        }
        if let Some(source) = source {
            let message =
                format!("decorations of {source:?} were left out: they would take too much room");
            self.log("warning", message);
        }
    }

    /// A row of the agent's log.
    pub fn log(&mut self, level: &str, message: String) {
        self.close();
        self.push(Fact::Log { level: level.to_owned(), message }, 1);
        self.hashed();
    }

    /// All of it.
    pub fn finish(mut self) -> Facts {
        self.close();
        let is_plain = self.groups.iter().all(|count| *count == 1);
        let groups = if is_plain { Vec::new() } else { self.groups };
        let repeat = Repeat::Lines { log: self.log as u8, lines: self.hashes, groups };
        Facts { repeat, items: self.items }
    }

    fn hashed(&mut self) {
        self.hashes.push(self.hash);
        self.hash = self.hash.rotate_left(17).wrapping_add(1);
    }

    fn push(&mut self, item: Fact, count: u32) {
        self.items.push(item);
        self.groups.push(count);
    }

    /// The lines that were alike become one item.
    fn close(&mut self) {
        let Some((part, mut lines)) = self.open.take() else { return };
        let count = u32::try_from(lines.len()).expect("lines of one message are bounded");
        let json = if lines.len() == 1 {
            lines.swap_remove(0)
        } else {
            let mut all = BytesMut::with_capacity(lines.iter().map(|line| line.len() + 1).sum());
            for line in &lines {
                all.put_slice(line);
                all.put_u8(b'\n');
            }
            all.freeze()
        };
        self.push(fact(part, RowFormat::Lines, json), count);
    }
}

/// Whether rows of both may stand in one item. Their decorations are in the rows by then.
fn is_alike(a: &Part<'_>, b: &Part<'_>) -> bool {
    (a.delta, a.endpoint_time, &a.source) == (b.delta, b.endpoint_time, &b.source)
}

/// A row without line breaks; in JSON they can only be between its parts.
fn one_line(json: Bytes) -> Bytes {
    if !json.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return json;
    }
    json.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect()
}

fn fact(part: Part<'_>, format: RowFormat, json: Bytes) -> Fact {
    Fact::Rows(Rows {
        task: None,
        source: part.source.into_owned(),
        columns: Vec::new(),
        format,
        json,
        endpoint_time: part.endpoint_time,
        delta: part.delta,
    })
}
