//! Unpacking gzip bodies within bounds.

use std::io::Read as _;

use flate2::read::MultiGzDecoder;

use super::TAIL_BYTES_MAX;

/// What a gzip body held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inflated {
    /// Its first bytes.
    pub bytes: Vec<u8>,
    /// Whether there was more, or the body was cut or damaged.
    pub is_truncated: bool,
    /// The last bytes of what was more, at most [`TAIL_BYTES_MAX`]; empty when they could not be had.
    pub tail: Vec<u8>,
}

/// Unpacks a gzip body. Keeps the first `keep` bytes and the end of the rest, and stops looking for
/// that end after `most` bytes, so that a small body cannot cost much more time than its size.
///
/// Work of about a millisecond for each MiB that comes out.
///
/// # Errors
/// When not even its beginning is gzip.
pub fn inflate(gzip: &[u8], keep: usize, most: usize) -> std::io::Result<Inflated> {
    let mut from = MultiGzDecoder::new(gzip);
    let mut inflated = Inflated::default();
    let mut buffer = [0; 8 << 10];
    let mut total = 0;
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) if total == 0 => return Err(error),
            Err(_) => {
                inflated.is_truncated = true;
                inflated.tail.clear();
                break;
            }
        };
        total += n;
        let room = keep - inflated.bytes.len();
        let (kept, more) = buffer[..n].split_at(n.min(room));
        inflated.bytes.extend_from_slice(kept);
        if !more.is_empty() {
            inflated.is_truncated = true;
            inflated.tail.extend_from_slice(more);
            let old = inflated.tail.len().saturating_sub(TAIL_BYTES_MAX);
            inflated.tail.drain(..old);
        }
        if total > most {
            inflated.tail.clear();
            break;
        }
    }
    Ok(inflated)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        to.write_all(bytes).unwrap();
        to.finish().unwrap()
    }

    #[test]
    fn all_of_it_or_its_beginning_and_end() {
        let body: Vec<u8> = (0..200_000u32).map(|n| (n / 7) as u8).collect();
        let packed = gzip(&body);
        let all = inflate(&packed, 1 << 20, 1 << 20).unwrap();
        assert_eq!(all, Inflated { bytes: body.clone(), ..Inflated::default() });
        let cut = inflate(&packed, 1_000, 1 << 20).unwrap();
        assert!(cut.is_truncated);
        assert_eq!(cut.bytes, body[..1_000]);
        assert_eq!(cut.tail, body[body.len() - TAIL_BYTES_MAX..]);
        let bomb = inflate(&packed, 1_000, 50_000).unwrap();
        assert!(bomb.is_truncated && bomb.tail.is_empty());
        assert_eq!(inflate(&gzip(b""), 10, 10).unwrap(), Inflated::default());
    }

    #[test]
    fn a_cut_body_gives_what_it_has_and_another_none() {
        let body: Vec<u8> = (0..200_000u32).map(|n| (n * n / 7) as u8).collect();
        let packed = gzip(&body);
        let cut = inflate(&packed[..packed.len() / 2], 1 << 20, 1 << 20).unwrap();
        assert!(cut.is_truncated && body.starts_with(&cut.bytes) && !cut.bytes.is_empty());
        assert!(inflate(b"{\"node_key\":1}", 10, 10).is_err());
    }
}
