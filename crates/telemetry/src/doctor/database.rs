//! Whether the database keeps what it has acknowledged, and agrees about the time.

use std::collections::BTreeMap;

use muster_catalog::{Catalog, Database, Error, args, statements};
use muster_types::Clock;

use super::{CLOCK_APART_MAX, Finding, id};
use crate::report;

statements! {
    small SETTINGS = {
        sqlite: "SELECT 'journal' AS name, 'wal' AS setting",
        postgres: "SELECT CAST(name AS TEXT) AS name, CAST(setting AS TEXT) AS setting
            FROM pg_settings
            WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes')"
    };
    small STANDBYS = {
        sqlite: "SELECT '' AS name, '' AS sync_state LIMIT 0",
        postgres: "SELECT CAST(COALESCE(application_name, '') AS TEXT) AS name,
                CAST(COALESCE(sync_state, '') AS TEXT) AS sync_state
            FROM pg_stat_replication
            WHERE state IS NULL OR state <> 'backup'"
    };
}

pub(super) async fn check(catalog: &Catalog, clock: &dyn Clock) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    let ahead = report::clock_ahead_ms(catalog, clock).await?;
    if ahead.unsigned_abs() > CLOCK_APART_MAX.as_millis() as u64 {
        findings.push(skew("this clock", ahead));
    }
    let migrations = catalog.migrations().await?;
    let pending = migrations.migrations.iter().filter(|one| one.applied_at.is_none());
    let pending: Vec<&str> = pending.map(|one| one.name.as_str()).collect();
    if !pending.is_empty() {
        findings.push(Finding::new(
            id::CONTRACT_PENDING,
            format!("an upgrade is not finished; to be applied: {}", pending.join(", ")),
            "when all instances run the new version: muster migrate contract",
        ));
    }
    if catalog.database() == Database::Postgres {
        let rows = catalog.fetch_all(&SETTINGS, args![]).await?;
        let mut settings: BTreeMap<String, String> = BTreeMap::new();
        for row in &rows {
            settings.insert(row.get("name")?, row.get("setting")?);
        }
        findings.extend(durability(&settings));
        let mut standbys = Vec::new();
        for row in &catalog.fetch_all(&STANDBYS, args![]).await? {
            standbys.push((row.get("name")?, row.get("sync_state")?));
        }
        findings.extend(standby(&standbys));
    }
    Ok(findings)
}

/// A clock that differs from the database's.
pub(super) fn skew(whose: &str, ahead_ms: i64) -> Finding {
    let way = if ahead_ms > 0 { "ahead of" } else { "behind" };
    let seconds = ahead_ms.unsigned_abs() as f64 / 1000.0;
    Finding::new(
        id::CLOCK,
        format!("{whose} is {seconds:.1} s {way} the database's"),
        "run a time service (chrony, systemd-timesyncd) on every machine, the database's too",
    )
}

fn durability(settings: &BTreeMap<String, String>) -> Option<Finding> {
    let is = |name: &str, bad: &[&str]| {
        settings
            .get(name)
            .filter(|value| bad.contains(&value.as_str()))
            .map(|v| (name.to_owned(), v))
    };
    let bad: Vec<String> = [
        is("fsync", &["off"]),
        is("synchronous_commit", &["off"]),
        is("full_page_writes", &["off"]),
    ]
    .into_iter()
    .flatten()
    .map(|(name, value)| format!("{name} = {value}"))
    .collect();
    (!bad.is_empty()).then(|| {
        Finding::new(
            id::POSTGRES_DURABILITY,
            format!("PostgreSQL acknowledges what a power failure undoes: {}", bad.join(", ")),
            "set fsync, full_page_writes and synchronous_commit to on, for the server, the database \
             and the role (ALTER DATABASE … RESET synchronous_commit)",
        )
    })
}

/// With standbys, at least one has to have a write before it is acknowledged. One server without any
/// is a choice, and no finding.
fn standby(standbys: &[(String, String)]) -> Option<Finding> {
    // An empty state is one that this role may not see.
    let known: Vec<_> = standbys.iter().filter(|(_, state)| !state.is_empty()).collect();
    let waits = known.iter().any(|(_, state)| matches!(state.as_str(), "sync" | "quorum"));
    if known.is_empty() || waits {
        return None;
    }
    let names: Vec<&str> = known.iter().map(|(name, _)| name.as_str()).collect();
    Some(Finding::new(
        id::POSTGRES_STANDBY,
        format!(
            "all standbys of PostgreSQL are asynchronous ({}): a fail-over may lose acknowledged \
             writes, and give two instances the same lease",
            names.join(", ")
        ),
        "set synchronous_standby_names = 'ANY 1 (*)' (or name them) on the primary",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_synchronous_standby_is_enough() {
        let of = |states: &[&str]| {
            let list: Vec<_> = states.iter().map(|s| ("s".to_owned(), (*s).to_owned())).collect();
            standby(&list).is_some()
        };
        assert!(!of(&[]));
        assert!(!of(&["async", "sync"]));
        assert!(!of(&["quorum", "quorum"]));
        assert!(!of(&[""]));
        assert!(of(&["async"]));
        assert!(of(&["async", "potential"]));
    }
}
