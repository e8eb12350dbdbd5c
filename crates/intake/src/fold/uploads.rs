//! Files that come in pieces: each piece is stored once, and a file that is whole is told.

use muster_types::{AgentNo, UploadBlock, UploadNo};

use super::SystemRow;
use super::agent::{MAX_RANGES, MAX_UPLOAD_BYTES};
use super::apply::Step;

/// An upload of which every block is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadDone {
    /// Which.
    pub upload: UploadNo,
    /// Whose.
    pub agent: AgentNo,
    /// How many bytes it has.
    pub byte_count: u64,
}

impl Step<'_> {
    /// A piece of a file. The gateway has made sure that the upload is this agent's.
    pub fn block(&mut self, block: &UploadBlock) {
        let UploadBlock { upload, index, count, ref bytes } = *block;
        if let Err(why) = self.admit_block(block) {
            return match why {
                None => self.counters.repeats += 1,
                Some(why) => {
                    let message = format!("block {index} of upload {upload}: {why}");
                    self.refuse(&self.at(), "upload", &message);
                }
            };
        }
        self.sink.system(&self.at(), &SystemRow::Block { upload, index, bytes });
        let agent = self.record.agent;
        let entry = self.agent.upload(upload.0, count);
        entry.bytes += bytes.len() as u64;
        if entry.seen.complete_below(u64::from(count)) {
            self.uploads_done.push(UploadDone { upload, agent, byte_count: entry.bytes });
        }
    }

    /// Whether the block is new; `Err(None)` when it was here before.
    fn admit_block(&mut self, block: &UploadBlock) -> Result<(), Option<&'static str>> {
        if block.index >= block.count {
            return Err(Some("there are not so many"));
        }
        let entry = self.agent.upload(block.upload.0, block.count);
        if entry.count != block.count {
            return Err(Some("the upload has another number of blocks"));
        }
        if entry.bytes + block.bytes.len() as u64 > MAX_UPLOAD_BYTES {
            return Err(Some("the upload is too long"));
        }
        let (start, end) = (u64::from(block.index), u64::from(block.index) + 1);
        if entry.seen.missing(start, end).is_empty() {
            return Err(None);
        }
        let fits = entry.seen.insert(start, end, MAX_RANGES);
        fits.then_some(()).ok_or(Some("too many blocks before it are missing"))
    }
}
