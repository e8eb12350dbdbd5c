//! Credentials as `nsc` makes them, against a real server whose accounts are tokens.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use muster_nats::{Options, connect};
use muster_testkit::{Nats, NatsOptions};
use nkeys::KeyPair;
use tokio::time::timeout;

/// A token as `nsc` makes it: claims of a subject, signed by whoever answers for it.
fn token(signer: &KeyPair, subject: &KeyPair, kind: &str, mut nats: serde_json::Value) -> String {
    nats["type"] = kind.into();
    nats["version"] = 2.into();
    let claims = serde_json::json!({
        "jti": subject.public_key(), "iat": 1_700_000_000, "name": kind,
        "iss": signer.public_key(), "sub": subject.public_key(), "nats": nats
    });
    let head = serde_json::json!({"typ": "JWT", "alg": "ed25519-nkey"});
    let signed = [head, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    let signature = signer.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// What is in a file of credentials.
fn credentials(token: &str, user: &KeyPair) -> String {
    format!(
        "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        user.seed().unwrap()
    )
}

#[tokio::test]
async fn a_file_of_credentials_is_who_one_is() {
    let _ = async_nats::rustls::crypto::aws_lc_rs::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (operator, system) = (KeyPair::new_operator(), KeyPair::new_account());
    let (account, user, stranger) =
        (KeyPair::new_account(), KeyPair::new_user(), KeyPair::new_user());
    let common = serde_json::json!({"limits": {
        "subs": -1, "data": -1, "payload": -1, "conn": -1, "leaf": -1, "imports": -1, "exports": -1,
        "wildcards": true
    }});
    let mut all = common.clone();
    for storage in ["mem_storage", "disk_storage", "streams", "consumer"] {
        all["limits"][storage] = (-1).into();
    }
    let may = serde_json::json!({"subs": -1, "data": -1, "payload": -1});
    let extra = format!(
        "operator: {}\nsystem_account: {system}\nresolver: MEMORY\nresolver_preload: {{\n\
         {system}: {}\n{account}: {}\n}}",
        token(&operator, &operator, "operator", serde_json::json!({})),
        token(&operator, &system, "account", common),
        token(&operator, &account, "account", all),
        system = system.public_key(),
        account = account.public_key(),
    );
    let nats = Nats::with(&NatsOptions { extra, ..NatsOptions::default() }).unwrap();
    let of_user = token(&account, &user, "user", may.clone());
    std::fs::write(at("muster.creds"), credentials(&of_user, &user)).unwrap();
    let mut options = Options::new(nats.url(), "test");
    options.credentials_file = Some(at("muster.creds"));
    let connection = connect(&options).await.unwrap();
    assert!(connection.round_trip("nobody".to_owned(), Duration::from_secs(5)).await);

    let refused = async |options: &Options| {
        let refused = timeout(Duration::from_secs(20), connect(options)).await;
        refused.unwrap().unwrap_err().to_string()
    };
    // A key that is not the one in the token, a token that another account signed, and none.
    std::fs::write(at("key.creds"), credentials(&of_user, &stranger)).unwrap();
    let by_another = token(&KeyPair::new_account(), &stranger, "user", may);
    std::fs::write(at("token.creds"), credentials(&by_another, &stranger)).unwrap();
    for wrong in ["key.creds", "token.creds"] {
        let error =
            refused(&Options { credentials_file: Some(at(wrong)), ..options.clone() }).await;
        assert!(error.to_lowercase().contains("authorization"), "{error}");
        assert!(!error.contains("SU"), "no seed in what is printed: {error}");
    }
    let error = refused(&Options { credentials_file: None, ..options.clone() }).await;
    assert!(error.to_lowercase().contains("authorization"), "{error}");
    std::fs::write(at("empty.creds"), "").unwrap();
    let error = refused(&Options { credentials_file: Some(at("empty.creds")), ..options }).await;
    assert!(error.contains("empty.creds"), "{error}");
}
