//! How far a sink is: read and written by whoever holds its lease.

use muster_catalog::{Catalog, Priority, Row, args};
use muster_types::{Epoch, Timestamp};

use crate::position::{Aim, Place, Positions};
use crate::{Error, Sink};

muster_catalog::statements! {
    /// Takes a sink over: from now on only this epoch may move it.
    CLAIM = "
        UPDATE sink_progress SET epoch = $2
        WHERE sink_no = $1 AND epoch <= $2
        RETURNING
            commit_no, positions, within, aim, base_rows, delivered_rows, filtered_rows, refused_rows,
            gone_rows, delivered_at, received_until, error, error_at, failures, retry_at";

    /// Moves it on.
    SAVE = "
        UPDATE sink_progress SET
            commit_no = $3,
            positions = $4,
            within = $5,
            delivered_rows = $6,
            filtered_rows = $7,
            refused_rows = $8,
            gone_rows = $9,
            delivered_at = $10,
            received_until = $11,
            error = $12,
            error_at = $13,
            failures = $14,
            retry_at = $15,
            aim = $16
        WHERE sink_no = $1 AND epoch = $2";

    /// A row that was refused for ever.
    ADD_REFUSED = "
        INSERT INTO sink_refused (sink_no, at, row_id, reason)
        VALUES ($1, $2, $3, $4)
        ON CONFLICT (sink_no, at, row_id) DO NOTHING";

    /// All but the newest of them.
    TRIM_REFUSED = "
        DELETE FROM sink_refused
        WHERE sink_no = $1 AND at < (
            SELECT at FROM sink_refused WHERE sink_no = $1 ORDER BY at DESC LIMIT 1 OFFSET $2)";
}

/// Refused rows of a sink that are remembered.
const REFUSED_KEPT: i64 = 1000;
/// Longest reason that is kept.
const REASON_MAX: usize = 500;

/// How far a sink is, and how it fares.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// All rows up to this commit are done.
    pub(crate) commit: i64,
    /// Rows at or below these positions are done,
    pub(crate) positions: Positions,
    /// and of the next record of some shards those up to these places.
    pub(crate) within: Vec<Place>,
    /// Where it is going, while rows are under way.
    pub(crate) aim: Option<Aim>,
    /// Rows of its tables that were committed before it was made.
    pub(crate) base_rows: i64,
    /// Rows that the destination took.
    pub delivered_rows: i64,
    /// Rows of its tables that are not for it: of other labels, or deleted.
    pub filtered_rows: i64,
    /// Rows that the destination refuses for ever.
    pub refused_rows: i64,
    /// Rows that retention or a deletion removed before their turn came.
    pub gone_rows: i64,
    /// When it last took rows.
    pub delivered_at: Option<Timestamp>,
    /// When the latest row that it took had been received.
    pub received_until: Option<Timestamp>,
    /// What went wrong last.
    pub error: Option<String>,
    /// When.
    pub error_at: Option<Timestamp>,
    /// How often since rows were last taken.
    pub failures: u32,
    /// When it is tried again.
    pub retry_at: Option<Timestamp>,
}

/// A sink and how it fares.
#[derive(Clone, Debug)]
pub struct Status {
    /// The sink.
    pub sink: Sink,
    /// How far it is.
    pub progress: Progress,
    /// Rows of its tables that wait, those included that may not be for it.
    pub lag_rows: u64,
}

/// A row that a destination refused for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedRow {
    /// When.
    pub at: Timestamp,
    /// Its id, as in the envelope.
    pub id: String,
    /// Why, in the destination's words.
    pub reason: String,
}

impl Progress {
    /// Rows that were met or are known to be gone.
    pub(crate) fn met_rows(&self) -> i64 {
        self.delivered_rows + self.filtered_rows + self.refused_rows + self.gone_rows
    }

    pub(crate) fn read(row: &Row) -> Result<Self, Error> {
        let damaged = |what: &str| Error::Damaged(what.to_owned());
        let positions = Positions::decode(&row.get::<Vec<u8>>("positions")?);
        let within: Option<String> = row.get("within")?;
        let within = within.map_or(Ok(Vec::new()), |text| serde_json::from_str(&text));
        let aim: Option<Vec<u8>> = row.get("aim")?;
        let aim = aim.map(|bytes| Aim::decode(&bytes).ok_or_else(|| damaged("aim")));
        Ok(Self {
            aim: aim.transpose()?,
            commit: row.get("commit_no")?,
            positions: positions.ok_or_else(|| damaged("positions"))?,
            within: within.map_err(|error| Error::Damaged(format!("within: {error}")))?,
            base_rows: row.get("base_rows")?,
            delivered_rows: row.get("delivered_rows")?,
            filtered_rows: row.get("filtered_rows")?,
            refused_rows: row.get("refused_rows")?,
            gone_rows: row.get("gone_rows")?,
            delivered_at: row.get("delivered_at")?,
            received_until: row.get("received_until")?,
            error: row.get("error")?,
            error_at: row.get("error_at")?,
            failures: row.get("failures")?,
            retry_at: row.get("retry_at")?,
        })
    }

    /// Takes a sink over.
    ///
    /// # Errors
    /// [`Error::Fenced`] when a later holder has it.
    pub(crate) async fn claim(catalog: &Catalog, sink: i64, epoch: Epoch) -> Result<Self, Error> {
        let mut tx = catalog.begin(Priority::Intake).await?;
        let row = tx.fetch_optional(&CLAIM, args![sink, epoch]).await?;
        tx.commit().await?;
        Self::read(&row.ok_or(Error::Fenced(sink))?)
    }

    /// Writes it, with what was refused since.
    ///
    /// # Errors
    /// [`Error::Fenced`] when a later holder has the sink, or it is gone.
    pub(crate) async fn save(
        &self,
        catalog: &Catalog,
        sink: i64,
        epoch: Epoch,
        refused: &[RefusedRow],
    ) -> Result<(), Error> {
        let within = (!self.within.is_empty())
            .then(|| serde_json::to_string(&self.within).expect("places are numbers and names"));
        let values = args![
            sink,
            epoch,
            self.commit,
            self.positions.encode(),
            within,
            self.delivered_rows,
            self.filtered_rows,
            self.refused_rows,
            self.gone_rows,
            self.delivered_at,
            self.received_until,
            self.error.as_deref(),
            self.error_at,
            self.failures,
            self.retry_at,
            self.aim.map(|aim| aim.encode())
        ];
        let mut tx = catalog.begin(Priority::Intake).await?;
        if tx.execute(&SAVE, values).await? != 1 {
            tx.rollback().await;
            return Err(Error::Fenced(sink));
        }
        for row in refused {
            let reason = row.reason.replace('\0', " ");
            let reason = &reason[..reason.floor_char_boundary(REASON_MAX)];
            tx.execute(&ADD_REFUSED, args![sink, row.at, &*row.id, reason]).await?;
        }
        if !refused.is_empty() {
            tx.execute(&TRIM_REFUSED, args![sink, REFUSED_KEPT]).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Notes what went wrong, and when it is tried again.
    pub(crate) fn failed(&mut self, message: &str, now: Timestamp, retry_at: Timestamp) {
        let message = message.replace('\0', " ");
        let message = &message[..message.floor_char_boundary(REASON_MAX)];
        self.error = Some(message.to_owned());
        self.error_at = Some(now);
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(retry_at);
    }
}
