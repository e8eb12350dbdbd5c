-- Log destinations.

-- Which commits of workers a segment holds rows of: a number of the feed 'commit', so its order is
-- commit order. A flush holds one; a merged segment everything between two. NULL: written by a
-- version that did not know, so it may hold rows of any.
ALTER TABLE segment ADD COLUMN commit_first INTEGER;
ALTER TABLE segment ADD COLUMN commit_last INTEGER;
UPDATE segment SET commit_first = 0, commit_last = 0;
CREATE INDEX segment_commit ON segment (commit_last);

-- How many rows were ever committed to a table: what is counted against what a sink has met.
CREATE TABLE result_count (
    org INTEGER NOT NULL,
    table_name TEXT NOT NULL,
    class TEXT NOT NULL,
    row_count INTEGER NOT NULL,
    PRIMARY KEY (org, table_name, class)
) STRICT, WITHOUT ROWID;
INSERT INTO result_count (org, table_name, class, row_count)
SELECT org, table_name, class, SUM(row_count) FROM segment_part GROUP BY org, table_name, class;

-- Where rows are sent. `sealed` is the secret, under the key of the installation.
CREATE TABLE sink (
    no INTEGER NOT NULL PRIMARY KEY,
    org INTEGER NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    settings TEXT NOT NULL,
    filter TEXT NOT NULL,
    sealed BLOB,
    paused INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    change INTEGER NOT NULL,
    UNIQUE (org, name)
) STRICT;

-- How far a sink is. Written by the holder of its lease alone, and at its creation.
CREATE TABLE sink_progress (
    sink_no INTEGER NOT NULL PRIMARY KEY,
    epoch INTEGER NOT NULL,
    commit_no INTEGER NOT NULL,
    positions BLOB NOT NULL,
    within TEXT,
    aim BLOB,
    base_rows INTEGER NOT NULL,
    delivered_rows INTEGER NOT NULL,
    filtered_rows INTEGER NOT NULL,
    refused_rows INTEGER NOT NULL,
    gone_rows INTEGER NOT NULL,
    delivered_at INTEGER,
    received_until INTEGER,
    error TEXT,
    error_at INTEGER,
    failures INTEGER NOT NULL,
    retry_at INTEGER
) STRICT;

-- Rows that a destination refused for ever; the newest of each sink.
CREATE TABLE sink_refused (
    sink_no INTEGER NOT NULL,
    at INTEGER NOT NULL,
    row_id TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (sink_no, at, row_id)
) STRICT, WITHOUT ROWID;

-- Where all shards stood at a commit: steps for sinks that are far behind.
CREATE TABLE commit_mark (
    commit_no INTEGER NOT NULL PRIMARY KEY,
    positions BLOB NOT NULL,
    marked_at INTEGER NOT NULL
) STRICT;
