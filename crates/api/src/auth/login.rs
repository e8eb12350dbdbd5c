//! `/login`, `/logout`, `/whoami`, `/password`: everybody's own account.

use axum::extract::{Extension, State};
use http::StatusCode;
use muster_types::{OrgId, Timestamp};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::allowance::{self, Whose};
use super::password::check_choice;
use super::principal::{Credential, Principal};
use super::store::{self, FEED, NewToken, User};
use super::token::Token;
use crate::audit::{self, Entry};
use crate::caller::Caller;
use crate::extract::Json;
use crate::gate::Anonymous;
use crate::grant::Grant;
use crate::problem::{Code, Problem, Result};
use crate::state::ApiState;
use crate::time::Time;
use crate::tokens;

/// Name and password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// Who.
    #[schema(example = "ana")]
    name: String,
    /// Their password.
    #[schema(value_type = String, format = Password)]
    password: SecretString,
}

/// A session.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// Send it as `Authorization: Bearer …`. Shown this once.
    pub token: String,
    /// When it ends.
    pub expires_at: Time,
    /// The password was for one sign-in: nothing but changing it is open.
    pub must_change: bool,
}

/// Signs in.
#[utoipa::path(post, path = "/login", operation_id = "login", tag = "account",
    request_body = Login, security(()), responses((status = OK, body = Session)))]
pub(crate) async fn login(
    State(state): State<ApiState>,
    Extension(from): Extension<Anonymous>,
    Json(body): Json<Login>,
) -> Result<axum::Json<Session>> {
    let now = state.clock.now();
    // What is looked up and recorded stays small and printable, whatever is sent.
    let name: String = body.name.chars().filter(|c| !c.is_control()).take(64).collect();
    state.throttle.take(&("address", &*from.address), now)?;
    state.throttle_names.take(&("name", &name), now)?;
    // The same over all instances; the two above only keep a flood of attempts off the catalog.
    let whose = [Whose::Address(&from.address), Whose::Name(&name)];
    allowance::take(&state, &whose).await?;
    let user = store::find_user(&state.catalog, OrgId::DEFAULT, &name).await?;
    let stored = user.as_ref().map(|user| user.password_hash.clone());
    let fits = state.passwords.verify(body.password, stored).await?;
    let user = user.filter(|user| fits && user.disabled_at.is_none());
    let session = match &user {
        Some(user) => open_session(&state, user, &from.address, now, &whose).await?,
        None => None,
    };
    let Some(session) = session else {
        refuse(&state, &name, &from.address, now).await?;
        // The same words for an unknown name, a wrong password and a disabled account.
        return Err(Problem::new(
            Code::SignInFailed,
            "name or password is wrong, or the account is disabled",
        ));
    };
    state.throttle.give_back(&("address", &*from.address));
    state.throttle_names.give_back(&("name", &name));
    Ok(axum::Json(session))
}

/// `None`: the account was disabled or has another password since it was looked up.
async fn open_session(
    state: &ApiState,
    user: &User,
    address: &str,
    now: Timestamp,
    whose: &[Whose<'_>],
) -> Result<Option<Session>> {
    let token = Token::generate();
    let expires_at = now.plus(state.options.session);
    let mut tx = state.begin().await?;
    tx.bump(FEED).await?;
    if !store::is_unchanged(&mut tx, user).await? {
        return Ok(None);
    }
    allowance::give_back(state, &mut tx, whose).await?;
    let new = NewToken {
        org: user.org,
        user_no: user.no,
        credential: Credential::Session,
        name: "session",
        from: address,
        role: None,
        expires_at: Some(expires_at),
    };
    let no = store::insert_token(&mut tx, &new, &token, now).await?;
    let entry = sign_in_entry(&user.name, address, "ok", &json!({"session": no}), now);
    audit::append(&mut tx, state.instance, entry).await?;
    tx.commit().await?;
    let token = token.expose().to_owned();
    Ok(Some(Session { token, expires_at: expires_at.into(), must_change: user.must_change }))
}

async fn refuse(state: &ApiState, name: &str, address: &str, now: Timestamp) -> Result<()> {
    let mut tx = state.begin().await?;
    let entry = sign_in_entry(name, address, "denied", &json!({}), now);
    audit::append(&mut tx, state.instance, entry).await?;
    tx.commit().await?;
    Ok(())
}

fn sign_in_entry(
    name: &str,
    address: &str,
    outcome: &str,
    details: &serde_json::Value,
    at: Timestamp,
) -> Entry {
    Entry {
        at,
        org: OrgId::DEFAULT,
        principal: name.to_owned(),
        address: address.to_owned(),
        operation: "login".into(),
        subject: format!("user/{name}"),
        outcome: outcome.into(),
        details: details.to_string(),
    }
}

/// Ends the session or token that is used for this request.
#[utoipa::path(post, path = "/logout", operation_id = "logout", tag = "account",
    responses((status = NO_CONTENT)))]
