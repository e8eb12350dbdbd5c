-- Copies of installations, and assets of the user interface.

-- Positions of a shard that will never be folded: a person moved it on, or what was there did not come
-- along with a copy. Above `from_pos`, up to `to_pos`.
CREATE TABLE shard_gap (
    shard INTEGER NOT NULL,
    from_pos INTEGER NOT NULL,
    to_pos INTEGER NOT NULL,
    made_at INTEGER NOT NULL,
    made_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (shard, from_pos, made_at)
) STRICT, WITHOUT ROWID;

-- One row, when this catalog came out of a copy ('restore', 'move'), lost its stream ('lost') or was moved
-- elsewhere ('moved'). Without `ended_at` it is not whole and nothing may run on it. A new stream begins above
-- `stream_floor`.
CREATE TABLE store_copy (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    kind TEXT NOT NULL,
    source TEXT NOT NULL,
    begun_at INTEGER NOT NULL,
    ended_at INTEGER,
    stream_floor INTEGER NOT NULL
) STRICT;

-- Files of the user interface in the archive, and when an instance last had them as its own.
CREATE TABLE asset (
    name TEXT NOT NULL PRIMARY KEY,
    wanted_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX asset_wanted ON asset (wanted_at);
