//! The artifacts that come with the program.

use std::sync::LazyLock;

use crate::{Artifact, parse};

/// Name and text of each file under `builtin`, by name.
const FILES: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/builtin.rs"));

static BUILTIN: LazyLock<Vec<Artifact>> = LazyLock::new(|| {
    let read = |(_, yaml): &(_, &str)| parse(yaml).expect("a test reads every one of them");
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
    let at = BUILTIN.binary_search_by(|artifact| artifact.name.as_str().cmp(name)).ok()?;
    BUILTIN.get(at)
}

/// The text of a built-in artifact.
#[must_use]
pub fn builtin_yaml(name: &str) -> Option<&'static str> {
    let at = FILES.binary_search_by(|(file, _)| (*file).cmp(name)).ok()?;
    FILES.get(at).map(|(_, yaml)| *yaml)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Platform;

    #[test]
    fn all_are_read_and_each_says_what_to_look_for() {
        for (name, yaml) in FILES {
            let artifact = parse(yaml).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(artifact.name, *name);
            assert!(artifact.description.len() > 80, "{name}");
            assert!(artifact.title.len() <= 60, "{name}: {}", artifact.title);
        }
        assert!(builtin().is_sorted_by_key(|artifact| &artifact.name));
    }

    #[test]
    fn each_is_found_by_its_name_and_runs_on_the_platform_it_is_named_after() {
        for artifact in builtin() {
            assert_eq!(find_builtin(&artifact.name), Some(artifact));
            assert_eq!(parse(builtin_yaml(&artifact.name).unwrap()).as_ref(), Ok(artifact));
            let platform = match artifact.name.split('.').next() {
                Some("linux") => Platform::Linux,
                Some("macos") => Platform::Darwin,
                Some("windows") => Platform::Windows,
                _ => panic!("{} is named after no platform", artifact.name),
            };
            assert_eq!(artifact.platforms, [platform], "{}", artifact.name);
        }
        assert_eq!(find_builtin("linux"), None);
    }
}
