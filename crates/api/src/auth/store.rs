//! Users, their grants and their tokens in the catalog.

use muster_catalog::{Catalog, Error, Row, Tx, args, statements};
use muster_types::{OrgId, Role, ScopeSpec, Timestamp};

use super::principal::{Credential, Grant, Principal};
use super::token::Token;
use crate::problem::{Code, Problem};

/// Sessions one user may have; the oldest ends when there would be more.
const SESSIONS_MAX: i64 = 32;
/// Feed of users, roles and tokens. Taking it first puts changes to accounts one after another.
pub(crate) const FEED: &str = "access";
const NUMBER_USER: &str = "number/user";
const NUMBER_TOKEN: &str = "number/token";

statements! {
    FIND_CREDENTIAL = "
        SELECT t.no AS token_no, t.kind, t.role, t.expires_at, u.no AS user_no, u.org, u.name, u.must_change
        FROM api_token t
        JOIN user_account u ON u.no = t.user_no
        WHERE t.hash = $1
          AND t.revoked_at IS NULL
          AND (t.expires_at IS NULL OR t.expires_at > $2)
          AND u.disabled_at IS NULL";
    TOKEN_IS_LIVE = "
        SELECT t.no, u.must_change
        FROM api_token t
        JOIN user_account u ON u.no = t.user_no
        WHERE t.no = $1
          AND t.revoked_at IS NULL
          AND (t.expires_at IS NULL OR t.expires_at > $2)
          AND u.disabled_at IS NULL";
    GRANTS_OF = "SELECT role, scope FROM role_binding WHERE user_no = $1 ORDER BY role, scope";
    FIND_USER = "
        SELECT no, org, name, password_hash, must_change, created_at, disabled_at
        FROM user_account
        WHERE org = $1 AND name = $2";
    IS_ACTIVE = "
        SELECT no FROM user_account WHERE no = $2 AND org = $1 AND disabled_at IS NULL";
    small COUNT_USERS = "SELECT COUNT(*) AS n FROM user_account WHERE password_hash <> '!'";
    INSERT_USER = "
        INSERT INTO user_account
            (no, org, name, password_hash, must_change, created_at, disabled_at, change)
        VALUES ($1, $2, $3, $4, $5, $6, NULL, $7)";
    SET_PASSWORD = "
        UPDATE user_account SET password_hash = $2, must_change = $3, change = $4 WHERE no = $1";
    SET_DISABLED = "UPDATE user_account SET disabled_at = $2, change = $3 WHERE no = $1";
    DELETE_GRANTS = "DELETE FROM role_binding WHERE user_no = $1";
    INSERT_GRANT = "
        INSERT INTO role_binding (user_no, role, scope, granted_at, granted_by)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (user_no, role, scope) DO NOTHING";
    small COUNT_ADMINISTRATORS = "
        SELECT COUNT(DISTINCT u.no) AS n
        FROM role_binding b
        JOIN user_account u ON u.no = b.user_no
        WHERE u.org = $1 AND b.role = 'administrator' AND b.scope = '{}'
          AND u.disabled_at IS NULL AND u.password_hash <> '!'";
    INSERT_TOKEN = "
        INSERT INTO api_token
            (no, org, user_no, kind, name, hash, prefix, created_at, created_from, role, expires_at,
             revoked_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, NULL)";
    REVOKE_ALL = "
        UPDATE api_token SET revoked_at = $2 WHERE user_no = $1 AND revoked_at IS NULL";
    REVOKE_OTHER_SESSIONS = "
        UPDATE api_token SET revoked_at = $3
        WHERE user_no = $1 AND no <> $2 AND kind = 'session' AND revoked_at IS NULL";
    REVOKE_KIND = "
        UPDATE api_token SET revoked_at = $3
        WHERE user_no = $1 AND kind = $2 AND revoked_at IS NULL";
    DELETE_OLD_SESSIONS = "
        DELETE FROM api_token
        WHERE user_no = $1 AND kind = 'session'
          AND (expires_at < $2 OR revoked_at IS NOT NULL OR no <= COALESCE(
              (SELECT s.no FROM api_token s
               WHERE s.user_no = $1 AND s.kind = 'session'
               ORDER BY s.no DESC LIMIT 1 OFFSET $3), 0))";
}

/// One account.
#[derive(Clone, Debug)]
pub struct User {
    /// Dense number, never reused.
    pub no: i64,
    /// Organisation.
    pub org: OrgId,
    /// Name to sign in with.
    pub name: String,
    /// As stored.
    pub password_hash: String,
    /// Whether the password is for one use.
    pub must_change: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// Since when nobody may use it.
    pub disabled_at: Option<Timestamp>,
}

