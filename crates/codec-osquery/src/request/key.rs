//! Requests that hold a node key and little else: config, distributed read, YARA rules.

use std::borrow::Cow;

use serde::Deserialize;

use super::Error;
use crate::lenient::Text;

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyOnly<'a> {
    /// Empty when it stands in the header only.
    pub node_key: Cow<'a, str>,
    /// The etag of the configuration the agent has; `None` when it knows no etags, empty when it
    /// has none yet.
    pub etag: Option<Cow<'a, str>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Members<'a> {
    #[serde(borrow)]
    node_key: Text<'a>,
    #[serde(borrow)]
    etag: Option<Text<'a>>,
}

impl<'a> KeyOnly<'a> {
    /// Reads a body; allocates nothing for what agents really send.
    ///
    /// # Errors
    /// When it is not a JSON object.
    pub fn parse(body: &'a [u8]) -> Result<Self, Error> {
        match String::from_utf8_lossy(body) {
            Cow::Borrowed(text) => {
                let Members { node_key, etag } = serde_json::from_str(text)?;
                Ok(Self { node_key: node_key.0, etag: etag.map(|etag| etag.0) })
            }
            Cow::Owned(text) => {
                let Members { node_key, etag } = serde_json::from_str(&text)?;
                let owned = |text: Text<'_>| Cow::Owned(text.0.into_owned());
                Ok(Self { node_key: owned(node_key), etag: etag.map(owned) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_that_is_empty_is_not_one_that_is_missing() {
        let etag = |body: &'static str| KeyOnly::parse(body.as_bytes()).unwrap().etag;
        assert_eq!(etag(r#"{"node_key":"k"}"#), None);
        assert_eq!(etag(r#"{"node_key":"k","etag":""}"#).as_deref(), Some(""));
        assert_eq!(etag(r#"{"etag":"a","node_key":"k"}"#).as_deref(), Some("a"));
    }

    #[test]
    fn a_key_is_borrowed_and_bad_bytes_are_replaced() {
        let body = br#"{"node_key":"abc"}"#;
        assert!(matches!(KeyOnly::parse(body).unwrap().node_key, Cow::Borrowed("abc")));
        let body = b"{\"node_key\":\"a\xffc\"}";
        assert_eq!(KeyOnly::parse(body).unwrap().node_key, "a\u{fffd}c");
        assert!(KeyOnly::parse(b"").is_err());
        assert_eq!(KeyOnly::parse(b"{}").unwrap(), KeyOnly::default());
    }
}
