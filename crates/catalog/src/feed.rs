//! Feeds: raising one, and the time, which differs by database.

crate::statements! {
    /// Database time in microseconds.
    pub NOW = {
        sqlite: "SELECT CAST(unixepoch('subsec') * 1000000 AS INTEGER) AS now",
        postgres: "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT) AS now"
    };
    /// Raises a feed that is there. Those who wait for its row stand in a queue, which they do not where an
    /// insertion finds it in its way: there each commit wakes all of them, to find that one was first.
    pub RAISE = "UPDATE feed SET seq = seq + $2 WHERE topic = $1 RETURNING seq";
    /// Raises a feed, or creates it.
    pub BUMP = "INSERT INTO feed (topic, seq)
        VALUES ($1, $2)
        ON CONFLICT (topic) DO UPDATE SET seq = feed.seq + excluded.seq
        RETURNING seq";
}
