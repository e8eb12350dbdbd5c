//! File carving: an upload in blocks.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use super::Error;
use crate::lenient::{Number, Text};

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// Longest identifier, in bytes; real ones are GUIDs.
const ID_BYTES: usize = 256;

/// A carve begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CarveBegin {
    /// Empty when it stands in the header only.
    pub node_key: String,
    /// How many blocks will come; at least 1.
    pub block_count: u32,
    /// Bytes of each block but the last.
    pub block_size: u32,
    /// Bytes in all.
    pub carve_size: u64,
    /// The carve's own name: `carve_guid` of the row that asked for it.
    pub carve_id: String,
    /// A random name, of no use to us.
    pub request_id: String,
}

/// A block of a carve. It holds no node key: the session proves who sends it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CarveBlock<'a> {
    /// From 0.
    pub block_id: u32,
    /// As it was given when the carve began.
    pub session_id: Cow<'a, str>,
    /// As it came when the carve began.
    pub request_id: Cow<'a, str>,
    /// Base64.
    data: Cow<'a, str>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Members<'a> {
    block_count: Number,
    block_size: Number,
    carve_size: Number,
    block_id: Number,
    #[serde(borrow)]
    carve_id: Text<'a>,
    #[serde(borrow)]
    request_id: Text<'a>,
    #[serde(borrow)]
    session_id: Text<'a>,
    #[serde(borrow)]
    data: Text<'a>,
    #[serde(borrow)]
    node_key: Text<'a>,
}

impl CarveBegin {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is not JSON, or its numbers do not fit together.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        let text = String::from_utf8_lossy(body);
        let members: Members<'_> = serde_json::from_str(&text)?;
        let positive = |number: Number| u32::try_from(number.0).ok().filter(|n| *n > 0);
        let begin = Self {
            node_key: members.node_key.0.into_owned(),
            block_count: positive(members.block_count).ok_or(Error::Member("block_count"))?,
            block_size: positive(members.block_size).ok_or(Error::Member("block_size"))?,
            carve_size: members.carve_size.unsigned(),
            carve_id: id(&members.carve_id)?,
            request_id: members.request_id.0.chars().take(ID_BYTES / 4).collect(),
        };
        let room = u64::from(begin.block_count) * u64::from(begin.block_size);
        if begin.carve_size > room {
            return Err(Error::Member("carve_size"));
        }
        Ok(begin)
    }
}

fn id(text: &Text<'_>) -> Result<String, Error> {
    let fits = !text.0.is_empty() && text.0.len() <= ID_BYTES;
    fits.then(|| text.0.clone().into_owned()).ok_or(Error::Member("carve_id"))
}

impl<'a> CarveBlock<'a> {
    /// Reads a body, which must be UTF-8: base64 and GUIDs are.
    ///
    /// # Errors
    /// When it is not the JSON of a block.
    pub fn parse(body: &'a [u8]) -> Result<Self, Error> {
        let members: Members<'a> = serde_json::from_slice(body)?;
        Ok(Self {
            block_id: u32::try_from(members.block_id.0).map_err(|_| Error::Member("block_id"))?,
            session_id: members.session_id.0,
            request_id: members.request_id.0,
            data: members.data.0,
        })
    }

    /// The block's bytes.
    ///
    /// # Errors
    /// When it is not base64.
    pub fn bytes(&self) -> Result<Vec<u8>, Error> {
        BASE64.decode(&*self.data).map_err(|_| Error::Member("data"))
    }

    /// How long [`CarveBlock::bytes`] will be, at most.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        self.data.len().div_ceil(4) * 3
    }
}
