//! The ring of keys that sign node keys and other tokens of agents.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::{constant_time, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use muster_catalog::Catalog;
use muster_cluster::secrets;
use muster_types::{AgentNo, Clock, Timestamp};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::stored::{self, StoredKey};
use crate::presence::seconds;

const MAC_BYTES: usize = 16;
/// Number of the key, and MAC.
pub(super) const OVERHEAD_BYTES: usize = 1 + MAC_BYTES;
/// A new key signs once every instance has read it.
const USED_AFTER: Duration = Duration::from_secs(60);
const REFRESH_EVERY: Duration = Duration::from_secs(10);
/// The keys of agents signed by a retired key run out over this time, so that a fleet does not
/// enrol again at once.
pub(super) const RETIRED_OVER: Duration = Duration::from_secs(3600);

/// What a check of a token came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked<'a> {
    /// It is ours; what it says.
    Good(&'a [u8]),
    /// It is not.
    Bad,
    /// Its key is not in the ring as it was last read.
    UnknownKey,
}

/// The keys, in memory; cheap to clone. A lock is never taken.
#[derive(Clone)]
pub struct KeyRing {
    inner: Arc<Inner>,
}

struct Inner {
    keys: ArcSwap<Keys>,
    clock: Option<Arc<dyn Clock>>,
    source: Option<(Catalog, Arc<secrets::Key>)>,
    started: Instant,
    /// Milliseconds after `started`.
    read_at_ms: AtomicU64,
}

#[derive(Default)]
struct Keys(Vec<(StoredKey, hmac::Key)>);

impl KeyRing {
    /// Reads the ring from the catalog; the first instance of an installation makes it.
    ///
    /// # Errors
    /// When the catalog fails or the ring does not open.
    pub async fn open(
        catalog: Catalog,
        key: Arc<secrets::Key>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, muster_cluster::Error> {
        let keys = stored::read_or_create(&catalog, &key, clock.now()).await?;
        Ok(Self::with(keys, Some(clock), Some((catalog, key))))
    }

    /// A ring of one key that never changes, for tests.
    #[must_use]
    pub fn fixed(key: [u8; 32]) -> Self {
        Self::with(vec![StoredKey::new(1, key, Timestamp(0))], None, None)
    }

    fn with(
        keys: Vec<StoredKey>,
        clock: Option<Arc<dyn Clock>>,
        source: Option<(Catalog, Arc<secrets::Key>)>,
    ) -> Self {
        let inner = Inner {
            keys: ArcSwap::from_pointee(Keys::of(keys)),
            clock,
            source,
            started: Instant::now(),
            read_at_ms: AtomicU64::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Reads the ring again every ten seconds until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut ticks = interval(REFRESH_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            if let Err(error) = self.refresh().await {
                tracing::warn!(%error, "the keys of agents could not be read again");
            }
        }
    }

    /// Reads the ring again.
    ///
    /// # Errors
    /// When the catalog fails or the ring does not open; the ring stays as it is.
    pub async fn refresh(&self) -> Result<(), muster_cluster::Error> {
        let began = self.inner.started.elapsed();
        if let Some((catalog, key)) = &self.inner.source {
            let keys = stored::read_or_create(catalog, key, self.now()).await?;
            self.inner.keys.store(Arc::new(Keys::of(keys)));
        }
        let began = u64::try_from(began.as_millis()).unwrap_or(u64::MAX);
        self.inner.read_at_ms.store(began, Ordering::Relaxed);
        Ok(())
    }

    /// Whether it was read within this time, so that a key it lacks does not exist.
    #[must_use]
    pub fn is_fresh(&self, within: Duration) -> bool {
        let read_at = Duration::from_millis(self.inner.read_at_ms.load(Ordering::Relaxed));
        self.inner.source.is_none() || self.inner.started.elapsed() <= read_at + within
    }

    /// Signs something for a purpose; the text holds it readably.
    #[must_use]
    pub fn sign(&self, purpose: &str, body: &[u8]) -> String {
        let keys = self.inner.keys.load();
        let (stored, key) = keys.to_sign(self.now());
        let mut bytes = Vec::with_capacity(OVERHEAD_BYTES + body.len());
        bytes.push(stored.id);
        bytes.extend_from_slice(body);
        let tag = mac(key, purpose, &bytes);
        bytes.extend_from_slice(&tag.as_ref()[..MAC_BYTES]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// What [`KeyRing::sign`] signed for this purpose; `None` when it did not.
    #[must_use]
    pub fn check(&self, purpose: &str, text: &str) -> Option<Vec<u8>> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        match self.check_bytes(purpose, &bytes) {
            Checked::Good(body) => Some(body.to_vec()),
            Checked::Bad | Checked::UnknownKey => None,
        }
    }

    pub(super) fn check_bytes<'a>(&self, purpose: &str, bytes: &'a [u8]) -> Checked<'a> {
        let Some((signed, tag)) = bytes.split_last_chunk::<MAC_BYTES>() else {
            return Checked::Bad;
        };
        let Some((id, body)) = signed.split_first() else { return Checked::Bad };
        let keys = self.inner.keys.load();
        let Some((_, key)) = keys.get(*id) else { return Checked::UnknownKey };
        let right = mac(key, purpose, signed);
        match constant_time::verify_slices_are_equal(&right.as_ref()[..MAC_BYTES], tag) {
            Ok(()) => Checked::Good(body),
            Err(_) => Checked::Bad,
        }
    }

    /// Whether what this key signed for an agent is not good any more.
    pub(super) fn is_retired_for(&self, id: u8, agent: AgentNo) -> bool {
        let keys = self.inner.keys.load();
        let retired = keys.get(id).and_then(|(stored, _)| stored.retired_at);
        retired.is_some_and(|at| {
            let spread = agent.0.wrapping_mul(0x9E37_79B1) % RETIRED_OVER.as_secs() as u32;
            seconds(self.now()) >= seconds(at).saturating_add(spread)
        })
    }

    fn now(&self) -> Timestamp {
        self.inner.clock.as_ref().map_or(Timestamp(i64::MAX / 2), |clock| clock.now())
    }
}

impl Keys {
    fn of(stored: Vec<StoredKey>) -> Self {
        let made = |stored: StoredKey| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &stored.key);
            (stored, key)
        };
        Self(stored.into_iter().map(made).collect())
    }

    fn get(&self, id: u8) -> Option<&(StoredKey, hmac::Key)> {
        self.0.iter().find(|(stored, _)| stored.id == id)
    }

    /// The newest key that all instances know; before there is one, the oldest.
    fn to_sign(&self, now: Timestamp) -> &(StoredKey, hmac::Key) {
        let current = || self.0.iter().filter(|(stored, _)| stored.retired_at.is_none());
        let known = current().filter(|(stored, _)| stored.created_at.plus(USED_AFTER) <= now);
        known
            .max_by_key(|(stored, _)| stored.created_at)
            .or_else(|| current().min_by_key(|(stored, _)| stored.created_at))
            .or_else(|| self.0.first())
            .expect("a ring has a key")
    }
}

fn mac(key: &hmac::Key, purpose: &str, signed: &[u8]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    context.update(b"muster ");
    context.update(purpose.as_bytes());
    context.update(b"\0");
    context.update(signed);
    context.sign()
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRing").field("keys", &self.inner.keys.load().0.len()).finish()
    }
}
