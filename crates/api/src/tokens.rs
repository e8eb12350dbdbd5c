//! `/tokens`: credentials for programs.

use axum::extract::State;
use http::StatusCode;
use muster_catalog::{Row, Tx, args, statements};
use muster_types::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::Duration;
use utoipa::{IntoParams, ToSchema};

use crate::auth::principal::Credential;
use crate::auth::store::{self, NewToken as Stored};
use crate::auth::token::Token as Secret;
use crate::caller::Caller;
use crate::extract::{Json, Path, Query};
use crate::grant;
use crate::page::{self, Page};
use crate::problem::{Code, Problem, Result};
use crate::state::ApiState;
use crate::time::Time;
use muster_types::Role;

/// Live API tokens one user may have.
const TOKENS_MAX: i64 = 100;
const NAME_MAX: usize = 100;

statements! {
    LIST_OWN = "
        SELECT t.no, u.name AS user_name, t.kind, t.name, t.prefix, t.role, t.created_at,
               t.created_from, t.expires_at, t.revoked_at
        FROM api_token t
        JOIN user_account u ON u.no = t.user_no
        WHERE t.user_no = $1 AND t.no > $2
        ORDER BY t.no
        LIMIT $3";
    LIST_ALL = "
        SELECT t.no, u.name AS user_name, t.kind, t.name, t.prefix, t.role, t.created_at,
               t.created_from, t.expires_at, t.revoked_at
        FROM api_token t
        JOIN user_account u ON u.no = t.user_no
        WHERE t.no > $2 AND t.org = $1
        ORDER BY t.no
        LIMIT $3";
    FIND = "SELECT user_no, revoked_at FROM api_token WHERE no = $1 AND org = $2";
    REVOKE = "UPDATE api_token SET revoked_at = $2 WHERE no = $1 AND revoked_at IS NULL";
    COUNT_LIVE = "
        SELECT COUNT(*) AS n FROM api_token
        WHERE user_no = $1 AND kind = 'token' AND revoked_at IS NULL";
}

/// A credential, without its secret.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// Its number.
    pub no: i64,
    /// Whose it is.
    pub user: String,
    /// `token`, `session` or `local`.
    pub kind: String,
    /// A name for people.
    pub name: String,
    /// How it begins.
    pub prefix: String,
    /// Lowers its user's roles to this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// When it was made.
    pub created_at: Time,
    /// From where.
    pub created_from: String,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// When it was ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Time>,
}

impl Token {
    fn from_row(row: &Row) -> Result<Self> {
        Ok(Self {
            no: row.get("no")?,
            user: row.get("user_name")?,
            kind: row.get("kind")?,
            name: row.get("name")?,
            prefix: row.get("prefix")?,
            role: row.get("role")?,
            created_at: row.get::<Timestamp>("created_at")?.into(),
            created_from: row.get("created_from")?,
            expires_at: row.get::<Option<Timestamp>>("expires_at")?.map(Time::from),
            revoked_at: row.get::<Option<Timestamp>>("revoked_at")?.map(Time::from),
        })
    }
}

/// Which tokens.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TokenQuery {
    /// Everybody's; administrators only.
    #[serde(default)]
    all: bool,
    /// At most this many items, 1 to 1000.
    limit: Option<u32>,
    /// `next` of the page before.
    after: Option<String>,
}

/// One's own tokens and sessions, or everybody's.
#[utoipa::path(get, path = "/tokens", operation_id = "tokens.list", tag = "tokens",
    params(TokenQuery), responses((status = OK, body = Page<Token>)))]
pub(crate) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<TokenQuery>,
) -> Result<axum::Json<Page<Token>>> {
    let limit = page::limit(query.limit)?;
    let after = page::after_number(query.after.as_deref(), 0)?;
    let principal = &caller.principal;
    if query.all && !principal.holds_everywhere(Role::Administrator) {
        let detail = "only an administrator of everything sees other people's tokens";
        return Err(Problem::new(Code::Forbidden, detail));
    }
    let rows = match query.all {
        true => state.catalog.fetch_all(&LIST_ALL, args![principal.org, after, limit + 1]).await?,
        false => {
            state.catalog.fetch_all(&LIST_OWN, args![principal.user_no, after, limit + 1]).await?
        }
    };
    let tokens = rows.iter().map(Token::from_row).collect::<Result<Vec<_>>>()?;
    Ok(axum::Json(Page::cut(tokens, limit, |token| token.no.to_string())))
}

