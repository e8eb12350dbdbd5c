//! Attempts to sign in, counted once for all instances: in the catalog.
//!
//! Signing in asks the catalog anyway, so counting there costs little and is exact: with any number of
//! instances nobody has more attempts than with one. Names and addresses fall into numbered slots by a
//! keyed hash, so the table is of constant size and says nothing about who tried.

use muster_catalog::{Tx, args, statements};
use muster_cluster::secrets;
use muster_types::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio::sync::OnceCell;

use super::throttle::{Allowance, OVERTAKEN, micros, too_many};
use crate::problem::{Problem, Result};
use crate::state::ApiState;

/// Slots per kind of key; two keys that fall together merely share an allowance.
const SLOTS: u64 = 8_192;

statements! {
    TAKE = "
        INSERT INTO sign_in_allowance (slot, used_until)
        VALUES ($1, CAST($2 AS BIGINT) + CAST($3 AS BIGINT))
        ON CONFLICT (slot) DO UPDATE SET used_until = $3 +
            CASE WHEN sign_in_allowance.used_until > $2 AND sign_in_allowance.used_until <= $5
            THEN sign_in_allowance.used_until ELSE $2 END
        WHERE sign_in_allowance.used_until + $3 - $2 <= $4 OR sign_in_allowance.used_until <= $2
           OR sign_in_allowance.used_until > $5
        RETURNING used_until";
    USED = "
        SELECT used_until
        FROM sign_in_allowance
        WHERE slot = $1";
    GIVE_BACK = "
        UPDATE sign_in_allowance SET used_until = used_until - $2
        WHERE slot = $1";
}

/// Whose attempts are counted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Whose<'a> {
    /// Of an address.
    Address(&'a str),
    /// On a name; more generous, or anybody could keep everybody else from signing in as `admin`.
    Name(&'a str),
}

/// The key of the slots, read once.
#[derive(Default)]
pub(crate) struct Slots(OnceCell<Vec<u8>>);

impl Whose<'_> {
    fn allowance(self, login: Allowance) -> Allowance {
        match self {
            Self::Address(_) => login,
            Self::Name(_) => login.generous(),
        }
    }

    fn slot(self, key: &[u8]) -> i64 {
        let (kind, text) = match self {
            Self::Address(text) => (0, text),
            Self::Name(text) => (1, text),
        };
        let hash =
            Sha256::new().chain_update(key).chain_update([kind]).chain_update(text).finalize();
        let number = u64::from_be_bytes(std::array::from_fn(|at| hash[at])) % SLOTS;
        i64::try_from(u64::from(kind) * SLOTS + number).unwrap_or(0)
    }
}

/// Takes one attempt of each, for all instances, by the database's clock.
///
/// # Errors
/// 429 with the time to wait, or the catalog's.
pub(crate) async fn take(state: &ApiState, whose: &[Whose<'_>]) -> Result<()> {
    let key = key(state).await?;
    let mut tx = state.begin().await?;
    let now = tx.now().await?;
    // In one order, or two that try at once wait for each other.
    let mut slots: Vec<_> = whose.iter().map(|who| (who.slot(key), *who)).collect();
    slots.sort_unstable_by_key(|(slot, _)| *slot);
    for (slot, who) in slots {
        let Allowance { burst, every } = who.allowance(state.options.login);
        let (every, most) = (micros(every), micros(every) * i64::from(burst));
        // Further ahead only a clock that was set forward has counted.
        let ahead = now.0.saturating_add(most).saturating_add(micros(OVERTAKEN));
        if tx.fetch_optional(&TAKE, args![slot, now, every, most, ahead]).await?.is_none() {
            let used = tx.fetch_optional(&USED, args![slot]).await?;
            let used = used.map_or(Ok(now), |row| row.get::<Timestamp>("used_until"))?;
            return Err(too_many(used.0 + every - now.0 - most));
        }
    }
    Ok(tx.commit().await?)
}

/// Gives the attempts back, because they were good ones, in the transaction that says so.
pub(crate) async fn give_back(state: &ApiState, tx: &mut Tx, whose: &[Whose<'_>]) -> Result<()> {
    let key = key(state).await?;
    let mut slots: Vec<_> = whose.iter().map(|who| (who.slot(key), *who)).collect();
    slots.sort_unstable_by_key(|(slot, _)| *slot);
    for (slot, who) in slots {
        let every = micros(who.allowance(state.options.login).every);
        tx.execute(&GIVE_BACK, args![slot, every]).await?;
    }
    Ok(())
}

async fn key(state: &ApiState) -> Result<&[u8]> {
    let read = || async {
        let made = || rand::random::<[u8; 32]>().to_vec();
        secrets::get_or_create(&state.catalog, &state.secret_key, "api/sign-in/1", made)
            .await
            .map_err(|error| Problem::internal(error.to_string()))
    };
    state.sign_in_slots.0.get_or_try_init(read).await.map(Vec::as_slice)
}
