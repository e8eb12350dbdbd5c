-- What osquery agents run by themselves, and the configuration they are given.

-- A deleted one keeps its name for a while: agents may still hold rows under it.
CREATE TABLE schedule (
    no BIGINT NOT NULL PRIMARY KEY,
    org BIGINT NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    pack TEXT COLLATE "C" NOT NULL,
    artifact TEXT COLLATE "C" NOT NULL,
    own_artifact BIGINT NOT NULL,
    parameters TEXT COLLATE "C" NOT NULL,
    description TEXT COLLATE "C" NOT NULL,
    interval_s BIGINT NOT NULL,
    mode TEXT COLLATE "C" NOT NULL,
    platforms TEXT COLLATE "C" NOT NULL,
    min_version TEXT COLLATE "C" NOT NULL,
    shard_percent BIGINT NOT NULL,
    discovery TEXT COLLATE "C" NOT NULL,
    denylist BIGINT NOT NULL,
    priority BIGINT NOT NULL,
    labels_in TEXT COLLATE "C" NOT NULL,
    labels_out TEXT COLLATE "C" NOT NULL,
    enabled BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT COLLATE "C" NOT NULL,
    deleted_at BIGINT,
    change BIGINT NOT NULL
);
CREATE UNIQUE INDEX schedule_name ON schedule (org, name) WHERE deleted_at IS NULL;
CREATE INDEX schedule_deleted ON schedule (deleted_at) WHERE deleted_at IS NOT NULL;

CREATE TABLE osquery_config (
    no BIGINT NOT NULL PRIMARY KEY,
    org BIGINT NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    label TEXT COLLATE "C" NOT NULL,
    platforms TEXT COLLATE "C" NOT NULL,
    precedence BIGINT NOT NULL,
    sections TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT COLLATE "C" NOT NULL,
    change BIGINT NOT NULL,
    UNIQUE (org, name)
);
