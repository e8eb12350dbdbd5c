//! Frames over the WebSocket.

use std::sync::Arc;
use std::time::Duration;

use muster_codec_native::{Bye, ServerFrame};
use muster_gateway::{Metrics, Refusal};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use super::End;
use super::line::{self, Line};
use crate::NativeState;
use crate::ws::{Event, Gate, Out, Reader, Trouble};

/// An upgraded connection.
pub(crate) struct Wire<Io> {
    line: Arc<Line<Io>>,
    io: line::End<Io>,
    reader: Reader,
    write_timeout: Duration,
}

/// The largest frame of somebody who has not yet proved who they are.
const HELLO_BYTES_MAX: usize = 320 << 10;

impl<Io: AsyncRead + AsyncWrite + Unpin> Wire<Io> {
    pub(super) fn new(io: Io, metrics: Arc<Metrics>, write_timeout: Duration) -> Self {
        let line = Line::new(io, metrics);
        Self { io: line.end(), line, reader: Reader::new(HELLO_BYTES_MAX), write_timeout }
    }

    /// The agent has proved who it is: larger frames are read.
    pub(super) fn trust(&mut self, frame_bytes_max: usize) {
        self.reader.set_limit(frame_bytes_max);
    }

    /// The connection, for those who write a frame at once.
    pub(super) fn line(&self) -> &Arc<Line<Io>> {
        &self.line
    }

    /// The next thing the agent sent.
    ///
    /// # Cancel safety
    /// Safe.
    pub(super) async fn next<G: Gate>(&mut self, gate: &G) -> Result<Event, Trouble> {
        self.reader.next(&mut self.io, gate).await
    }

    /// Whether a message is being read, or waits for budget.
    pub(super) fn is_reading(&self) -> bool {
        self.reader.is_within_message()
    }

    /// Writes frames; a reader that is too slow for it is given up.
    pub(super) async fn write(&mut self, out: &Out, state: &NativeState) -> Result<(), End> {
        let (io, rest) = (&mut self.io, self.line.take_rest());
        let write = async {
            if !rest.is_empty() {
                io.write_all(&rest).await?;
            }
            io.write_all(out.as_bytes()).await?;
            io.flush().await
        };
        match tokio::time::timeout(self.write_timeout, write).await {
            Ok(written) => written.map_err(Trouble::from)?,
            Err(_) => return Err(End::Slow),
        }
        state.metrics.bytes_out.add(out.len() as u64);
        Ok(())
    }

    pub(super) async fn send(
        &mut self,
        frame: ServerFrame,
        state: &NativeState,
    ) -> Result<(), End> {
        let mut out = Out::default();
        out.message(&frame.encode()?);
        state.metrics.frames_out.inc();
        self.write(&out, state).await
    }

    /// Counts why the link ends, tells the agent where that helps, and closes.
    pub(super) async fn farewell(&mut self, end: &End, state: &NativeState) {
        let metrics = &state.metrics;
        let (code, reason, retry) = match end {
            End::Left => (1000, None, Duration::ZERO),
            End::Trouble(Trouble::Io(_)) => return,
            End::Trouble(Trouble::Oversize(_)) => {
                metrics.oversize.inc();
                metrics.refused_by(muster_types::AgentKind::Native, Refusal::Oversize);
                (1009, Some(end.to_string()), Duration::from_secs(60))
            }
            End::Trouble(Trouble::Stalled) | End::Slow => {
                metrics.slow.inc();
                (1008, None, Duration::ZERO)
            }
            End::Trouble(Trouble::Refused { .. }) => (1013, None, Duration::ZERO),
            End::Trouble(Trouble::Protocol(_)) => {
                metrics.malformed.inc();
                (1002, None, Duration::ZERO)
            }
            End::Malformed(error) => {
                metrics.malformed.inc();
                (1002, Some(error.to_string()), Duration::from_secs(60))
            }
            End::Unauthenticated(why) => {
                metrics.refused_by(muster_types::AgentKind::Native, Refusal::Unauthenticated);
                (1008, Some((*why).to_owned()), Duration::from_secs(60))
            }
            // Its turn was chosen so that not all come at once.
            End::Elsewhere => (1001, Some(end.to_string()), Duration::ZERO),
            End::Closed(why) => (1001, Some((*why).to_owned()), state.jitter(RETURN)),
        };
        let mut out = Out::default();
        if let Some(reason) = reason {
            let retry_after_ms = u64::try_from(retry.as_millis()).unwrap_or(u64::MAX);
            if let Ok(bye) = ServerFrame::from(Bye { reason, retry_after_ms }).encode() {
                out.message(&bye);
            }
        }
        out.close(code);
        // Whoever does not take these few bytes at once does not get them.
        let last = Duration::from_secs(2);
        if tokio::time::timeout(last, self.write(&out, state)).await.is_ok() {
            let _ = tokio::time::timeout(last, self.io.shutdown()).await;
        }
    }
}

/// Agents of a server that goes away come back within this time.
const RETURN: Duration = Duration::from_secs(2);
