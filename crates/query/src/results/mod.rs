//! Result tables: parts of the manifest, read from the archive, as far as the asker may see.

mod barrier;
mod files;
mod fleet;
mod open;
mod open_rows;
mod part;
mod prune;
mod scan;
mod table;
mod virtuals;
mod visible;
mod widen;

pub(crate) use barrier::Barrier;
pub(crate) use files::Files;
pub(crate) use fleet::Fleet;
pub(crate) use fleet::STATEMENTS as FLEET_STATEMENTS;
pub(crate) use open::STATEMENTS;
pub(crate) use part::PartFile;
pub(crate) use prune::{Span, prune};
pub(crate) use table::{ResultTable, as_view, mixed_text};
pub(crate) use virtuals::{Virtual, VirtualExpr};
pub(crate) use visible::{Rule, VisibleExpr};
