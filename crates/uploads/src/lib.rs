//! Uploads: files taken from endpoints.
//!
//! An upload begins with a row in the catalog and a [`Session`], whose text proves to any instance,
//! without a look-up, which agent sends which upload's blocks. Blocks go through the stream like
//! everything else, so no instance owns an upload: the fold stores each block once, as a row of the
//! table `upload_blocks`, and knows when an upload is whole. Then the [`Finisher`] puts the blocks
//! together in the archive, in pieces of a bounded size, with the hash of the whole; and block rows
//! that no open upload needs any more are dropped.
//!
//! What is lost: an upload of which a block never comes. It is given up when none has come for
//! [`Options::open_for`].

mod assemble;
mod blocks;
mod error;
mod finisher;
mod model;
mod options;
mod session;
mod standing;
mod store;
mod tidy;
mod uploads;

pub use error::Error;
pub use finisher::Finisher;
pub use model::{NewUpload, State, Upload};
pub use options::Options;
pub use session::{Session, Sessions};
pub use standing::Standing;
pub use store::received;
pub use uploads::{Filter, Uploads};

/// The table of the blocks, of which each is a row until its upload is stored.
pub const BLOCKS_TABLE: &str = "upload_blocks";

/// Every SQL statement of this crate.
#[must_use]
pub fn statements() -> Vec<&'static muster_catalog::Statement> {
    store::STATEMENTS.to_vec()
}
