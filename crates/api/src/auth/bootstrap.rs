//! Accounts from beside the store: the first administrator, a locked-out one, and the user of `up`.

use muster_catalog::{Catalog, Error, Priority, Tx};
use muster_types::{OrgId, Role, ScopeSpec, Timestamp};
use secrecy::SecretString;

use super::password::{self, Cost, UNUSABLE};
use super::principal::{Credential, Grant};
use super::store::{self, FEED, NewToken};
use super::token::Token;
use crate::audit::{self, Entry};

/// Name of the first administrator.
pub const ADMINISTRATOR: &str = "admin";
/// Name of the account behind the context that `up` leaves. Nobody can sign in to it.
pub const LOCAL: &str = "local";

/// Why an account could not be made or reset.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The store did not do it.
    #[error(transparent)]
    Catalog(#[from] Error),
    /// Nobody has that name.
    #[error("there is no user {0:?}; `muster user list` shows who there is")]
    NoSuchUser(String),
    /// An administrator has switched the account off.
    #[error(
        "the account {LOCAL:?} is disabled, so no context is left; sign in with `muster login`"
    )]
    LocalDisabled,
}

/// Makes the first administrator, with a password for one use. `None` when there are people already.
///
/// # Errors
/// [`BootstrapError`] when the store does not do it.
pub async fn bootstrap_admin(
    catalog: &Catalog,
    now: Timestamp,
) -> Result<Option<SecretString>, BootstrapError> {
    let password = password::one_time();
    let hash = hash(&password).await;
    let mut tx = catalog.begin(Priority::Api).await?;
    let change = tx.bump(FEED).await?;
    if store::has_people(&mut tx).await? {
        return Ok(None);
    }
    let no = store::insert_user(&mut tx, OrgId::DEFAULT, ADMINISTRATOR, &hash, true, now, change)
        .await?;
    store::set_grants(&mut tx, no, &everything(), "muster", now).await?;
    record(&mut tx, "users.create", ADMINISTRATOR, now).await?;
    tx.commit().await?;
    Ok(Some(password))
}

/// Gives a user a new password for one use, ends their sessions and enables the account. Whoever can
/// run this beside the store may be anybody in it already.
///
/// # Errors
/// [`BootstrapError`].
pub async fn reset_user(
    catalog: &Catalog,
    name: &str,
    now: Timestamp,
) -> Result<SecretString, BootstrapError> {
    let password = password::one_time();
    let hash = hash(&password).await;
    let mut tx = catalog.begin(Priority::Api).await?;
    let change = tx.bump(FEED).await?;
    let Some(user) = store::find_user_in(&mut tx, OrgId::DEFAULT, name).await? else {
        return Err(BootstrapError::NoSuchUser(name.to_owned()));
    };
    store::set_password(&mut tx, user.no, &hash, true, change).await?;
    store::set_disabled(&mut tx, user.no, None, change).await?;
    store::revoke_all(&mut tx, user.no, now).await?;
    if user.name == ADMINISTRATOR {
        store::set_grants(&mut tx, user.no, &everything(), "muster", now).await?;
    }
    record(&mut tx, "users.reset", name, now).await?;
    tx.commit().await?;
    Ok(password)
}

/// A token for the context that `up` leaves to the user who started it. Earlier ones end.
///
/// # Errors
/// [`BootstrapError`].
pub async fn local_token(catalog: &Catalog, now: Timestamp) -> Result<Token, BootstrapError> {
    let mut tx = catalog.begin(Priority::Api).await?;
    let change = tx.bump(FEED).await?;
    let user_no = match store::find_user_in(&mut tx, OrgId::DEFAULT, LOCAL).await? {
        Some(user) if user.disabled_at.is_some() => return Err(BootstrapError::LocalDisabled),
        Some(user) => user.no,
        None => {
            let no =
                store::insert_user(&mut tx, OrgId::DEFAULT, LOCAL, UNUSABLE, false, now, change)
                    .await?;
            store::set_grants(&mut tx, no, &everything(), "muster", now).await?;
            no
        }
    };
    store::revoke_kind(&mut tx, user_no, Credential::Local, now).await?;
    let token = Token::generate();
    let new = NewToken {
        org: OrgId::DEFAULT,
        user_no,
        credential: Credential::Local,
        name: "muster up",
        from: "this machine",
        role: None,
        expires_at: None,
    };
    store::insert_token(&mut tx, &new, &token, now).await?;
    record(&mut tx, "tokens.create", LOCAL, now).await?;
    tx.commit().await?;
    Ok(token)
}

/// These changes come from beside the store, so they stand in a chain of their own.
async fn record(tx: &mut Tx, operation: &str, name: &str, at: Timestamp) -> Result<(), Error> {
    let entry = Entry {
        at,
        org: OrgId::DEFAULT,
        principal: "muster".to_owned(),
        address: "this machine".to_owned(),
        operation: operation.to_owned(),
        subject: format!("user/{name}"),
        outcome: "ok".to_owned(),
        details: "{}".to_owned(),
    };
    audit::append(tx, audit::OUTSIDE, entry).await?;
    Ok(())
}

fn everything() -> [Grant; 1] {
    [Grant { role: Role::Administrator, scope: ScopeSpec::all() }]
}

async fn hash(password: &SecretString) -> String {
    let password = password.clone();
    tokio::task::spawn_blocking(move || password::hash(&password, Cost::default()))
        .await
        .unwrap_or_else(|_| UNUSABLE.to_owned())
}
