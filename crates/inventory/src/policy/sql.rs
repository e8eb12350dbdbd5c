//! SQL over policies' results, for the child process that answers it within what the asker may see. Only
//! endpoints that a policy applies to now, and only answers to its present question.

use std::fmt::Write as _;
use std::sync::Arc;

use super::{Policy, PolicyState, source};
use crate::sql::{literal, literals};

/// `scope`: which policy applies to which endpoint; `answer`: what these say now. One endpoint with several
/// agents has the worst answer, and `fail` sorts before `pass` before `unknown`.
fn common(policies: &[Arc<Policy>]) -> String {
    let mut sql = "WITH asked AS (\n  SELECT DISTINCT endpoint FROM agents \
                   WHERE kind = 'osquery' AND state = 'active'\n), scope AS (\n"
        .to_owned();
    for (n, policy) in policies.iter().enumerate() {
        let union = if n == 0 { "" } else { "  UNION ALL\n" };
        let _ = write!(
            sql,
            "{union}  SELECT CAST({no} AS BIGINT) AS policy, {source} AS source, \
             to_timestamp_micros({since}) AS since, endpoint\n  FROM endpoints \
             WHERE endpoint IN (SELECT endpoint FROM asked)",
            no = policy.no,
            source = literal(&source(policy.no)),
            since = policy.asked_since.0,
        );
        let text = &policy.text;
        if !text.platforms.is_empty() {
            let words: Vec<_> = text.platforms.iter().map(ToString::to_string).collect();
            let _ = write!(sql, "\n    AND platform IN ({})", literals(&words));
        }
        for (word, labels) in [("IN", &text.labels), ("NOT IN", &text.exclude_labels)] {
            if !labels.is_empty() {
                let labels = literals(labels);
                let _ = write!(
                    sql,
                    "\n    AND endpoint {word} (SELECT endpoint FROM labels WHERE label IN ({labels}))"
                );
            }
        }
        sql.push('\n');
    }
    let sources: Vec<_> = policies.iter().map(|policy| source(policy.no)).collect();
    let _ = write!(
        sql,
        "), answer AS (\n  SELECT _source AS source, endpoint, MIN(state) AS state, \
         MAX(message) AS message, MAX(first_seen) AS first, MAX(last_seen) AS asked\n  \
         FROM policy_results_current WHERE _source IN ({})\n  GROUP BY _source, endpoint\n)\n",
        literals(&sources)
    );
    sql
}

/// `turned`: since when each endpoint is in the state it is in, by what is kept of its answers. A state it had
/// before counts from when it came back to it.
fn turned(policies: &[Arc<Policy>]) -> String {
    let sources: Vec<_> = policies.iter().map(|policy| source(policy.no)).collect();
    format!(
        ", told AS (\n  SELECT _source, agent, endpoint, state, received_time,\n    \
         LAG(state) OVER (PARTITION BY _source, agent ORDER BY received_time, _shard, _pos) AS before\n  \
         FROM policy_results WHERE _source IN ({})\n), turned AS (\n  \
         SELECT _source AS source, endpoint, MAX(received_time) AS at\n  FROM told \
         WHERE before IS NULL OR before <> state\n  GROUP BY _source, endpoint\n)\n",
        literals(&sources)
    )
}

/// Since when, but not before the question is what it is; what retention took away is what the state itself
/// remembers.
const SINCE: &str = "CASE WHEN answer.state IS NULL THEN NULL \
                     WHEN COALESCE(turned.at, answer.first) < scope.since THEN scope.since \
                     ELSE COALESCE(turned.at, answer.first) END AS since";

const TURNED: &str = "LEFT JOIN turned ON turned.source = scope.source \
                      AND turned.endpoint = scope.endpoint";

const JOINED: &str = "LEFT JOIN answer ON answer.source = scope.source \
                      AND answer.endpoint = scope.endpoint AND answer.asked >= scope.since";

