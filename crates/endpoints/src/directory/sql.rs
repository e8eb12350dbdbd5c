//! Statements of the directory.

muster_catalog::statements! {
    pub(super) NEWEST = "SELECT topic, seq
        FROM feed
        WHERE topic IN ('directory', 'number/agent', 'number/endpoint')";
    /// One range of the table.
    pub(super) ALL_AGENTS = {
        sqlite: "SELECT json_group_array(json_array(no, org, endpoint_no, kind, CASE WHEN public_key IS NOT NULL THEN hex(public_key) END, state, hostname, platform, os_name,
                os_version, arch, version, capabilities, enrolled_at, key_issued_at, last_seen,
                last_address, clone_of)) AS rows
            FROM agent
            WHERE no >= $1 AND no < $2",
        postgres: "SELECT COALESCE(json_agg(json_build_array(no, org, endpoint_no, kind, encode(public_key, 'hex'), state, hostname, platform, os_name,
                os_version, arch, version, capabilities, enrolled_at, key_issued_at, last_seen,
                last_address, clone_of))::TEXT, '[]') AS rows
            FROM agent
            WHERE no >= $1 AND no < $2"
    };
    /// What changed.
    pub(super) CHANGED_AGENTS = {
        sqlite: "SELECT json_group_array(json_array(no, org, endpoint_no, kind, CASE WHEN public_key IS NOT NULL THEN hex(public_key) END, state, hostname, platform, os_name,
                os_version, arch, version, capabilities, enrolled_at, key_issued_at, last_seen,
                last_address, clone_of)) AS rows
            FROM agent
            WHERE change > $1",
        postgres: "SELECT COALESCE(json_agg(json_build_array(no, org, endpoint_no, kind, encode(public_key, 'hex'), state, hostname, platform, os_name,
                os_version, arch, version, capabilities, enrolled_at, key_issued_at, last_seen,
                last_address, clone_of))::TEXT, '[]') AS rows
            FROM agent
            WHERE change > $1"
    };
    /// One range of the table.
    pub(super) ALL_ENDPOINTS = {
        sqlite: "SELECT json_group_array(json_array(no, org, name, created_at, deleted_at)) AS rows
            FROM endpoint
            WHERE no >= $1 AND no < $2",
        postgres: "SELECT COALESCE(json_agg(json_build_array(no, org, name, created_at, deleted_at))::TEXT, '[]') AS rows
            FROM endpoint
            WHERE no >= $1 AND no < $2"
    };
    /// What changed.
    pub(super) CHANGED_ENDPOINTS = {
        sqlite: "SELECT json_group_array(json_array(no, org, name, created_at, deleted_at)) AS rows
            FROM endpoint
            WHERE change > $1",
        postgres: "SELECT COALESCE(json_agg(json_build_array(no, org, name, created_at, deleted_at))::TEXT, '[]') AS rows
            FROM endpoint
            WHERE change > $1"
    };
    pub(super) LABELS = "SELECT no, org, name, description, created_at, created_by, deleted_at
        FROM label
        WHERE change > $1";
    pub(super) MEMBERS = "SELECT label_no, endpoint_no, removed_at
        FROM label_endpoint
        WHERE change > $1";
}
