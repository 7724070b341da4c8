-- Who may use the service. "password" is an argon2id hash.
CREATE TABLE pegboard.client (
    id uuid PRIMARY KEY,
    username text COLLATE "C" NOT NULL UNIQUE,
    password text COLLATE "C" NOT NULL,
    grants text[] NOT NULL DEFAULT '{}',
    active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT date_trunc('second', now()),
    updated_at timestamptz NOT NULL DEFAULT date_trunc('second', now()),
    "_version" bigint NOT NULL,
    CHECK (char_length(username) BETWEEN 1 AND 200 AND username !~ U&'[:\0001-\001F\007F-\009F]')
);

-- Every worker hears of a change as it is committed, and forgets the credentials of that client.
CREATE FUNCTION pegboard.tell_of_client() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('pegboard_client', OLD.id::text);
    RETURN NULL;
END
$$;

CREATE TRIGGER tell_of_client AFTER UPDATE OR DELETE ON pegboard.client
    FOR EACH ROW EXECUTE FUNCTION pegboard.tell_of_client();

-- The lock makes those take turns who would each leave the other as the last; what the one before has committed is
-- seen then, as long as transactions are READ COMMITTED.
CREATE FUNCTION pegboard.keep_an_administrator() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('pegboard.keep_an_administrator', 0));
    IF NOT EXISTS (SELECT FROM pegboard.client WHERE active AND '*:*' = ANY (grants)) THEN
        RAISE restrict_violation USING
            MESSAGE = 'no active client would hold *:*', CONSTRAINT = 'client_last_administrator',
            SCHEMA = 'pegboard', TABLE = 'client';
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER keep_an_administrator AFTER DELETE OR UPDATE OF active, grants ON pegboard.client
    FOR EACH ROW WHEN (OLD.active AND '*:*' = ANY (OLD.grants))
    EXECUTE FUNCTION pegboard.keep_an_administrator();
