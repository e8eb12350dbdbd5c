//! A process's own folder: several copies may run from one file on one host.
//!
//! What copies share is in the data folder (the key that seals secrets, embedded stores); what makes an
//! instance itself is in its seat, which one process holds by a lock. The first seat is the data folder, as
//! it has always been; further ones are `instances/2`, `instances/3` and so on in it. A copy that is started
//! again takes the lowest free seat, so ids live on.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::identity::prepare_data_dir;
use super::planes::catalog_url;
use crate::config::Config;

/// Copies on one data folder.
const SEATS_MAX: u16 = 64;
/// A process that is just ending gets this long to let go, where there is only one seat.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// A folder that is this process's until it ends.
#[derive(Debug)]
pub struct Seat {
    /// From 1.
    pub number: u16,
    /// The folder.
    pub dir: PathBuf,
    /// Released when dropped, and by the kernel when the process ends.
    _lock: File,
}

/// Why these stores serve one process only, or nothing.
pub fn alone(config: &Config) -> Option<String> {
    if catalog_url(config).starts_with("sqlite") {
        return Some("its catalog is SQLite, which serves one process".to_owned());
    }
    let stream = config.stream.url.as_deref().unwrap_or("log:");
    stream
        .starts_with("log:")
        .then(|| "its stream is the embedded log, which serves one process".to_owned())
}

impl Seat {
    /// Takes the lowest free one.
    ///
    /// # Errors
    /// When none is free, or the stores serve one process and another has them: with what to do.
    pub fn take(config: &Config) -> anyhow::Result<Self> {
        let alone = alone(config);
        let began = Instant::now();
        let mut number = 1;
        loop {
            let dir = match number {
                1 => config.data_dir.clone(),
                _ => config.data_dir.join("instances").join(number.to_string()),
            };
            prepare_data_dir(&dir)?;
            match lock(&dir)? {
                Ok(lock) => return Ok(Self { number, dir, _lock: lock }),
                Err(holder) => match &alone {
                    Some(_) if began.elapsed() < WAIT_MAX => {
                        std::thread::sleep(Duration::from_millis(10));
                    }
                    Some(why) => bail!(in_use(&config.data_dir, &holder, why)),
                    None if number < SEATS_MAX => number += 1,
                    None => bail!(
                        "{SEATS_MAX} instances run from the data folder {}; give this one another",
                        config.data_dir.display()
                    ),
                },
            }
        }
    }

    /// A name that tells copies on one host apart.
    pub fn name(&self, host: &str) -> String {
        match self.number {
            1 => host.to_owned(),
            n => format!("{host}-{n}"),
        }
    }
}

fn in_use(dir: &Path, holder: &str, why: &str) -> String {
    format!(
        "the data folder {} is in use by {holder}, and {why}. Stop that one first, or give this one \
         another data_dir; to run several instances, set catalog.url to PostgreSQL and stream.url to \
         NATS on all of them",
        dir.display()
    )
}

/// The lock of a folder, or who has it.
fn lock(dir: &Path) -> anyhow::Result<Result<File, String>> {
    let path = dir.join("instance.lock");
    let opened = OpenOptions::new().create(true).read(true).write(true).truncate(false).open(&path);
    let mut file = opened.with_context(|| format!("open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(Err(holder(&mut file))),
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("lock {}", path.display()));
        }
    }
    // Only for the sentence another process prints; the lock itself is the truth.
    let note =
        file.set_len(0).and_then(|()| file.write_all(std::process::id().to_string().as_bytes()));
    if let Err(error) = note {
        tracing::debug!(%error, "the lock file does not name this process");
    }
    Ok(Ok(file))
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.take(16).read_to_string(&mut text));
    match read {
        Ok(_) if !text.is_empty() => format!("process {text}"),
        _ => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &Path, shared: bool) -> Config {
        let mut config = Config { data_dir: dir.to_owned(), ..Config::default() };
        if shared {
            config.catalog.url = Some("postgres://db/muster".into());
            config.stream.url = Some("nats://bus:4222".into());
        }
        config
    }

    #[test]
    fn copies_have_seats_of_their_own_and_get_them_back() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), true);
        let seats: Vec<_> = (0..3).map(|_| Seat::take(&config).unwrap()).collect();
        assert_eq!(seats.iter().map(|seat| seat.number).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(seats[0].dir, dir.path());
        assert_eq!(seats[2].dir, dir.path().join("instances/3"));
        assert_eq!([&seats[0], &seats[1]].map(|seat| seat.name("h")), ["h", "h-2"]);
        let mut seats = seats.into_iter();
        let (_first, second) = (seats.next(), seats.next());
        drop(second);
        assert_eq!(Seat::take(&config).unwrap().number, 2);
    }

    #[test]
    fn stores_of_one_process_have_one_seat() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), false);
        let _first = Seat::take(&config).unwrap();
        let refused = Seat::take(&config).unwrap_err().to_string();
        let process = format!("process {}", std::process::id());
        for part in [process.as_str(), "SQLite", "PostgreSQL", "data_dir"] {
            assert!(refused.contains(part), "{part}: {refused}");
        }
    }
}
