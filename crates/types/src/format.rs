//! Forms of what one instance writes and another reads.

/// A form of bytes that instances of several versions share: one writes it, into a store or the stream, and
/// another reads it. Each codec has one of these beside it.
///
/// The version that is written is the newest that all instances which live read; instances tell each other
/// ([`Format::newest`]), and whoever has more than one version to write asks for the one of the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Its name, which stays.
    pub name: &'static str,
    /// The oldest version that this program reads.
    pub oldest: u8,
    /// The newest version that a program reads which does not tell: those from before formats were told. 0 for
    /// a form that they did not know.
    pub untold: u8,
    /// The newest version that this program reads, and can write.
    pub newest: u8,
}

impl Format {
    /// A form that had one version from the beginning.
    #[must_use]
    pub const fn first(name: &'static str) -> Self {
        Self { name, oldest: 1, untold: 1, newest: 1 }
    }

    /// Whether this program reads a version.
    #[must_use]
    pub const fn reads(&self, version: u8) -> bool {
        version >= self.oldest && version <= self.newest
    }

    /// The version of a form that has one, for those who write it without asking which. In constants, so that
    /// a second version does not compile until its writer asks.
    ///
    /// # Panics
    /// When there are several.
    #[must_use]
    pub const fn only(&self) -> u8 {
        assert!(
            self.oldest == self.newest && self.untold == self.newest,
            "a form with several versions is written in the one that all instances read"
        );
        self.newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_the_oldest_to_the_newest() {
        let format = Format { name: "x", oldest: 2, untold: 2, newest: 3 };
        let read: Vec<u8> = (0..5).filter(|version| format.reads(*version)).collect();
        assert_eq!(read, [2, 3]);
        assert_eq!(Format::first("x").only(), 1);
    }

    #[test]
    #[should_panic(expected = "several versions")]
    fn several_versions_are_not_written_unasked() {
        let _ = Format { name: "x", oldest: 1, untold: 1, newest: 2 }.only();
    }
}
