//! The artifacts that come with the program.

use std::sync::LazyLock;

use crate::{Artifact, parse};

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$(include_str!(concat!("../builtin/", $name, ".yaml"))),*]
    };
}

const FILES: [&str; 10] = files![
    "linux.files.find",
    "linux.network.connections",
    "linux.network.interfaces",
    "linux.network.listening",
    "linux.persistence.cron",
    "linux.processes",
    "linux.processes.deleted_binary",
    "linux.system.info",
    "linux.users.accounts",
    "linux.users.sessions",
];

static BUILTIN: LazyLock<Vec<Artifact>> = LazyLock::new(|| {
    let read = |yaml: &&str| parse(yaml).expect("built-in artifacts are checked by a test");
    FILES.iter().map(read).collect()
});

/// All built-in artifacts, by name.
#[must_use]
pub fn builtin() -> &'static [Artifact] {
    &BUILTIN
}

/// One built-in artifact.
#[must_use]
pub fn find_builtin(name: &str) -> Option<&'static Artifact> {
    builtin().iter().find(|artifact| artifact.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_read_and_each_says_what_to_look_for() {
        for yaml in FILES {
            let artifact = parse(yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"));
            assert!(artifact.description.len() > 80, "{}", artifact.name);
        }
        assert!(builtin().is_sorted_by_key(|artifact| &artifact.name));
    }
}