pub(crate) async fn logout(State(state): State<ApiState>, caller: Caller) -> Result<StatusCode> {
    let mut tx = state.begin().await?;
    tokens::revoke_in(&mut tx, caller.principal.token_no, caller.now()).await?;
    caller.record(&mut tx, format!("token/{}", caller.principal.token_no), json!({})).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The caller's own account.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct WhoAmI {
    /// Name.
    pub name: String,
    /// Organisation.
    pub org: u16,
    /// `session`, `token` or `local`.
    pub credential: String,
    /// Nothing but changing the password is open.
    pub must_change: bool,
    /// What may be done with which endpoints, already lowered to what the token allows.
    pub roles: Vec<Grant>,
}

impl From<&Principal> for WhoAmI {
    fn from(principal: &Principal) -> Self {
        Self {
            name: principal.name.clone(),
            org: principal.org.0,
            credential: principal.credential.as_str().to_owned(),
            must_change: principal.must_change,
            roles: principal.grants.iter().map(Grant::from).collect(),
        }
    }
}

/// Who the server takes you for.
#[utoipa::path(get, path = "/whoami", operation_id = "whoami", tag = "account",
    responses((status = OK, body = WhoAmI)))]
pub(crate) async fn whoami(caller: Caller) -> axum::Json<WhoAmI> {
    axum::Json(WhoAmI::from(&*caller.principal))
}

/// A new password for oneself.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordChange {
    /// The present one, or the one-time one.
    #[schema(value_type = String, format = Password)]
    current_password: SecretString,
    /// The new one, at least 12 characters.
    #[schema(value_type = String, format = Password)]
    new_password: SecretString,
}

/// Changes one's own password and ends one's other sessions.
#[utoipa::path(post, path = "/password", operation_id = "password.change", tag = "account",
    request_body = PasswordChange, responses((status = NO_CONTENT)))]
pub(crate) async fn change_password(
    State(state): State<ApiState>,
    caller: Caller,
    Json(body): Json<PasswordChange>,
) -> Result<StatusCode> {
    let (principal, now) = (&caller.principal, caller.now());
    if principal.credential != Credential::Session {
        let detail = "sign in with the password to change it; a token cannot";
        return Err(Problem::new(Code::Forbidden, detail));
    }
    check_choice(&body.new_password, &principal.name)?;
    state.throttle_names.take(&("name", &principal.name), now)?;
    let user = store::find_user(&state.catalog, principal.org, &principal.name).await?;
    let stored = user.as_ref().map(|user| user.password_hash.clone());
    let fits = state.passwords.verify(body.current_password, stored).await?;
    let Some(user) = user.filter(|_| fits) else { return Err(wrong_password()) };
    state.throttle_names.give_back(&("name", &principal.name));
    let hash = state.passwords.hash(body.new_password).await?;
    let mut tx = state.begin().await?;
    let change = tx.bump(FEED).await?;
    // A reset that came between stands.
    if !store::is_unchanged(&mut tx, &user).await? {
        return Err(wrong_password());
    }
    store::set_password(&mut tx, principal.user_no, &hash, false, change).await?;
    store::revoke_other_sessions(&mut tx, principal.user_no, principal.token_no, now).await?;
    caller.record(&mut tx, format!("user/{}", principal.name), json!({})).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

fn wrong_password() -> Problem {
    Problem::invalid("/current_password", "the current password is wrong")
}
