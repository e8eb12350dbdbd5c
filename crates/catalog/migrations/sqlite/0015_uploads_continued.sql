-- When the last block of an upload came, to about ten minutes; NULL for none, or one that came soon.
ALTER TABLE upload ADD COLUMN continued_at INTEGER;
