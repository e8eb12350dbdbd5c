//! What goes into the stream, and from there to the decoder. Never a node key.
//!
//! ```text
//! version u8 (1) | kind u8 | content
//! ```
//!
//! | kind | content |
//! |---|---|
//! | 1 result log, 2 status log | JSON array of lines, as they came |
//! | 3 distributed write | JSON array of answers: `{"id","status","message","wall_time_ms","used","cut","rows"}` |
//! | 4 block of an upload | upload u64, index u32, count u32 (little endian), bytes |
//! | 5 dropped | JSON: `{"source","message"}` |
//!
//! Text is UTF-8 by then. A payload is one record, so what must be folded together is one payload.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use muster_types::{Format, UploadNo};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{LogRequest, LogType, QueryUsed, WriteRequest};

/// Of everything in this module.
pub const FORMAT: Format = Format::first("osquery-message");
/// The first byte of it.
pub const VERSION: u8 = FORMAT.only();

/// What a payload holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Lines of the result log.
    ResultLog = 1,
    /// Lines of the status log.
    StatusLog = 2,
    /// Answers to distributed queries.
    Write = 3,
    /// A block of an upload.
    Block = 4,
    /// Something that was over a cap.
    Dropped = 5,
}

impl Kind {
    pub(crate) fn of(code: u8) -> Option<Self> {
        let all = [Self::ResultLog, Self::StatusLog, Self::Write, Self::Block, Self::Dropped];
        all.into_iter().find(|kind| *kind as u8 == code)
    }
}

/// Bytes before the content of a block.
pub(crate) const BLOCK_HEAD: usize = 16;

#[derive(Serialize, Deserialize)]
pub(crate) struct Answer<'a> {
    #[serde(borrow)]
    pub id: std::borrow::Cow<'a, str>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub status: i64,
    #[serde(borrow, default, skip_serializing_if = "str::is_empty")]
    pub message: std::borrow::Cow<'a, str>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub wall_time_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<QueryUsed>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<&'a RawValue>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Dropped<'a> {
    #[serde(borrow)]
    pub source: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    pub message: std::borrow::Cow<'a, str>,
}

fn is_zero<T: PartialEq + Default>(n: &T) -> bool {
    *n == T::default()
}

/// The lines of a log request. Class `Scheduled` for results, `Status` for status lines.
///
/// Made in the memory of the body when nobody else holds that, and a copy otherwise.
#[must_use]
pub fn log(request: LogRequest) -> Bytes {
    let kind = match request.log_type {
        LogType::Result => Kind::ResultLog,
        LogType::Status => Kind::StatusLog,
    };
    let LogRequest { text, lines, .. } = request;
    // Lines stand in a list, and that in an object: there are brackets to write over.
    let has_room = lines.start > HEAD && lines.end < text.len();
    let text = match text.try_into_mut() {
        Ok(mut body) if has_room => {
            body.truncate(lines.end + 1);
            body.advance(lines.start - HEAD - 1);
            body[..=HEAD].copy_from_slice(&[VERSION, kind as u8, b'[']);
            body[HEAD + 1 + lines.len()] = b']';
            return body.freeze();
        }
        Ok(body) => body.freeze(),
        Err(shared) => shared,
    };
    let mut out = head(kind, lines.len() + 2);
    out.put_u8(b'[');
    out.put_slice(&text[lines]);
    out.put_u8(b']');
    out.freeze()
}

/// The answers of a distributed write, in one piece: rows of a task and its end belong together.
#[must_use]
pub fn write(request: &WriteRequest) -> Bytes {
    let size: usize = request.answers.iter().map(|answer| answer.rows.len() + 128).sum();
    let mut out = head(Kind::Write, size + 2);
    out.put_u8(b'[');
    for (index, answer) in request.answers.iter().enumerate() {
        if index > 0 {
            out.put_u8(b',');
        }
        let rows = std::str::from_utf8(&answer.rows).ok().filter(|rows| !rows.is_empty());
        let answer = Answer {
            id: (&*answer.id).into(),
            status: answer.status,
            message: (&*answer.message).into(),
            wall_time_ms: answer.wall_time_ms,
            used: answer.used,
            cut: answer.is_cut,
            rows: rows.and_then(|rows| serde_json::from_str(rows).ok()),
        };
        serde_json::to_writer((&mut out).writer(), &answer).expect("memory takes what is written");
    }
    out.put_u8(b']');
    out.freeze()
}

/// One block of an upload of `count` blocks. Class `Collected`.
#[must_use]
pub fn block(upload: UploadNo, index: u32, count: u32, bytes: &[u8]) -> Bytes {
    let mut out = head(Kind::Block, BLOCK_HEAD + bytes.len());
    out.put_u64_le(upload.0);
    out.put_u32_le(index);
    out.put_u32_le(count);
    out.put_slice(bytes);
    out.freeze()
}

/// A note of what was dropped: becomes a row of `errors` of the agent. `source` says of what, for
/// example `log` or `distributed/write`.
#[must_use]
pub fn dropped(source: &str, message: &str) -> Bytes {
    let mut out = head(Kind::Dropped, source.len() + message.len() + 32);
    let note = Dropped { source: source.into(), message: message.into() };
    serde_json::to_writer((&mut out).writer(), &note).expect("memory takes what is written");
    out.freeze()
}

/// Bytes before the content.
const HEAD: usize = 2;

fn head(kind: Kind, size: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(HEAD + size);
    out.put_u8(VERSION);
    out.put_u8(kind as u8);
    out
}
