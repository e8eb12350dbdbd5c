-- What osquery agents run by themselves, and the configuration they are given.

-- A deleted one keeps its name for a while: agents may still hold rows under it.
CREATE TABLE schedule (
    no INTEGER NOT NULL PRIMARY KEY,
    org INTEGER NOT NULL,
    name TEXT NOT NULL,
    pack TEXT NOT NULL,
    artifact TEXT NOT NULL,
    own_artifact INTEGER NOT NULL,
    parameters TEXT NOT NULL,
    description TEXT NOT NULL,
    interval_s INTEGER NOT NULL,
    mode TEXT NOT NULL,
    platforms TEXT NOT NULL,
    min_version TEXT NOT NULL,
    shard_percent INTEGER NOT NULL,
    discovery TEXT NOT NULL,
    denylist INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    labels_in TEXT NOT NULL,
    labels_out TEXT NOT NULL,
    enabled INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    deleted_at INTEGER,
    change INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX schedule_name ON schedule (org, name) WHERE deleted_at IS NULL;
CREATE INDEX schedule_deleted ON schedule (deleted_at) WHERE deleted_at IS NOT NULL;

CREATE TABLE osquery_config (
    no INTEGER NOT NULL PRIMARY KEY,
    org INTEGER NOT NULL,
    name TEXT NOT NULL,
    label TEXT NOT NULL,
    platforms TEXT NOT NULL,
    precedence INTEGER NOT NULL,
    sections TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    change INTEGER NOT NULL,
    UNIQUE (org, name)
) STRICT;
