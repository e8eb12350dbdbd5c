//! What client and server say to each other.

use std::io;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use muster_types::{Pos, Record, Shard};
use tokio::net::UnixStream;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use crate::{AppendError, Entry, Pressure, ReadError};

/// Longest message; an append or a read of more is an error of the caller.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

pub(super) enum Request {
    Append(Vec<Record>),
    Trim(Shard, Pos),
    /// Begins reading on this connection.
    Read(Vec<(Shard, Pos)>),
    Next(usize),
    /// From now on this connection tells the pressure as it changes.
    Pressure,
}

#[derive(Debug)]
pub(super) enum Answer {
    Appended(Vec<Pos>),
    Done,
    Entries(Vec<Entry>),
    Pressure(Pressure),
    Full(Duration),
    Unavailable(String),
    Trimmed(Shard, Pos, Pos),
}

/// One end of a connection. Cancel safe in both directions up to a whole message.
pub(super) struct Connection(Framed<UnixStream, LengthDelimitedCodec>);

impl Connection {
    pub(super) fn new(socket: UnixStream) -> Self {
        let mut codec = LengthDelimitedCodec::builder();
        codec.max_frame_length(MESSAGE_BYTES_MAX);
        Self(Framed::new(socket, codec.new_codec()))
    }

    pub(super) async fn send(&mut self, message: Bytes) -> io::Result<()> {
        self.0.send(message).await
    }

    pub(super) async fn receive(&mut self) -> io::Result<Bytes> {
        let message = self.0.next().await;
        message.unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into())).map(BytesMut::freeze)
    }

    pub(super) async fn request(&mut self, request: &Request) -> io::Result<()> {
        self.send(request.encode()).await
    }

    pub(super) async fn answer(&mut self) -> io::Result<Answer> {
        let message = self.receive().await?;
        Answer::decode(message).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

impl Request {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Self::Append(records) => {
                out.put_u8(1);
                for record in records {
                    put_record(&mut out, record);
                }
            }
            Self::Trim(shard, upto) => {
                out.put_u8(2);
                put_place(&mut out, *shard, *upto);
            }
            Self::Read(after) => {
                out.put_u8(3);
                for (shard, pos) in after {
                    put_place(&mut out, *shard, *pos);
                }
            }
            Self::Next(max_bytes) => {
                out.put_u8(4);
                out.put_u64_le(*max_bytes as u64);
            }
            Self::Pressure => out.put_u8(5),
        }
        out.freeze()
    }

    pub(super) fn decode(mut bytes: Bytes) -> Option<Self> {
        Some(match bytes.try_get_u8().ok()? {
            1 => Self::Append(get_all(&mut bytes, get_record)?),
            2 => {
                let (shard, upto) = get_place(&mut bytes)?;
                Self::Trim(shard, upto)
            }
            3 => Self::Read(get_all(&mut bytes, get_place)?),
            4 => Self::Next(usize::try_from(bytes.try_get_u64_le().ok()?).ok()?),
            5 => Self::Pressure,
            _ => return None,
        })
    }
}

impl Answer {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Self::Appended(positions) => {
                out.put_u8(1);
                for pos in positions {
                    out.put_u64_le(pos.0);
                }
            }
            Self::Done => out.put_u8(2),
            Self::Entries(entries) => {
                out.put_u8(3);
                for entry in entries {
                    out.put_u64_le(entry.pos.0);
                    put_record(&mut out, &entry.record);
                }
            }
            Self::Pressure(pressure) => {
                out.put_u8(4);
                out.put_u64_le(pressure.used_bytes);
                out.put_u64_le(pressure.quota_bytes);
                out.put_u8(u8::from(pressure.stopped));
            }
            Self::Full(retry_after) => {
                out.put_u8(5);
                out.put_u64_le(u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX));
            }
            Self::Unavailable(why) => {
                out.put_u8(6);
                out.put_slice(why.as_bytes());
            }
            Self::Trimmed(shard, after, oldest) => {
                out.put_u8(7);
                put_place(&mut out, *shard, *after);
                out.put_u64_le(oldest.0);
            }
        }
        out.freeze()
    }

    fn decode(mut bytes: Bytes) -> Option<Self> {
        Some(match bytes.try_get_u8().ok()? {
            1 => Self::Appended(get_all(&mut bytes, get_pos)?),
            2 => Self::Done,
            3 => Self::Entries(get_all(&mut bytes, |bytes| {
                Some(Entry { pos: get_pos(bytes)?, record: get_record(bytes)? })
            })?),
            4 => Self::Pressure(Pressure {
                used_bytes: bytes.try_get_u64_le().ok()?,
                quota_bytes: bytes.try_get_u64_le().ok()?,
                stopped: bytes.try_get_u8().ok()? != 0,
            }),
            5 => Self::Full(Duration::from_millis(bytes.try_get_u64_le().ok()?)),
            6 => Self::Unavailable(String::from_utf8_lossy(&bytes).into_owned()),
            7 => {
                let (shard, after) = get_place(&mut bytes)?;
                Self::Trimmed(shard, after, get_pos(&mut bytes)?)
            }
            _ => return None,
        })
    }
}

impl From<AppendError> for Answer {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Full { retry_after } => Self::Full(retry_after),
            // It is the other process that ends, not the one that asks.
            AppendError::Unavailable(why) | AppendError::Fatal(why) => Self::Unavailable(why),
        }
    }
}

impl From<ReadError> for Answer {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::TrimmedBelow { shard, after, oldest } => Self::Trimmed(shard, after, oldest),
            ReadError::Unavailable(why) | ReadError::Newer(why) => Self::Unavailable(why),
        }
    }
}

fn put_record(out: &mut BytesMut, record: &Record) {
    let mut bytes = BytesMut::new();
    record.encode(&mut bytes);
    out.put_u32_le(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    out.put_slice(&bytes);
}

fn get_record(bytes: &mut Bytes) -> Option<Record> {
    let length = bytes.try_get_u32_le().ok()? as usize;
    (length <= bytes.len())
        .then(|| bytes.split_to(length))
        .and_then(|record| Record::decode(record).ok())
}

fn put_place(out: &mut BytesMut, shard: Shard, pos: Pos) {
    out.put_u8(shard.get());
    out.put_u64_le(pos.0);
}

fn get_place(bytes: &mut Bytes) -> Option<(Shard, Pos)> {
    Some((Shard::new(bytes.try_get_u8().ok()?)?, get_pos(bytes)?))
}

fn get_pos(bytes: &mut Bytes) -> Option<Pos> {
    bytes.try_get_u64_le().ok().map(Pos)
}

/// Reads until nothing is left.
fn get_all<T>(bytes: &mut Bytes, get: impl Fn(&mut Bytes) -> Option<T>) -> Option<Vec<T>> {
    let mut all = Vec::new();
    while bytes.has_remaining() {
        all.push(get(bytes)?);
    }
    Some(all)
}
