-- What each migration asks of the programs that use the store: whether it expands or contracts, and the
-- lowest level of a program that works with it afterwards (0: any).
ALTER TABLE schema_migration ADD COLUMN kind TEXT COLLATE "C" NOT NULL DEFAULT 'expand';
ALTER TABLE schema_migration ADD COLUMN reader_level BIGINT NOT NULL DEFAULT 0;
