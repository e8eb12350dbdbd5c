//! The connection itself, shared by the link's own task and by whoever has a frame for it.
//!
//! A task to many agents that woke the task of each link would spend more on waking than on writing.
//! So a frame for an idle link is written at once, by whoever has it; only what the kernel does not
//! take, and what comes while the link's own task is writing, is left to that task.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use muster_gateway::{Metrics, Push, Tried};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::unconstrained;

use crate::ws::Out;

/// A connection with its lock, which is held for the length of one system call.
pub(super) struct Line<Io> {
    shared: Mutex<Shared<Io>>,
    metrics: Arc<Metrics>,
}

struct Shared<Io> {
    io: Io,
    /// Something is written and not flushed: a frame that came between would tear another apart.
    writing: bool,
    /// Of a frame that was begun here, what the link's own task has to write before anything else.
    rest: Vec<u8>,
}

/// The link's own end of the line.
pub(super) struct End<Io>(Arc<Line<Io>>);

impl<Io> Line<Io> {
    pub(super) fn new(io: Io, metrics: Arc<Metrics>) -> Arc<Self> {
        let shared = Mutex::new(Shared { io, writing: false, rest: Vec::new() });
        Arc::new(Self { shared, metrics })
    }

    pub(super) fn end(self: &Arc<Self>) -> End<Io> {
        End(Arc::clone(self))
    }

    /// What [`muster_gateway::Line::try_write`] began and could not finish.
    pub(super) fn take_rest(&self) -> Vec<u8> {
        std::mem::take(&mut self.shared.lock().rest)
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin + Send> muster_gateway::Line for Line<Io> {
    fn try_write(&self, push: &Push) -> Tried {
        let Some(mut shared) = self.shared.try_lock() else { return Tried::Busy };
        if shared.writing {
            return Tried::Busy;
        }
        let mut out = Out::default();
        match push {
            Push::Task { bytes, .. } | Push::Cancel { bytes, .. } => out.message(bytes),
            Push::Probe => out.ping(),
            Push::Rest { .. } => return Tried::Busy,
        }
        self.metrics.frames_out.inc();
        self.metrics.bytes_out.add(out.len() as u64);
        shared.write(out.as_bytes())
    }
}

impl<Io: AsyncWrite + Unpin> Shared<Io> {
    /// Writes as much as goes without waiting. An error is left to the link's own task to meet.
    fn write(&mut self, frame: &[u8]) -> Tried {
        let mut written = 0;
        let attempt = poll_fn(|cx| {
            while written < frame.len() {
                match ready!(Pin::new(&mut self.io).poll_write(cx, &frame[written..])) {
                    Ok(n) if n > 0 => written += n,
                    _ => return Poll::Ready(false),
                }
            }
            Pin::new(&mut self.io).poll_flush(cx).map(|flushed| flushed.is_ok())
        });
        // Nobody is to be woken: what does not go now, the link's own task takes up at once. And the
        // caller's time slice does not count, or its 128th frame would look like a full socket.
        let attempt = pin!(unconstrained(attempt)).poll(&mut Context::from_waker(Waker::noop()));
        if attempt == Poll::Ready(true) {
            return Tried::Written;
        }
        self.writing = true;
        self.rest = frame[written..].to_vec();
        Tried::Begun
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for End<Io> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.shared.lock().io).poll_read(cx, buf)
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for End<Io> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut shared = self.0.shared.lock();
        shared.writing = true;
        Pin::new(&mut shared.io).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.0.shared.lock();
        shared.writing = true;
        ready!(Pin::new(&mut shared.io).poll_flush(cx))?;
        shared.writing = false;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.0.shared.lock();
        shared.writing = true;
        Pin::new(&mut shared.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use muster_gateway::Line as _;
    use muster_types::{HuntNo, TaskId};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    fn task(no: u64, bytes: usize) -> Push {
        let bytes = Bytes::from(vec![no as u8; bytes]);
        Push::Task { task: TaskId { hunt: HuntNo(no), attempt: 1 }, bytes }
    }

    #[tokio::test]
    async fn what_the_kernel_does_not_take_is_left_to_the_links_own_task() {
        let (ours, mut theirs) = duplex(16);
        let line = Line::new(ours, Arc::default());
        assert_eq!(line.try_write(&task(1, 4)), Tried::Written);
        assert_eq!(line.try_write(&task(2, 100)), Tried::Begun, "10 of 102 bytes fit");
        assert_eq!(line.try_write(&task(3, 1)), Tried::Busy, "it would tear the frame apart");

        let rest = line.take_rest();
        assert_eq!(rest.len(), 92);
        let mut end = line.end();
        let write = async {
            end.write_all(&rest).await.unwrap();
            end.flush().await.unwrap();
        };
        let mut read = vec![0; 6 + 102];
        let (_, got) = tokio::join!(write, theirs.read_exact(&mut read));
        got.unwrap();
        assert_eq!(read[..6], [0x82, 4, 1, 1, 1, 1]);
        assert_eq!(
            (&read[6..8], read[8..].iter().all(|byte| *byte == 2)),
            (&[0x82, 100][..], true)
        );
        assert_eq!(line.try_write(&task(3, 1)), Tried::Written);
    }

    #[tokio::test]
    async fn nobody_writes_between_a_frame_and_its_flush() {
        let (ours, _theirs) = duplex(1024);
        let line = Line::new(ours, Arc::default());
        let mut end = line.end();
        end.write_all(b"half a fra").await.unwrap();
        assert_eq!(line.try_write(&task(1, 4)), Tried::Busy);
        end.write_all(b"me").await.unwrap();
        end.flush().await.unwrap();
        assert_eq!(line.try_write(&task(1, 4)), Tried::Written);
    }
}
