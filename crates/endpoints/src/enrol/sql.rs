//! Statements of enrolment.

muster_catalog::statements! {
    pub(super) FIND_AGENT = "SELECT no, endpoint_no, state
        FROM agent
        WHERE org = $1 AND kind = $2 AND external_id = $3";
    /// One that is retired is gone, though its row stays.
    pub(super) FIND_ORIGINAL = "SELECT state
        FROM agent
        WHERE org = $1 AND no = $2 AND state <> 'retired' AND deleted_at IS NULL";
    /// An agent of the same kind under another host name means a copied machine: no match.
    pub(super) FIND_ENDPOINT = "SELECT no
        FROM endpoint
        WHERE org = $1
          AND machine = $2
          AND deleted_at IS NULL
          AND NOT EXISTS (
            SELECT 1
            FROM agent
            WHERE agent.endpoint_no = endpoint.no
              AND agent.kind = $3
              AND agent.hostname <> $4)
        ORDER BY no
        LIMIT 1";
    pub(super) INSERT_ENDPOINT = "INSERT INTO endpoint
            (no, org, name, machine, created_at, deleted_at, change)
        VALUES ($1, $2, $3, $4, $5, NULL, $6)";
    pub(super) INSERT_AGENT = "INSERT INTO agent
            (no, org, endpoint_no, kind, external_id, public_key, state, hostname, platform, os_name,
             os_version, arch, version, capabilities, enrolled_at, enrolled_from, enrol_secret_no,
             key_issued_at, last_seen, last_address, clone_of, deleted_at, change)
        VALUES ($1, $2, $3, $4, $5, $6, 'active', $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $14,
             $14, $15, $17, NULL, $18)";
    pub(super) COUNT_USE = "UPDATE enrol_secret SET uses = uses + 1 WHERE no = $1 AND revoked_at IS NULL";
    pub(super) FIND_NODE = "SELECT no, endpoint_no, state, instance, key_issued_at
        FROM agent
        WHERE org = $1 AND kind = $2 AND external_id = $3";
    pub(super) NODES_OF = "SELECT no, endpoint_no, state, instance, key_issued_at
        FROM agent
        WHERE endpoint_no = $1 AND kind = $2 AND state = 'active'";
    pub(super) ISSUE_KEY = "UPDATE agent
        SET instance = $2, key_issued_at = $3, change = $4
        WHERE no = $1";
}
