//! Answers: always a JSON object, never empty, and with a member `error` only on purpose.

use bytes::Bytes;
use serde_json::{Map, Value, json};

/// What an idle agent is told when it asks for queries.
pub const NO_QUERIES: Bytes = Bytes::from_static(br#"{"queries":{}}"#);
/// Success without more.
pub const OK: Bytes = Bytes::from_static(b"{}");
/// The configuration is the one the agent has. Never sent to an agent whose etag is empty.
pub const CONFIG_UNCHANGED: Bytes = Bytes::from_static(br#"{"etag":"ok"}"#);
/// A carve's block is in.
pub const BLOCK_TAKEN: Bytes = Bytes::from_static(br#"{"success":true}"#);

/// Enrolled: the agent keeps the key and sends it from now on. A blank key would be a failure.
#[must_use]
pub fn enrolled(node_key: &str) -> Bytes {
    debug_assert!(!node_key.trim().is_empty(), "a node key is not blank");
    object(&json!({ "node_key": node_key }))
}

/// The key is known to be bad: the agent deletes it and enrols again. Never for trouble of ours.
#[must_use]
pub fn node_invalid(error: &str) -> Bytes {
    object(&json!({ "error": said(error), "node_invalid": true }))
}

/// Not now: the agent keeps what it has and comes again.
#[must_use]
pub fn error(error: &str) -> Bytes {
    object(&json!({ "error": said(error) }))
}

/// A session for a carve's blocks.
#[must_use]
pub fn carve_session(session_id: &str) -> Bytes {
    debug_assert!(!session_id.is_empty(), "an empty session fails the carve");
    object(&json!({ "session_id": session_id }))
}

/// A configuration document with its etag, for an agent that sent one. `document` must be a JSON
/// object without members `etag` and `error`; anything else is given back as it is.
#[must_use]
pub fn config_with_etag(document: &Bytes, etag: &str) -> Bytes {
    let Some(rest) = document.strip_prefix(b"{") else { return document.clone() };
    debug_assert!(!etag.is_empty() && etag != "ok", "`ok` is reserved");
    let comma = if rest.trim_ascii_start().starts_with(b"}") { "" } else { "," };
    let mut out = format!("{{\"etag\":{}{comma}", Value::from(etag)).into_bytes();
    out.extend_from_slice(rest);
    out.into()
}

/// Queries to run, as (name, SQL).
///
/// An empty name or text would make the agent skip everything after it, so such entries are left
/// out here. With `probes`, (name, SQL) whose rows decide whether the query of that name runs,
/// every other query gets one that is always true: agents before 5.8 skip queries without. For
/// `accelerate` seconds the agent asks every 5 seconds.
#[must_use]
pub fn read<'a>(
    queries: impl IntoIterator<Item = (&'a str, &'a str)>,
    probes: impl IntoIterator<Item = (&'a str, &'a str)>,
    accelerate: Option<u32>,
) -> Bytes {
    let whole = |(name, sql): &(&str, &str)| !name.is_empty() && !sql.trim().is_empty();
    let members = |all: &mut dyn Iterator<Item = (&'a str, &'a str)>| -> Map<String, Value> {
        all.filter(whole).map(|(name, sql)| (name.to_owned(), Value::from(sql))).collect()
    };
    let queries = members(&mut queries.into_iter());
    let mut probes = members(&mut probes.into_iter());
    let mut answer = Map::new();
    if !probes.is_empty() {
        probes.retain(|name, _| queries.contains_key(name));
        for name in queries.keys() {
            probes.entry(name.as_str()).or_insert_with(|| Value::from("SELECT 1"));
        }
        answer.insert("discovery".into(), probes.into());
    }
    answer.insert("queries".into(), queries.into());
    if let Some(seconds) = accelerate {
        answer.insert("accelerate".into(), seconds.into());
    }
    object(&Value::Object(answer))
}

fn object(value: &Value) -> Bytes {
    debug_assert!(value.is_object(), "agents take nothing else");
    value.to_string().into()
}

fn said(error: &str) -> &str {
    if error.is_empty() { "refused" } else { error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_query_has_a_probe_once_one_has() {
        let text = read(
            [("h1", "SELECT 1"), ("p2", "SELECT 2"), ("", "x"), ("h3", " ")],
            [("p2", "SELECT 3"), ("gone", "SELECT 4")],
            Some(60),
        );
        let text = std::str::from_utf8(&text).unwrap();
        assert_eq!(
            text,
            r#"{"discovery":{"p2":"SELECT 3","h1":"SELECT 1"},"queries":{"h1":"SELECT 1","p2":"SELECT 2"},"accelerate":60}"#
        );
        assert_eq!(read([], [], None), NO_QUERIES);
    }

    #[test]
    fn an_etag_is_put_into_any_object() {
        let with =
            |text: &'static str| config_with_etag(&Bytes::from_static(text.as_bytes()), "a1");
        assert_eq!(with(r#"{"schedule":{}}"#), r#"{"etag":"a1","schedule":{}}"#);
        assert_eq!(with("{ }"), r#"{"etag":"a1" }"#);
    }

    #[test]
    fn only_errors_have_a_member_error_and_node_invalid_is_a_boolean() {
        assert_eq!(error(""), r#"{"error":"refused"}"#);
        assert_eq!(node_invalid("unknown"), r#"{"error":"unknown","node_invalid":true}"#);
        assert_eq!(enrolled("k"), r#"{"node_key":"k"}"#);
        assert_eq!(carve_session("s"), r#"{"session_id":"s"}"#);
    }
}
