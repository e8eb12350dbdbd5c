-- Files taken from endpoints.

-- An upload is 'open' while its blocks come, 'received' once all are in result segments, 'stored' as
-- objects of the archive named `object`-0, `object`-1 and so on; or 'failed'. `external_id` is the name the
-- agent gave it. Its row is removed together with its objects.
CREATE TABLE upload (
    no INTEGER NOT NULL PRIMARY KEY,
    org INTEGER NOT NULL,
    agent_no INTEGER NOT NULL,
    kind TEXT NOT NULL,
    external_id TEXT NOT NULL,
    block_count INTEGER NOT NULL,
    block_size INTEGER NOT NULL,
    byte_count INTEGER NOT NULL,
    state TEXT NOT NULL,
    message TEXT NOT NULL,
    begun_at INTEGER NOT NULL,
    ended_at INTEGER,
    sha256 BLOB,
    format TEXT,
    object TEXT,
    piece_count INTEGER NOT NULL,
    UNIQUE (org, agent_no, external_id)
) STRICT;
CREATE INDEX upload_org ON upload (org, no);
CREATE INDEX upload_state ON upload (state, begun_at);
