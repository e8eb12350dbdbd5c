-- Agents that are named by an identifier of their machine (osquery): which instance of the program,
-- so that copied machines are told apart.
ALTER TABLE agent ADD COLUMN instance TEXT COLLATE "C" NOT NULL DEFAULT '';

-- Whether a secret is good only on a connection with a client certificate: 0 or 1.
ALTER TABLE enrol_secret ADD COLUMN client_certificate BIGINT NOT NULL DEFAULT 0;
