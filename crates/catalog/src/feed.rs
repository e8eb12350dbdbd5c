//! Feeds, and the two statements that differ by database: time and raising a feed.

crate::statements! {
    /// Database time in microseconds.
    pub NOW = {
        sqlite: "SELECT CAST(unixepoch('subsec') * 1000000 AS INTEGER) AS now",
        postgres: "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT) AS now"
    };
    /// Raises a feed, creating it.
    pub BUMP = "INSERT INTO feed (topic, seq)
        VALUES ($1, $2)
        ON CONFLICT (topic) DO UPDATE SET seq = feed.seq + excluded.seq
        RETURNING seq";
}
