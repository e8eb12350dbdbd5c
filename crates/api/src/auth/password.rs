//! Passwords: argon2id on a bounded blocking pool.

use std::sync::Arc;

use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use rand::Rng as _;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Semaphore;

use crate::problem::{Problem, Result};

/// Shortest password a person may choose.
pub const LENGTH_MIN: usize = 12;
/// Longest one we are willing to hash.
pub const LENGTH_MAX: usize = 1_024;
/// Log-ins that may wait for a hashing slot; more are told to come again.
const WAITING_MAX: usize = 64;
/// Stored for accounts that nobody may sign in to with a password.
pub const UNUSABLE: &str = "!";

/// Cost of a hash. The default is what OWASP asks for at least.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
}

impl Default for Cost {
    fn default() -> Self {
        Self { memory_kib: 19 * 1024, passes: 2 }
    }
}

/// Hashes and verifies, a few at a time so that log-ins cannot take all cores.
#[derive(Clone)]
pub struct Passwords {
    slots: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    cost: Cost,
    /// Verified against when the name is unknown, so that the answer takes as long.
    decoy: Arc<str>,
}

impl Passwords {
    /// `slots`: how many may be hashed at once.
    #[must_use]
    pub fn new(slots: usize, cost: Cost) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(slots.max(1))),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            cost,
            decoy: hash(&one_time(), cost).into(),
        }
    }

    /// The hash to store.
    ///
    /// # Errors
    /// [`Problem`] when too many wait already.
    pub async fn hash(&self, password: SecretString) -> Result<String> {
        let cost = self.cost;
        self.run(move || hash(&password, cost)).await
    }

    /// Whether the password fits. `stored` is `None` for a name nobody has.
    ///
    /// # Errors
    /// [`Problem`] when too many wait already.
    pub async fn verify(&self, password: SecretString, stored: Option<String>) -> Result<bool> {
        let usable = stored.filter(|stored| stored != UNUSABLE);
        let known = usable.is_some();
        let against = usable.unwrap_or_else(|| self.decoy.to_string());
        let fits = self.run(move || fits(&password, &against)).await?;
        Ok(known && fits)
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let busy =
            |_| Problem::unavailable("too many people sign in just now; try again in a moment", "");
        let _place = self.waiting.try_acquire().map_err(|_| busy(()))?;
        let slot = Arc::clone(&self.slots).acquire_owned().await.map_err(|_| busy(()))?;
        // The slot goes with the work: a dropped request does not free it early.
        tokio::task::spawn_blocking(move || {
            let done = work();
            drop(slot);
            done
        })
        .await
        .map_err(Problem::internal)
    }
}

fn engine(cost: Cost) -> Argon2<'static> {
    let params = Params::new(cost.memory_kib, cost.passes, 1, None).unwrap_or_default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

/// Hashes on the calling thread. For the start of the program; requests use [`Passwords`].
#[must_use]
pub fn hash(password: &SecretString, cost: Cost) -> String {
    let salt = SaltString::generate(&mut OsRng);
    engine(cost)
        .hash_password(password.expose_secret().as_bytes(), &salt)
        .map_or_else(|_| UNUSABLE.to_owned(), |hash| hash.to_string())
}

fn fits(password: &SecretString, stored: &str) -> bool {
    PasswordHash::new(stored).is_ok_and(|stored| {
        // The parameters are read from the stored hash, so old hashes stay good.
        Argon2::default().verify_password(password.expose_secret().as_bytes(), &stored).is_ok()
    })
}

/// A password to be used once: four groups of five letters, readable over the telephone.
#[must_use]
pub fn one_time() -> SecretString {
    const LETTERS: &[u8] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut rng = rand::rng();
    let mut text = String::with_capacity(23);
    for group in 0..4 {
        if group > 0 {
            text.push('-');
        }
        for _ in 0..5 {
            text.push(char::from(LETTERS[rng.random_range(0..LETTERS.len())]));
        }
    }
    text.into()
}

/// Checks what a person chose.
///
/// # Errors
/// [`Problem`] which says what to choose.
pub fn check_choice(password: &SecretString, name: &str) -> Result<()> {
    let text = password.expose_secret();
    if text.chars().count() < LENGTH_MIN {
        return Err(Problem::invalid(
            "/new_password",
            format!("the password is too short; take at least {LENGTH_MIN} characters"),
        ));
    }
    if text.len() > LENGTH_MAX {
        return Err(Problem::invalid(
            "/new_password",
            format!("the password is longer than {LENGTH_MAX} bytes"),
        ));
    }
    if text.to_lowercase().contains(&name.to_lowercase()) {
        return Err(Problem::invalid("/new_password", "the password contains your name"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Cost = Cost { memory_kib: 8, passes: 1 };

    #[tokio::test]
    async fn a_password_fits_its_own_hash_only() {
        let passwords = Passwords::new(1, CHEAP);
        let stored = passwords.hash("correct horse".to_owned().into()).await.unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=8,t=1,p=1$"));
        let verify = |text: &str, stored: Option<String>| {
            let passwords = passwords.clone();
            let text = SecretString::from(text);
            async move { passwords.verify(text, stored).await.unwrap() }
        };
        assert!(verify("correct horse", Some(stored.clone())).await);
        assert!(!verify("wrong", Some(stored)).await);
        assert!(!verify("", Some(UNUSABLE.to_owned())).await);
        assert!(!verify("correct horse", None).await);
    }

    #[test]
    fn one_time_passwords_differ_and_have_a_hundred_bits() {
        let (a, b) = (one_time(), one_time());
        assert_ne!(a.expose_secret(), b.expose_secret());
        assert_eq!(a.expose_secret().len(), 23);
        assert!(check_choice(&a, "admin").is_ok());
    }
}
