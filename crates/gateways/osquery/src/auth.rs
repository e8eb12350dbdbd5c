//! Who sends a request: the node key in its header or, before osquery 5.23, at the end of its body.

use muster_endpoints::node_key::Node;
use muster_gateway::AgentRef;
use muster_types::{AgentKind, Timestamp};

use crate::Osquery;
use crate::refusal::Refusal;

/// The scheme agents since 5.23 send their key under.
const SCHEME: &str = "NodeKey ";
/// Longer texts are no keys of ours.
const KEY_MAX: usize = 512;

/// The key in a request's header. Other schemes are a proxy's business.
pub(crate) fn header_key(authorization: Option<&str>) -> Option<&str> {
    let (scheme, key) = authorization?.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| key.trim()).filter(|key| !key.is_empty())
}

/// The last `node_key` in a body that cannot be read as a whole: agents send it last.
pub(crate) fn last_key(body: &[u8]) -> Option<String> {
    const NAME: &[u8] = b"\"node_key\"";
    let at = body.windows(NAME.len()).rposition(|window| window == NAME)? + NAME.len();
    let rest = body.get(at..)?;
    let rest = rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    let rest = rest.strip_prefix(b"\"")?;
    let end = rest.iter().take(KEY_MAX).position(|byte| *byte == b'"')?;
    String::from_utf8(rest[..end].to_vec()).ok()
}

/// An agent that proved who it is.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// What its key says, and what is known of it.
    pub node: Node,
}

impl Caller {
    /// For intake and delivery.
    pub(crate) fn agent(&self) -> AgentRef {
        AgentRef { org: self.node.org, no: self.node.agent, kind: AgentKind::Osquery }
    }
}

impl Osquery {
    /// Judges a request's key and marks its agent as present. Memory only.
    pub(crate) fn authenticate(
        &self,
        header: Option<&str>,
        body: &str,
        has_certificate: bool,
        now: Timestamp,
    ) -> Result<Caller, Refusal> {
        let node = self.judge(header, body, has_certificate, now).inspect_err(|_| {
            self.metrics.refused_by(
                muster_types::AgentKind::Osquery,
                muster_gateway::Refusal::Unauthenticated,
            );
        })?;
        self.presence.touch(node.agent, now);
        Ok(Caller { node })
    }

    fn judge(
        &self,
        header: Option<&str>,
        body: &str,
        has_certificate: bool,
        now: Timestamp,
    ) -> Result<Node, Refusal> {
        let key = header.unwrap_or(body);
        if key.is_empty() {
            return Err(Refusal::NoKey);
        }
        let node = self.keys.judge(key, now)?;
        if node.with_certificate && !has_certificate {
            return Err(Refusal::Certificate);
        }
        Ok(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_agents_own_scheme_is_a_key() {
        assert_eq!(header_key(Some("NodeKey abc")), Some("abc"));
        assert_eq!(header_key(Some("nodekey  abc ")), Some("abc"));
        for other in ["Basic dXNlcjpwYXNz", "NodeKey ", "NodeKey", "Node key abc", ""] {
            assert_eq!(header_key(Some(other)), None, "{other}");
        }
        assert_eq!(header_key(None), None);
    }

    #[test]
    fn the_last_key_of_a_damaged_body_counts() {
        let body = br#"{"data":[{"x":"\"node_key\":\"no\"" "#;
        assert_eq!(last_key(body), None);
        let body = b"{\"data\":[\xff\xfe{\"node_key\":\"a\"}, \"node_key\" : \"abc\"}\n";
        assert_eq!(last_key(body).as_deref(), Some("abc"));
    }
}
