//! The SQL of copies.

muster_catalog::statements! {
    /// Which installation this is.
    pub(crate) small CLUSTER = "SELECT cluster FROM install WHERE id = 1";

    /// The newest migration.
    pub(crate) small MIGRATION = "
        SELECT name FROM schema_migration
        ORDER BY version DESC
        LIMIT 1";

    /// Segments behind a name.
    pub(crate) SEGMENTS = "
        SELECT object, byte_count FROM segment
        WHERE object > $1
        ORDER BY object
        LIMIT $2";

    /// Bases of the shards' states.
    pub(crate) small BASES = "
        SELECT base_object AS object FROM shard_offset
        WHERE base_object IS NOT NULL
        ORDER BY base_object";

    /// Stored uploads behind a name. They have no index by it: a copy reads them all anyhow.
    pub(crate) small UPLOADS = "
        SELECT object, piece_count FROM upload
        WHERE object > $1
        ORDER BY object
        LIMIT $2";

    /// Where all shards stand.
    pub(crate) small SHARDS = "
        SELECT shard, pos, base_pos, epoch FROM shard_offset
        ORDER BY shard";

    /// What this catalog is a copy of, if it is one.
    pub(crate) small COPY = "
        SELECT kind, source, begun_at, ended_at, stream_floor FROM store_copy
        WHERE id = 1";

    /// This catalog is being filled.
    pub(crate) COPY_BEGUN = "
        INSERT INTO store_copy (id, kind, source, begun_at, stream_floor)
        VALUES (1, $1, $2, $3, 0)
        ON CONFLICT (id) DO NOTHING";

    /// It is whole.
    pub(crate) COPY_ENDED = "
        UPDATE store_copy SET ended_at = $1, stream_floor = $2
        WHERE id = 1 AND ended_at IS NULL";

    /// It was moved elsewhere, or its stream was given up.
    pub(crate) COPY_SET = "
        INSERT INTO store_copy (id, kind, source, begun_at, ended_at, stream_floor)
        VALUES (1, $1, $2, $3, $3, $4)
        ON CONFLICT (id) DO UPDATE SET
            kind = excluded.kind,
            source = excluded.source,
            ended_at = excluded.ended_at,
            stream_floor = excluded.stream_floor";

    /// Nobody holds a lease of the installation that was copied.
    pub(crate) small NO_LEASES = "UPDATE partition_lease SET holder = NULL";

    /// Numbers that were given out after the copy was taken are not given out again. Those of agents and
    /// endpoints stay dense: a key of another agent of the same number is told by its time of issue.
    pub(crate) small ADVANCE_NUMBERS = "
        UPDATE feed SET seq = seq + $1 + seq / 10 + CASE
            WHEN topic IN ('number/agent', 'number/endpoint') THEN CAST(0 AS BIGINT)
            ELSE CAST($2 AS BIGINT) END
        WHERE topic LIKE 'number/%'";

    /// Hints that were sealed after the copy was taken say nothing to what was restored: its feeds give
    /// their numbers out again. The next start makes a new key.
    pub(crate) small FORGET_HINT_KEY = "DELETE FROM secret WHERE name LIKE 'bus/hint/%'";

    /// What of a shard will never be folded.
    pub(crate) ADD_GAP = "
        INSERT INTO shard_gap (shard, from_pos, to_pos, made_at, made_by, reason)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (shard, from_pos, made_at) DO NOTHING";

    /// All such.
    pub(crate) small GAPS = "
        SELECT shard, from_pos, to_pos, made_at, made_by, reason FROM shard_gap
        ORDER BY made_at, shard";

    /// Moves a shard on.
    pub(crate) SKIP = "
        UPDATE shard_offset SET pos = $3
        WHERE shard = $1 AND pos = $2";

    /// Whoever holds a shard takes it anew, and so reads from where it stands now.
    pub(crate) LET_GO = "
        UPDATE partition_lease SET holder = NULL
        WHERE job = $1 AND n = $2";

    /// Instances that are alive.
    pub(crate) small ALIVE = "
        SELECT name, expires_at FROM instance
        WHERE expires_at > $1
        ORDER BY name";

    /// Whether anything was ever done on this catalog.
    pub(crate) small PRISTINE = "
        SELECT (SELECT count(*) FROM feed) + (SELECT count(*) FROM instance) AS n";
}
