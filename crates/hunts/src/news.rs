//! What a hint about hunts carries: the change itself, so that nobody has to ask the catalog for it.
//!
//! A change has the number it got in its feed. Whoever is at the number before applies it as if it had
//! been read; whoever is not reads the feed ([`crate::Hunts::refresh`]). So a hint that is lost, comes
//! twice or overtakes another one costs time, and never a change.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use muster_types::{AgentSet, HuntNo, Shard, Timestamp};

use crate::ShardProgress;
use crate::rows::HuntRow;

/// Changes longer than this are not carried: the hint is empty then, and says only where to look.
const CARRIED_BYTES_MAX: usize = 256 << 10;
const VERSION: u8 = 1;

/// What one transaction changed of hunts, of their waves or of their progress.
#[derive(Clone, Debug)]
pub struct News(pub(crate) Vec<Change>);

/// One change, with its number in its feed.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// The row of a hunt.
    Hunt(Box<HuntRow>),
    /// A wave.
    Wave(Wave),
    /// What became of agents, of some shards.
    Progress { seq: i64, shards: Vec<(HuntNo, Shard, ShardProgress)> },
}

/// A wave of one hunt.
#[derive(Clone, Debug)]
pub(crate) struct Wave {
    pub(crate) seq: i64,
    pub(crate) hunt: HuntNo,
    pub(crate) wave: u64,
    pub(crate) committed_at: Timestamp,
    pub(crate) agents: AgentSet,
}

impl News {
    /// Progress that was committed under this number of the feed `progress`.
    #[must_use]
    pub fn progress(seq: i64, shards: Vec<(HuntNo, Shard, ShardProgress)>) -> Self {
        Self(vec![Change::Progress { seq, shards }])
    }

    /// The content of the hint; empty when it is too much for one.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        for change in &self.0 {
            let mut one = BytesMut::new();
            let tag = change.write(&mut one);
            out.put_u8(tag);
            out.put_u32_le(u32::try_from(one.len()).unwrap_or(u32::MAX));
            out.put_slice(&one);
            if out.len() > CARRIED_BYTES_MAX {
                return Bytes::new();
            }
        }
        out.freeze()
    }

    /// Reads what [`News::encode`] wrote; `None` for nothing, or for what another version wrote.
    pub(crate) fn decode(content: &Bytes) -> Option<Self> {
        let mut rest = content.clone();
        if rest.try_get_u8().ok()? != VERSION {
            return None;
        }
        let mut changes = Vec::new();
        while rest.has_remaining() {
            let tag = rest.try_get_u8().ok()?;
            changes.push(Change::read(tag, part(&mut rest)?)?);
        }
        Some(Self(changes))
    }
}

impl Change {
    /// Its number in its feed.
    pub(crate) fn seq(&self) -> i64 {
        match self {
            Self::Hunt(row) => row.change,
            Self::Wave(wave) => wave.seq,
            Self::Progress { seq, .. } => *seq,
        }
    }

    fn write(&self, out: &mut BytesMut) -> u8 {
        match self {
            Self::Hunt(row) => {
                let json = serde_json::to_vec(row).expect("strings and numbers are JSON");
                out.put_slice(&json);
                b'h'
            }
            Self::Wave(wave) => {
                out.put_i64_le(wave.seq);
                out.put_u64_le(wave.hunt.0);
                out.put_u64_le(wave.wave);
                out.put_i64_le(wave.committed_at.0);
                out.put_slice(&wave.agents.to_bytes());
                b'w'
            }
            Self::Progress { seq, shards } => {
                out.put_i64_le(*seq);
                for (hunt, shard, progress) in shards {
                    let bytes = progress.encode();
                    out.put_u64_le(hunt.0);
                    out.put_u8(shard.get());
                    out.put_u32_le(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
                    out.put_slice(&bytes);
                    if out.len() > CARRIED_BYTES_MAX {
                        break;
                    }
                }
                b'p'
            }
        }
    }

    fn read(tag: u8, mut rest: Bytes) -> Option<Self> {
        Some(match tag {
            b'h' => Self::Hunt(serde_json::from_slice(&rest).ok()?),
            b'w' => Self::Wave(Wave {
                seq: rest.try_get_i64_le().ok()?,
                hunt: HuntNo(rest.try_get_u64_le().ok()?),
                wave: rest.try_get_u64_le().ok()?,
                committed_at: Timestamp(rest.try_get_i64_le().ok()?),
                agents: AgentSet::from_bytes(&rest).ok()?,
            }),
            b'p' => {
                let seq = rest.try_get_i64_le().ok()?;
                let mut shards = Vec::new();
                while rest.has_remaining() {
                    let hunt = HuntNo(rest.try_get_u64_le().ok()?);
                    let shard = Shard::new(rest.try_get_u8().ok()?)?;
                    let progress = ShardProgress::decode(&part(&mut rest)?).ok()?;
                    shards.push((hunt, shard, progress));
                }
                Self::Progress { seq, shards }
            }
            _ => return None,
        })
    }
}

/// What a length stands before.
fn part(rest: &mut Bytes) -> Option<Bytes> {
    let length = rest.try_get_u32_le().ok()? as usize;
    (length <= rest.remaining()).then(|| rest.split_to(length))
}

#[cfg(test)]
mod tests {
    use muster_types::{AgentNo, Outcome};

    use super::*;

    fn wave(agents: AgentSet) -> Change {
        Change::Wave(Wave { seq: 9, hunt: HuntNo(4), wave: 2, committed_at: Timestamp(5), agents })
    }

    #[test]
    fn waves_and_progress_come_back_as_they_were() {
        let agents: AgentSet = [3, 70_000].map(AgentNo).into_iter().collect();
        let mut progress = ShardProgress::new();
        progress.end(AgentNo(3), Outcome::Rows);
        let shards = vec![(HuntNo(4), AgentNo(3).shard(), progress)];
        let both = vec![wave(agents.clone()), Change::Progress { seq: 7, shards: shards.clone() }];
        let back = News::decode(&News(both).encode()).unwrap().0;
        assert_eq!(back.iter().map(Change::seq).collect::<Vec<_>>(), [9, 7]);
        let [Change::Wave(wave), Change::Progress { shards: progress, .. }] = &back[..] else {
            panic!("{back:?}")
        };
        assert_eq!((wave.hunt, wave.wave, &wave.agents), (HuntNo(4), 2, &agents));
        assert_eq!(*progress, shards);
    }

    #[test]
    fn what_is_cut_short_or_newer_is_no_news() {
        let whole = News(vec![wave(AgentSet::default())]).encode();
        for length in 2..whole.len() {
            assert!(News::decode(&whole.slice(..length)).is_none(), "{length}");
        }
        assert!(News::decode(&Bytes::new()).is_none());
        let mut newer = whole.to_vec();
        newer[0] = VERSION + 1;
        assert!(News::decode(&newer.into()).is_none());
    }
}
