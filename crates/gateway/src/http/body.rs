//! Reading a body of known length, within bounds.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use super::TAIL_BYTES_MAX;
use super::meter::{Full, Meter};

/// Bytes asked for at a time, and room made for them; more once a body has shown that it comes.
pub(super) const CHUNK_BYTES: usize = 16 << 10;
/// Longest pause within a body: who stops sending may not sit on a part of the byte budget.
const STALL: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 5_000 });

/// Why there is no body.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Nothing came for too long.
    Stalled,
    /// The connection broke.
    Gone,
    /// There is no room for more of it.
    Full,
}

impl From<Full> for Trouble {
    fn from(_: Full) -> Self {
        Self::Full
    }
}

/// A body, or the beginning and the end of one.
#[derive(Debug)]
pub(super) struct Collected {
    pub(super) body: Bytes,
    pub(super) tail: Bytes,
    pub(super) is_truncated: bool,
}

/// Takes a body of `length` bytes from `read`, where its beginning may be already, and then from the
/// connection. At most `max` bytes of it are kept, and a bit of its end; `meter` counts them.
pub(super) async fn collect(
    io: &mut (impl AsyncRead + Unpin),
    read: &mut BytesMut,
    length: u64,
    max: usize,
    meter: &mut Meter,
) -> Result<Collected, Trouble> {
    let keep = usize::try_from(length).unwrap_or(usize::MAX).min(max);
    let mut kept = front(read, keep);
    meter.hold(kept.len())?;
    let mut room = kept.len();
    while kept.len() < keep {
        if kept.len() == room {
            let next = (keep - kept.len()).min(kept.len().max(CHUNK_BYTES));
            room += next;
            meter.hold(room)?;
            kept = with_room(&kept, room);
        }
        let missing = (room - kept.len()) as u64;
        more(io, &mut kept, missing).await?;
    }
    let mut left = length - keep as u64;
    let is_truncated = left > 0;
    let mut tail = front(read, usize::try_from(left).unwrap_or(usize::MAX));
    left -= tail.len() as u64;
    while left > 0 {
        trim(&mut tail);
        tail.reserve(CHUNK_BYTES);
        left -= more(io, &mut tail, left).await? as u64;
    }
    trim(&mut tail);
    Ok(Collected { body: kept.freeze(), tail: tail.freeze(), is_truncated })
}

/// The same bytes, with room for so many in all and no more: what grows by itself doubles, which nobody
/// has counted.
fn with_room(kept: &BytesMut, room: usize) -> BytesMut {
    let mut larger = BytesMut::with_capacity(room);
    larger.extend_from_slice(kept);
    larger
}

/// At most so many bytes off the front.
fn front(read: &mut BytesMut, most: usize) -> BytesMut {
    match read.len() <= most {
        true => std::mem::take(read),
        false => read.split_to(most),
    }
}

fn trim(tail: &mut BytesMut) {
    use bytes::Buf as _;
    tail.advance(tail.len().saturating_sub(TAIL_BYTES_MAX));
}

async fn more(
    io: &mut (impl AsyncRead + Unpin),
    to: &mut BytesMut,
    most: u64,
) -> Result<usize, Trouble> {
    let mut limited = io.take(most);
    match timeout(STALL, limited.read_buf(to)).await {
        Ok(Ok(n @ 1..)) => Ok(n),
        Ok(_) => Err(Trouble::Gone),
        Err(_) => Err(Trouble::Stalled),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Budget;
    use crate::http::Room;

    fn uncounted() -> Meter {
        Meter::new(Room::Uncounted, &Budget::new(0))
    }

    async fn collected(body: &[u8], read_already: usize, max: usize) -> (Collected, BytesMut) {
        let next = b"POST /next";
        let all = [body, next].concat();
        let mut read = BytesMut::from(&all[..read_already]);
        let mut io = &all[read_already..];
        let mut meter = uncounted();
        let got = collect(&mut io, &mut read, body.len() as u64, max, &mut meter).await.unwrap();
        read.extend_from_slice(io);
        assert_eq!(&read[..], next, "nothing of the next request is taken");
        (got, read)
    }

    #[tokio::test]
    async fn a_body_in_pieces_and_no_byte_of_the_next_request() {
        let body: Vec<u8> = (0..100_000u32).map(|n| n as u8).collect();
        for read_already in [0, 1, 50_000, 100_000, 100_004] {
            let (got, _) = collected(&body, read_already, 1 << 20).await;
            assert_eq!(&got.body[..], &body[..]);
            assert!(!got.is_truncated && got.tail.is_empty());
        }
    }

    #[tokio::test]
    async fn of_a_long_body_the_beginning_and_the_end() {
        let body: Vec<u8> = (0..100_000u32).map(|n| (n / 256) as u8).collect();
        for read_already in [0, 10, 3_000, 99_999] {
            let (got, _) = collected(&body, read_already, 2_000).await;
            assert!(got.is_truncated);
            assert_eq!(&got.body[..], &body[..2_000]);
            assert_eq!(&got.tail[..], &body[100_000 - TAIL_BYTES_MAX..]);
        }
        let (got, _) = collected(&body[..2_500], 0, 2_000).await;
        assert_eq!(&got.tail[..], &body[2_000..2_500], "no byte twice");
    }

    #[tokio::test]
    async fn a_body_takes_room_as_it_arrives() {
        let budget = Budget::new(400_000);
        let mut meter = Meter::new(Room::Strangers, &budget);
        let (mut near, mut far) = tokio::io::duplex(1 << 20);
        tokio::io::AsyncWriteExt::write_all(&mut far, &[0; 20_000]).await.unwrap();
        let mut read = BytesMut::new();
        let stalled = collect(&mut near, &mut read, 90_000, 90_000, &mut meter).await;
        assert!(matches!(stalled, Err(Trouble::Stalled)));
        assert_eq!(budget.used(), 2 * CHUNK_BYTES, "not what it said it would be");
        let mut other = Meter::new(Room::Strangers, &budget);
        let full = collect(&mut &[0; 90_000][..], &mut read, 90_000, 90_000, &mut other).await;
        assert!(matches!(full, Err(Trouble::Full)), "strangers have a quarter");
        let mut known = Meter::new(Room::Budget, &budget);
        collect(&mut &[0; 90_000][..], &mut read, 90_000, 90_000, &mut known).await.unwrap();
        drop((meter, other, known));
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn a_body_that_stalls_or_ends_early() {
        let (mut near, far) = tokio::io::duplex(64);
        let mut begun = BytesMut::from(&b"ab"[..]);
        let stalled = collect(&mut near, &mut begun, 10, 100, &mut uncounted()).await;
        assert!(matches!(stalled, Err(Trouble::Stalled)));
        drop(far);
        let gone = collect(&mut near, &mut BytesMut::new(), 10, 100, &mut uncounted()).await;
        assert!(matches!(gone, Err(Trouble::Gone)));
    }
}
