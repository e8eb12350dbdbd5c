-- YARA rules that osquery agents fetch by name.
CREATE TABLE yara_rules (
    org INTEGER NOT NULL,
    name TEXT NOT NULL,
    text TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    change INTEGER NOT NULL,
    PRIMARY KEY (org, name)
) STRICT;
