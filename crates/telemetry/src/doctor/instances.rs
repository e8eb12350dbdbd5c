//! What instances report, compared and judged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_catalog::{Catalog, Error};
use muster_cluster::{Instance, Job};
use muster_types::Timestamp;

use super::database::skew;
use super::{CERTIFICATE_SOON, CLOCK_APART_MAX, Finding, LAG_MAX, OPEN_FILES_MIN, id};
use crate::report::{self, Certificate, Facts, Report};

/// Reports come every minute; one that is so old is none.
const REPORT_OLD: Duration = Duration::from_secs(300);
/// A start may take so long until its first report.
const STARTING: Duration = Duration::from_secs(30);
/// Differences of configuration that are named.
const DRIFT_NAMED: usize = 5;

pub(super) async fn check(catalog: &Catalog) -> Result<Vec<Finding>, Error> {
    let now = catalog.now().await?;
    let instances = muster_cluster::instances(catalog).await?;
    let live: Vec<Instance> = instances.into_iter().filter(|one| one.live).collect();
    let reports = report::read_all(catalog).await?;
    Ok(judge(&live, &reports, now))
}

/// Everything that is wrong with these instances.
fn judge(live: &[Instance], reports: &[Report], now: Timestamp) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut seen: Vec<(&str, &Facts)> = Vec::new();
    for one in live {
        let name = one.info.name.as_str();
        let report = reports.iter().find(|report| report.instance == one.info.id);
        match report.filter(|report| now.since(report.at) < REPORT_OLD) {
            Some(report) => {
                let own = facts(&report.facts, now);
                findings.extend(own.into_iter().map(|finding| finding.of(name)));
                seen.push((name, &report.facts));
            }
            None if now.since(one.started_at) > STARTING => findings.push(no_report(name)),
            None => {}
        }
    }
    findings.extend(drift(&seen));
    findings.extend(versions(live));
    findings.extend(holders(live));
    findings
}

fn no_report(name: &str) -> Finding {
    let remedy = "look at its log; an older version does not report, finish the upgrade then";
    Finding::new(id::NO_REPORT, "it lives and tells nothing of itself", remedy).of(name)
}

fn facts(facts: &Facts, now: Timestamp) -> Vec<Finding> {
    let mut findings = Vec::new();
    if facts.clock_ahead_ms.unsigned_abs() > CLOCK_APART_MAX.as_millis() as u64 {
        findings.push(skew("its clock", facts.clock_ahead_ms));
    }
    if facts.open_files_max > 0 && facts.open_files_max < OPEN_FILES_MIN {
        findings.push(Finding::new(
            id::OPEN_FILES,
            format!("it may open {} files; each agent needs one", facts.open_files_max),
            "LimitNOFILE=1048576 in the systemd unit, --ulimit nofile=1048576 for a container",
        ));
    }
    findings.extend(certificates(&facts.certificates, now));
    let full = facts.volumes.iter().filter(|volume| volume.free_bytes < volume.reserve_bytes);
    findings.extend(full.map(Finding::disk));
    let explained = findings.iter().any(|finding| finding.id == id::DISK);
    if facts.stream_stopped && !explained {
        findings.push(Finding::new(
            id::STREAM_STOPPED,
            "intake has stopped: the stream's quota is used up, or the stream cannot be written",
            "see that workers run and commit (shard-lag, the archive); raise stream.quota if they do",
        ));
    }
    if facts.secret_key_fits == Some(false) {
        findings.push(Finding::new(
            id::SECRET_KEY,
            "its secret key does not open the secrets of this installation",
            "give all instances the same file in tls.secret_key_file",
        ));
    }
    if u128::from(facts.worker_lag_ms) > LAG_MAX.as_millis() {
        findings.push(Finding::new(
            id::SHARD_LAG,
            format!("its worker is {} s behind with a shard", facts.worker_lag_ms / 1000),
            "start more instances with the role worker; see whether the archive or the catalog is slow",
        ));
    }
    if facts.shards_standing_still > 0 {
        findings.push(Finding::new(
            id::SHARD_GAP,
            format!("records of {} of its shards are gone from the stream", facts.shards_standing_still),
            "the stream was lost or restored; see the page on backups for how to go on, with the gap recorded",
        ));
    }
    findings
}

