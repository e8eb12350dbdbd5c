//! The rows of uploads in the catalog.

use muster_catalog::{Catalog, Error, Priority, Row, Tx, args};
use muster_types::{AgentNo, OrgId, Timestamp, UploadNo};

use crate::{NewUpload, State, Upload};

muster_catalog::statements! {
    /// Whether any hunt is held.
    pub(crate) HELD = "SELECT no FROM hunt WHERE hold_until IS NOT NULL AND hold_until > $1 LIMIT 1";
    ADD = "
        INSERT INTO upload
            (no, org, agent_no, kind, external_id, block_count, block_size, byte_count, state,
             message, begun_at, piece_count)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'open', '', $9, 0)
        ON CONFLICT (org, agent_no, external_id) DO NOTHING";

    BY_NAME = "
        SELECT no, org, agent_no, kind, external_id, block_count, block_size, byte_count, state,
            message, begun_at, ended_at, sha256, format, object, piece_count
        FROM upload
        WHERE org = $1 AND agent_no = $2 AND external_id = $3";

    BY_NO = "
        SELECT no, org, agent_no, kind, external_id, block_count, block_size, byte_count, state,
            message, begun_at, ended_at, sha256, format, object, piece_count
        FROM upload
        WHERE no = $1";

    /// Those of one agent; the index leads with the two, and an agent has few.
    COUNT_OPEN = "
        SELECT count(*) AS n FROM upload
        WHERE org = $1 AND agent_no = $2 AND state = 'open'";

    /// Newest first.
    PAGE = "
        SELECT no, org, agent_no, kind, external_id, block_count, block_size, byte_count, state,
            message, begun_at, ended_at, sha256, format, object, piece_count
        FROM upload
        WHERE org = $1 AND no < $2
        ORDER BY no DESC
        LIMIT $3";

    /// Every block of it is in the segment of this transaction or an earlier one.
    RECEIVED = "
        UPDATE upload SET state = 'received', byte_count = $3
        WHERE no = $1 AND agent_no = $2 AND state = 'open'";

    pub(crate) STORED = "
        UPDATE upload SET
            state = 'stored',
            message = $2,
            ended_at = $3,
            byte_count = $4,
            sha256 = $5,
            format = $6,
            object = $7,
            piece_count = $8
        WHERE no = $1 AND state = 'received'";

    pub(crate) FAILED = "
        UPDATE upload SET state = 'failed', message = $2, ended_at = $3
        WHERE no = $1 AND state = $4";

    /// Of one state, the oldest first.
    OF_STATE = "
        SELECT no, org, agent_no, kind, external_id, block_count, block_size, byte_count, state,
            message, begun_at, ended_at, sha256, format, object, piece_count
        FROM upload
        WHERE state = $1 AND begun_at < $2
        ORDER BY begun_at
        LIMIT $3";

    /// What is asked with blocks.
    pub(crate) STANDING = "
        SELECT state, begun_at, continued_at FROM upload
        WHERE no = $1";

    pub(crate) CONTINUED = "
        UPDATE upload SET continued_at = $2
        WHERE no = $1 AND state = 'open' AND (continued_at IS NULL OR continued_at < $2)";

    /// Open ones that nobody continued since `$1`, or that began before `$2`.
    IDLE = "
        SELECT no, org, agent_no, kind, external_id, block_count, block_size, byte_count, state,
            message, begun_at, ended_at, sha256, format, object, piece_count
        FROM upload
        WHERE state = 'open' AND begun_at < $1
            AND (COALESCE(continued_at, begun_at) < $1 OR begun_at < $2)
        ORDER BY begun_at
        LIMIT $3";

    /// Uploads of agents that are no more. A cross join, so that SQLite begins with the agents.
    OF_DELETED = "
        SELECT upload.no, upload.org, upload.agent_no, upload.kind, upload.external_id,
            upload.block_count, upload.block_size, upload.byte_count, upload.state,
            upload.message, upload.begun_at, upload.ended_at, upload.sha256, upload.format,
            upload.object, upload.piece_count
        FROM agent
        CROSS JOIN upload
        WHERE agent.deleted_at IS NOT NULL AND agent.deleted_at > $1
            AND upload.org = agent.org AND upload.agent_no = agent.no
            AND upload.state <> 'received'
        LIMIT $2";

    pub(crate) REMOVE = "
        DELETE FROM upload
        WHERE no = $1 AND state = $2";

    /// Organisations with blocks; the index leads with the table's name behind the organisation.
    small ORGS = "
        SELECT DISTINCT org FROM segment_part
        WHERE table_name = 'upload_blocks'";
}

