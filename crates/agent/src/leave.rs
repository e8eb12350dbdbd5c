//! Leaving: the machine forgets whose agent it was.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use muster_types::AgentNo;

use crate::state::{KEY, NUMBER, State, TOLD};

/// What was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// The number the machine had.
    pub agent_no: Option<AgentNo>,
    /// Files and folders.
    pub removed: Vec<PathBuf>,
}

/// The number of the agent in a data folder; `None` when it has none.
///
/// # Errors
/// When its key cannot be read.
pub fn agent_no(data: &Path) -> io::Result<Option<AgentNo>> {
    if !data.join(KEY).is_file() {
        return Ok(None);
    }
    let state = State::open(data)?;
    let key = state.key()?;
    Ok(state.agent_no(&key))
}

/// Removes key, number, CAs and what waits to be sent from a data folder. `keep` is a file that stays: the CAs
/// that somebody configured are theirs.
///
/// # Errors
/// When an agent runs on the folder, or something cannot be removed. What is left then can be removed by
/// leaving again: the key goes first, without which the rest is nobody's.
pub fn leave(data: &Path, keep: Option<&Path>) -> io::Result<Left> {
    let agent_no = agent_no(data)?;
    let mut left = Left { agent_no, removed: Vec::new() };
    if !data.is_dir() {
        return Ok(left);
    }
    // From here on no agent can start on it.
    let state = State::open(data)?;
    for name in [KEY, NUMBER, TOLD, "buffer", "done", "ca.pem"] {
        let path = state.path(name);
        if keep == Some(&path) {
            continue;
        }
        let removed = match path.is_dir() {
            true => fs::remove_dir_all(&path),
            false => fs::remove_file(&path),
        };
        match removed {
            Ok(()) => left.removed.push(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    fs::File::open(data)?.sync_all()?;
    Ok(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_made_it_an_agent_goes_and_what_was_configured_stays() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        assert_eq!(leave(&data, None).unwrap(), Left { agent_no: None, removed: Vec::new() });
        assert!(!data.exists());
        let state = State::open(&data).unwrap();
        let key = state.key().unwrap();
        state.store_agent_no(AgentNo(7), &key).unwrap();
        state.store_cas("other", "pinned").unwrap();
        fs::create_dir(data.join("buffer")).unwrap();
        fs::write(data.join("buffer/1"), "rows").unwrap();
        for name in ["done", "ca.pem", "notes"] {
            fs::write(data.join(name), name).unwrap();
        }
        assert!(leave(&data, None).is_err(), "an agent runs on it");
        assert!(data.join(KEY).exists());
        drop(state);
        let ca = data.join("ca.pem");
        let left = leave(&data, Some(&ca)).unwrap();
        assert_eq!((left.agent_no, left.removed.len()), (Some(AgentNo(7)), 5));
        assert!(ca.exists() && data.join("notes").exists());
        let left = leave(&data, None).unwrap();
        assert_eq!((left.agent_no, left.removed), (None, vec![ca]));
        let state = State::open(&data).unwrap();
        assert_ne!(state.key().unwrap().public(), key.public());
    }
}
