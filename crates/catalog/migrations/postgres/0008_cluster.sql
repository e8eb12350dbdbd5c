-- What a start says of itself beyond the columns that older versions know, as JSON; when it left.
ALTER TABLE instance ADD COLUMN facts TEXT COLLATE "C" NOT NULL DEFAULT '{}';
ALTER TABLE instance ADD COLUMN left_at BIGINT;

-- Until when the allowance of attempts to sign in is used, by a keyed hash of a name or an address: one
-- table for all instances. Slots are numbered and few, so it does not grow.
CREATE TABLE sign_in_allowance (
    slot BIGINT NOT NULL PRIMARY KEY,
    used_until BIGINT NOT NULL
);
