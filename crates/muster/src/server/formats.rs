//! The forms that instances read of each other, each beside its codec.
//!
//! Not here is what nobody reads who could be older: the embedded log (one process has it), hints (whoever
//! does not know one looks into the catalog), messages of agents (they are of the agents' version), copies
//! made by `muster backup` (a newer program reads them), and rows of the catalog (migrations).

use muster_catalog::{Catalog, Error};
use muster_cluster::raise_formats;
use muster_cluster::secrets::SEALED;
use muster_codec_osquery::wire;
use muster_endpoints::node_key::NodeKey;
use muster_hunts::ShardProgress;
use muster_intake::fold::ShardState;
use muster_results::SEGMENT;
use muster_stream::jetstream::MESSAGE;
use muster_types::{Format, Record};

/// All of them.
pub const FORMATS: [Format; 8] = [
    Record::FORMAT,
    MESSAGE,
    wire::FORMAT,
    SEGMENT,
    ShardState::FORMAT,
    ShardProgress::FORMAT,
    SEALED,
    NodeKey::FORMAT,
];

/// Migrates the catalog. In one that was empty there is no older program to wait for, so the newest forms are
/// written from the beginning.
///
/// # Errors
/// Those of [`Catalog::migrate`].
pub async fn migrate(catalog: &Catalog) -> Result<(), Error> {
    if catalog.migrate().await? {
        match raise_formats(catalog, &FORMATS).await {
            // An older one was quicker, so there is one to wait for.
            Err(Error::Refused(why)) => tracing::info!(why, "newer forms wait"),
            raised => _ = raised?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn forms_have_names_of_their_own_and_are_read_by_those_who_do_not_tell() {
        let names: BTreeSet<_> = FORMATS.iter().map(|format| format.name).collect();
        assert_eq!(names.len(), FORMATS.len());
        for format in FORMATS {
            assert!(format.oldest >= 1 && format.untold <= format.newest, "{format:?}");
            // What was written before formats were told is still read.
            assert!(format.untold == 0 || format.reads(format.untold), "{format:?}");
        }
    }
}
