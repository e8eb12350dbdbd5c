//! Files that an imported file names.

use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// Longest file that is read.
const BYTES_MAX: u64 = 16 << 20;

/// Reads files that another one names, by paths relative to its folder. What is imported comes from
/// somebody else: it must not decide which files of this machine are read.
pub struct Beside {
    folder: PathBuf,
    /// Whether files outside the folder are read as well.
    allow_outside: bool,
}

impl Beside {
    /// Files beside this one and below.
    pub fn new(file: &Path, allow_outside: bool) -> Self {
        let folder = match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        Self { folder: folder.to_owned(), allow_outside }
    }

    /// The text of a file; an error names the path as it was given.
    pub fn read(&self, path: &str) -> Result<String, String> {
        self.find(path).and_then(|file| text(&file)).map_err(|problem| format!("{path}: {problem}"))
    }

    fn find(&self, path: &str) -> Result<PathBuf, String> {
        let named = self.folder.join(path);
        if self.allow_outside {
            return Ok(named);
        }
        let below = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        if !Path::new(path).components().all(below) {
            return Err(outside("is not below the folder of the imported file"));
        }
        let resolved = |path: &Path| path.canonicalize().map_err(|error| error.to_string());
        let (folder, found) = (resolved(&self.folder)?, resolved(&named)?);
        match found.starts_with(&folder) {
            true => Ok(found),
            false => Err(outside("a link leads out of the folder of the imported file")),
        }
    }
}

fn outside(problem: &str) -> String {
    format!("{problem}; with --allow-outside it is read")
}

/// The text of a file of at most 16 MiB.
pub fn text(file: &Path) -> Result<String, String> {
    // Opening a pipe waits for somebody who writes.
    let kind = std::fs::metadata(file).map_err(|error| error.to_string())?;
    if !kind.is_file() {
        return Err("is no regular file".to_owned());
    }
    let mut text = String::new();
    std::fs::File::open(file)
        .and_then(|opened| opened.take(BYTES_MAX + 1).read_to_string(&mut text))
        .map_err(|error| error.to_string())?;
    if text.len() as u64 > BYTES_MAX {
        return Err(format!("longer than {BYTES_MAX} bytes"));
    }
    Ok(text)
}
