-- What is known of every endpoint: who was asked when, policies, labels by rule.

-- When an agent was last handed its questions, 4 bytes per agent of the shard, in seconds. Readers take the
-- maximum over instances.
CREATE TABLE inventory_block (
    instance BLOB NOT NULL,
    shard INTEGER NOT NULL,
    written_at INTEGER NOT NULL,
    handed BLOB NOT NULL,
    PRIMARY KEY (instance, shard)
) STRICT, WITHOUT ROWID;

-- The last wish to have an agent asked out of turn.
CREATE TABLE inventory_refetch (
    agent_no INTEGER NOT NULL PRIMARY KEY,
    org INTEGER NOT NULL,
    wanted_at INTEGER NOT NULL,
    wanted_by TEXT NOT NULL,
    change INTEGER NOT NULL
) STRICT;
CREATE INDEX inventory_refetch_change ON inventory_refetch (change);

-- A deleted one stays as a tombstone. Answers before asked_since were to another question.
CREATE TABLE policy (
    no INTEGER NOT NULL PRIMARY KEY,
    org INTEGER NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    resolution TEXT NOT NULL,
    critical INTEGER NOT NULL,
    query TEXT NOT NULL,
    platforms TEXT NOT NULL,
    labels TEXT NOT NULL,
    exclude_labels TEXT NOT NULL,
    enabled INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    updated_at INTEGER NOT NULL,
    updated_by TEXT NOT NULL,
    asked_since INTEGER NOT NULL,
    deleted_at INTEGER,
    change INTEGER NOT NULL,
    UNIQUE (org, name)
) STRICT;
CREATE INDEX policy_change ON policy (change);

-- A label that follows a SELECT, asked with what the owner may see.
CREATE TABLE label_rule (
    label_no INTEGER NOT NULL PRIMARY KEY,
    org INTEGER NOT NULL,
    query TEXT NOT NULL,
    owner_no INTEGER NOT NULL,
    owner_name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    evaluated_at INTEGER,
    changed_at INTEGER,
    error TEXT,
    failing_since INTEGER,
    epoch INTEGER NOT NULL
) STRICT;
CREATE INDEX label_rule_org ON label_rule (org, label_no);

-- Who a rule took in and let go, a compressed bitmap each.
CREATE TABLE label_rule_change (
    label_no INTEGER NOT NULL,
    change INTEGER NOT NULL,
    at INTEGER NOT NULL,
    added BLOB NOT NULL,
    removed BLOB NOT NULL,
    added_count INTEGER NOT NULL,
    removed_count INTEGER NOT NULL,
    member_count INTEGER NOT NULL,
    PRIMARY KEY (label_no, change)
) STRICT, WITHOUT ROWID;
CREATE INDEX label_rule_change_at ON label_rule_change (at);
