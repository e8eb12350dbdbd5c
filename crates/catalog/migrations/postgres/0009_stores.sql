-- Copies of installations, and assets of the user interface.

-- Positions of a shard that will never be folded: a person moved it on, or what was there did not come
-- along with a copy. Above `from_pos`, up to `to_pos`.
CREATE TABLE shard_gap (
    shard BIGINT NOT NULL,
    from_pos BIGINT NOT NULL,
    to_pos BIGINT NOT NULL,
    made_at BIGINT NOT NULL,
    made_by TEXT COLLATE "C" NOT NULL,
    reason TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (shard, from_pos, made_at)
);

-- One row, when this catalog came out of a copy ('restore', 'move'), lost its stream ('lost') or was moved
-- elsewhere ('moved'). Without `ended_at` it is not whole and nothing may run on it. A new stream begins above
-- `stream_floor`.
CREATE TABLE store_copy (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    kind TEXT COLLATE "C" NOT NULL,
    source TEXT COLLATE "C" NOT NULL,
    begun_at BIGINT NOT NULL,
    ended_at BIGINT,
    stream_floor BIGINT NOT NULL
);

-- Files of the user interface in the archive, and when an instance last had them as its own.
CREATE TABLE asset (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    wanted_at BIGINT NOT NULL
);
CREATE INDEX asset_wanted ON asset (wanted_at);