/// A token to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// What it is for.
    #[schema(example = "nightly export")]
    name: String,
    /// At most this role, on what its user may see.
    role: Option<String>,
    /// Ends by itself after so many seconds.
    expires_in_seconds: Option<u64>,
}

/// A token, with its secret.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CreatedToken {
    /// Its number, to revoke it by.
    pub no: i64,
    /// Send it as `Authorization: Bearer …`. Shown this once.
    pub token: String,
}

/// Makes a token for a program that acts for the caller.
#[utoipa::path(post, path = "/tokens", operation_id = "tokens.create", tag = "tokens",
    request_body = NewToken, responses((status = CREATED, body = CreatedToken)))]
pub(crate) async fn create(
    State(state): State<ApiState>,
    caller: Caller,
    Json(new): Json<NewToken>,
) -> Result<(StatusCode, axum::Json<CreatedToken>)> {
    let (principal, now) = (&caller.principal, caller.now());
    if new.name.is_empty() || new.name.chars().count() > NAME_MAX {
        return Err(Problem::invalid("/name", "say in 1 to 100 characters what it is for"));
    }
    let asked = new.role.as_deref().map(|word| grant::role("/role", word)).transpose()?;
    // A token made with a lowered token stays as low.
    let role = match (asked, principal.highest()) {
        (Some(asked), Some(highest)) => Some(asked.min(highest)),
        (None, highest) if principal.credential == Credential::Token => highest,
        (asked, _) => asked,
    };
    let expires_at = new.expires_in_seconds.map(|s| now.plus(Duration::from_secs(s)));
    // Nor does a token outlive the one it was made with.
    let expires_at = match (principal.credential, principal.expires_at) {
        (Credential::Token, Some(own)) => Some(expires_at.map_or(own, |at| at.min(own))),
        _ => expires_at,
    };
    let token = Secret::generate();
    let mut tx = state.begin().await?;
    tx.bump(store::FEED).await?;
    // A reset that came between ended what this one is made with, and would not see it.
    store::check_live(&mut tx, principal.token_no, now).await?;
    let live = tx.fetch_one(&COUNT_LIVE, args![principal.user_no]).await?;
    if live.get::<i64>("n")? >= TOKENS_MAX {
        let detail = format!("you have {TOKENS_MAX} tokens; revoke some that are not used");
        return Err(Problem::new(Code::Conflict, detail));
    }
    let stored = Stored {
        org: principal.org,
        user_no: principal.user_no,
        credential: Credential::Token,
        name: &new.name,
        from: &caller.address,
        role,
        expires_at,
    };
    let no = store::insert_token(&mut tx, &stored, &token, now).await?;
    let details = json!({"name": new.name, "role": role.map(Role::as_str)});
    caller.record(&mut tx, format!("token/{no}"), details).await?;
    tx.commit().await?;
    let answer = CreatedToken { no, token: token.expose().to_owned() };
    Ok((StatusCode::CREATED, axum::Json(answer)))
}

/// Ends a token or session. Others' only by an administrator.
#[utoipa::path(delete, path = "/tokens/{no}", operation_id = "tokens.revoke", tag = "tokens",
    params(("no" = i64, Path)), responses((status = NO_CONTENT)))]
pub(crate) async fn revoke(
    State(state): State<ApiState>,
    caller: Caller,
    Path(no): Path<i64>,
) -> Result<StatusCode> {
    let principal = &caller.principal;
    let mut tx = state.begin().await?;
    let missing = || Problem::not_found(format_args!("token {no}"));
    let row = tx.fetch_optional(&FIND, args![no, principal.org]).await?.ok_or_else(missing)?;
    let own = row.get::<i64>("user_no")? == principal.user_no;
    if !own && !principal.holds_everywhere(Role::Administrator) {
        return Err(missing().denied());
    }
    revoke_in(&mut tx, no, caller.now()).await?;
    caller.record(&mut tx, format!("token/{no}"), json!({})).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends a credential.
pub(crate) async fn revoke_in(tx: &mut Tx, no: i64, now: Timestamp) -> Result<()> {
    tx.execute(&REVOKE, args![no, now]).await?;
    Ok(())
}