impl User {
    pub(crate) fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            no: row.get("no")?,
            org: row.get("org")?,
            name: row.get("name")?,
            password_hash: row.get("password_hash")?,
            must_change: row.get("must_change")?,
            created_at: row.get("created_at")?,
            disabled_at: row.get("disabled_at")?,
        })
    }
}

/// Who presents this token; `None` when it is unknown, ended or its user is disabled.
pub async fn authenticate(
    catalog: &Catalog,
    hash: [u8; 32],
    now: Timestamp,
) -> Result<Option<Principal>, Error> {
    let Some(row) = catalog.fetch_optional(&FIND_CREDENTIAL, args![hash, now]).await? else {
        return Ok(None);
    };
    let Some(credential) = Credential::from_word(&row.get::<String>("kind")?) else {
        return Ok(None);
    };
    let user_no = row.get("user_no")?;
    let mut grants = read_grants(&catalog.fetch_all(&GRANTS_OF, args![user_no]).await?)?;
    if let Some(word) = row.get::<Option<String>>("role")? {
        let ceiling = word.parse().map_err(Error::Other)?;
        for grant in &mut grants {
            grant.role = grant.role.min(ceiling);
        }
    }
    Ok(Some(Principal {
        user_no,
        org: row.get("org")?,
        name: row.get("name")?,
        token_no: row.get("token_no")?,
        credential,
        must_change: row.get("must_change")?,
        expires_at: row.get("expires_at")?,
        grants,
    }))
}

/// Whether a credential still holds, for streams that outlive the check at their start.
pub async fn is_live(catalog: &Catalog, token_no: i64, now: Timestamp) -> Result<bool, Error> {
    Ok(catalog.fetch_optional(&TOKEN_IS_LIVE, args![token_no, now]).await?.is_some())
}

/// Looks at a credential again, for changes that make another one with it. Behind [`FEED`] the answer holds until
/// the transaction ends.
///
/// # Errors
/// 401 when it has ended meanwhile, 403 when its user's password was reset.
pub(crate) async fn check_live(tx: &mut Tx, token_no: i64, now: Timestamp) -> Result<(), Problem> {
    let Some(row) = tx.fetch_optional(&TOKEN_IS_LIVE, args![token_no, now]).await? else {
        let detail = "this token has ended or was revoked meanwhile; sign in again";
        return Err(Problem::new(Code::SignInRequired, detail));
    };
    if row.get("must_change")? {
        let detail = "the password was reset meanwhile; set your own with POST /v1/password";
        return Err(Problem::new(Code::PasswordChangeRequired, detail));
    }
    Ok(())
}

/// Whether an account is not disabled and still has the password that was verified. Behind [`FEED`] the answer
/// holds until the transaction ends.
pub(crate) async fn is_unchanged(tx: &mut Tx, verified: &User) -> Result<bool, Error> {
    let now = find_user_in(tx, verified.org, &verified.name).await?;
    Ok(now.is_some_and(|now| {
        now.disabled_at.is_none() && now.password_hash == verified.password_hash
    }))
}

/// Whether an account is there and not disabled.
pub async fn is_active(catalog: &Catalog, org: OrgId, user_no: i64) -> Result<bool, Error> {
    Ok(catalog.fetch_optional(&IS_ACTIVE, args![org, user_no]).await?.is_some())
}

/// What was granted to a user.
pub async fn grants_of(catalog: &Catalog, user_no: i64) -> Result<Vec<Grant>, Error> {
    read_grants(&catalog.fetch_all(&GRANTS_OF, args![user_no]).await?)
}

fn read_grants(rows: &[Row]) -> Result<Vec<Grant>, Error> {
    let read = |row: &Row| {
        let role: Role = row.get::<String>("role")?.parse().map_err(Error::Other)?;
        let scope: ScopeSpec = serde_json::from_str(&row.get::<String>("scope")?)
            .map_err(|error| Error::Other(format!("a stored scope cannot be read: {error}")))?;
        Ok(Grant { role, scope })
    };
    rows.iter().map(read).collect()
}

/// The account of a name.
pub async fn find_user(catalog: &Catalog, org: OrgId, name: &str) -> Result<Option<User>, Error> {
    let row = catalog.fetch_optional(&FIND_USER, args![org, name]).await?;
    row.as_ref().map(User::from_row).transpose()
}

