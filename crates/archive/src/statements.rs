//! The SQL of the manifest.
//!
//! `hunt` is read here only for its hold: retention must not outrun it.

muster_catalog::statements! {
    /// A new segment.
    pub ADD_SEGMENT = "
        INSERT INTO segment (
            object, level, byte_count, row_count, created_at, writer, commit_first, commit_last)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";

    /// Adds to what was ever committed, as a JSON array of `[org, table, class, rows]`.
    pub COUNT_ROWS = {
        sqlite: "
        INSERT INTO result_count (org, table_name, class, row_count)
        SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM json_each($1) WHERE true
        ON CONFLICT (org, table_name, class)
            DO UPDATE SET row_count = result_count.row_count + excluded.row_count",
        postgres: "
        INSERT INTO result_count (org, table_name, class, row_count)
        SELECT (value ->> 0)::bigint, value ->> 1, value ->> 2, (value ->> 3)::bigint
        FROM jsonb_array_elements($1::jsonb)
        ON CONFLICT (org, table_name, class)
            DO UPDATE SET row_count = result_count.row_count + excluded.row_count"
    };

    /// The first and last commit of the segments of `[object, …]`; NULL when one is not known.
    pub COMMITS_OF = {
        sqlite: "
        SELECT
            CASE WHEN COUNT(*) = COUNT(commit_first) THEN MIN(commit_first) END AS commit_first,
            CASE WHEN COUNT(*) = COUNT(commit_last) THEN MAX(commit_last) END AS commit_last
        FROM segment
        WHERE object IN (SELECT value ->> 0 FROM json_each($1))",
        postgres: "
        SELECT
            CASE WHEN COUNT(*) = COUNT(commit_first) THEN MIN(commit_first) END AS commit_first,
            CASE WHEN COUNT(*) = COUNT(commit_last) THEN MAX(commit_last) END AS commit_last
        FROM segment
        WHERE object IN (SELECT value ->> 0 FROM jsonb_array_elements($1::jsonb))"
    };

    /// Its parts, as a JSON array of arrays.
    pub ADD_PARTS = {
        sqlite: "
        INSERT INTO segment_part (
            object, part, org, table_name, class, day, level, byte_offset, byte_count, row_count,
            received_min, received_max, agent_min, agent_max, hunt_min, hunt_max)
        SELECT
            $1, key, value ->> 0, value ->> 1, value ->> 2, value ->> 3, $2, value ->> 4,
            value ->> 5, value ->> 6, value ->> 7, value ->> 8, value ->> 9, value ->> 10,
            value ->> 11, value ->> 12
        FROM json_each($3)",
        postgres: "
        INSERT INTO segment_part (
            object, part, org, table_name, class, day, level, byte_offset, byte_count, row_count,
            received_min, received_max, agent_min, agent_max, hunt_min, hunt_max)
        SELECT
            $1, ordinality - 1, (value ->> 0)::bigint, value ->> 1, value ->> 2,
            (value ->> 3)::bigint, $2, (value ->> 4)::bigint, (value ->> 5)::bigint,
            (value ->> 6)::bigint, (value ->> 7)::bigint, (value ->> 8)::bigint,
            (value ->> 9)::bigint, (value ->> 10)::bigint, (value ->> 11)::bigint,
            (value ->> 12)::bigint
        FROM jsonb_array_elements($3::jsonb) WITH ORDINALITY"
    };

    /// Columns with the types they were seen with, as a JSON array of
    /// `[org, table, folded name, name, rank, ordinal]`. Types only gather. What is known already
    /// is not written again. New columns are refused once a table has very many of them.
    pub WIDEN_COLUMNS = {
        sqlite: "
        INSERT INTO result_column (org, table_name, name_folded, name, rank, ordinal)
        SELECT new.org, new.table_name, new.name_folded, new.name, new.rank, new.ordinal
        FROM (
            SELECT
                value ->> 0 AS org, value ->> 1 AS table_name, value ->> 2 AS name_folded,
                value ->> 3 AS name, value ->> 4 AS rank, value ->> 5 AS ordinal
            FROM json_each($1)
        ) AS new
        LEFT JOIN result_column AS old
            ON old.org = new.org AND old.table_name = new.table_name
            AND old.name_folded = new.name_folded
        WHERE old.rank | new.rank <> old.rank
            OR (old.rank IS NULL AND $2 > (
                SELECT COUNT(*) FROM result_column AS c
                WHERE c.org = new.org AND c.table_name = new.table_name))
        ORDER BY new.org, new.table_name, new.name_folded
        ON CONFLICT (org, table_name, name_folded)
            DO UPDATE SET rank = result_column.rank | excluded.rank",
        postgres: "
        INSERT INTO result_column (org, table_name, name_folded, name, rank, ordinal)
        SELECT new.org, new.table_name, new.name_folded, new.name, new.rank, new.ordinal
        FROM (
            SELECT
                (value ->> 0)::bigint AS org, value ->> 1 AS table_name,
                value ->> 2 AS name_folded, value ->> 3 AS name,
                (value ->> 4)::bigint AS rank, (value ->> 5)::bigint AS ordinal
            FROM jsonb_array_elements($1::jsonb)
        ) AS new
        LEFT JOIN result_column AS old
            ON old.org = new.org AND old.table_name = new.table_name
            AND old.name_folded = new.name_folded
        WHERE old.rank | new.rank <> old.rank
            OR (old.rank IS NULL AND $2 > (
                SELECT COUNT(*) FROM result_column AS c
                WHERE c.org = new.org AND c.table_name = new.table_name))
        ORDER BY new.org, new.table_name, new.name_folded
        ON CONFLICT (org, table_name, name_folded)
            DO UPDATE SET rank = result_column.rank | excluded.rank"
    };

    /// The parts of a table that may hold rows of these ranges.
    pub PARTS_OF = "
        SELECT
            object, part, org, table_name, class, day, level, byte_offset, byte_count, row_count,
            received_min, received_max, agent_min, agent_max, hunt_min, hunt_max
        FROM segment_part
        WHERE org = $1 AND table_name = $2
            AND received_max >= $3 AND received_min <= $4
            AND agent_max >= $5 AND agent_min <= $6
            AND hunt_max >= $7 AND hunt_min <= $8
        ORDER BY received_max, object, part";

    /// The parts that may hold rows of the commits behind $2 up to $3. Those of which nobody knows
    /// are always among them.
    pub PARTS_OF_COMMITS = "
        SELECT
            p.object, p.part, p.org, p.table_name, p.class, p.day, p.level, p.byte_offset,
            p.byte_count, p.row_count, p.received_min, p.received_max, p.agent_min, p.agent_max,
            p.hunt_min, p.hunt_max
        FROM segment AS s
        JOIN segment_part AS p ON p.object = s.object
        WHERE s.commit_last > $2 AND s.commit_first <= $3 AND p.org = $1
        UNION ALL
        SELECT
            p.object, p.part, p.org, p.table_name, p.class, p.day, p.level, p.byte_offset,
            p.byte_count, p.row_count, p.received_min, p.received_max, p.agent_min, p.agent_max,
            p.hunt_min, p.hunt_max
        FROM segment AS s
        JOIN segment_part AS p ON p.object = s.object
        WHERE s.commit_last IS NULL AND p.org = $1";

    /// Tables that have columns.
    pub TABLES = "
        SELECT DISTINCT table_name
        FROM result_column
        WHERE org = $1
        ORDER BY table_name";

    /// Columns of a table.
    pub COLUMNS = "
        SELECT name_folded, rank
        FROM result_column
        WHERE org = $1 AND table_name = $2
        ORDER BY ordinal, name_folded";

    /// Takes the rows of the parts `[object, part, rows]` off their segments; locks the segments
    /// for the rest of the transaction, so that the last to take a part of one sees it empty.
    pub LIGHTEN_SEGMENTS = {
        sqlite: "
        UPDATE segment SET row_count = row_count - (
            SELECT SUM(value ->> 2) FROM json_each($1) WHERE value ->> 0 = segment.object)
        WHERE object IN (SELECT value ->> 0 FROM json_each($1))",
        postgres: "
        UPDATE segment SET row_count = row_count - old.rows
        FROM (
            SELECT value ->> 0 AS object, SUM((value ->> 2)::bigint)::bigint AS rows
            FROM jsonb_array_elements($1::jsonb) GROUP BY value ->> 0
        ) AS old
        WHERE segment.object = old.object"
    };

    /// Removes the parts `[object, part, …]`.
    pub REMOVE_PARTS = {
        sqlite: "
        DELETE FROM segment_part
        WHERE (object, part) IN (SELECT value ->> 0, value ->> 1 FROM json_each($1))",
        postgres: "
        DELETE FROM segment_part
        WHERE (object, part) IN (
            SELECT value ->> 0, (value ->> 1)::bigint FROM jsonb_array_elements($1::jsonb))"
    };

    /// Removes those of the segments `[object, …]` that have no part left.
    pub REMOVE_EMPTY = {
        sqlite: "
        DELETE FROM segment
        WHERE object IN (SELECT value ->> 0 FROM json_each($1))
            AND NOT EXISTS (SELECT 1 FROM segment_part AS p WHERE p.object = segment.object)
        RETURNING object",
        postgres: "
        DELETE FROM segment
        WHERE object IN (SELECT value ->> 0 FROM jsonb_array_elements($1::jsonb))
            AND NOT EXISTS (SELECT 1 FROM segment_part AS p WHERE p.object = segment.object)
        RETURNING object"
    };

    /// Objects to delete later, as a JSON array of names.
    pub RETIRE = {
        sqlite: "
        INSERT INTO retired_object (object, retired_at, not_before, reason)
        SELECT value, $2, $3, $4 FROM json_each($1) WHERE true ORDER BY value
        ON CONFLICT (object) DO NOTHING",
        postgres: "
        INSERT INTO retired_object (object, retired_at, not_before, reason)
        SELECT value, $2, $3, $4 FROM jsonb_array_elements_text($1::jsonb) ORDER BY value
        ON CONFLICT (object) DO NOTHING"
    };

    /// Retired objects whose time has come, but for those that somebody holds.
    pub DUE = {
        sqlite: "
        SELECT r.object
        FROM retired_object AS r
        WHERE r.not_before <= $1
            AND NOT EXISTS (SELECT 1 FROM segment AS s WHERE s.object = r.object)
            AND NOT EXISTS (
                SELECT 1 FROM segment_hold AS h, json_each(h.objects) AS held
                WHERE h.expires_at > $1 AND held.value IN (r.object, '*'))
        ORDER BY r.not_before
        LIMIT $2",
        postgres: "
        SELECT r.object
        FROM retired_object AS r
        WHERE r.not_before <= $1
            AND NOT EXISTS (SELECT 1 FROM segment AS s WHERE s.object = r.object)
            AND NOT EXISTS (
                SELECT 1 FROM segment_hold AS h
                CROSS JOIN LATERAL jsonb_array_elements_text(h.objects::jsonb) AS held
                WHERE h.expires_at > $1 AND held.value IN (r.object, '*'))
        ORDER BY r.not_before
        LIMIT $2"
    };

    /// Forgets deleted objects.
    pub FORGET = {
        sqlite: "
        DELETE FROM retired_object
        WHERE object IN (SELECT value FROM json_each($1))",
        postgres: "
        DELETE FROM retired_object
        WHERE object IN (SELECT value FROM jsonb_array_elements_text($1::jsonb))"
    };

    /// Which of these objects the catalog knows.
    pub KNOWN = {
        sqlite: "
        SELECT s.object FROM segment AS s
        WHERE s.object IN (SELECT value FROM json_each($1))
        UNION ALL
        SELECT r.object FROM retired_object AS r
        WHERE r.object IN (SELECT value FROM json_each($1))",
        postgres: "
        SELECT s.object FROM segment AS s
        WHERE s.object IN (SELECT value FROM jsonb_array_elements_text($1::jsonb))
        UNION ALL
        SELECT r.object FROM retired_object AS r
        WHERE r.object IN (SELECT value FROM jsonb_array_elements_text($1::jsonb))"
    };

    /// A hold on objects.
    pub ADD_HOLD = "
        INSERT INTO segment_hold (id, objects, held_by, expires_at)
        VALUES ($1, $2, $3, $4)";

    /// Whether somebody holds everything. Holds are few.
    pub small HELD_ALL = "
        SELECT id FROM segment_hold
        WHERE expires_at > $1 AND objects = '[\"*\"]'
        LIMIT 1";

    /// Holds everything, or goes on holding it.
    pub HOLD_ALL = "
        INSERT INTO segment_hold (id, objects, held_by, expires_at)
        VALUES ($1, '[\"*\"]', $2, $3)
        ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at";

    /// Which of these objects nobody will delete before this time.
    pub STILL_SAFE = {
        sqlite: "
        SELECT s.object FROM segment AS s
        WHERE s.object IN (SELECT value FROM json_each($1))
        UNION
        SELECT r.object FROM retired_object AS r
        WHERE r.object IN (SELECT value FROM json_each($1)) AND r.not_before > $2",
        postgres: "
        SELECT s.object FROM segment AS s
        WHERE s.object IN (SELECT value FROM jsonb_array_elements_text($1::jsonb))
        UNION
        SELECT r.object FROM retired_object AS r
        WHERE r.object IN (SELECT value FROM jsonb_array_elements_text($1::jsonb))
            AND r.not_before > $2"
    };

    /// Ends a hold.
    pub RELEASE_HOLD = "DELETE FROM segment_hold WHERE id = $1";

    /// Forgets holds that ran out.
    pub FORGET_HOLDS = "DELETE FROM segment_hold WHERE expires_at <= $1";

    /// Fresh parts that are old enough, grouped by what they may be merged with. Blocks of uploads are left
    /// out: their rows are megabytes that may compress to nothing, and they are dropped within a day.
    pub FRESH_GROUPS = "
        SELECT
            p.org, p.table_name, p.class, p.day, COUNT(*) AS parts,
            CAST(SUM(p.byte_count) AS BIGINT) AS bytes
        FROM segment AS s
        JOIN segment_part AS p ON p.object = s.object
        WHERE s.level = 0 AND s.created_at <= $1 AND p.table_name <> 'upload_blocks'
        GROUP BY p.org, p.table_name, p.class, p.day
        HAVING COUNT(*) >= $2 OR MIN(s.created_at) <= $3
        ORDER BY parts DESC, p.org, p.table_name, p.class, p.day
        LIMIT $4";

    /// Parts of one fresh group.
    pub FRESH_PARTS = "
        SELECT
            p.object, p.part, p.org, p.table_name, p.class, p.day, p.level, p.byte_offset,
            p.byte_count, p.row_count, p.received_min, p.received_max, p.agent_min, p.agent_max,
            p.hunt_min, p.hunt_max
        FROM segment AS s
        JOIN segment_part AS p ON p.object = s.object
        WHERE s.level = 0 AND s.created_at <= $1
            AND p.org = $2 AND p.table_name = $3 AND p.class = $4 AND p.day = $5
        ORDER BY s.created_at, p.object
        LIMIT $6";

    /// Groups of settled parts that are small yet; without blocks of uploads, as above.
    pub SMALL_GROUPS = "
        SELECT
            org, table_name, class, day, COUNT(*) AS parts,
            CAST(SUM(byte_count) AS BIGINT) AS bytes
        FROM segment_part
        WHERE class = $1 AND day >= $2 AND day <= $3
            AND level >= $4 AND level <= $5 AND byte_count < $6
            AND table_name <> 'upload_blocks'
        GROUP BY org, table_name, class, day
        HAVING COUNT(*) >= $7
        ORDER BY parts DESC, org, table_name, day
        LIMIT $8";

    /// Parts of one such group.
    pub SMALL_PARTS = "
        SELECT
            object, part, org, table_name, class, day, level, byte_offset, byte_count, row_count,
            received_min, received_max, agent_min, agent_max, hunt_min, hunt_max
        FROM segment_part
        WHERE org = $1 AND table_name = $2 AND class = $3 AND day = $4
            AND level >= $5 AND level <= $6 AND byte_count < $7
        ORDER BY byte_count, object, part
        LIMIT $8";

    /// Parts whose day is over its time, but for those that a held hunt has to itself.
    pub EXPIRED_PARTS = "
        SELECT
            object, part, org, table_name, class, day, level, byte_offset, byte_count, row_count,
            received_min, received_max, agent_min, agent_max, hunt_min, hunt_max
        FROM segment_part AS p
        WHERE p.class = $1 AND p.day < $2
            AND NOT (p.hunt_min = p.hunt_max AND EXISTS (
                SELECT 1 FROM hunt AS h WHERE h.no = p.hunt_min AND h.hold_until > $3))
        ORDER BY p.day, p.table_name, p.object, p.part
        LIMIT $4";

    /// Hunts in a range that are held.
    pub HELD_HUNTS = "
        SELECT no FROM hunt
        WHERE no >= $1 AND no <= $2 AND hold_until > $3
        ORDER BY no";

    /// Settled parts behind a place in the order of their objects.
    pub SETTLED_AFTER = "
        SELECT
            object, part, org, table_name, class, day, level, byte_offset, byte_count, row_count,
            received_min, received_max, agent_min, agent_max, hunt_min, hunt_max
        FROM segment_part
        WHERE (object, part) > ($1, $2) AND level > 0
        ORDER BY object, part
        LIMIT $3";
}
