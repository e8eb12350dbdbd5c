-- What is known of every endpoint: who was asked when, policies, labels by rule.

-- When an agent was last handed its questions, 4 bytes per agent of the shard, in seconds. Readers take the
-- maximum over instances.
CREATE TABLE inventory_block (
    instance UUID NOT NULL,
    shard BIGINT NOT NULL,
    written_at BIGINT NOT NULL,
    handed BYTEA NOT NULL,
    PRIMARY KEY (instance, shard)
);

-- The last wish to have an agent asked out of turn.
CREATE TABLE inventory_refetch (
    agent_no BIGINT NOT NULL PRIMARY KEY,
    org BIGINT NOT NULL,
    wanted_at BIGINT NOT NULL,
    wanted_by TEXT COLLATE "C" NOT NULL,
    change BIGINT NOT NULL
);
CREATE INDEX inventory_refetch_change ON inventory_refetch (change);

-- A deleted one stays as a tombstone. Answers before asked_since were to another question.
CREATE TABLE policy (
    no BIGINT NOT NULL PRIMARY KEY,
    org BIGINT NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    description TEXT COLLATE "C" NOT NULL,
    resolution TEXT COLLATE "C" NOT NULL,
    critical BIGINT NOT NULL,
    query TEXT COLLATE "C" NOT NULL,
    platforms TEXT COLLATE "C" NOT NULL,
    labels TEXT COLLATE "C" NOT NULL,
    exclude_labels TEXT COLLATE "C" NOT NULL,
    enabled BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT COLLATE "C" NOT NULL,
    updated_at BIGINT NOT NULL,
    updated_by TEXT COLLATE "C" NOT NULL,
    asked_since BIGINT NOT NULL,
    deleted_at BIGINT,
    change BIGINT NOT NULL,
    UNIQUE (org, name)
);
CREATE INDEX policy_change ON policy (change);

-- A label that follows a SELECT, asked with what the owner may see.
CREATE TABLE label_rule (
    label_no BIGINT NOT NULL PRIMARY KEY,
    org BIGINT NOT NULL,
    query TEXT COLLATE "C" NOT NULL,
    owner_no BIGINT NOT NULL,
    owner_name TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    evaluated_at BIGINT,
    changed_at BIGINT,
    error TEXT COLLATE "C",
    failing_since BIGINT,
    epoch BIGINT NOT NULL
);
CREATE INDEX label_rule_org ON label_rule (org, label_no);

-- Who a rule took in and let go, a compressed bitmap each.
CREATE TABLE label_rule_change (
    label_no BIGINT NOT NULL,
    change BIGINT NOT NULL,
    at BIGINT NOT NULL,
    added BYTEA NOT NULL,
    removed BYTEA NOT NULL,
    added_count BIGINT NOT NULL,
    removed_count BIGINT NOT NULL,
    member_count BIGINT NOT NULL,
    PRIMARY KEY (label_no, change)
);
CREATE INDEX label_rule_change_at ON label_rule_change (at);
