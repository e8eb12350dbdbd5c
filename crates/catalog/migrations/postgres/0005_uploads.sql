-- Files taken from endpoints, the twin of the SQLite file.

-- An upload is 'open' while its blocks come, 'received' once all are in result segments, 'stored' as
-- objects of the archive named `object`-0, `object`-1 and so on; or 'failed'. `external_id` is the name the
-- agent gave it. Its row is removed together with its objects.
CREATE TABLE upload (
    no BIGINT NOT NULL PRIMARY KEY,
    org BIGINT NOT NULL,
    agent_no BIGINT NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    external_id TEXT COLLATE "C" NOT NULL,
    block_count BIGINT NOT NULL,
    block_size BIGINT NOT NULL,
    byte_count BIGINT NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    message TEXT COLLATE "C" NOT NULL,
    begun_at BIGINT NOT NULL,
    ended_at BIGINT,
    sha256 BYTEA,
    format TEXT COLLATE "C",
    object TEXT COLLATE "C",
    piece_count BIGINT NOT NULL,
    UNIQUE (org, agent_no, external_id)
);
CREATE INDEX upload_org ON upload (org, no);
CREATE INDEX upload_state ON upload (state, begun_at);
