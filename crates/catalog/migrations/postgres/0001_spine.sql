-- The first layout, the twin of the SQLite one. TEXT is compared by bytes, as SQLite does.
-- Identifiers that people see (endpoint, agent, hunt) are dense numbers, never reused.

-- One row: what this store was made with. A mismatch refuses to start.
CREATE TABLE install (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    cluster UUID NOT NULL,
    shards BIGINT NOT NULL,
    layout BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

-- A sequence per topic, raised by an UPDATE in the writer's transaction: its order is commit order.
-- Dense numbers are taken from topics named 'number/…'.
CREATE TABLE feed (
    topic TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    seq BIGINT NOT NULL
);

-- Small secrets of the installation (CA key, token keys), sealed by the key in the configuration.
CREATE TABLE secret (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    sealed BYTEA NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE instance (
    id UUID NOT NULL PRIMARY KEY,
    incarnation BIGINT NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    roles TEXT COLLATE "C" NOT NULL,
    version TEXT COLLATE "C" NOT NULL,
    level BIGINT NOT NULL,
    addresses TEXT COLLATE "C" NOT NULL,
    load TEXT COLLATE "C" NOT NULL,
    started_at BIGINT NOT NULL,
    heartbeat_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE TABLE partition_lease (
    job TEXT COLLATE "C" NOT NULL,
    n BIGINT NOT NULL,
    holder UUID,
    incarnation BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    taken_at BIGINT NOT NULL,
    PRIMARY KEY (job, n)
);

CREATE TABLE endpoint (
    no BIGINT NOT NULL PRIMARY KEY,
    org BIGINT NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    machine TEXT COLLATE "C",
    created_at BIGINT NOT NULL,
    deleted_at BIGINT,
    change BIGINT NOT NULL
);
CREATE INDEX endpoint_machine ON endpoint (org, machine);
CREATE INDEX endpoint_change ON endpoint (change);

CREATE TABLE agent (
    no BIGINT NOT NULL PRIMARY KEY,
    org BIGINT NOT NULL,
    endpoint_no BIGINT NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    external_id TEXT COLLATE "C" NOT NULL,
    public_key BYTEA,
    state TEXT COLLATE "C" NOT NULL,
    hostname TEXT COLLATE "C" NOT NULL,
    platform TEXT COLLATE "C" NOT NULL,
    os_name TEXT COLLATE "C" NOT NULL,
    os_version TEXT COLLATE "C" NOT NULL,
    arch TEXT COLLATE "C" NOT NULL,
    version TEXT COLLATE "C" NOT NULL,
    capabilities TEXT COLLATE "C" NOT NULL,
    enrolled_at BIGINT NOT NULL,
    enrolled_from TEXT COLLATE "C" NOT NULL,
    enrol_secret_no BIGINT,
    key_issued_at BIGINT NOT NULL,
    last_seen BIGINT NOT NULL,
    last_address TEXT COLLATE "C" NOT NULL,
    clone_of BIGINT,
    deleted_at BIGINT,
    change BIGINT NOT NULL,
    UNIQUE (org, kind, external_id)
);
CREATE INDEX agent_endpoint ON agent (endpoint_no);
CREATE INDEX agent_change ON agent (change);
CREATE INDEX agent_deleted ON agent (deleted_at) WHERE deleted_at IS NOT NULL;

CREATE TABLE label (
    no BIGINT NOT NULL PRIMARY KEY,
    org BIGINT NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    description TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT COLLATE "C" NOT NULL,
    deleted_at BIGINT,
    change BIGINT NOT NULL,
    UNIQUE (org, name)
);
CREATE INDEX label_change ON label (change);

-- A removed member stays as a tombstone, so that readers of the feed see it go.
CREATE TABLE label_endpoint (
    label_no BIGINT NOT NULL,
    endpoint_no BIGINT NOT NULL,
    added_at BIGINT NOT NULL,
    added_by TEXT COLLATE "C" NOT NULL,
    removed_at BIGINT,
    change BIGINT NOT NULL,
    PRIMARY KEY (label_no, endpoint_no)
);
CREATE INDEX label_endpoint_change ON label_endpoint (change);

CREATE TABLE enrol_secret (
    no BIGINT NOT NULL PRIMARY KEY,
    org BIGINT NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    hash BYTEA NOT NULL UNIQUE,
    labels TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT COLLATE "C" NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT,
    uses BIGINT NOT NULL
);

-- Who was last seen when, 4 bytes per agent of the shard, in seconds. Readers take the maximum over instances.
CREATE TABLE presence_block (
    instance UUID NOT NULL,
    shard BIGINT NOT NULL,
    written_at BIGINT NOT NULL,
    last_seen BYTEA NOT NULL,
    PRIMARY KEY (instance, shard)
);

CREATE TABLE artifact (
    org BIGINT NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    yaml TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT COLLATE "C" NOT NULL,
    deleted_at BIGINT,
    change BIGINT NOT NULL,
    PRIMARY KEY (org, name)
);

-- A hunt, a live query (kind 'live') or a collection (kind 'collection'): one artifact on a set of endpoints.
CREATE TABLE hunt (
    no BIGINT NOT NULL PRIMARY KEY,
    org BIGINT NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    title TEXT COLLATE "C" NOT NULL,
    artifact TEXT COLLATE "C" NOT NULL,
    definition TEXT COLLATE "C" NOT NULL,
    table_name TEXT COLLATE "C" NOT NULL,
    scope TEXT COLLATE "C" NOT NULL,
    limits TEXT COLLATE "C" NOT NULL,
    caller_scope TEXT COLLATE "C" NOT NULL,
    requested_by TEXT COLLATE "C" NOT NULL,
    approved_by TEXT COLLATE "C",
    reason TEXT COLLATE "C" NOT NULL,
    incident TEXT COLLATE "C",
    hold_until BIGINT,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    expires_at BIGINT NOT NULL,
    ended_at BIGINT,
    pause_reason TEXT COLLATE "C",
    wave BIGINT NOT NULL,
    recruited_total BIGINT NOT NULL,
    recruit_from BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    deleted_at BIGINT,
    change BIGINT NOT NULL
);
CREATE INDEX hunt_change ON hunt (change);
CREATE INDEX hunt_state ON hunt (state, no);
CREATE INDEX hunt_org ON hunt (org, no);
CREATE INDEX hunt_deleted ON hunt (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX hunt_hold ON hunt (hold_until) WHERE hold_until IS NOT NULL;

-- Recruited agents, a compressed bitmap of agent numbers a wave. Written by the dispatcher alone.
CREATE TABLE hunt_wave (
    hunt_no BIGINT NOT NULL,
    wave BIGINT NOT NULL,
    agents BYTEA NOT NULL,
    agent_count BIGINT NOT NULL,
    committed_at BIGINT NOT NULL,
    change BIGINT NOT NULL,
    PRIMARY KEY (hunt_no, wave)
);
CREATE INDEX hunt_wave_change ON hunt_wave (change);

-- What became of them, a bitmap a state. Written by the shard's worker alone, with its position.
CREATE TABLE hunt_shard (
    hunt_no BIGINT NOT NULL,
    shard BIGINT NOT NULL,
    progress BYTEA NOT NULL,
    row_count BIGINT NOT NULL,
    byte_count BIGINT NOT NULL,
    change BIGINT NOT NULL,
    PRIMARY KEY (hunt_no, shard)
);
CREATE INDEX hunt_shard_change ON hunt_shard (change);

CREATE TABLE task_attempt (
    hunt_no BIGINT NOT NULL,
    agent_no BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    reason TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (hunt_no, agent_no, attempt)
);

-- How far each shard is folded, by whom (epoch), and where its state is: base object plus deltas.
CREATE TABLE shard_offset (
    shard BIGINT NOT NULL PRIMARY KEY,
    pos BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    base_object TEXT COLLATE "C",
    base_pos BIGINT NOT NULL
);

CREATE TABLE shard_delta (
    shard BIGINT NOT NULL,
    to_pos BIGINT NOT NULL,
    delta BYTEA NOT NULL,
    PRIMARY KEY (shard, to_pos)
);

-- Columns of a result table. Types only widen: rank is raised, never lowered.
CREATE TABLE result_column (
    org BIGINT NOT NULL,
    table_name TEXT COLLATE "C" NOT NULL,
    name_folded TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    rank BIGINT NOT NULL,
    ordinal BIGINT NOT NULL,
    PRIMARY KEY (org, table_name, name_folded)
);

-- The manifest: an object of the archive exists if and only if a row here says so.
CREATE TABLE segment (
    object TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    level BIGINT NOT NULL,
    byte_count BIGINT NOT NULL,
    row_count BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    writer TEXT COLLATE "C" NOT NULL
);
CREATE INDEX segment_level ON segment (level, created_at);

CREATE TABLE segment_part (
    object TEXT COLLATE "C" NOT NULL,
    part BIGINT NOT NULL,
    org BIGINT NOT NULL,
    table_name TEXT COLLATE "C" NOT NULL,
    class TEXT COLLATE "C" NOT NULL,
    day BIGINT NOT NULL,
    level BIGINT NOT NULL,
    byte_offset BIGINT NOT NULL,
    byte_count BIGINT NOT NULL,
    row_count BIGINT NOT NULL,
    received_min BIGINT NOT NULL,
    received_max BIGINT NOT NULL,
    agent_min BIGINT NOT NULL,
    agent_max BIGINT NOT NULL,
    hunt_min BIGINT NOT NULL,
    hunt_max BIGINT NOT NULL,
    PRIMARY KEY (object, part)
);
CREATE INDEX segment_part_table ON segment_part (org, table_name, received_max);
CREATE INDEX segment_part_day ON segment_part (class, day, table_name, level);

CREATE TABLE retired_object (
    object TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    retired_at BIGINT NOT NULL,
    not_before BIGINT NOT NULL,
    reason TEXT COLLATE "C" NOT NULL
);
CREATE INDEX retired_object_due ON retired_object (not_before);

-- A reader that needs an object for longer than the grace.
CREATE TABLE segment_hold (
    id UUID NOT NULL PRIMARY KEY,
    objects TEXT COLLATE "C" NOT NULL,
    held_by TEXT COLLATE "C" NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX segment_hold_expires ON segment_hold (expires_at);

CREATE TABLE user_account (
    no BIGINT NOT NULL PRIMARY KEY,
    org BIGINT NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    password_hash TEXT COLLATE "C" NOT NULL,
    must_change BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    disabled_at BIGINT,
    change BIGINT NOT NULL,
    UNIQUE (org, name)
);

CREATE TABLE role_binding (
    user_no BIGINT NOT NULL,
    role TEXT COLLATE "C" NOT NULL,
    scope TEXT COLLATE "C" NOT NULL,
    granted_at BIGINT NOT NULL,
    granted_by TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (user_no, role, scope)
);

-- API tokens and browser or CLI sessions: random, only their hash is kept.
CREATE TABLE api_token (
    no BIGINT NOT NULL PRIMARY KEY,
    org BIGINT NOT NULL,
    user_no BIGINT NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    hash BYTEA NOT NULL UNIQUE,
    prefix TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    created_from TEXT COLLATE "C" NOT NULL,
    role TEXT COLLATE "C",
    expires_at BIGINT,
    revoked_at BIGINT
);
CREATE INDEX api_token_user ON api_token (user_no, no);

CREATE TABLE idempotency (
    principal TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    request_hash BYTEA NOT NULL,
    status BIGINT NOT NULL,
    body BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (principal, key)
);
CREATE INDEX idempotency_created ON idempotency (created_at);

CREATE TABLE approval (
    no BIGINT NOT NULL PRIMARY KEY,
    org BIGINT NOT NULL,
    operation TEXT COLLATE "C" NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    reason TEXT COLLATE "C" NOT NULL,
    requested_by TEXT COLLATE "C" NOT NULL,
    requested_at BIGINT NOT NULL,
    decided_by TEXT COLLATE "C",
    decided_at BIGINT,
    decision_reason TEXT COLLATE "C"
);
CREATE INDEX approval_state ON approval (org, state, no);

-- Append-only; each row's hash covers the previous one of the same instance.
CREATE TABLE audit (
    instance UUID NOT NULL,
    seq BIGINT NOT NULL,
    at BIGINT NOT NULL,
    org BIGINT NOT NULL,
    principal TEXT COLLATE "C" NOT NULL,
    address TEXT COLLATE "C" NOT NULL,
    operation TEXT COLLATE "C" NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    outcome TEXT COLLATE "C" NOT NULL,
    details TEXT COLLATE "C" NOT NULL,
    previous BYTEA NOT NULL,
    hash BYTEA NOT NULL,
    PRIMARY KEY (instance, seq)
);
CREATE INDEX audit_at ON audit (org, at);