/// Begins an upload, or finds the one that was begun under this name. All beginnings of an installation
/// come one after the other, by the counter of numbers, so no agent gets more than `open_max`.
pub(crate) async fn begin(
    catalog: &Catalog,
    (org, agent): (OrgId, AgentNo),
    new: &NewUpload,
    now: Timestamp,
    open_max: u32,
) -> Result<Upload, crate::Error> {
    let mut tx = catalog.begin(Priority::Intake).await?;
    let no = tx.bump("number/upload").await?;
    let known = tx.fetch_optional(&BY_NAME, args![org, agent, &*new.external_id]).await?;
    let open = tx.fetch_one(&COUNT_OPEN, args![org, agent]).await?.get("n")?;
    if known.is_none() && open >= open_max {
        tx.rollback().await;
        return Err(crate::Error::TooMany(open));
    }
    let values = args![
        no,
        org,
        agent,
        new.kind,
        &*new.external_id,
        new.block_count,
        new.block_size,
        new.byte_count,
        now
    ];
    tx.execute(&ADD, values).await?;
    let row = tx.fetch_one(&BY_NAME, args![org, agent, &*new.external_id]).await?;
    tx.commit().await?;
    Ok(read(&row)?)
}

/// Notes, in the worker's transaction, that all blocks of an upload are in; nothing when that is
/// known already.
///
/// # Errors
/// When the catalog fails.
pub async fn received(
    tx: &mut Tx,
    upload: UploadNo,
    agent: AgentNo,
    byte_count: u64,
) -> Result<(), Error> {
    tx.execute(&RECEIVED, args![upload, agent, byte_count]).await?;
    Ok(())
}

pub(crate) async fn by_no(catalog: &Catalog, no: UploadNo) -> Result<Option<Upload>, Error> {
    let row = catalog.fetch_optional(&BY_NO, args![no]).await?;
    row.as_ref().map(read).transpose()
}

pub(crate) async fn open_of(
    catalog: &Catalog,
    org: OrgId,
    agent: AgentNo,
    external_id: &str,
) -> Result<(Option<Upload>, u32), Error> {
    let known = catalog.fetch_optional(&BY_NAME, args![org, agent, external_id]).await?;
    let known = known.as_ref().map(read).transpose()?;
    let row = catalog.fetch_optional(&COUNT_OPEN, args![org, agent]).await?;
    Ok((known, row.map_or(Ok(0), |row| row.get("n"))?))
}

pub(crate) async fn page(
    catalog: &Catalog,
    org: OrgId,
    below: UploadNo,
    limit: u32,
) -> Result<Vec<Upload>, Error> {
    read_all(&catalog.fetch_all(&PAGE, args![org, below, limit]).await?)
}

pub(crate) async fn of_state(
    catalog: &Catalog,
    state: State,
    begun_before: Timestamp,
    limit: u32,
) -> Result<Vec<Upload>, Error> {
    read_all(&catalog.fetch_all(&OF_STATE, args![state.as_str(), begun_before, limit]).await?)
}

pub(crate) async fn idle(
    catalog: &Catalog,
    not_since: Timestamp,
    begun_before: Timestamp,
    limit: u32,
) -> Result<Vec<Upload>, Error> {
    read_all(&catalog.fetch_all(&IDLE, args![not_since, begun_before, limit]).await?)
}

pub(crate) async fn of_deleted(catalog: &Catalog, limit: u32) -> Result<Vec<Upload>, Error> {
    read_all(&catalog.fetch_all(&OF_DELETED, args![Timestamp(0), limit]).await?)
}

pub(crate) async fn orgs(catalog: &Catalog) -> Result<Vec<OrgId>, Error> {
    let rows = catalog.fetch_all(&ORGS, args![]).await?;
    rows.iter().map(|row| row.get("org")).collect()
}

pub(crate) fn read_all(rows: &[Row]) -> Result<Vec<Upload>, Error> {
    rows.iter().map(read).collect()
}

fn read(row: &Row) -> Result<Upload, Error> {
    let state: String = row.get("state")?;
    Ok(Upload {
        no: row.get("no")?,
        org: row.get("org")?,
        agent: row.get("agent_no")?,
        kind: row.get("kind")?,
        external_id: row.get("external_id")?,
        block_count: row.get("block_count")?,
        block_size: row.get("block_size")?,
        byte_count: row.get("byte_count")?,
        state: state.parse().map_err(Error::Other)?,
        message: row.get("message")?,
        begun_at: row.get("begun_at")?,
        ended_at: row.get("ended_at")?,
        sha256: row.get("sha256")?,
        format: row.get("format")?,
        object: row.get("object")?,
        piece_count: row.get("piece_count")?,
    })
}
