//! `/users`.

use axum::extract::State;
use http::StatusCode;
use muster_catalog::{Tx, args, statements};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::auth::bootstrap::LOCAL;
use crate::auth::password;
use crate::auth::store::{self, FEED, User as Account};
use crate::caller::Caller;
use crate::extract::{Json, Path, Query};
use crate::grant::{self, Grant};
use crate::page::{Page, PageQuery};
use crate::problem::{Code, Problem, Result};
use crate::state::ApiState;
use crate::time::Time;

const NAME_MAX: usize = 64;

statements! {
    LIST = "
        SELECT no, org, name, password_hash, must_change, created_at, disabled_at
        FROM user_account
        WHERE org = $1 AND name > $2
        ORDER BY name
        LIMIT $3";
}

/// An account.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct User {
    /// Name to sign in with.
    pub name: String,
    /// What may be done with which endpoints.
    pub roles: Vec<Grant>,
    /// The password is for one sign-in.
    pub must_change: bool,
    /// When it was made.
    pub created_at: Time,
    /// Since when it cannot be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled_at: Option<Time>,
}

/// An account to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// Lower-case letters, digits, `.`, `_` and `-`; at most 64.
    #[schema(example = "ana")]
    name: String,
    /// What may be done with which endpoints.
    #[serde(default)]
    roles: Vec<Grant>,
}

/// A password for one sign-in.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct OneTimePassword {
    /// Whose it is.
    pub name: String,
    /// Shown this once; must be changed at the first sign-in.
    pub one_time_password: String,
}

async fn view(state: &ApiState, account: Account) -> Result<User> {
    let grants = store::grants_of(&state.catalog, account.no).await?;
    Ok(User {
        name: account.name,
        roles: grants.iter().map(Grant::from).collect(),
        must_change: account.must_change,
        created_at: account.created_at.into(),
        disabled_at: account.disabled_at.map(Time::from),
    })
}

/// Accounts, by name.
#[utoipa::path(get, path = "/users", operation_id = "users.list", tag = "users",
    params(PageQuery), responses((status = OK, body = Page<User>)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Query(page): Query<PageQuery>,
) -> Result<axum::Json<Page<User>>> {
    let limit = page.limit()?;
    let after = page.after.unwrap_or_default();
    let rows =
        state.catalog.fetch_all(&LIST, args![caller.principal.org, after, limit + 1]).await?;
    let mut users = Vec::with_capacity(rows.len());
    for row in &rows {
        users.push(view(&state, Account::from_row(row)?).await?);
    }
    Ok(axum::Json(Page::cut(users, limit, |user| user.name.clone())))
}

/// One account.
#[utoipa::path(get, path = "/users/{name}", operation_id = "users.get", tag = "users",
    params(("name" = String, Path)), responses((status = OK, body = User)))]
pub(crate) async fn get(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<axum::Json<User>> {
    let account = store::find_user(&state.catalog, caller.principal.org, &name).await?;
    let account = account.ok_or_else(|| missing(&name))?;
    Ok(axum::Json(view(&state, account).await?))
}

/// Makes an account with a password for one sign-in.
#[utoipa::path(post, path = "/users", operation_id = "users.create", tag = "users",
    request_body = NewUser, responses((status = CREATED, body = OneTimePassword)))]
pub(crate) async fn create(
    State(state): State<ApiState>,
    caller: Caller,
    Json(new): Json<NewUser>,
) -> Result<(StatusCode, axum::Json<OneTimePassword>)> {
    check_name(&new.name)?;
    let grants = grant::read(&new.roles)?;
    let password = password::one_time();
    let hash = state.passwords.hash(password.clone()).await?;
    let (org, now) = (caller.principal.org, caller.now());
    let mut tx = state.begin().await?;
    let change = tx.bump(FEED).await?;
    if store::find_user_in(&mut tx, org, &new.name).await?.is_some() {
        let detail = format!("there is a user {:?} already; reset or enable it", new.name);
        return Err(Problem::new(Code::Conflict, detail));
    }
    let no = store::insert_user(&mut tx, org, &new.name, &hash, true, now, change).await?;
    store::set_grants(&mut tx, no, &grants, &caller.principal.name, now).await?;
    caller.record(&mut tx, subject(&new.name), json!({"roles": new.roles})).await?;
    tx.commit().await?;
    let answer =
        OneTimePassword { name: new.name, one_time_password: password.expose_secret().into() };
    Ok((StatusCode::CREATED, axum::Json(answer)))
}

/// What may be done with which endpoints, replacing what was granted before.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRoles {
    /// The whole list.
    roles: Vec<Grant>,
}

