-- The declarations that were applied to the table of each plugin, in order. "declared" is null if it is not known;
-- "verified" is a digest of the table as it was when it last had no difference.
CREATE TABLE pegboard.declaration (
    plugin text COLLATE "C" NOT NULL,
    number integer NOT NULL,
    fingerprint text COLLATE "C" NOT NULL,
    version text COLLATE "C" NOT NULL,
    declared jsonb,
    verified text COLLATE "C" NOT NULL DEFAULT '',
    applied_at timestamptz NOT NULL DEFAULT date_trunc('second', now()),
    PRIMARY KEY (plugin, number)
);

-- Of the declarations before, only the fingerprint of the latest is known.
INSERT INTO pegboard.declaration (plugin, number, fingerprint, version)
SELECT plugin, 1, checksum, '' FROM pegboard.migration WHERE version = 0;