/// Certificates that have ended or will soon.
#[must_use]
pub fn certificates(certificates: &[Certificate], now: Timestamp) -> Vec<Finding> {
    let mut findings = Vec::new();
    for certificate in certificates {
        let left = certificate.not_after - now.seconds();
        if left > CERTIFICATE_SOON.as_secs() as i64 {
            continue;
        }
        let when = match left {
            ..=0 => format!("ended {} days ago", -left / 86_400),
            _ => format!("ends in {} days", left / 86_400),
        };
        findings.push(Finding::new(
            id::CERTIFICATE_EXPIRY,
            format!("the certificate of the listener for {} {when}", certificate.listener),
            "put a new one into the files of tls.certificate and tls.key, then `systemctl reload muster`; \
             Muster's own are issued anew every day while it runs; another CA is made with `muster ca add`",
        ));
    }
    findings
}

/// Keys that instances disagree about.
fn drift(seen: &[(&str, &Facts)]) -> Option<Finding> {
    let mut values: BTreeMap<&str, BTreeMap<&str, Vec<&str>>> = BTreeMap::new();
    for (name, facts) in seen {
        for (key, value) in &facts.configuration {
            values.entry(key).or_default().entry(value).or_default().push(name);
        }
    }
    let differ: Vec<String> = values
        .iter()
        .filter(|(_, by_value)| by_value.len() > 1)
        .map(|(key, by_value)| {
            let each =
                by_value.iter().map(|(value, names)| format!("{value} on {}", names.join(", ")));
            format!("{key} is {}", each.collect::<Vec<_>>().join("; "))
        })
        .collect();
    if differ.is_empty() {
        return None;
    }
    let more = differ.len().saturating_sub(DRIFT_NAMED);
    let mut text = differ[..differ.len() - more].join(". ");
    if more > 0 {
        text.push_str(&format!(". And {more} more"));
    }
    Some(Finding::new(
        id::CONFIG_DRIFT,
        format!("instances have different configurations: {text}"),
        "give all instances the same file (what is one machine's own goes into its environment), and restart those that differ",
    ))
}

fn versions(live: &[Instance]) -> Option<Finding> {
    let mut by_version: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for one in live {
        by_version.entry(&one.info.version).or_default().push(&one.info.name);
    }
    if by_version.len() < 2 {
        return None;
    }
    let each: Vec<String> = by_version
        .iter()
        .map(|(version, names)| format!("{version}: {}", names.join(", ")))
        .collect();
    Some(Finding::new(
        id::VERSION_SPREAD,
        format!("instances of {} versions live ({})", by_version.len(), each.join("; ")),
        "fine while an upgrade is under way; finish it: until then nothing new is written in new formats",
    ))
}

/// Work that no live instance has the role for.
fn holders(live: &[Instance]) -> Vec<Finding> {
    if live.is_empty() {
        return vec![Finding::new(
            id::NO_HOLDER,
            "no instance lives",
            "start one: systemctl start muster",
        )];
    }
    let roles: BTreeSet<_> = live.iter().flat_map(|one| one.info.roles.iter()).collect();
    let missing = Job::ALL.into_iter().filter(|job| !roles.contains(&job.role()));
    let mut by_role: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for job in missing {
        by_role.entry(job.role().name().to_owned()).or_default().push(job.name());
    }
    let each = by_role.into_iter().map(|(role, jobs)| {
        Finding::new(
            id::NO_HOLDER,
            format!("no live instance has the role {role}, so nobody does: {}", jobs.join(", ")),
            format!("start an instance with the role {role}"),
        )
    });
    each.collect()
}

#[cfg(test)]
#[path = "instances_tests.rs"]
mod tests;
