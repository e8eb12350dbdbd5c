//! Taking secrets out of what is shown: values of configuration, addresses, command lines.
//!
//! A value is judged by its name, never by how it looks: a secret may look like anything.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

/// What stands where a secret was.
pub const REDACTED: &str = "***";

/// Parts of names that hold secrets.
const SECRET_WORDS: [&str; 9] = [
    "secret",
    "password",
    "passwd",
    "passphrase",
    "token",
    "credential",
    "access_key",
    "private_key",
    "api_key",
];

/// `user:password@`, `user@` and `token@` in an address; also in the middle of a sentence.
static USER_INFO: LazyLock<Regex> = LazyLock::new(|| {
    // To the last `@` there is: a password may hold one, and hiding a host with it does no harm.
    Regex::new(r#"(?i)\b([a-z][a-z0-9+.-]*://)([^\s/@:,"]*)(:[^\s"]*)?@"#)
        .expect("it is well formed")
});

/// `?password=…`, `&token=…` and such like in an address, and `--secret=…` on a command line.
static ASSIGNED: LazyLock<Regex> = LazyLock::new(|| {
    let names = r"[a-z0-9_.-]*(?:secret|password|passwd|passphrase|token|credential|access_?key|api_?key|signature|sig)[a-z0-9_.-]*";
    Regex::new(&format!(r#"(?i)\b({names})=([^\s&"']+)"#)).expect("it is well formed")
});

/// Credentials of this program itself, wherever they appear.
static OWN: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"\bms[a-z]_[A-Za-z0-9_-]{8,}").expect("it is well formed"));

/// Whether a key of this name holds a secret. Keys that end in `_file` or `_dir` name where one is kept.
#[must_use]
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    let place = ["_file", "_dir", "_path", "_env"].iter().any(|end| name.ends_with(end));
    !place && SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// A document without the values of secret keys, and without credentials in addresses.
pub fn redact(value: &mut Value) {
    match value {
        Value::Object(object) => {
            for (name, value) in object.iter_mut() {
                if is_secret_name(name) && !value.is_null() && !value.is_boolean() {
                    *value = Value::String(REDACTED.to_owned());
                } else {
                    redact(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::String(text) => {
            // A key in the place of its file's name.
            if text.contains("-----BEGIN ") {
                *text = REDACTED.to_owned();
            } else {
                *text = redact_text(text);
            }
        }
        _ => {}
    }
}

/// A text without credentials in addresses, in assignments, or of this program.
#[must_use]
pub fn redact_text(text: &str) -> String {
    let text = USER_INFO.replace_all(text, |found: &regex::Captures<'_>| {
        let (scheme, password) = (&found[1], found.get(3).map_or("", |_| ":***"));
        // Without a password the name may be a token; PostgreSQL has none.
        let is_name = !password.is_empty() || scheme.to_ascii_lowercase().starts_with("postgres");
        let name = if is_name { &found[2] } else { REDACTED };
        format!("{scheme}{name}{password}@")
    });
    let text = ASSIGNED.replace_all(&text, "$1=***");
    OWN.replace_all(&text, REDACTED).into_owned()
}

/// A command line without secrets: also none that follow their flag.
#[must_use]
pub fn redact_arguments(arguments: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut secret_follows = false;
    let shown = arguments.into_iter().map(|argument| {
        let flag = argument.starts_with('-');
        if std::mem::replace(&mut secret_follows, false) && !flag {
            return REDACTED.to_owned();
        }
        secret_follows =
            flag && !argument.contains('=') && is_secret_name(argument.trim_start_matches('-'));
        redact_text(&argument)
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_decide() {
        for secret in ["password", "secret_access_key", "api-key", "enrolSecret", "bearer_token"] {
            assert!(is_secret_name(secret), "{secret}");
        }
        for plain in ["secret_key_file", "password_file", "key", "user", "certificate", "keyspace"]
        {
            assert!(!is_secret_name(plain), "{plain}");
        }
    }

    #[test]
    fn documents_lose_their_secrets() {
        let mut value = json!({
            "catalog": {"url": "postgres://muster:hunter2@db:5432/m?sslpassword=hunter3"},
            "stream": {"url": "nats://a:pw@h1:4222,nats://t0ken@h2:4222"},
            "archive": {"s3": {"secret_access_key": "hunter4", "secret_access_key_file": "/k"}},
            "tls": {"key": "-----BEGIN PRIVATE KEY-----\nhunter5"},
            "sinks": [{"token": "hunter6"}],
        });
        redact(&mut value);
        let text = value.to_string();
        for planted in ["hunter", "pw@", "t0ken"] {
            assert!(!text.contains(planted), "{text}");
        }
        assert_eq!(value["catalog"]["url"], "postgres://muster:***@db:5432/m?sslpassword=***");
        assert_eq!(value["archive"]["s3"]["secret_access_key_file"], "/k");
    }

    #[test]
    fn passwords_with_strange_characters_go_too() {
        for url in ["postgres://u:a/b@h/d", "nats://u:p:q@h", "https://u:p@w,x@h/x"] {
            let shown = redact_text(url);
            assert!(shown.contains("u:***@h"), "{shown}");
        }
        assert_eq!(redact_text("see https://h/x@y"), "see https://h/x@y");
    }

    #[test]
    fn command_lines_are_scrubbed() {
        let line = ["muster", "x", "--token", "mst_abcdefghijk", "--secret=hunter2", "--name", "n"];
        let shown = redact_arguments(line.map(str::to_owned)).join(" ");
        assert_eq!(shown, "muster x --token *** --secret=*** --name n");
    }
}
