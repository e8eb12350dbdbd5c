//! The server's side of WebSocket framing (RFC 6455), reduced to what agents need.
//!
//! Own framing, not a library's, for two reasons. The length of a message is known before a byte of it
//! is read, so the process-wide byte budget is taken first and memory only then. And a parked connection
//! holds no buffer at all: the header is read into 14 bytes, small messages are one allocation.

use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use muster_gateway::Permit;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::Instant;

const CONTINUATION: u8 = 0;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const CONTROL_BYTES_MAX: usize = 125;
/// Time for a message to come in, whatever its size, and the slowest pace above that.
const MESSAGE_TIME: Duration = Duration::from_secs(10);
const PACE_BYTES_PER_SECOND: usize = 32 << 10;

/// What the peer sent.
#[derive(Debug)]
pub(crate) enum Event {
    /// A whole message, with the budget it was read on.
    Message(Bytes, Vec<Permit>),
    /// To be answered with a pong of the same content.
    Ping(Bytes),
    /// A sign of life.
    Pong,
    /// The peer closes.
    Close,
}

/// Why the connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// It broke.
    #[error("connection broke")]
    Io(#[from] io::Error),
    /// Not WebSocket as agents speak it.
    #[error("{0}")]
    Protocol(&'static str),
    /// A message over the limit.
    #[error("message of {0} bytes is over the limit")]
    Oversize(u64),
    /// A message that came in too slowly.
    #[error("message came in too slowly")]
    Stalled,
    /// The budget was refused.
    #[error("not taken now")]
    Refused {
        /// When to come again.
        retry_after: Duration,
    },
}

/// Gives the budget for a message before it is read.
pub(crate) trait Gate {
    /// Waits for the budget; may be dropped at any time. `None` is a message that needs none.
    fn admit(&self, bytes: usize) -> impl Future<Output = Result<Option<Permit>, Trouble>> + Send;
}

/// Takes messages apart. All progress is kept here, so a dropped call of [`Reader::next`] loses nothing.
#[derive(Debug)]
pub(crate) struct Reader {
    message_bytes_max: usize,
    head: [u8; 14],
    have: usize,
    /// Boxed: an idle connection has none.
    frame: Option<Box<Frame>>,
    message: Option<Box<Partial>>,
}

#[derive(Debug)]
struct Frame {
    fin: bool,
    opcode: u8,
    mask: [u8; 4],
    len: usize,
    admitted: bool,
    body: BytesMut,
    deadline: Instant,
}

/// Fragments of a message, and the budget they were read on.
#[derive(Debug)]
struct Partial {
    bytes: BytesMut,
    permits: Vec<Permit>,
    deadline: Instant,
}

impl Reader {
    pub(crate) fn new(message_bytes_max: usize) -> Self {
        Self { message_bytes_max, head: [0; 14], have: 0, frame: None, message: None }
    }

    /// The bound for messages from now on.
    pub(crate) fn set_limit(&mut self, message_bytes_max: usize) {
        self.message_bytes_max = message_bytes_max;
    }

    /// Whether a message has begun and is not complete.
    pub(crate) fn is_within_message(&self) -> bool {
        self.frame.is_some() || self.message.is_some()
    }

    /// The next thing the peer sent.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn next<Io, G>(&mut self, io: &mut Io, gate: &G) -> Result<Event, Trouble>
    where
        Io: AsyncRead + Unpin,
        G: Gate,
    {
        loop {
            // A message that has begun holds budget: its next fragment has as long as its bytes.
            let deadline = self.message.as_ref().map(|message| message.deadline);
            match (&self.frame, deadline) {
                (Some(_), _) => {}
                (None, None) => self.read_head(io).await?,
                (None, Some(at)) => {
                    let head = Box::pin(tokio::time::timeout_at(at, self.read_head(io)));
                    head.await.map_err(|_| Trouble::Stalled)??;
                }
            }
            let frame = self.frame.as_ref().expect("read just above");
            // Boxed from here on: an idle link waits for a head, and has no room for more.
            if frame.opcode >= CLOSE {
                Box::pin(self.read_body(io)).await?;
                return self.control();
            }
            if !frame.admitted {
                let admit = Box::pin(gate.admit(frame.len));
                let permit = match deadline {
                    None => admit.await?,
                    Some(at) => {
                        let admit = Box::pin(tokio::time::timeout_at(at, admit));
                        admit.await.map_err(|_| Trouble::Stalled)??
                    }
                };
                self.begin_body(permit);
            }
            Box::pin(self.read_body(io)).await?;
            if let Some(event) = self.data() {
                return Ok(event);
            }
        }
    }

    async fn read_head<Io: AsyncRead + Unpin>(&mut self, io: &mut Io) -> Result<(), Trouble> {
        loop {
            let need = if self.have < 2 { 2 } else { head_bytes(self.head[1]) };
            if self.have >= need && need > 2 {
                break;
            }
            let n = io.read(&mut self.head[self.have..need]).await?;
            if n == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            self.have += n;
        }
        self.have = 0;
        self.frame = Some(Box::new(self.understand_head()?));
        Ok(())
    }

    fn understand_head(&self) -> Result<Frame, Trouble> {
        let [first, second, ..] = self.head;
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
        let (len, mask_at) = match second & 0x7f {
            126 => (u64::from(u16::from_be_bytes([self.head[2], self.head[3]])), 4),
            127 => {
                let mut len = [0; 8];
                len.copy_from_slice(&self.head[2..10]);
                (u64::from_be_bytes(len), 10)
            }
            len => (u64::from(len), 2),
        };
        let mut mask = [0; 4];
        mask.copy_from_slice(&self.head[mask_at..mask_at + 4]);
        if first & 0x70 != 0 {
            return Err(Trouble::Protocol("reserved bits are set"));
        }
        if second & 0x80 == 0 {
            return Err(Trouble::Protocol("frame without a mask"));
        }
        let before = self.message.as_ref().map_or(0, |partial| partial.bytes.len());
        match opcode {
            CLOSE | PING | PONG if fin && len <= CONTROL_BYTES_MAX as u64 => {}
            CLOSE | PING | PONG => return Err(Trouble::Protocol("malformed control frame")),
            BINARY if self.message.is_none() => {}
            CONTINUATION if self.message.is_some() => {}
            _ => return Err(Trouble::Protocol("unexpected type of frame")),
        }
        let max = (self.message_bytes_max - before.min(self.message_bytes_max)) as u64;
        if len > max && opcode < CLOSE {
            return Err(Trouble::Oversize(len.saturating_add(before as u64)));
        }
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let deadline = Instant::now() + time_for(len);
        Ok(Frame { fin, opcode, mask, len, admitted: false, body: BytesMut::new(), deadline })
    }

    /// The budget is there: from now on the message has its time to come in. Fragments share it.
    fn begin_body(&mut self, permit: Option<Permit>) {
        let Some(frame) = &mut self.frame else { return };
        frame.admitted = true;
        frame.deadline = Instant::now() + time_for(frame.len);
        let partial = self.message.get_or_insert_with(|| {
            let deadline = Instant::now() + time_for(self.message_bytes_max);
            Box::new(Partial { bytes: BytesMut::new(), permits: Vec::new(), deadline })
        });
        partial.permits.extend(permit);
        frame.deadline = frame.deadline.min(partial.deadline);
    }

    async fn read_body<Io: AsyncRead + Unpin>(&mut self, io: &mut Io) -> Result<(), Trouble> {
        let Some(frame) = &mut self.frame else { return Ok(()) };
        if frame.body.capacity() == 0 {
            frame.body.reserve(frame.len);
        }
        while frame.body.len() < frame.len {
            let missing = frame.len - frame.body.len();
            let mut room = (&mut frame.body).limit(missing);
            let read = tokio::time::timeout_at(frame.deadline, io.read_buf(&mut room));
            match read.await {
                Err(_) => return Err(Trouble::Stalled),
                Ok(Ok(0)) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(read) => read?,
            };
        }
        Ok(())
    }

    fn control(&mut self) -> Result<Event, Trouble> {
        let frame = self.frame.take().expect("called with a whole frame");
        let body = unmasked(frame.body, frame.mask);
        Ok(match frame.opcode {
            PING => Event::Ping(body.freeze()),
            PONG => Event::Pong,
            _ => Event::Close,
        })
    }

    /// A whole data frame; `Some` when it completes its message.
    fn data(&mut self) -> Option<Event> {
        let frame = self.frame.take().expect("called with a whole frame");
        let body = unmasked(frame.body, frame.mask);
        let partial = self.message.as_mut().expect("begun with the frame");
        if partial.bytes.is_empty() {
            partial.bytes = body;
        } else {
            partial.bytes.extend_from_slice(&body);
        }
        if !frame.fin {
            return None;
        }
        let partial = self.message.take().expect("there just above");
        Some(Event::Message(partial.bytes.freeze(), partial.permits))
    }
}

fn time_for(len: usize) -> Duration {
    MESSAGE_TIME + Duration::from_secs((len / PACE_BYTES_PER_SECOND) as u64)
}

fn head_bytes(second: u8) -> usize {
    let extended = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    2 + extended + 4
}

fn unmasked(mut bytes: BytesMut, mask: [u8; 4]) -> BytesMut {
    let mut chunks = bytes.chunks_exact_mut(4);
    for chunk in &mut chunks {
        for (byte, key) in chunk.iter_mut().zip(mask) {
            *byte ^= key;
        }
    }
    for (byte, key) in chunks.into_remainder().iter_mut().zip(mask) {
        *byte ^= key;
    }
    bytes
}

/// Frames for the agent, written together.
#[derive(Debug, Default)]
pub(crate) struct Out(BytesMut);

impl Out {
    /// A binary message.
    pub(crate) fn message(&mut self, payload: &[u8]) {
        self.frame(BINARY, payload);
    }

    /// Asks for a sign of life.
    pub(crate) fn ping(&mut self) {
        self.frame(PING, &[]);
    }

    /// Answers a ping.
    pub(crate) fn pong(&mut self, payload: &[u8]) {
        self.frame(PONG, payload);
    }

    /// Ends the conversation, with an RFC 6455 status code.
    pub(crate) fn close(&mut self, code: u16) {
        self.frame(CLOSE, &code.to_be_bytes());
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    fn frame(&mut self, opcode: u8, payload: &[u8]) {
        self.0.reserve(payload.len() + 10);
        self.0.put_u8(0x80 | opcode);
        match payload.len() {
            len @ 0..=125 => self.0.put_u8(len as u8),
            len @ 126..=0xffff => {
                self.0.put_u8(126);
                self.0.put_u16(len as u16);
            }
            len => {
                self.0.put_u8(127);
                self.0.put_u64(len as u64);
            }
        }
        self.0.put_slice(payload);
    }
}
