//! Some rows of a sink in the order they are sent: what is held in memory at a time.

use arrow::array::AsArray;
use arrow::datatypes::{UInt32Type, UInt64Type};

use crate::position::{Aim, Place, Positions};
use crate::read::Piece;

/// Rows to send, and where the sink stands once they are done.
pub(crate) struct Window {
    pieces: Vec<Piece>,
    order: Vec<Entry>,
    /// Where the sink stands before,
    from: (Positions, Vec<Place>),
    /// Where it stands then.
    pub aim: Aim,
}

/// One row: its place, and where its columns are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    shard: u8,
    pos: u64,
    table: u32,
    class: u8,
    row: u32,
    piece: u32,
    index: u32,
}

/// All rows in the order they are sent, without those that are done.
fn ordered(pieces: &[Piece], within: &[Place]) -> Vec<Entry> {
    let mut tables: Vec<&str> = pieces.iter().map(|piece| &*piece.table).collect();
    tables.sort_unstable();
    tables.dedup();
    let mut order = Vec::new();
    for (at, piece) in pieces.iter().enumerate() {
        let table = tables.binary_search(&&*piece.table).unwrap_or_default();
        let column = |name| piece.batch.column_by_name(name);
        let shards = column("_shard").and_then(|c| c.as_primitive_opt::<UInt32Type>());
        let positions = column("_pos").and_then(|c| c.as_primitive_opt::<UInt64Type>());
        let rows = column("_row").and_then(|c| c.as_primitive_opt::<UInt32Type>());
        let (Some(shards), Some(positions), Some(rows)) = (shards, positions, rows) else {
            continue;
        };
        for index in 0..piece.batch.num_rows() {
            let entry = Entry {
                shard: shards.value(index) as u8,
                pos: positions.value(index),
                table: table as u32,
                class: piece.class,
                row: rows.value(index),
                piece: at as u32,
                index: index as u32,
            };
            let done = within.iter().any(|done| {
                let key = (entry.shard, entry.pos, &*piece.table, entry.class, entry.row);
                (entry.shard, entry.pos) == (done.shard, done.pos)
                    && key <= (done.shard, done.pos, &*done.table, done.class, done.row)
            });
            if !done {
                order.push(entry);
            }
        }
    }
    order.sort_unstable();
    order
}

/// A row of a window.
pub(crate) struct RowAt<'a> {
    /// Number and columns of its batch, and where it stands there.
    pub piece: usize,
    pub columns: &'a Piece,
    pub index: usize,
    pub shard: u8,
    pub pos: u64,
    pub row: u32,
}

impl RowAt<'_> {
    pub(crate) fn place(&self) -> Place {
        Place {
            shard: self.shard,
            pos: self.pos,
            table: self.columns.table.to_string(),
            class: self.columns.class,
            row: self.row,
        }
    }
}

impl Window {
    /// Rows between where a sink stands, which has done those up to the places as well, and its aim.
    pub(crate) fn new(pieces: Vec<Piece>, from: (Positions, Vec<Place>), aim: Aim) -> Self {
        let order = ordered(&pieces, &from.1);
        Self { pieces, order, from, aim }
    }

    /// How many rows it has.
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// Its batches of columns.
    pub(crate) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// One of its rows.
    pub(crate) fn row(&self, at: usize) -> RowAt<'_> {
        let entry = &self.order[at];
        let piece = entry.piece as usize;
        let columns = &self.pieces[piece];
        let index = entry.index as usize;
        RowAt { piece, columns, index, shard: entry.shard, pos: entry.pos, row: entry.row }
    }

    /// Where the sink stands when the first `done` rows are done.
    pub(crate) fn after(&self, done: usize) -> (Positions, Vec<Place>) {
        let (mut place, mut within) = self.from.clone();
        if done == self.order.len() {
            place = self.aim.upto;
        } else if let Some(last) = done.checked_sub(1).map(|at| self.row(at)) {
            // Shards before this one are done; of this one what lies before the row's record.
            let shard = usize::from(last.shard);
            place =
                (0..shard).fold(place, |place, shard| place.with_shard_of(&self.aim.upto, shard));
            let next = &self.order[done];
            if (next.shard, next.pos) == (last.shard, last.pos) {
                place = place.with_pos(shard, last.pos - 1);
                within.retain(|other| other.shard != last.shard);
                within.push(last.place());
            } else {
                place = place.with_pos(shard, last.pos);
            }
        }
        // A record that was begun stays begun until its shard has passed it.
        within.retain(|begun| begun.pos > place.get(usize::from(begun.shard)));
        (place, within)
    }
}
