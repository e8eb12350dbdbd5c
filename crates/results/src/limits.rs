//! Bounds on what an endpoint can make us hold.

/// Columns of one table in one segment, system columns apart. What is over goes to `_extra`.
pub const COLUMNS: usize = 256;

/// Columns of one part that others were merged into, system columns apart. What is over goes to `_extra`; of a
/// current table it is left out.
pub const MERGED_COLUMNS: usize = 1024;

/// Longest column name in bytes; a longer one goes to `_extra`.
pub const COLUMN_NAME_BYTES: usize = 128;

/// Longest cell in bytes. A longer text is cut and says so; other types become NULL.
pub const CELL_BYTES: usize = 1 << 20;

/// Deepest nesting of a value.
pub const DEPTH: usize = 128;

/// Longest body of one call in bytes.
pub const BODY_BYTES: usize = 256 << 20;

/// Rows × columns of one call that are always allowed; more only while each cell is paid for with
/// a byte of the body. So a body of `{}` cannot grow by more than this.
pub const FREE_CELLS: usize = 4 << 20;

/// Rows of one row group.
pub const ROW_GROUP_ROWS: usize = 100_000;

/// Parts of one container.
pub const PARTS: usize = 1 << 16;
