-- What instances tell of themselves.

-- Facts about an instance that others judge (clock, limits, certificates, configuration). Written by
-- the instance alone, every minute.
CREATE TABLE instance_report (
    instance BLOB NOT NULL PRIMARY KEY,
    incarnation INTEGER NOT NULL,
    reported_at INTEGER NOT NULL,
    facts TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Requests for debug archives; they go after a day.
CREATE TABLE debug_request (
    no INTEGER NOT NULL PRIMARY KEY,
    requested_by TEXT NOT NULL,
    requested_at INTEGER NOT NULL,
    seconds INTEGER NOT NULL,
    wanted TEXT NOT NULL,
    answer_by INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What each instance answered: an object of the archive, or what went wrong.
CREATE TABLE debug_part (
    request_no INTEGER NOT NULL,
    instance BLOB NOT NULL,
    object TEXT,
    byte_count INTEGER NOT NULL,
    problem TEXT,
    ended_at INTEGER NOT NULL,
    PRIMARY KEY (request_no, instance)
) STRICT, WITHOUT ROWID;
