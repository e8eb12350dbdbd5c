//! What the agent keeps in its data folder: its key, its number, the CAs it was told.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use muster_types::AgentNo;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// How long it waits for the data folder: a process that was killed may live on for a moment, in a child
/// that had not begun its own program.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// An agent's ed25519 key. Made on the endpoint; the private half is never sent anywhere.
pub struct Key {
    pair: Ed25519KeyPair,
    pkcs8: Vec<u8>,
}

impl Key {
    /// A new key.
    ///
    /// # Errors
    /// When the machine has no randomness to give.
    pub fn generate() -> io::Result<Self> {
        let failed = |_| io::Error::other("cannot make a key");
        let pair = Ed25519KeyPair::generate().map_err(failed)?;
        let pkcs8 = pair.to_pkcs8().map_err(failed)?.as_ref().to_vec();
        Ok(Self { pair, pkcs8 })
    }

    /// The key of 32 secret bytes, for simulated agents whose keys follow from a seed.
    ///
    /// # Errors
    /// When the library refuses it.
    pub fn from_seed(seed: &[u8; 32]) -> io::Result<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed);
        let pair = pair.map_err(|_| io::Error::other("not a seed"))?;
        Ok(Self { pair, pkcs8: Vec::new() })
    }

    fn from_pkcs8(pkcs8: Vec<u8>) -> io::Result<Self> {
        let pair = Ed25519KeyPair::from_pkcs8(&pkcs8);
        Ok(Self { pair: pair.map_err(|_| io::Error::other("the key file is damaged"))?, pkcs8 })
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        bytes
    }

    /// Signs a message.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes.copy_from_slice(self.pair.sign(message).as_ref());
        bytes
    }
}

#[derive(Serialize, Deserialize)]
struct Identity {
    version: u8,
    agent_no: AgentNo,
    /// Of the key that got the number.
    public_key: String,
}

/// The file of the key.
pub(crate) const KEY: &str = "agent.key";
/// The file of [`Identity`].
pub(crate) const NUMBER: &str = "identity.json";
/// The file of [`ToldCas`].
pub(crate) const TOLD: &str = "server-cas.json";

#[derive(Serialize, Deserialize)]
struct ToldCas {
    version: u8,
    /// SHA-256 of the CAs that were configured then: other ones configured since go before.
    configured: String,
    pem: String,
}

/// The data folder, locked for this process.
pub(crate) struct State {
    dir: PathBuf,
    _lock: File,
}

impl State {
    /// Opens the folder, readable by its owner alone.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(dir.join("lock"))?;
        let deadline = Instant::now() + LOCK_WAIT;
        while let Err(error) = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            if ![Errno::WOULDBLOCK, Errno::INTR].contains(&error) {
                return Err(error.into());
            }
            if Instant::now() >= deadline {
                return Err(io::Error::other("another agent is using this data folder"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Self { dir: dir.to_owned(), _lock: lock })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The key, made now if there is none.
    pub(crate) fn key(&self) -> io::Result<Key> {
        match fs::read(self.path(KEY)) {
            Ok(bytes) => Key::from_pkcs8(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = Key::generate()?;
                self.store_key(&key)?;
                Ok(key)
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) fn store_key(&self, key: &Key) -> io::Result<()> {
        replace_file(&self.path(KEY), &key.pkcs8)
    }

    /// The number this key was given.
    pub(crate) fn agent_no(&self, key: &Key) -> Option<AgentNo> {
        let bytes = fs::read(self.path(NUMBER)).ok()?;
        let identity: Identity = serde_json::from_slice(&bytes).ok()?;
        (identity.public_key == hex::encode(key.public())).then_some(identity.agent_no)
    }

    pub(crate) fn store_agent_no(&self, agent_no: AgentNo, key: &Key) -> io::Result<()> {
        let public_key = hex::encode(key.public());
        let identity = Identity { version: 1, agent_no, public_key };
        replace_file(&self.path(NUMBER), &serde_json::to_vec(&identity)?)
    }

    /// The CAs to trust: what the server said last, unless others were configured since.
    pub(crate) fn cas(&self, configured: &str) -> String {
        trusted_cas(&self.dir, configured)
    }

    pub(crate) fn store_cas(&self, pem: &str, configured: &str) -> io::Result<()> {
        let told = ToldCas { version: 1, configured: sum(configured), pem: pem.to_owned() };
        replace_file(&self.path(TOLD), &serde_json::to_vec(&told)?)
    }
}

/// The CAs that the agent of a data folder trusts: what its server said last, unless others were configured
/// since. The folder need not be this process's.
#[must_use]
pub fn trusted_cas(data: &Path, configured: &str) -> String {
    let told = fs::read(data.join(TOLD)).ok();
    let told = told.and_then(|bytes| serde_json::from_slice::<ToldCas>(&bytes).ok());
    let told = told.filter(|told| told.configured == sum(configured));
    told.map_or_else(|| configured.to_owned(), |told| told.pem)
}

fn sum(text: &str) -> String {
    hex::encode(digest(&SHA256, text.as_bytes()))
}

/// Writes a file for its owner alone, whole or not at all.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_key_stays_and_is_the_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("data")).unwrap();
        let key = state.key().unwrap();
        assert_eq!(state.key().unwrap().public(), key.public());
        let mode = fs::metadata(state.path("agent.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        state.store_agent_no(AgentNo(7), &key).unwrap();
        assert_eq!(state.agent_no(&key), Some(AgentNo(7)));
        assert_eq!(state.agent_no(&Key::generate().unwrap()), None);
        assert!(State::open(&dir.path().join("data")).is_err(), "two agents in one folder");
    }

    #[test]
    fn told_cas_hold_until_others_are_configured() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path()).unwrap();
        assert_eq!(state.cas("first"), "first");
        state.store_cas("second", "first").unwrap();
        assert_eq!(state.cas("first"), "second");
        assert_eq!(state.cas("other"), "other");
    }
}
