//! What an agent makes of an answer. It looks at the body and at nothing else.

use serde::{Deserialize, Deserializer};

/// How a request went, by the agent's own rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// A body that is an object without `error`, or empty: success.
    Success {
        /// Nothing came: success all the same, and that is how data is lost.
        empty: bool,
    },
    /// The node key is no good: thrown away.
    NodeInvalid,
    /// An object with `error`, whatever it says.
    Error(String),
    /// Not JSON.
    Unreadable,
}

#[derive(Deserialize)]
struct Seen {
    #[serde(default)]
    node_invalid: serde_json::Value,
    #[serde(default, deserialize_with = "present")]
    error: Option<serde_json::Value>,
}

/// A key that is there, even with `null`.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<serde_json::Value>, D::Error> {
    serde_json::Value::deserialize(from).map(Some)
}

impl Fate {
    /// Of a body.
    pub(super) fn of(body: &[u8]) -> Self {
        if body.is_empty() {
            return Self::Success { empty: true };
        }
        if body == b"{}" || body == b"{\"queries\":{}}" {
            return Self::Success { empty: false };
        }
        // A struct would be read from a list too.
        if body.trim_ascii_start().first() != Some(&b'{') {
            return Self::Unreadable;
        }
        match serde_json::from_slice::<Seen>(body) {
            Err(_) => Self::Unreadable,
            Ok(seen) if seen.node_invalid == serde_json::Value::Bool(true) => Self::NodeInvalid,
            Ok(Seen { error: Some(error), .. }) => Self::Error(error.to_string()),
            Ok(_) => Self::Success { empty: false },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_agents_read_them() {
        assert_eq!(Fate::of(b""), Fate::Success { empty: true });
        assert_eq!(Fate::of(b"{\"node_invalid\":false}"), Fate::Success { empty: false });
        assert_eq!(Fate::of(b"{\"node_invalid\":true,\"error\":1}"), Fate::NodeInvalid);
        // Only the boolean counts.
        assert_eq!(Fate::of(b"{\"node_invalid\":\"true\"}"), Fate::Success { empty: false });
        assert_eq!(Fate::of(b"{\"error\":\"later\"}"), Fate::Error("\"later\"".to_owned()));
        assert_eq!(Fate::of(b"{\"error\":null}"), Fate::Error("null".to_owned()));
        assert_eq!(Fate::of(b"<html>"), Fate::Unreadable);
        assert_eq!(Fate::of(b"[]"), Fate::Unreadable);
    }
}
