-- The first answer to each Idempotency-Key, kept for 24 hours.
CREATE TABLE pegboard.idempotency (
    client_id uuid NOT NULL,
    path text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    body_digest bytea NOT NULL,
    status integer NOT NULL,
    headers jsonb NOT NULL,
    body bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (client_id, path, key)
);

CREATE INDEX idempotency_created_at ON pegboard.idempotency (created_at);

-- What all workers and replicas have to share: the key that signs cursors.
CREATE TABLE pegboard.secret (
    name text COLLATE "C" PRIMARY KEY,
    value bytea NOT NULL
);
