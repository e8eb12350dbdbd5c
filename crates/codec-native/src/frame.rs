//! Framing: what all frames have in common, and its bounds.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The version this crate writes, and the newest it reads.
pub const VERSION: u8 = 1;
/// Bytes before the header: version, type, header length.
pub const HEAD_BYTES: usize = 6;
/// Largest frame, all told.
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// Largest header.
pub const HEADER_BYTES_MAX: usize = 256 << 10;
/// Most items in one batch.
pub const ITEMS_MAX: usize = 4096;

/// Why bytes are no frame, or a frame cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Written by a newer program.
    #[error("frame version {0} is newer than this program reads ({VERSION}); upgrade it")]
    Version(u8),
    /// Shorter than its own lengths say.
    #[error("frame ends early")]
    Truncated,
    /// Over a bound.
    #[error("{what} is {is} bytes or items, the limit is {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large it is.
        is: usize,
        /// The bound.
        limit: usize,
    },
    /// The header is not the JSON it should be.
    #[error("malformed {frame} header: {reason}")]
    Header {
        /// Which frame.
        frame: &'static str,
        /// The parser's words.
        reason: String,
    },
    /// Well-formed, and yet it says something that cannot be.
    #[error("{frame}: {reason}")]
    Invalid {
        /// Which frame.
        frame: &'static str,
        /// What is wrong.
        reason: &'static str,
    },
}

pub(crate) fn limit(what: &'static str, is: usize, limit: usize) -> Result<(), Error> {
    if is > limit { Err(Error::TooLarge { what, is, limit }) } else { Ok(()) }
}

/// A frame taken apart; header and payload share the message's memory.
pub(crate) struct Raw {
    pub kind: u8,
    pub header: Bytes,
    pub payload: Bytes,
}

impl Raw {
    pub(crate) fn split(mut bytes: Bytes) -> Result<Self, Error> {
        limit("frame", bytes.len(), MESSAGE_BYTES_MAX)?;
        let version = bytes.try_get_u8().map_err(|_| Error::Truncated)?;
        if version != VERSION {
            return Err(Error::Version(version));
        }
        let kind = bytes.try_get_u8().map_err(|_| Error::Truncated)?;
        let header_len = bytes.try_get_u32_le().map_err(|_| Error::Truncated)? as usize;
        limit("header", header_len, HEADER_BYTES_MAX)?;
        if header_len > bytes.len() {
            return Err(Error::Truncated);
        }
        let header = bytes.split_to(header_len);
        Ok(Self { kind, header, payload: bytes })
    }

    /// The header of a frame that has no payload.
    pub(crate) fn only_header<T: DeserializeOwned>(&self, frame: &'static str) -> Result<T, Error> {
        if !self.payload.is_empty() {
            return Err(Error::Invalid { frame, reason: "has a payload" });
        }
        self.parse_header(frame)
    }

    pub(crate) fn parse_header<T: DeserializeOwned>(
        &self,
        frame: &'static str,
    ) -> Result<T, Error> {
        serde_json::from_slice(&self.header)
            .map_err(|error| Error::Header { frame, reason: error.to_string() })
    }
}

/// Writes a frame from its header and the parts of its payload.
pub(crate) fn write<'a>(
    frame: &'static str,
    kind: u8,
    header: &impl Serialize,
    payload: impl Iterator<Item = &'a Bytes> + Clone,
) -> Result<Bytes, Error> {
    let header = serde_json::to_vec(header)
        .map_err(|error| Error::Header { frame, reason: error.to_string() })?;
    limit("header", header.len(), HEADER_BYTES_MAX)?;
    let total = HEAD_BYTES + header.len() + payload.clone().map(Bytes::len).sum::<usize>();
    limit("frame", total, MESSAGE_BYTES_MAX)?;
    let header_len = u32::try_from(header.len()).map_err(|_| Error::Truncated)?;
    let mut out = BytesMut::with_capacity(total);
    out.put_u8(VERSION);
    out.put_u8(kind);
    out.put_u32_le(header_len);
    out.put_slice(&header);
    for part in payload {
        out.put_slice(part);
    }
    Ok(out.freeze())
}

/// Writes a frame that is only a header.
pub(crate) fn write_header(
    frame: &'static str,
    kind: u8,
    header: &impl Serialize,
) -> Result<Bytes, Error> {
    write(frame, kind, header, std::iter::empty())
}
