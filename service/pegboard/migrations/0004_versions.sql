-- Every change of a row gives it a new version, whatever statement makes it; rows inserted by hand get an id and one.
CREATE FUNCTION pegboard.new_version() RETURNS bigint LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN (random() * 9223372036854774784)::bigint;

-- UUIDv7 (RFC 9562): the milliseconds since 1970 in 48 bits, and 74 random bits.
CREATE FUNCTION pegboard.uuid7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN encode(
    set_bit(set_bit(overlay(
        uuid_send(gen_random_uuid())
        PLACING substring(int8send(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
        FROM 1 FOR 6
    ), 52, 1), 53, 1),
    'hex'
)::uuid;

-- Called only for an UPDATE that keeps the version: one of the service that changes nothing, or any other statement.
CREATE FUNCTION pegboard.renew_version() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    -- They are not computed yet.
    generated text[] := ARRAY(SELECT attname FROM pg_attribute WHERE attrelid = TG_RELID AND attgenerated <> '');
BEGIN
    -- As text, because 1.0 equals 1.00.
    IF (to_jsonb(OLD) - generated)::text <> (to_jsonb(NEW) - generated)::text THEN
        NEW._version := pegboard.new_version();
        IF NEW.updated_at = OLD.updated_at THEN
            NEW.updated_at := greatest(date_trunc('second', now()), OLD.updated_at);
        END IF;
    END IF;
    RETURN NEW;
END
$$;

-- The clients have a table of the service, too. A password that is hashed anew is no change that anybody sees.
ALTER TABLE pegboard.client
    ALTER COLUMN id SET DEFAULT pegboard.uuid7(), ALTER COLUMN "_version" SET DEFAULT pegboard.new_version();

CREATE TRIGGER "~version" BEFORE UPDATE OF id, username, grants, active, created_at, updated_at ON pegboard.client
    FOR EACH ROW WHEN (NEW."_version" = OLD."_version") EXECUTE FUNCTION pegboard.renew_version();
