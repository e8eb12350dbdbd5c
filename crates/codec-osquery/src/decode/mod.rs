//! From payloads to facts.

mod items;
mod log;
mod rows;
mod write;

use bytes::{Buf, Bytes};
use muster_types::{Decode, Fact, Facts, Poison, Record, Repeat, UploadBlock, UploadNo};

use crate::body::lossy;
use crate::wire::{BLOCK_HEAD, Dropped, Kind, VERSION};

/// Reads the stream's records of osquery agents, as [`crate::wire`] made them.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsqueryDecoder;

impl Decode for OsqueryDecoder {
    fn decode(&self, _record: &Record, mut payload: Bytes) -> Result<Facts, Poison> {
        if payload.len() < 2 {
            return Err(poison("it is shorter than its head"));
        }
        let (version, kind) = (payload.get_u8(), payload.get_u8());
        if version != VERSION {
            return Err(poison(&format!("its format {version} is newer than this version reads")));
        }
        match Kind::of(kind) {
            Some(Kind::ResultLog) => log::results(&lossy(&payload)),
            Some(Kind::StatusLog) => log::statuses(&lossy(&payload)),
            Some(Kind::Write) => write::answers(&lossy(&payload)),
            Some(Kind::Block) => block(payload),
            Some(Kind::Dropped) => dropped(&lossy(&payload)),
            None => Err(poison(&format!("kind {kind} is not known"))),
        }
    }
}

fn block(mut payload: Bytes) -> Result<Facts, Poison> {
    if payload.len() < BLOCK_HEAD {
        return Err(poison("a block is shorter than its head"));
    }
    let upload = UploadNo(payload.get_u64_le());
    let (index, count) = (payload.get_u32_le(), payload.get_u32_le());
    let block = Fact::Block(UploadBlock { upload, index, count, bytes: payload });
    Ok(Facts { repeat: Repeat::Idempotent, items: vec![block] })
}

fn dropped(text: &Bytes) -> Result<Facts, Poison> {
    let note: Dropped<'_> = serde_json::from_slice(text).map_err(unreadable)?;
    let (source, message) = (note.source.into_owned(), note.message.into_owned());
    Ok(Facts { repeat: Repeat::Idempotent, items: vec![Fact::Dropped { source, message }] })
}

fn poison(reason: &str) -> Poison {
    Poison { reason: format!("osquery message: {reason}") }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unreadable(error: serde_json::Error) -> Poison {
    poison(&error.to_string())
}
