//! Making a hunt.

use std::time::Duration;

use muster_artifact::table_name;
use muster_catalog::{Error, Tx, args};
use muster_endpoints::PreparedScope;
use muster_types::{AgentSet, HuntNo, OrgId, ScopeSpec, Timestamp};

use crate::news::{Change, News, Wave};
use crate::rows::{HuntRow, INSERT_WAVE};
use crate::{Definition, HuntError, HuntKind, HuntState, Limits};

muster_catalog::statements! {
    INSERT = "INSERT INTO hunt
            (no, org, kind, state, title, artifact, definition, table_name, scope, limits,
             caller_scope, requested_by, approved_by, reason, incident, hold_until, created_at,
             started_at, expires_at, ended_at, pause_reason, wave, recruited_total, recruit_from, epoch,
             deleted_at, change)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, NULL, $13, $14, NULL, $15, $16, $17,
             NULL, NULL, $20, $21, $18, 0, NULL, $19)";
}

/// The longest life of a hunt.
pub const LIFE_MAX: Duration = Duration::from_secs(366 * 24 * 3_600);

/// A hunt, live query or collection to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct NewHunt {
    /// Whose.
    pub org: OrgId,
    /// Its kind.
    pub kind: HuntKind,
    /// A few words for lists.
    pub title: String,
    /// The artifact's name; empty for an ad-hoc query.
    pub artifact: String,
    /// What is collected.
    pub definition: Definition,
    /// Which endpoints.
    pub scope: ScopeSpec,
    /// What the asker may act on; [`ScopeSpec::all`] for everything, none for nothing.
    pub caller_scope: Vec<ScopeSpec>,
    /// How fast, and when it stops itself.
    pub limits: Limits,
    /// Who asks.
    pub requested_by: String,
    /// Why.
    pub reason: String,
    /// The incident it belongs to.
    pub incident: Option<String>,
    /// How long it lives.
    pub expires_in: Duration,
    /// Whether a second person has to agree before it runs.
    pub needs_approval: bool,
}

/// A hunt that was made, when its transaction commits.
#[derive(Clone, Debug)]
pub struct Created {
    /// Its number.
    pub no: HuntNo,
    /// What to [`tell`](crate::Hunts::tell) after the commit.
    pub news: News,
}

/// Makes a hunt in the caller's transaction (which raises the feeds `hunt`, `number/hunt` and, with a
/// first wave, `wave`). `first` are the agents recruited with it; see [`crate::Hunts::first_wave`].
/// After the commit call [`crate::Hunts::tell`].
///
/// # Errors
/// [`HuntError`] for what cannot be, or when the catalog fails.
pub async fn create(tx: &mut Tx, new: &NewHunt, first: &AgentSet) -> Result<Created, HuntError> {
    check(new)?;
    let change = tx.bump("hunt").await?;
    let number = tx.bump("number/hunt").await?;
    let no = HuntNo(number.unsigned_abs());
    let now = tx.now().await?;
    let state = if new.needs_approval { HuntState::AwaitingApproval } else { HuntState::Running };
    let table_name =
        if new.artifact.is_empty() { format!("hunt_{no}") } else { table_name(&new.artifact) };
    let row = HuntRow {
        no,
        org: new.org,
        kind: new.kind.to_string(),
        state: state.to_string(),
        title: new.title.clone(),
        artifact: new.artifact.clone(),
        definition: json(&new.definition)?,
        table_name,
        scope: json(&new.scope)?,
        limits: json(&new.limits)?,
        caller_scope: json(&new.caller_scope)?,
        requested_by: new.requested_by.clone(),
        approved_by: None,
        reason: new.reason.clone(),
        incident: new.incident.clone(),
        hold_until: None,
        created_at: now,
        started_at: (state == HuntState::Running).then_some(now),
        expires_at: now.plus(new.expires_in),
        ended_at: None,
        pause_reason: None,
        deleted_at: None,
        change,
    };
    let args = args![
        row.no,
        row.org,
        &row.kind,
        &row.state,
        &row.title,
        &row.artifact,
        &row.definition,
        &row.table_name,
        &row.scope,
        &row.limits,
        &row.caller_scope,
        &row.requested_by,
        &row.reason,
        row.incident.clone(),
        row.created_at,
        row.started_at,
        row.expires_at,
        first_token(now),
        row.change,
        u64::from(!first.is_empty()),
        first.len(),
    ];
    tx.execute(&INSERT, args).await?;
    let mut changes = vec![Change::Hunt(Box::new(row))];
    if !first.is_empty() {
        let seq = tx.bump("wave").await?;
        let args = args![no, 1_u64, first.to_bytes(), first.len(), now, seq];
        tx.execute(&INSERT_WAVE, args).await?;
        let agents = first.clone();
        changes.push(Change::Wave(Wave { seq, hunt: no, wave: 1, committed_at: now, agents }));
    }
    Ok(Created { no, news: News(changes) })
}

/// The bucket starts with one second's worth of tokens, so that the first wave is not empty.
pub(crate) fn first_token(now: Timestamp) -> Timestamp {
    now.minus(Duration::from_secs(1))
}

fn check(new: &NewHunt) -> Result<(), HuntError> {
    new.limits.validate()?;
    for scope in new.caller_scope.iter().chain([&new.scope]) {
        PreparedScope::new(scope)?;
    }
    if new.definition.sources.is_empty() {
        return Err(HuntError::Invalid("it has no source for any kind of agent".to_owned()));
    }
    if new.expires_in.is_zero() || new.expires_in > LIFE_MAX {
        let days = LIFE_MAX.as_secs() / 86_400;
        return Err(HuntError::Invalid(format!(
            "its life must be above 0 and at most {days} days"
        )));
    }
    let texts = [("title", &new.title, 512), ("reason", &new.reason, 4_096)];
    for (name, text, max) in texts {
        if text.len() > max {
            return Err(HuntError::Invalid(format!("its {name} is longer than {max} bytes")));
        }
    }
    Ok(())
}

pub(crate) fn json<T: serde::Serialize>(value: &T) -> Result<String, Error> {
    serde_json::to_string(value)
        .map_err(|error| Error::Other(format!("cannot write JSON: {error}")))
}
