//! Session and API tokens: 32 random bytes under a prefix that scanners for leaked secrets find.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::RngCore as _;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

const PREFIX: &str = "mst_";
/// Characters shown in lists, so that a person recognises a token: the prefix and six more.
const SHOWN: usize = PREFIX.len() + 6;

/// A token in clear. Exists only between being made and being handed out.
#[derive(Clone, Debug)]
pub struct Token(SecretString);

impl Token {
    /// A new one from the system's randomness.
    #[must_use]
    pub fn generate() -> Self {
        let mut bytes = [0u8; 32];
        rand::rng().fill_bytes(&mut bytes);
        Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)).into())
    }

    /// The text to hand out, once.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// What is stored of it.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        hash(self.expose())
    }

    /// What lists show of it.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.expose()[..SHOWN]
    }
}

/// The stored form of a presented token; `None` when it cannot be one of ours. The tokens are 256
/// bits of randomness, so a plain hash is enough and look-up by it leaks nothing by its timing.
#[must_use]
pub fn presented(text: &str) -> Option<[u8; 32]> {
    let fits = text.starts_with(PREFIX) && text.len() == PREFIX.len() + 43;
    fits.then(|| hash(text))
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_presented_token_hashes_as_it_was_stored() {
        let token = Token::generate();
        assert_eq!(presented(token.expose()), Some(token.hash()));
        assert_eq!(presented("mst_short"), None);
        assert!(!format!("{token:?}").contains(&token.expose()[SHOWN..]));
    }
}
