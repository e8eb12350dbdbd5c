-- Which version is written of forms that instances read of each other: no row while it is the one that all
-- programs read from the beginning. What all instances that live read is wanted, since when; then written, from
-- when on no program that reads less is let in. Never lowered.
CREATE TABLE stored_format (
    name TEXT NOT NULL PRIMARY KEY,
    version INTEGER NOT NULL,
    wanted INTEGER NOT NULL,
    wanted_since INTEGER NOT NULL
) STRICT;
