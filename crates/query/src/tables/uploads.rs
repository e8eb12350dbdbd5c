//! `uploads`: files taken from the endpoints the asker may see.

use arrow::array::ArrayRef;
use muster_catalog::{Row, args};
use muster_types::ColumnType::{self, Int, Text, Time};
use muster_types::{AgentNo, OrgId, Timestamp};

use super::column::{number, text, time};
use crate::Error;
use crate::question::Question;

muster_catalog::statements! {
    /// The uploads of an organisation.
    UPLOADS = "
        SELECT upload.no, upload.org, upload.agent_no, agent.endpoint_no, upload.kind,
            upload.external_id, upload.state, upload.message, upload.byte_count, upload.sha256,
            upload.format, upload.begun_at, upload.ended_at
        FROM upload
        JOIN agent ON agent.no = upload.agent_no
        WHERE upload.org = $1 AND agent.deleted_at IS NULL
        ORDER BY upload.no";
}

pub(super) const COLUMNS: &[(&str, ColumnType)] = &[
    ("upload", Int),
    ("endpoint", Int),
    ("agent", Int),
    ("kind", Text),
    ("external_id", Text),
    ("state", Text),
    ("message", Text),
    ("byte_count", Int),
    ("sha256", Text),
    ("format", Text),
    ("begun_at", Time),
    ("ended_at", Time),
];

pub(super) async fn rows(question: &Question) -> Result<Vec<ArrayRef>, Error> {
    let org = i64::from(question.access.org.0);
    let rows = question.catalog.fetch_all(&UPLOADS, args![org]).await?;
    let mut seen = Vec::with_capacity(rows.len());
    for row in rows {
        let (org, agent) = (row.get::<OrgId>("org")?, row.get::<AgentNo>("agent_no")?);
        if question.access.allows(org, agent) {
            seen.push(row);
        }
    }
    COLUMNS.iter().map(|(name, kind)| column(&seen, name, *kind)).collect()
}

fn column(rows: &[Row], name: &str, kind: ColumnType) -> Result<ArrayRef, Error> {
    let from = match name {
        "upload" => "no",
        "endpoint" => "endpoint_no",
        "agent" => "agent_no",
        name => name,
    };
    if name == "sha256" {
        let values: Result<Vec<Option<Vec<u8>>>, _> =
            rows.iter().map(|row| row.get(from)).collect();
        return Ok(text(values?.into_iter().map(|hash| hash.map(|hash| hex(&hash)))));
    }
    Ok(match kind {
        Int => {
            let values: Result<Vec<Option<i64>>, _> =
                rows.iter().map(|row| row.get(from)).collect();
            number(values?.into_iter())
        }
        Time => {
            let values: Result<Vec<Option<Timestamp>>, _> =
                rows.iter().map(|row| row.get(from)).collect();
            time(values?.into_iter())
        }
        _ => {
            let values: Result<Vec<Option<String>>, _> =
                rows.iter().map(|row| row.get(from)).collect();
            text(values?.into_iter())
        }
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
