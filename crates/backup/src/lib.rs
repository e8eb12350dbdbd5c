//! Copies of an installation: backup, restore, and the move to other stores.
//!
//! A copy is what the catalog says at one moment, and the objects that it refers to. The catalog is
//! read in one snapshot, as rows in a format of our own that both databases write and read alike;
//! objects never change and their names are never used again, so each is copied once. While a copy is
//! taken nothing is deleted from the archive ([`muster_archive::Pause`]). The stream is no part of a
//! copy: what was not folded at that moment is not in it.
//!
//! - [`take`] makes a backup in a folder, [`verify`] reads one back, [`restore`] puts one into empty
//!   stores, [`prune`] removes old ones, [`relocate`] copies stores into others.
//! - [`Standing`] says whether a server may run on a catalog, and where its stream goes on;
//!   [`shards`] moves one on whose records are gone.

mod arrive;
mod error;
mod fill;
mod folder;
mod manifest;
mod object_list;
mod objects;
mod prune;
mod references;
mod relocate;
mod restore;
mod row;
pub mod shards;
mod source;
mod standing;
mod statements;
mod table_file;
mod take;
mod verify;

pub use error::Error;
pub use fill::{Filled, Target};
pub use folder::{Folder, backups};
pub use manifest::{Manifest, Objects, TableEntry};
pub use prune::{Pruned, prune, surplus};
pub use relocate::{Relocation, relocate};
pub use restore::restore;
pub use standing::Standing;
pub use take::{TakeOptions, take};
pub use verify::{Verified, verify};

/// The statements of this crate, for the tests that prepare all of them.
#[must_use]
pub fn statements() -> Vec<&'static muster_catalog::Statement> {
    statements::STATEMENTS.to_vec()
}
