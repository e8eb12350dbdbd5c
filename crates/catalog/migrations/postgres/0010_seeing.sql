-- What instances tell of themselves.

-- Facts about an instance that others judge (clock, limits, certificates, configuration). Written by
-- the instance alone, every minute.
CREATE TABLE instance_report (
    instance UUID NOT NULL PRIMARY KEY,
    incarnation BIGINT NOT NULL,
    reported_at BIGINT NOT NULL,
    facts TEXT COLLATE "C" NOT NULL
);

-- Requests for debug archives; they go after a day.
CREATE TABLE debug_request (
    no BIGINT NOT NULL PRIMARY KEY,
    requested_by TEXT COLLATE "C" NOT NULL,
    requested_at BIGINT NOT NULL,
    seconds BIGINT NOT NULL,
    wanted TEXT COLLATE "C" NOT NULL,
    answer_by BIGINT NOT NULL
);

-- What each instance answered: an object of the archive, or what went wrong.
CREATE TABLE debug_part (
    request_no BIGINT NOT NULL,
    instance UUID NOT NULL,
    object TEXT COLLATE "C",
    byte_count BIGINT NOT NULL,
    problem TEXT COLLATE "C",
    ended_at BIGINT NOT NULL,
    PRIMARY KEY (request_no, instance)
);