/// The account of a name, inside a transaction.
pub async fn find_user_in(tx: &mut Tx, org: OrgId, name: &str) -> Result<Option<User>, Error> {
    let row = tx.fetch_optional(&FIND_USER, args![org, name]).await?;
    row.as_ref().map(User::from_row).transpose()
}

/// Whether anybody can sign in at all.
pub async fn has_people(tx: &mut Tx) -> Result<bool, Error> {
    Ok(tx.fetch_one(&COUNT_USERS, args![]).await?.get::<i64>("n")? > 0)
}

/// A new account. `change` is the raised [`FEED`].
pub async fn insert_user(
    tx: &mut Tx,
    org: OrgId,
    name: &str,
    password_hash: &str,
    must_change: bool,
    now: Timestamp,
    change: i64,
) -> Result<i64, Error> {
    let no = tx.bump(NUMBER_USER).await?;
    tx.execute(&INSERT_USER, args![no, org, name, password_hash, must_change, now, change]).await?;
    Ok(no)
}

/// Sets a password; with `must_change` it is good for one sign-in.
pub async fn set_password(
    tx: &mut Tx,
    user_no: i64,
    hash: &str,
    must_change: bool,
    change: i64,
) -> Result<(), Error> {
    tx.execute(&SET_PASSWORD, args![user_no, hash, must_change, change]).await?;
    Ok(())
}

/// Disables (with the time) or enables an account.
pub async fn set_disabled(
    tx: &mut Tx,
    user_no: i64,
    at: Option<Timestamp>,
    change: i64,
) -> Result<(), Error> {
    tx.execute(&SET_DISABLED, args![user_no, at, change]).await?;
    Ok(())
}

/// Replaces what is granted to a user.
pub async fn set_grants(
    tx: &mut Tx,
    user_no: i64,
    grants: &[Grant],
    by: &str,
    now: Timestamp,
) -> Result<(), Error> {
    tx.execute(&DELETE_GRANTS, args![user_no]).await?;
    for grant in grants {
        let scope = serde_json::to_string(&grant.scope).unwrap_or_else(|_| "{}".to_owned());
        tx.execute(&INSERT_GRANT, args![user_no, grant.role.as_str(), scope, now, by]).await?;
    }
    Ok(())
}

/// How many people administer everything and can sign in.
pub async fn administrators(tx: &mut Tx, org: OrgId) -> Result<i64, Error> {
    tx.fetch_one(&COUNT_ADMINISTRATORS, args![org]).await?.get("n")
}

/// A credential to be stored.
#[derive(Clone, Debug)]
pub struct NewToken<'a> {
    /// Organisation.
    pub org: OrgId,
    /// Whose it is.
    pub user_no: i64,
    /// Of what kind.
    pub credential: Credential,
    /// A name for people.
    pub name: &'a str,
    /// From where it was asked for.
    pub from: &'a str,
    /// Lowers the user's roles.
    pub role: Option<Role>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

/// Stores a credential and returns its number.
pub async fn insert_token(
    tx: &mut Tx,
    new: &NewToken<'_>,
    token: &Token,
    now: Timestamp,
) -> Result<i64, Error> {
    let no = tx.bump(NUMBER_TOKEN).await?;
    if new.credential == Credential::Session {
        tx.execute(&DELETE_OLD_SESSIONS, args![new.user_no, now, SESSIONS_MAX - 1]).await?;
    }
    let role = new.role.map(Role::as_str);
    tx.execute(
        &INSERT_TOKEN,
        args![
            no,
            new.org,
            new.user_no,
            new.credential.as_str(),
            new.name,
            token.hash(),
            token.shown(),
            now,
            new.from,
            role,
            new.expires_at
        ],
    )
    .await?;
    Ok(no)
}

/// Ends all credentials of a user.
pub async fn revoke_all(tx: &mut Tx, user_no: i64, now: Timestamp) -> Result<u64, Error> {
    tx.execute(&REVOKE_ALL, args![user_no, now]).await
}

/// Ends the user's other sessions.
pub async fn revoke_other_sessions(
    tx: &mut Tx,
    user_no: i64,
    keep: i64,
    now: Timestamp,
) -> Result<u64, Error> {
    tx.execute(&REVOKE_OTHER_SESSIONS, args![user_no, keep, now]).await
}

/// Ends the user's credentials of one kind.
pub async fn revoke_kind(
    tx: &mut Tx,
    user_no: i64,
    kind: Credential,
    now: Timestamp,
) -> Result<u64, Error> {
    tx.execute(&REVOKE_KIND, args![user_no, kind.as_str(), now]).await
}
