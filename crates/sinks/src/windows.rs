//! How much of what waits is taken at once: as many rows as memory is meant for.

use std::time::Duration;

use muster_archive::manifest::Part;
use tokio::time::Instant;

use crate::head::Head;
use crate::position::{Aim, PIECES, Positions};
use crate::read::{Piece, Read, Rows, Unreadable};
use crate::window::Window;
use crate::{Error, Progress, Sink, marks};

/// Most rows of a window; only one record with more rows makes a larger one.
const ROWS_MAX: u64 = 20_000;
/// Most bytes of its columns; the same holds.
const BYTES_MAX: usize = 32 << 20;

/// What was ever committed is compared with what was met this often, while there is something new.
const COUNT_EVERY: Duration = Duration::from_secs(60);

/// Reads windows, one after the other.
pub(crate) struct Windows {
    rows: Rows,
    unreadable: Unreadable,
    /// Rows of the next window; less after one that took too many bytes.
    rows_max: u64,
    /// When what was ever committed was last compared with what was met,
    counted_at: Option<Instant>,
    /// and whether the sink has moved since.
    is_uncounted: bool,
}

impl Windows {
    pub(crate) fn new(rows: Rows) -> Self {
        Self {
            rows,
            unreadable: Unreadable::default(),
            rows_max: ROWS_MAX,
            counted_at: None,
            is_uncounted: true,
        }
    }

    /// What the rows are read from.
    pub(crate) fn rows(&self) -> &Rows {
        &self.rows
    }

    /// The next rows behind `progress`; `None` when all commits are done.
    ///
    /// # Errors
    /// When the catalog or the archive fails. A part that cannot be read fails once and is passed
    /// over the next time.
    pub(crate) async fn next(
        &mut self,
        sink: &Sink,
        progress: &Progress,
    ) -> Result<Option<Window>, Error> {
        let known = progress.aim;
        let aim = match known {
            Some(aim) => Some(aim),
            None => self.aim(sink, progress).await?,
        };
        let Some(mut aim) = aim else { return Ok(None) };
        let commits = (progress.commit, aim.commit);
        let parts = self.rows.parts(sink.org, commits, &sink.filter).await?;
        let from = progress.positions;
        aim.upto = aim.upto.max(&from);
        let mut limit = aim.upto;
        if known.is_none() {
            limit = self.narrowed(&parts, &from, limit).await?;
        }
        loop {
            let alone = is_one_record(&from, &limit);
            let mut room = if alone { usize::MAX } else { BYTES_MAX };
            if let Some(pieces) = self.read(&parts, &from, &limit, &mut room).await? {
                if room > BYTES_MAX / 2 {
                    self.rows_max = (self.rows_max * 2).min(ROWS_MAX);
                }
                if limit != aim.upto {
                    aim = Aim { upto: limit, is_whole: false, committed_rows: None, ..aim };
                }
                let from = (from, progress.within.clone());
                return Ok(Some(Window::new(pieces, from, aim)));
            }
            if self.rows_max == 1 {
                // One row at a time is too much still: record by record.
                limit = one_record_less(&from, &limit);
            }
            self.rows_max = (self.rows_max / 8).max(1);
            limit = self.narrowed(&parts, &from, limit).await?;
        }
    }

    /// How far a window may reach: the next mark, or everything.
    async fn aim(&mut self, sink: &Sink, progress: &Progress) -> Result<Option<Aim>, Error> {
        let catalog = &self.rows.catalog;
        if let Some((commit, upto)) = marks::next(catalog, progress.commit).await? {
            self.is_uncounted = true;
            return Ok(Some(Aim { upto, commit, is_whole: true, committed_rows: None }));
        }
        // There is a count for each table, and a table for each hunt: not every second.
        let is_due = self.counted_at.is_none_or(|at| at.elapsed() >= COUNT_EVERY);
        let head = match is_due {
            true => Head::read(catalog, sink.org).await?,
            false => Head::place(catalog).await?,
        };
        if head.commit <= progress.commit && !(is_due && self.is_uncounted) {
            return Ok(None);
        }
        if is_due {
            self.counted_at = Some(Instant::now());
        }
        self.is_uncounted = !is_due;
        let committed_rows = is_due.then(|| head.rows(&sink.filter));
        Ok(Some(Aim { upto: head.positions, commit: head.commit, is_whole: true, committed_rows }))
    }

    /// A place up to `upto` with no more rows behind `from` than a window has.
    async fn narrowed(
        &mut self,
        parts: &[Part],
        from: &Positions,
        mut upto: Positions,
    ) -> Result<Positions, Error> {
        let at_most: u64 = parts.iter().map(|part| part.info.row_count).sum();
        if at_most <= self.rows_max {
            return Ok(upto);
        }
        loop {
            let mut counts = [0; PIECES];
            for part in parts {
                let counted = self.rows.count(part, from, &upto, &mut counts).await;
                self.passed_over(part, counted)?;
            }
            if counts.iter().sum::<u64>() <= self.rows_max || is_one_record(from, &upto) {
                return Ok(upto);
            }
            let mut rows = 0;
            let fits = |count: &&u64| {
                rows += **count;
                rows <= self.rows_max
            };
            let pieces = counts.iter().take_while(fits).count();
            if pieces > 0 {
                return Ok(from.after_pieces(&upto, pieces));
            }
            upto = match from.is_next(&upto) {
                true => one_record_less(from, &upto),
                false => from.after_pieces(&upto, 1),
            };
        }
    }

    /// The rows between two places; `None` when they take more than `room`.
    async fn read(
        &mut self,
        parts: &[Part],
        from: &Positions,
        upto: &Positions,
        room: &mut usize,
    ) -> Result<Option<Vec<Piece>>, Error> {
        let mut pieces = Vec::new();
        for part in parts {
            let read = self.rows.read(part, from, upto, room).await;
            match self.passed_over(part, read)? {
                Some(Read::Pieces(more)) => pieces.extend(more),
                Some(Read::TooMuch) => return Ok(None),
                None => {}
            }
        }
        Ok(Some(pieces))
    }

    fn passed_over<T>(&mut self, part: &Part, read: Result<T, Error>) -> Result<Option<T>, Error> {
        match read {
            Ok(value) => Ok(Some(value)),
            Err(error) => match self.unreadable.again(part, &error) {
                Some(true) => {
                    tracing::error!(object = part.object, %error, "a sink passes over rows");
                    Ok(None)
                }
                _ => Err(error),
            },
        }
    }
}

/// Whether at most one record of one shard lies between.
fn is_one_record(from: &Positions, upto: &Positions) -> bool {
    let left = |shard: usize| upto.get(shard).saturating_sub(from.get(shard));
    (0..PIECES).map(left).fold(0_u64, u64::saturating_add) <= 1
}

/// Half of the way; of steps that cannot be halved, those of the first half of the shards.
fn one_record_less(from: &Positions, upto: &Positions) -> Positions {
    if !from.is_next(upto) {
        return from.after_pieces(upto, PIECES / 2);
    }
    let moving: Vec<usize> =
        (0..PIECES).filter(|shard| upto.get(*shard) > from.get(*shard)).collect();
    let first = &moving[..moving.len().div_ceil(2).min(moving.len().max(2) - 1)];
    first.iter().fold(*from, |place, shard| place.with_shard_of(upto, *shard))
}
