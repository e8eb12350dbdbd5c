//! Reports in the catalog.

use muster_catalog::{Catalog, Error, Priority, args, statements};
use muster_types::{Incarnation, InstanceId};

use super::{Facts, Report};

statements! {
    SAVE = "INSERT INTO instance_report (instance, incarnation, reported_at, facts)
        VALUES ($1, $2, $3, $4)
        ON CONFLICT (instance) DO UPDATE SET
            incarnation = excluded.incarnation,
            reported_at = excluded.reported_at,
            facts = excluded.facts
        WHERE instance_report.incarnation <= excluded.incarnation";
    /// One row per instance; those of forgotten ones go with the instance.
    small ALL = "SELECT instance_report.instance, instance_report.reported_at, instance_report.facts
        FROM instance_report
        JOIN instance ON instance.id = instance_report.instance
        ORDER BY instance_report.instance";
    small FORGET = "DELETE FROM instance_report
        WHERE instance NOT IN (SELECT id FROM instance)";
}

pub(super) async fn save(
    catalog: &Catalog,
    (instance, incarnation): (InstanceId, Incarnation),
    facts: &Facts,
) -> Result<(), Error> {
    let text = serde_json::to_string(facts).map_err(|error| Error::Other(error.to_string()))?;
    let mut tx = catalog.begin(Priority::Presence).await?;
    let now = tx.now().await?;
    tx.execute(&SAVE, args![instance, incarnation, now, text]).await?;
    tx.execute(&FORGET, args![]).await?;
    tx.commit().await
}

/// The last report of every instance that is known.
///
/// # Errors
/// The catalog's. A report that cannot be read counts as none: a newer version wrote it.
pub async fn read_all(catalog: &Catalog) -> Result<Vec<Report>, Error> {
    let rows = catalog.fetch_all(&ALL, args![]).await?;
    let mut reports = Vec::with_capacity(rows.len());
    for row in &rows {
        let facts: String = row.get("facts")?;
        let Ok(facts) = serde_json::from_str(&facts) else { continue };
        reports.push(Report { instance: row.get("instance")?, at: row.get("reported_at")?, facts });
    }
    Ok(reports)
}
