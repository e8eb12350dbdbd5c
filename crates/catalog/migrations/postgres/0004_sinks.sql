-- Log destinations, the twin of the SQLite file.

-- Which commits of workers a segment holds rows of: a number of the feed 'commit', so its order is
-- commit order. A flush holds one; a merged segment everything between two. NULL: written by a
-- version that did not know, so it may hold rows of any.
ALTER TABLE segment ADD COLUMN commit_first BIGINT;
ALTER TABLE segment ADD COLUMN commit_last BIGINT;
UPDATE segment SET commit_first = 0, commit_last = 0;
CREATE INDEX segment_commit ON segment (commit_last);

-- How many rows were ever committed to a table: what is counted against what a sink has met.
CREATE TABLE result_count (
    org BIGINT NOT NULL,
    table_name TEXT COLLATE "C" NOT NULL,
    class TEXT COLLATE "C" NOT NULL,
    row_count BIGINT NOT NULL,
    PRIMARY KEY (org, table_name, class)
);
INSERT INTO result_count (org, table_name, class, row_count)
SELECT org, table_name, class, CAST(SUM(row_count) AS BIGINT) FROM segment_part GROUP BY org, table_name, class;

-- Where rows are sent. `sealed` is the secret, under the key of the installation.
CREATE TABLE sink (
    no BIGINT NOT NULL PRIMARY KEY,
    org BIGINT NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    settings TEXT COLLATE "C" NOT NULL,
    filter TEXT COLLATE "C" NOT NULL,
    sealed BYTEA,
    paused BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT COLLATE "C" NOT NULL,
    change BIGINT NOT NULL,
    UNIQUE (org, name)
);

-- How far a sink is. Written by the holder of its lease alone, and at its creation.
CREATE TABLE sink_progress (
    sink_no BIGINT NOT NULL PRIMARY KEY,
    epoch BIGINT NOT NULL,
    commit_no BIGINT NOT NULL,
    positions BYTEA NOT NULL,
    within TEXT COLLATE "C",
    aim BYTEA,
    base_rows BIGINT NOT NULL,
    delivered_rows BIGINT NOT NULL,
    filtered_rows BIGINT NOT NULL,
    refused_rows BIGINT NOT NULL,
    gone_rows BIGINT NOT NULL,
    delivered_at BIGINT,
    received_until BIGINT,
    error TEXT COLLATE "C",
    error_at BIGINT,
    failures BIGINT NOT NULL,
    retry_at BIGINT
);

-- Rows that a destination refused for ever; the newest of each sink.
CREATE TABLE sink_refused (
    sink_no BIGINT NOT NULL,
    at BIGINT NOT NULL,
    row_id TEXT COLLATE "C" NOT NULL,
    reason TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (sink_no, at, row_id)
);

-- Where all shards stood at a commit: steps for sinks that are far behind.
CREATE TABLE commit_mark (
    commit_no BIGINT NOT NULL PRIMARY KEY,
    positions BYTEA NOT NULL,
    marked_at BIGINT NOT NULL
);