/// Grants roles; replaces the earlier ones.
#[utoipa::path(put, path = "/users/{name}/roles", operation_id = "users.roles", tag = "users",
    params(("name" = String, Path)), request_body = NewRoles,
    responses((status = OK, body = User)))]
pub(crate) async fn set_roles(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
    Json(new): Json<NewRoles>,
) -> Result<axum::Json<User>> {
    let grants = grant::read(&new.roles)?;
    let mut tx = state.begin().await?;
    tx.bump(FEED).await?;
    let account = existing(&mut tx, &caller, &name).await?;
    let before = store::administrators(&mut tx, account.org).await?;
    store::set_grants(&mut tx, account.no, &grants, &caller.principal.name, caller.now()).await?;
    keep_an_administrator(&mut tx, &account, before).await?;
    caller.record(&mut tx, subject(&name), json!({"roles": new.roles})).await?;
    tx.commit().await?;
    Ok(axum::Json(view(&state, account).await?))
}

/// Ends all sessions and tokens of an account; nobody can use it any more.
#[utoipa::path(post, path = "/users/{name}/disable", operation_id = "users.disable", tag = "users",
    params(("name" = String, Path)), responses((status = NO_CONTENT)))]
pub(crate) async fn disable(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<StatusCode> {
    let now = caller.now();
    let mut tx = state.begin().await?;
    let change = tx.bump(FEED).await?;
    let account = existing(&mut tx, &caller, &name).await?;
    let before = store::administrators(&mut tx, account.org).await?;
    store::set_disabled(&mut tx, account.no, Some(now), change).await?;
    let ended = store::revoke_all(&mut tx, account.no, now).await?;
    keep_an_administrator(&mut tx, &account, before).await?;
    caller.record(&mut tx, subject(&name), json!({"ended_tokens": ended})).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lets an account be used again. Its earlier sessions and tokens stay ended.
#[utoipa::path(post, path = "/users/{name}/enable", operation_id = "users.enable", tag = "users",
    params(("name" = String, Path)), responses((status = NO_CONTENT)))]
pub(crate) async fn enable(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<StatusCode> {
    let mut tx = state.begin().await?;
    let change = tx.bump(FEED).await?;
    let account = existing(&mut tx, &caller, &name).await?;
    store::set_disabled(&mut tx, account.no, None, change).await?;
    caller.record(&mut tx, subject(&name), json!({})).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives an account a new password for one sign-in and ends its sessions and tokens.
#[utoipa::path(post, path = "/users/{name}/reset", operation_id = "users.reset", tag = "users",
    params(("name" = String, Path)), responses((status = OK, body = OneTimePassword)))]
pub(crate) async fn reset(
    State(state): State<ApiState>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<axum::Json<OneTimePassword>> {
    if name == LOCAL {
        let detail = "the account `local` has no password; its token is made by `muster up`";
        return Err(Problem::new(Code::Conflict, detail));
    }
    let password = password::one_time();
    let hash = state.passwords.hash(password.clone()).await?;
    let mut tx = state.begin().await?;
    let change = tx.bump(FEED).await?;
    let account = existing(&mut tx, &caller, &name).await?;
    store::set_password(&mut tx, account.no, &hash, true, change).await?;
    let ended = store::revoke_all(&mut tx, account.no, caller.now()).await?;
    caller.record(&mut tx, subject(&name), json!({"ended_tokens": ended})).await?;
    tx.commit().await?;
    let one_time_password = password.expose_secret().into();
    Ok(axum::Json(OneTimePassword { name, one_time_password }))
}

async fn existing(tx: &mut Tx, caller: &Caller, name: &str) -> Result<Account> {
    let account = store::find_user_in(tx, caller.principal.org, name).await?;
    account.ok_or_else(|| missing(name))
}

/// Changes to accounts stand one after another on the feed's row, so these counts hold.
async fn keep_an_administrator(tx: &mut Tx, account: &Account, before: i64) -> Result<()> {
    if before == 0 || store::administrators(tx, account.org).await? > 0 {
        return Ok(());
    }
    let detail = "nobody would be left who administers everything; appoint somebody else first";
    Err(Problem::new(Code::Conflict, detail))
}

fn missing(name: &str) -> Problem {
    Problem::not_found(format_args!("user {name:?}"))
}

fn subject(name: &str) -> String {
    format!("user/{name}")
}

fn check_name(name: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    if (1..=NAME_MAX).contains(&name.len()) && name.chars().all(fits) {
        return Ok(());
    }
    let detail = "take 1 to 64 lower-case letters, digits, `.`, `_` or `-`";
    Err(Problem::invalid("/name", detail))
}