/// One row a policy: how many endpoints pass, fail, do not know, and have not answered yet.
#[must_use]
pub fn counts(policies: &[Arc<Policy>]) -> String {
    if policies.is_empty() {
        return "SELECT CAST(0 AS BIGINT) AS policy, CAST(0 AS BIGINT) AS pass, \
                CAST(0 AS BIGINT) AS fail, CAST(0 AS BIGINT) AS unknown, \
                CAST(0 AS BIGINT) AS pending WHERE FALSE"
            .to_owned();
    }
    let mut sql = common(policies);
    sql.push_str("SELECT scope.policy");
    for state in PolicyState::ALL {
        let word = state.as_str();
        let _ = write!(sql, ",\n  COUNT(*) FILTER (WHERE answer.state = '{word}') AS \"{word}\"");
    }
    let _ = write!(
        sql,
        ",\n  COUNT(*) - COUNT(answer.state) AS pending\nFROM scope\n{JOINED}\n\
         GROUP BY scope.policy\nORDER BY scope.policy"
    );
    sql
}

/// The endpoints of one policy in a state (`None`: all that answered), the longest in it first.
#[must_use]
pub fn endpoints(policy: &Arc<Policy>, state: Option<PolicyState>) -> String {
    let mut sql = common(std::slice::from_ref(policy));
    sql.push_str(&turned(std::slice::from_ref(policy)));
    let _ = write!(
        sql,
        "SELECT answer.endpoint, endpoints.name AS endpoint_name, answer.state, answer.message, \
         {SINCE}, answer.asked\nFROM scope\n{}\n{TURNED}\nJOIN endpoints ON endpoints.endpoint = answer.endpoint\n",
        JOINED.strip_prefix("LEFT ").unwrap_or(JOINED)
    );
    if let Some(state) = state {
        let _ = writeln!(sql, "WHERE answer.state = '{}'", state.as_str());
    }
    sql.push_str("ORDER BY since, answer.endpoint");
    sql
}

/// How often each endpoint went from pass to fail or back since the question is what it is. A time in which
/// it could not tell is no flip.
#[must_use]
pub fn flips(policy: &Arc<Policy>) -> String {
    format!(
        "WITH told AS (\n  SELECT endpoint, endpoint_name, agent, state, received_time,\n    \
         LAG(state) OVER (PARTITION BY agent ORDER BY received_time, _shard, _pos) AS before\n  \
         FROM policy_results\n  WHERE _source = {source} AND state IN ('pass', 'fail')\n    \
         AND received_time >= to_timestamp_micros({since})\n)\n\
         SELECT endpoint, endpoint_name, COUNT(*) AS flips, MIN(received_time) AS first_flip,\n  \
         MAX(received_time) AS last_flip\nFROM told\nWHERE before <> state\n\
         GROUP BY endpoint, endpoint_name\nORDER BY flips DESC, endpoint",
        source = literal(&source(policy.no)),
        since = policy.asked_since.0,
    )
}

/// What one endpoint says of every policy that applies to it.
#[must_use]
pub fn of_endpoint(policies: &[Arc<Policy>], endpoint: u32) -> String {
    if policies.is_empty() {
        return "SELECT CAST(0 AS BIGINT) AS policy, '' AS name, false AS critical, '' AS state, \
                '' AS message WHERE FALSE"
            .to_owned();
    }
    let mut sql = common(policies);
    sql.push_str(&turned(policies));
    let names = policies.iter().map(|policy| {
        let text = &policy.text;
        format!("({}, {}, {})", policy.no, literal(&text.name), text.critical)
    });
    let names = names.collect::<Vec<_>>().join(", ");
    let _ = write!(
        sql,
        "SELECT scope.policy, named.name, named.critical, \
         COALESCE(answer.state, 'pending') AS state, answer.message, {SINCE}, answer.asked\n\
         FROM scope\n{JOINED}\n{TURNED}\nJOIN (VALUES {names}) AS named (no, name, critical) \
         ON named.no = scope.policy\nWHERE scope.endpoint = {endpoint}\nORDER BY scope.policy"
    );
    sql
}
