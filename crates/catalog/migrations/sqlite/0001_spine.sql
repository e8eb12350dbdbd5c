-- The first layout. Portable columns only: INTEGER (times are microseconds UTC), TEXT, BLOB, REAL.
-- Identifiers that people see (endpoint, agent, hunt) are dense numbers, never reused.

-- One row: what this store was made with. A mismatch refuses to start.
CREATE TABLE install (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    cluster BLOB NOT NULL,
    shards INTEGER NOT NULL,
    layout INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- A sequence per topic, raised by an UPDATE in the writer's transaction: its order is commit order.
-- Dense numbers are taken from topics named 'number/…'.
CREATE TABLE feed (
    topic TEXT NOT NULL PRIMARY KEY,
    seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Small secrets of the installation (CA key, token keys), sealed by the key in the configuration.
CREATE TABLE secret (
    name TEXT NOT NULL PRIMARY KEY,
    sealed BLOB NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE instance (
    id BLOB NOT NULL PRIMARY KEY,
    incarnation INTEGER NOT NULL,
    name TEXT NOT NULL,
    roles TEXT NOT NULL,
    version TEXT NOT NULL,
    level INTEGER NOT NULL,
    addresses TEXT NOT NULL,
    load TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    heartbeat_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE partition_lease (
    job TEXT NOT NULL,
    n INTEGER NOT NULL,
    holder BLOB,
    incarnation INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    taken_at INTEGER NOT NULL,
    PRIMARY KEY (job, n)
) STRICT, WITHOUT ROWID;

CREATE TABLE endpoint (
    no INTEGER NOT NULL PRIMARY KEY,
    org INTEGER NOT NULL,
    name TEXT NOT NULL,
    machine TEXT,
    created_at INTEGER NOT NULL,
    deleted_at INTEGER,
    change INTEGER NOT NULL
) STRICT;
CREATE INDEX endpoint_machine ON endpoint (org, machine);
CREATE INDEX endpoint_change ON endpoint (change);

CREATE TABLE agent (
    no INTEGER NOT NULL PRIMARY KEY,
    org INTEGER NOT NULL,
    endpoint_no INTEGER NOT NULL,
    kind TEXT NOT NULL,
    external_id TEXT NOT NULL,
    public_key BLOB,
    state TEXT NOT NULL,
    hostname TEXT NOT NULL,
    platform TEXT NOT NULL,
    os_name TEXT NOT NULL,
    os_version TEXT NOT NULL,
    arch TEXT NOT NULL,
    version TEXT NOT NULL,
    capabilities TEXT NOT NULL,
    enrolled_at INTEGER NOT NULL,
    enrolled_from TEXT NOT NULL,
    enrol_secret_no INTEGER,
    key_issued_at INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    last_address TEXT NOT NULL,
    clone_of INTEGER,
    deleted_at INTEGER,
    change INTEGER NOT NULL,
    UNIQUE (org, kind, external_id)
) STRICT;
CREATE INDEX agent_endpoint ON agent (endpoint_no);
CREATE INDEX agent_change ON agent (change);
CREATE INDEX agent_deleted ON agent (deleted_at) WHERE deleted_at IS NOT NULL;

CREATE TABLE label (
    no INTEGER NOT NULL PRIMARY KEY,
    org INTEGER NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    deleted_at INTEGER,
    change INTEGER NOT NULL,
    UNIQUE (org, name)
) STRICT;
CREATE INDEX label_change ON label (change);

-- A removed member stays as a tombstone, so that readers of the feed see it go.
CREATE TABLE label_endpoint (
    label_no INTEGER NOT NULL,
    endpoint_no INTEGER NOT NULL,
    added_at INTEGER NOT NULL,
    added_by TEXT NOT NULL,
    removed_at INTEGER,
    change INTEGER NOT NULL,
    PRIMARY KEY (label_no, endpoint_no)
) STRICT, WITHOUT ROWID;
CREATE INDEX label_endpoint_change ON label_endpoint (change);

CREATE TABLE enrol_secret (
    no INTEGER NOT NULL PRIMARY KEY,
    org INTEGER NOT NULL,
    name TEXT NOT NULL,
    hash BLOB NOT NULL UNIQUE,
    labels TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER,
    uses INTEGER NOT NULL
) STRICT;

-- Who was last seen when, 4 bytes per agent of the shard, in seconds. Readers take the maximum over instances.
CREATE TABLE presence_block (
    instance BLOB NOT NULL,
    shard INTEGER NOT NULL,
    written_at INTEGER NOT NULL,
    last_seen BLOB NOT NULL,
    PRIMARY KEY (instance, shard)
) STRICT, WITHOUT ROWID;

CREATE TABLE artifact (
    org INTEGER NOT NULL,
    name TEXT NOT NULL,
    yaml TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    deleted_at INTEGER,
    change INTEGER NOT NULL,
    PRIMARY KEY (org, name)
) STRICT, WITHOUT ROWID;

-- A hunt, a live query (kind 'live') or a collection (kind 'collection'): one artifact on a set of endpoints.
CREATE TABLE hunt (
    no INTEGER NOT NULL PRIMARY KEY,
    org INTEGER NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    title TEXT NOT NULL,
    artifact TEXT NOT NULL,
    definition TEXT NOT NULL,
    table_name TEXT NOT NULL,
    scope TEXT NOT NULL,
    limits TEXT NOT NULL,
    caller_scope TEXT NOT NULL,
    requested_by TEXT NOT NULL,
    approved_by TEXT,
    reason TEXT NOT NULL,
    incident TEXT,
    hold_until INTEGER,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    expires_at INTEGER NOT NULL,
    ended_at INTEGER,
    pause_reason TEXT,
    wave INTEGER NOT NULL,
    recruited_total INTEGER NOT NULL,
    recruit_from INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    deleted_at INTEGER,
    change INTEGER NOT NULL
) STRICT;
CREATE INDEX hunt_change ON hunt (change);
CREATE INDEX hunt_state ON hunt (state, no);
CREATE INDEX hunt_org ON hunt (org, no);
CREATE INDEX hunt_deleted ON hunt (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX hunt_hold ON hunt (hold_until) WHERE hold_until IS NOT NULL;

-- Recruited agents, a compressed bitmap of agent numbers a wave. Written by the dispatcher alone.
CREATE TABLE hunt_wave (
    hunt_no INTEGER NOT NULL,
    wave INTEGER NOT NULL,
    agents BLOB NOT NULL,
    agent_count INTEGER NOT NULL,
    committed_at INTEGER NOT NULL,
    change INTEGER NOT NULL,
    PRIMARY KEY (hunt_no, wave)
) STRICT, WITHOUT ROWID;
CREATE INDEX hunt_wave_change ON hunt_wave (change);

-- What became of them, a bitmap a state. Written by the shard's worker alone, with its position.
CREATE TABLE hunt_shard (
    hunt_no INTEGER NOT NULL,
    shard INTEGER NOT NULL,
    progress BLOB NOT NULL,
    row_count INTEGER NOT NULL,
    byte_count INTEGER NOT NULL,
    change INTEGER NOT NULL,
    PRIMARY KEY (hunt_no, shard)
) STRICT, WITHOUT ROWID;
CREATE INDEX hunt_shard_change ON hunt_shard (change);

CREATE TABLE task_attempt (
    hunt_no INTEGER NOT NULL,
    agent_no INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    reason TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (hunt_no, agent_no, attempt)
) STRICT, WITHOUT ROWID;

-- How far each shard is folded, by whom (epoch), and where its state is: base object plus deltas.
CREATE TABLE shard_offset (
    shard INTEGER NOT NULL PRIMARY KEY,
    pos INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    base_object TEXT,
    base_pos INTEGER NOT NULL
) STRICT;

CREATE TABLE shard_delta (
    shard INTEGER NOT NULL,
    to_pos INTEGER NOT NULL,
    delta BLOB NOT NULL,
    PRIMARY KEY (shard, to_pos)
) STRICT, WITHOUT ROWID;

-- Columns of a result table. Types only widen: rank is raised, never lowered.
CREATE TABLE result_column (
    org INTEGER NOT NULL,
    table_name TEXT NOT NULL,
    name_folded TEXT NOT NULL,
    name TEXT NOT NULL,
    rank INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    PRIMARY KEY (org, table_name, name_folded)
) STRICT, WITHOUT ROWID;

-- The manifest: an object of the archive exists if and only if a row here says so.
CREATE TABLE segment (
    object TEXT NOT NULL PRIMARY KEY,
    level INTEGER NOT NULL,
    byte_count INTEGER NOT NULL,
    row_count INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    writer TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX segment_level ON segment (level, created_at);

CREATE TABLE segment_part (
    object TEXT NOT NULL,
    part INTEGER NOT NULL,
    org INTEGER NOT NULL,
    table_name TEXT NOT NULL,
    class TEXT NOT NULL,
    day INTEGER NOT NULL,
    level INTEGER NOT NULL,
    byte_offset INTEGER NOT NULL,
    byte_count INTEGER NOT NULL,
    row_count INTEGER NOT NULL,
    received_min INTEGER NOT NULL,
    received_max INTEGER NOT NULL,
    agent_min INTEGER NOT NULL,
    agent_max INTEGER NOT NULL,
    hunt_min INTEGER NOT NULL,
    hunt_max INTEGER NOT NULL,
    PRIMARY KEY (object, part)
) STRICT, WITHOUT ROWID;
CREATE INDEX segment_part_table ON segment_part (org, table_name, received_max);
CREATE INDEX segment_part_day ON segment_part (class, day, table_name, level);

CREATE TABLE retired_object (
    object TEXT NOT NULL PRIMARY KEY,
    retired_at INTEGER NOT NULL,
    not_before INTEGER NOT NULL,
    reason TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX retired_object_due ON retired_object (not_before);

-- A reader that needs an object for longer than the grace.
CREATE TABLE segment_hold (
    id BLOB NOT NULL PRIMARY KEY,
    objects TEXT NOT NULL,
    held_by TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX segment_hold_expires ON segment_hold (expires_at);

CREATE TABLE user_account (
    no INTEGER NOT NULL PRIMARY KEY,
    org INTEGER NOT NULL,
    name TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    must_change INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    disabled_at INTEGER,
    change INTEGER NOT NULL,
    UNIQUE (org, name)
) STRICT;

CREATE TABLE role_binding (
    user_no INTEGER NOT NULL,
    role TEXT NOT NULL,
    scope TEXT NOT NULL,
    granted_at INTEGER NOT NULL,
    granted_by TEXT NOT NULL,
    PRIMARY KEY (user_no, role, scope)
) STRICT, WITHOUT ROWID;

-- API tokens and browser or CLI sessions: random, only their hash is kept.
CREATE TABLE api_token (
    no INTEGER NOT NULL PRIMARY KEY,
    org INTEGER NOT NULL,
    user_no INTEGER NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    hash BLOB NOT NULL UNIQUE,
    prefix TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    created_from TEXT NOT NULL,
    role TEXT,
    expires_at INTEGER,
    revoked_at INTEGER
) STRICT;
CREATE INDEX api_token_user ON api_token (user_no, no);

CREATE TABLE idempotency (
    principal TEXT NOT NULL,
    key TEXT NOT NULL,
    request_hash BLOB NOT NULL,
    status INTEGER NOT NULL,
    body BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (principal, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_created ON idempotency (created_at);

CREATE TABLE approval (
    no INTEGER NOT NULL PRIMARY KEY,
    org INTEGER NOT NULL,
    operation TEXT NOT NULL,
    subject TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    requested_by TEXT NOT NULL,
    requested_at INTEGER NOT NULL,
    decided_by TEXT,
    decided_at INTEGER,
    decision_reason TEXT
) STRICT;
CREATE INDEX approval_state ON approval (org, state, no);

-- Append-only; each row's hash covers the previous one of the same instance.
CREATE TABLE audit (
    instance BLOB NOT NULL,
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    org INTEGER NOT NULL,
    principal TEXT NOT NULL,
    address TEXT NOT NULL,
    operation TEXT NOT NULL,
    subject TEXT NOT NULL,
    outcome TEXT NOT NULL,
    details TEXT NOT NULL,
    previous BLOB NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (instance, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX audit_at ON audit (org, at);
