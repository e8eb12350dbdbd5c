//! Making a hunt.

use std::time::Duration;

use muster_artifact::table_name;
use muster_catalog::{Error, Tx, args};
use muster_endpoints::PreparedScope;
use muster_types::{HuntNo, OrgId, ScopeSpec, Timestamp};

use crate::{Definition, HuntError, HuntKind, HuntState, Limits};

muster_catalog::statements! {
    INSERT = "INSERT INTO hunt
            (no, org, kind, state, title, artifact, definition, table_name, scope, limits,
             caller_scope, requested_by, approved_by, reason, incident, hold_until, created_at,
             started_at, expires_at, ended_at, pause_reason, wave, recruited_total, recruit_from, epoch,
             deleted_at, change)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, NULL, $13, $14, NULL, $15, $16, $17,
             NULL, NULL, 0, 0, $18, 0, NULL, $19)";
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

/// Makes a hunt in the caller's transaction (which raises the feeds `hunt` and `number/hunt`). After
/// the commit call [`crate::Hunts::announce`].
///
/// # Errors
/// [`HuntError`] for what cannot be, or when the catalog fails.
pub async fn create(tx: &mut Tx, new: &NewHunt) -> Result<HuntNo, HuntError> {
    check(new)?;
    let change = tx.bump("hunt").await?;
    let number = tx.bump("number/hunt").await?;
    let no = HuntNo(number.unsigned_abs());
    let now = tx.now().await?;
    let state = if new.needs_approval { HuntState::AwaitingApproval } else { HuntState::Running };
    let table =
        if new.artifact.is_empty() { format!("hunt_{no}") } else { table_name(&new.artifact) };
    let args = args![
        no,
        new.org,
        new.kind.as_str(),
        state.as_str(),
        &new.title,
        &new.artifact,
        json(&new.definition)?,
        table,
        json(&new.scope)?,
        json(&new.limits)?,
        json(&new.caller_scope)?,
        &new.requested_by,
        &new.reason,
        new.incident.clone(),
        now,
        (state == HuntState::Running).then_some(now),
        now.plus(new.expires_in),
        first_token(now),
        change,
    ];
    tx.execute(&INSERT, args).await?;
    Ok(no)
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
