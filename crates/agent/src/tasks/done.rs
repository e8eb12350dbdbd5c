//! The tasks that ended lately: so that one that is handed out again is not run again.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use muster_types::{HuntNo, Outcome, TaskEnd, TaskId};

/// How many are remembered.
const MAX: usize = 10_000;

/// Ended tasks, with what was claimed of them; in memory and in a small file. A task is noted when its
/// end is durable in the buffer and before it can be sent, so at every moment an ended task is in
/// this list or still in the buffer, from which the list is completed at each start.
pub(crate) struct Done {
    path: PathBuf,
    inner: Mutex<Inner>,
}

struct Inner {
    file: File,
    outcomes: HashMap<TaskId, Option<Outcome>>,
    order: VecDeque<TaskId>,
    lines: usize,
}

impl Done {
    /// Reads the list and adds the ends that wait in the buffer.
    pub(crate) fn open(path: &Path, waiting: impl Iterator<Item = TaskEnd>) -> io::Result<Self> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            other => other.unwrap_or_default(),
        };
        let file = create(path)?;
        let (outcomes, order) = (HashMap::new(), VecDeque::new());
        let inner = Mutex::new(Inner { file, outcomes, order, lines: 0 });
        let done = Self { path: path.to_owned(), inner };
        // A last line without its end was being written when the agent died.
        for (id, outcome) in
            text.split_inclusive('\n').filter_map(|line| parse(line.strip_suffix('\n')?))
        {
            done.remember(id, outcome);
        }
        for end in waiting {
            done.remember(end.task, end.outcome);
        }
        done.lock().rewrite(path)?;
        Ok(done)
    }

    /// How a task ended, if it did.
    #[expect(clippy::option_option, reason = "ended or not; and if ended, badly or well")]
    pub(crate) fn outcome(&self, id: TaskId) -> Option<Option<Outcome>> {
        self.lock().outcomes.get(&id).copied()
    }

    /// Notes an end. A failing disk is not reported: the buffer on the same disk will say so.
    pub(crate) fn add(&self, id: TaskId, outcome: Option<Outcome>) {
        self.remember(id, outcome);
        let mut inner = self.lock();
        inner.lines += 1;
        let result = if inner.lines > 2 * MAX {
            inner.rewrite(&self.path)
        } else {
            let line = line(id, outcome);
            inner.file.write_all(line.as_bytes())
        };
        if let Err(error) = result {
            tracing::warn!("cannot write {}: {error}", self.path.display());
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) -> io::Result<()> {
        let mut inner = self.lock();
        inner.outcomes.clear();
        inner.order.clear();
        inner.rewrite(&self.path)
    }

    fn remember(&self, id: TaskId, outcome: Option<Outcome>) {
        let mut inner = self.lock();
        if inner.outcomes.insert(id, outcome).is_none() {
            inner.order.push_back(id);
        }
        while inner.order.len() > MAX {
            if let Some(oldest) = inner.order.pop_front() {
                inner.outcomes.remove(&oldest);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn rewrite(&mut self, path: &Path) -> io::Result<()> {
        let lines = self.order.iter().filter_map(|id| Some(line(*id, *self.outcomes.get(id)?)));
        let text: String = lines.collect();
        crate::state::replace_file(path, text.as_bytes())?;
        self.file = create(path)?;
        self.lines = self.order.len();
        Ok(())
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

fn line(id: TaskId, outcome: Option<Outcome>) -> String {
    format!("{id} {}\n", outcome.map_or("well", Outcome::as_str))
}

fn parse(line: &str) -> Option<(TaskId, Option<Outcome>)> {
    let (id, outcome) = line.split_once(' ')?;
    let (hunt, attempt) = id.split_once('.')?;
    let id = TaskId { hunt: HuntNo(hunt.parse().ok()?), attempt: attempt.parse().ok()? };
    let outcome = if outcome == "well" { None } else { Some(outcome.parse().ok()?) };
    Some((id, outcome))
}

#[cfg(test)]
mod tests {
    use muster_types::Spent;

    use super::*;

    fn id(hunt: u64) -> TaskId {
        TaskId { hunt: HuntNo(hunt), attempt: 1 }
    }

    #[test]
    fn ends_are_remembered_over_restarts_and_the_oldest_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("done");
        let done = Done::open(&path, std::iter::empty()).unwrap();
        done.add(id(1), None);
        done.add(id(2), Some(Outcome::TimedOut));
        drop(done);
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"3.1 fai").unwrap();
        let end =
            TaskEnd { task: id(4), outcome: None, message: String::new(), spent: Spent::default() };
        let done = Done::open(&path, std::iter::once(end)).unwrap();
        assert_eq!(done.outcome(id(1)), Some(None));
        assert_eq!(done.outcome(id(2)), Some(Some(Outcome::TimedOut)));
        assert_eq!(done.outcome(id(3)), None);
        assert_eq!(done.outcome(id(4)), Some(None));
        for n in 10..10 + MAX as u64 {
            done.add(id(n), None);
        }
        assert_eq!(done.outcome(id(4)), None);
        done.clear().unwrap();
        let done = Done::open(&path, std::iter::empty()).unwrap();
        assert_eq!(done.outcome(id(100)), None);
    }
}
