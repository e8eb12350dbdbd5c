//! A file of JSON lines, put aside when it is long.
//!
//! Every batch is on disk before it counts. After a restart the end of the file is read for ids, so
//! that a batch that was written and not counted is not written again; half a line is cut off. Whoever
//! has it open has it locked.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{SendError, Sent, all_taken};
use crate::event::Event;

/// A file and those put aside.
pub(crate) struct File {
    place: Place,
    /// `None` until it is opened, and after anything failed.
    open: Option<Opened>,
}

#[derive(Clone)]
struct Place {
    path: PathBuf,
    rotate_bytes: u64,
    keep: u32,
    /// How much of the end is read for ids; a batch is shorter.
    recent_bytes: u64,
}

struct Opened {
    file: fs::File,
    length: u64,
    /// Rows at the end of what was found: some of them may be sent again.
    recent: HashSet<String>,
}

/// What is read of a line.
#[derive(Deserialize)]
struct Line {
    event: Id,
}

#[derive(Deserialize)]
struct Id {
    id: String,
}

impl File {
    pub(super) fn new(
        folder: &Path,
        name: &str,
        rotate_bytes: u64,
        keep: u32,
        recent_bytes: u64,
    ) -> Self {
        let path = folder.join(name);
        Self { place: Place { path, rotate_bytes, keep, recent_bytes }, open: None }
    }

    pub(super) async fn send(&mut self, events: &[Event]) -> Sent {
        let (place, open, batch) = (self.place.clone(), self.open.take(), events.to_vec());
        let written = tokio::task::spawn_blocking(move || {
            let mut open = match open {
                Some(open) => open,
                None => Opened::open(&place)?,
            };
            open.write(&place, &batch)?;
            Ok::<_, io::Error>(open)
        });
        match written.await {
            Ok(Ok(open)) => {
                self.open = Some(open);
                Ok(all_taken(events))
            }
            Ok(Err(error)) => {
                Err(SendError::failed(format!("{}: {error}", self.place.path.display())))
            }
            Err(error) => Err(SendError::failed(error.to_string())),
        }
    }

    /// Whether the file can be written to; it is left as it is, for somebody may be writing.
    pub(super) async fn test(&self) -> Result<(), String> {
        let path = self.place.path.clone();
        let opened = tokio::task::spawn_blocking(move || {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::OpenOptions::new().append(true).create(true).mode(0o640).open(&path).map(drop)
        });
        let opened = opened.await.map_err(|error| error.to_string())?;
        opened.map_err(|error| format!("{}: {error}", self.place.path.display()))
    }
}

impl Opened {
    fn open(place: &Place) -> io::Result<Self> {
        if let Some(folder) = place.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o640)
            .open(&place.path)?;
        // A batch of somebody who lost the sink may be under way still, here or elsewhere.
        file.try_lock()?;
        if file.metadata()?.ino() != fs::metadata(&place.path)?.ino() {
            return Err(io::Error::other("it was put aside by somebody else"));
        }
        let (tail, length) = tail(&mut file, place.recent_bytes)?;
        let whole = tail.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let torn = (tail.len() - whole) as u64;
        let length = length - torn;
        if torn > 0 {
            tracing::warn!(path = %place.path.display(), torn, "half a line was cut off");
            file.set_len(length)?;
        }
        file.seek(SeekFrom::Start(length))?;
        if length == 0
            && let Some(folder) = place.path.parent()
        {
            // It may be new, and rows in a file without a name are lost with the power.
            fs::File::open(folder)?.sync_all()?;
        }
        let mut recent = HashSet::new();
        ids(&tail[..whole], &mut recent);
        if (tail.len() as u64) < place.recent_bytes
            && let Ok(mut before) = fs::File::open(aside(&place.path, 1))
        {
            ids(&self::tail(&mut before, place.recent_bytes)?.0, &mut recent);
        }
        Ok(Self { file, length, recent })
    }

    fn write(&mut self, place: &Place, events: &[Event]) -> io::Result<()> {
        let mut text = Vec::new();
        for event in events.iter().filter(|event| !self.recent.remove(&event.id)) {
            text.extend_from_slice(&event.body);
            text.push(b'\n');
        }
        if text.is_empty() {
            return Ok(());
        }
        if self.length > 0 && self.length + text.len() as u64 > place.rotate_bytes {
            let recent = std::mem::take(&mut self.recent);
            put_aside(place)?;
            *self = Self { recent, ..Self::open(place)? };
        }
        self.file.write_all(&text)?;
        self.file.sync_data()?;
        self.length += text.len() as u64;
        Ok(())
    }
}

/// The last bytes of a file, and its length.
fn tail(file: &mut fs::File, bytes: u64) -> io::Result<(Vec<u8>, u64)> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
    let mut tail = Vec::new();
    file.take(bytes).read_to_end(&mut tail)?;
    Ok((tail, length))
}

/// The ids of the rows in a text; the first line may be cut.
fn ids(text: &[u8], into: &mut HashSet<String>) {
    let lines = text.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    let read = lines.filter_map(|line| serde_json::from_slice::<Line>(line).ok());
    into.extend(read.map(|line| line.event.id));
}

fn aside(path: &Path, n: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    name.into()
}

/// Makes room: the file becomes number 1, number 1 number 2; the last goes.
fn put_aside(place: &Place) -> io::Result<()> {
    let path = &place.path;
    if place.keep == 0 {
        return fs::remove_file(path);
    }
    for n in (1..place.keep).rev() {
        match fs::rename(aside(path, n), aside(path, n + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(path, aside(path, 1))?;
    path.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
}
