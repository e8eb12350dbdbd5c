//! What one instance has to say.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use muster_types::{InstanceId, Timestamp};
use serde_json::{Value, json};

use super::bundle::folder_name;
use super::{Bundle, Error, process};
use crate::profile::{self, HeapProfile};
use crate::redact;
use crate::ring::LogRing;

/// A file that some part of the server writes: bytes, or why there are none.
pub type Section = Box<dyn Fn() -> BoxFuture<'static, Result<Vec<u8>, String>> + Send + Sync>;

/// Longest wait for one section: a store that hangs must not hold the rest.
const SECTION_TIME: Duration = Duration::from_secs(5);

/// Longest wait for the names of functions, which are read from the program's file.
const NAMING_TIME: Duration = Duration::from_secs(20);

/// Where the files of an instance come from.
pub struct Sources {
    /// Who this is.
    pub instance: InstanceId,
    /// Its name.
    pub name: String,
    /// The program's version.
    pub version: String,
    /// More about it: roles, incarnation, level, URLs without credentials.
    pub about: Value,
    /// The effective configuration, redacted.
    pub configuration: String,
    /// The last lines of the log.
    pub logs: LogRing,
    /// Files by name; in this order.
    pub sections: Vec<(&'static str, Section)>,
}

impl Sources {
    /// Gathers the part of this instance.
    ///
    /// What cannot be had is named in `problems.txt`; only a part that cannot be written is an error.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) async fn collect(&self, seconds: u32, now: Timestamp) -> Result<Bytes, Error> {
        let id = self.instance.0.simple().to_string();
        // The end of it: ids begin with the time, which several that start at once have in common.
        let folder = format!("{}-{}", folder_name(&self.name), &id[id.len() - 8..]);
        let mut bundle = Bundle::new(&folder, now);
        let mut problems = Vec::new();
        bundle.add("about.json", pretty(&self.about(now)).as_bytes())?;
        bundle.add("configuration.yaml", redact::redact_text(&self.configuration).as_bytes())?;
        for (name, text) in process::files() {
            bundle.add(&name, text.as_bytes())?;
        }
        for (name, section) in &self.sections {
            match tokio::time::timeout(SECTION_TIME, section()).await {
                Ok(Ok(bytes)) => bundle.add(name, &bytes)?,
                Ok(Err(why)) => problems.push(format!("{name}: {why}")),
                Err(_) => problems.push(format!("{name}: no answer in {SECTION_TIME:?}")),
            }
        }
        if seconds > 0 {
            let watched = Duration::from_secs(seconds.into());
            match tokio::time::timeout(watched + NAMING_TIME, profile::cpu(watched)).await {
                Ok(Ok(bytes)) => bundle.add("cpu.pb.gz", &bytes)?,
                Ok(Err(error)) => problems.push(format!("cpu.pb.gz: {error}")),
                Err(_) => {
                    problems.push("cpu.pb.gz: finding the functions' names took too long".into());
                }
            }
        }
        match profile::heap().await {
            Ok(HeapProfile::Pprof(bytes)) => bundle.add("heap.pb.gz", &bytes)?,
            Ok(HeapProfile::Off(how)) => problems.push(format!("heap.pb.gz: {how}")),
            Err(error) => problems.push(format!("heap.pb.gz: {error}")),
        }
        // Last, so that it tells of the rest.
        bundle.add("log.txt", redact::redact_text(&self.logs.text()).as_bytes())?;
        if !problems.is_empty() {
            let text = redact::redact_text(&(problems.join("\n") + "\n"));
            bundle.add("problems.txt", text.as_bytes())?;
        }
        Ok(tokio::task::spawn_blocking(move || bundle.finish())
            .await
            .map_err(std::io::Error::other)??)
    }

    fn about(&self, now: Timestamp) -> Value {
        let mut about = json!({
            "instance": self.instance.0,
            "name": self.name,
            "version": self.version,
            "at_micros": now.0,
            "process": process::about(),
            "server": self.about,
        });
        redact::redact(&mut about);
        about
    }
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}
