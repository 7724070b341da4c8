SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
CREATE SCHEMA companies;
COMMENT ON SCHEMA companies IS 'pegboard: pegboard-companies';
CREATE SCHEMA contacts;
COMMENT ON SCHEMA contacts IS 'pegboard: pegboard-contacts';
CREATE SCHEMA files;
COMMENT ON SCHEMA files IS 'pegboard: pegboard-files';
CREATE SCHEMA pegboard;
CREATE FUNCTION pegboard.keep_an_administrator() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
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
CREATE FUNCTION pegboard.tell_of_client() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM pg_notify('pegboard_client', OLD.id::text);
    RETURN NULL;
END
$$;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE companies.companies (
    id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT date_trunc('second'::text, now()) NOT NULL,
    updated_at timestamp with time zone DEFAULT date_trunc('second'::text, now()) NOT NULL,
    _version bigint NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    website text COLLATE pg_catalog."C",
    industry text COLLATE pg_catalog."C",
    vat_number text COLLATE pg_catalog."C",
    address text COLLATE pg_catalog."C",
    city text COLLATE pg_catalog."C",
    country text COLLATE pg_catalog."C",
    employees bigint,
    tags text[] DEFAULT ARRAY[]::text[] NOT NULL COLLATE pg_catalog."C",
    notes text COLLATE pg_catalog."C",
    _search tsvector GENERATED ALWAYS AS (to_tsvector('simple'::regconfig, "left"(((((((COALESCE(name, ''::text) || ' '::text) || COALESCE(industry, ''::text)) || ' '::text) || COALESCE(city, ''::text)) || ' '::text) || COALESCE(notes, ''::text)), 100000))) STORED,
    CONSTRAINT companies_address_max_length CHECK ((char_length(address) <= 500)),
    CONSTRAINT companies_city_max_length CHECK ((char_length(city) <= 100)),
    CONSTRAINT companies_country_max_length CHECK ((char_length(country) <= 2)),
    CONSTRAINT companies_country_min_length CHECK ((char_length(country) >= 2)),
    CONSTRAINT companies_industry_max_length CHECK ((char_length(industry) <= 100)),
    CONSTRAINT companies_name_max_length CHECK ((char_length(name) <= 200)),
    CONSTRAINT companies_name_min_length CHECK ((char_length(name) >= 1)),
    CONSTRAINT companies_notes_max_length CHECK ((char_length(notes) <= 10000)),
    CONSTRAINT companies_tags_max_length CHECK ((cardinality(tags) <= 20)),
    CONSTRAINT companies_vat_number_max_length CHECK ((char_length(vat_number) <= 20)),
    CONSTRAINT companies_vat_number_min_length CHECK ((char_length(vat_number) >= 4)),
    CONSTRAINT companies_website_max_length CHECK ((char_length(website) <= 2000))
);
CREATE TABLE contacts.contacts (
    id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT date_trunc('second'::text, now()) NOT NULL,
    updated_at timestamp with time zone DEFAULT date_trunc('second'::text, now()) NOT NULL,
    _version bigint NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    email text NOT NULL COLLATE pg_catalog."C",
    phone text COLLATE pg_catalog."C",
    company uuid,
    notes text COLLATE pg_catalog."C",
    birthday date,
    tags text[] DEFAULT ARRAY[]::text[] NOT NULL COLLATE pg_catalog."C",
    last_contacted_at timestamp with time zone,
    _search tsvector GENERATED ALWAYS AS (to_tsvector('simple'::regconfig, "left"(((((COALESCE(name, ''::text) || ' '::text) || COALESCE(email, ''::text)) || ' '::text) || COALESCE(notes, ''::text)), 100000))) STORED,
    CONSTRAINT contacts_email_max_length CHECK ((char_length(email) <= 254)),
    CONSTRAINT contacts_name_max_length CHECK ((char_length(name) <= 200)),
    CONSTRAINT contacts_name_min_length CHECK ((char_length(name) >= 1)),
    CONSTRAINT contacts_notes_max_length CHECK ((char_length(notes) <= 10000)),
    CONSTRAINT contacts_phone_max_length CHECK ((char_length(phone) <= 40)),
    CONSTRAINT contacts_tags_max_length CHECK ((cardinality(tags) <= 20))
);
CREATE TABLE files.files (
    id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT date_trunc('second'::text, now()) NOT NULL,
    updated_at timestamp with time zone DEFAULT date_trunc('second'::text, now()) NOT NULL,
    _version bigint NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    description text COLLATE pg_catalog."C",
    resource text COLLATE pg_catalog."C",
    item text COLLATE pg_catalog."C",
    media_type text COLLATE pg_catalog."C",
    size bigint,
    sha256 text COLLATE pg_catalog."C",
    _search tsvector GENERATED ALWAYS AS (to_tsvector('simple'::regconfig, "left"(((COALESCE(name, ''::text) || ' '::text) || COALESCE(description, ''::text)), 100000))) STORED,
    CONSTRAINT files_description_max_length CHECK ((char_length(description) <= 10000)),
    CONSTRAINT files_item_max_length CHECK ((char_length(item) <= 200)),
    CONSTRAINT files_item_min_length CHECK ((char_length(item) >= 1)),
    CONSTRAINT files_name_max_length CHECK ((char_length(name) <= 255)),
    CONSTRAINT files_name_min_length CHECK ((char_length(name) >= 1)),
    CONSTRAINT files_resource_max_length CHECK ((char_length(resource) <= 40)),
    CONSTRAINT files_resource_min_length CHECK ((char_length(resource) >= 1))
);
CREATE TABLE files.files_content (
    item uuid NOT NULL,
    sha256 text NOT NULL COLLATE pg_catalog."C",
    number integer NOT NULL,
    data bytea NOT NULL
);
ALTER TABLE ONLY files.files_content ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE TABLE pegboard.client (
    id uuid NOT NULL,
    username text NOT NULL COLLATE pg_catalog."C",
    password text NOT NULL COLLATE pg_catalog."C",
    grants text[] DEFAULT '{}'::text[] NOT NULL,
    active boolean DEFAULT true NOT NULL,
    created_at timestamp with time zone DEFAULT date_trunc('second'::text, now()) NOT NULL,
    updated_at timestamp with time zone DEFAULT date_trunc('second'::text, now()) NOT NULL,
    _version bigint NOT NULL,
    CONSTRAINT client_username_check CHECK ((((char_length(username) >= 1) AND (char_length(username) <= 200)) AND (username !~ '[:--]'::text)))
);
CREATE TABLE pegboard.idempotency (
    client_id uuid NOT NULL,
    path text NOT NULL COLLATE pg_catalog."C",
    key text NOT NULL COLLATE pg_catalog."C",
    body_digest bytea NOT NULL,
    status integer NOT NULL,
    headers jsonb NOT NULL,
    body bytea NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE pegboard.migration (
    plugin text NOT NULL,
    version integer NOT NULL,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamp with time zone DEFAULT date_trunc('second'::text, now()) NOT NULL
);
CREATE TABLE pegboard.secret (
    name text NOT NULL COLLATE pg_catalog."C",
    value bytea NOT NULL
);
INSERT INTO companies.companies VALUES ('01a2220a-abdd-7e63-8e6b-2fb664ed1bc3', '2026-11-28 12:04:14+00', '2026-11-28 12:04:14+00', 4081114127002335320, 'Analytical Engines', 'https://example.org', NULL, NULL, NULL, NULL, NULL, NULL, '{}', NULL, DEFAULT);
INSERT INTO contacts.contacts VALUES ('01a2220a-abe5-79ab-a1cb-6db92f968f29', '2026-11-28 12:04:14+00', '2026-11-28 12:04:14+00', 371433666676272764, 'Charles Babbage', 'charles@example.org', NULL, '01a2220a-abdd-7e63-8e6b-2fb664ed1bc3', 'Notes about Charles Babbage', '1815-12-10', '{a}', '2015-02-15 05:21:07+00', DEFAULT);
INSERT INTO contacts.contacts VALUES ('01a2220a-abe7-7a67-a0f7-96d64dc26f07', '2026-11-28 12:04:14+00', '2026-11-28 12:04:14+00', 4120037048568870713, 'José Müller', 'Jose.MUELLER@Example.org', NULL, NULL, 'Notes about José Müller', '1815-12-10', '{a,b}', NULL, DEFAULT);
INSERT INTO contacts.contacts VALUES ('01a2220a-abe8-7df4-bc2e-f9b08711e49e', '2026-11-28 12:04:14+00', '2026-11-28 12:04:14+00', 4599378487335670293, 'Ελένη ΣΟΦΙΑΣ', 'ELENI@example.gr', NULL, '01a2220a-abdd-7e63-8e6b-2fb664ed1bc3', 'Notes about Ελένη ΣΟΦΙΑΣ', NULL, '{}', '2015-02-15 05:21:07+00', DEFAULT);
INSERT INTO contacts.contacts VALUES ('01a2220a-abe9-7f94-9359-060b75f180b6', '2026-11-28 12:04:14+00', '2026-11-28 12:04:14+00', 8258200087780074691, 'İlker Işık', 'ilker@example.org', NULL, NULL, 'Notes about İlker Işık', '1815-12-10', '{a}', NULL, DEFAULT);
INSERT INTO contacts.contacts VALUES ('01a2220a-abea-7f67-bb0b-ec956953da62', '2026-11-28 12:04:14+00', '2026-11-28 12:04:14+00', 5670973904400963272, 'Zoë', 'zoe@example.org', NULL, '01a2220a-abdd-7e63-8e6b-2fb664ed1bc3', 'Notes about Zoë', '1815-12-10', '{a,b}', '2015-02-15 05:21:07+00', DEFAULT);
INSERT INTO contacts.contacts VALUES ('01a2220a-abec-7290-8b9b-0c8162defd79', '2026-11-28 12:04:14+00', '2026-11-28 12:04:14+00', 5457476993961856514, '日本太郎', 'taro@example.jp', NULL, NULL, 'Notes about 日本太郎', NULL, '{}', NULL, DEFAULT);
INSERT INTO contacts.contacts VALUES ('01a2220a-abed-722f-a379-3f8b6f51708c', '2026-11-28 12:04:14+00', '2026-11-28 12:04:14+00', 1613748424932969200, 'Edge', 'edge@example.org', NULL, NULL, NULL, '9999-12-31', '{}', '0001-01-01 00:00:00+00', DEFAULT);
INSERT INTO contacts.contacts VALUES ('01a2220a-abe1-7f99-b1ef-41079f6b3dca', '2026-11-28 12:04:14+00', '2026-11-28 12:04:14+00', 2749446201225687275, 'Ada Lovelace', 'ada@example.org', '+44 20 7946 0000', NULL, 'Notes about Ada Lovelace', NULL, '{}', NULL, DEFAULT);
INSERT INTO contacts.contacts VALUES ('01a2220a-abfc-7780-b8ae-a8e33d4e3fcf', '2026-11-28 12:04:14+00', '2026-11-28 12:04:14+00', 5873435736619508790, 'Retried', 'retried@example.org', NULL, NULL, NULL, NULL, '{}', NULL, DEFAULT);
INSERT INTO files.files VALUES ('01a2220a-abf0-7484-b2ec-f6581eb7349a', '2026-11-28 12:04:14+00', '2026-11-28 12:04:14+00', 5308888392605436685, 'plan.txt', NULL, NULL, NULL, 'text/plain', 15, '0b692d184543a81ffa4f4a81e7494e27e79072b185f30d38ea1e4e264db4c998', DEFAULT);
INSERT INTO files.files_content VALUES ('01a2220a-abf0-7484-b2ec-f6581eb7349a', '0b692d184543a81ffa4f4a81e7494e27e79072b185f30d38ea1e4e264db4c998', 0, '\x6279746573206f66206120706c616e');
INSERT INTO pegboard.client VALUES ('01a2220a-abbe-77fa-9353-3c9f8c6e8c35', 'admin', '$argon2id$v=19$m=8,t=1,p=1$DGU8LejSA/IeAd/6dstz5Q$VC6Y4+K7q5TFBDUkxDUlyCE4qvAJpPVFz51Bzs0z9n0', '{*:*}', true, '2026-11-28 12:04:14+00', '2026-11-28 12:04:14+00', 3058088614744301689);
INSERT INTO pegboard.client VALUES ('01a2220a-abf9-78b5-9597-1a230cc98859', 'zoë', '$argon2id$v=19$m=8,t=1,p=1$nOSWdYMzD4YThApyWI/uFA$jPz/xInbZ8jPRC3WVdtq9bBJz40UTOKszR0dxUE7+kk', '{contacts:GET,files:*}', true, '2026-11-28 12:04:14+00', '2026-11-28 12:04:14+00', 5935951783209932059);
INSERT INTO pegboard.idempotency VALUES ('01a2220a-abbe-77fa-9353-3c9f8c6e8c35', '/contacts', 'the-key', '\xe4d5c6a928b18e56f1e4f58ba294786cf55183e6fd3bf71ff98a888cda8ddfa998f68816edfb138ce1ffd2cad0288ec49b2843af050b823f742b3b7ffe487443', 201, '{"ETag": "\"5182a2af044a6436\"", "Vary": "Accept, Accept-Encoding", "Location": "/contacts/01a2220a-abfc-7780-b8ae-a8e33d4e3fcf", "Content-Type": "application/json", "Cache-Control": "private, no-cache", "Last-Modified": "Sat, 28 Nov 2026 12:04:14 GMT"}', '\x7b226964223a2230316132323230612d616266632d373738302d623861652d613865333364346533666366222c226e616d65223a2252657472696564222c22656d61696c223a2272657472696564406578616d706c652e6f7267222c2270686f6e65223a6e756c6c2c22636f6d70616e79223a6e756c6c2c226e6f746573223a6e756c6c2c226269727468646179223a6e756c6c2c2274616773223a5b5d2c226c6173745f636f6e7461637465645f6174223a6e756c6c2c22637265617465645f6174223a22323032362d31312d32385431323a30343a31345a222c22757064617465645f6174223a22323032362d31312d32385431323a30343a31345a227d', '2026-11-28 12:04:14.45922+00');
INSERT INTO pegboard.migration VALUES ('pegboard', 1, '0001_clients.sql', 'fecf535de0c5afac852a27a8187ee0798fbc21ed11fc284ba6bd3670ed499468', '2026-11-28 12:04:14+00');
INSERT INTO pegboard.migration VALUES ('pegboard', 2, '0002_idempotency.sql', '86946974b9dc2d87be66c08762c8e579af1dbfcf55098a53a5b4b560be6b7598', '2026-11-28 12:04:14+00');
INSERT INTO pegboard.migration VALUES ('pegboard', 3, '0003_client_username.sql', 'efd1a996c46510e4b297bd62f33638f2ecbfd895e0dd866861983ff8f611c42e', '2026-11-28 12:04:14+00');
INSERT INTO pegboard.migration VALUES ('companies', 0, 'schema', '1c2ab3e4de75fd4f4859bb8369429eff923c05cb3c38ed9a736adf738dfe676a', '2026-11-28 12:04:14+00');
INSERT INTO pegboard.migration VALUES ('contacts', 0, 'schema', 'd1e293b33af69dd1f724daf5c2cfbaa26ead22d4f9adf32fde76d7b5af61f506', '2026-11-28 12:04:14+00');
INSERT INTO pegboard.migration VALUES ('files', 0, 'schema', 'ae1c6f07a02088d1ec8359a570fe8033336f238a8a05b2009b770de2bd839747', '2026-11-28 12:04:14+00');
INSERT INTO pegboard.secret VALUES ('shared', '\x2ded6eeac23f30d77baa6375dfaeb81441d4795f42aa0772176bb95908cb0b0e');
ALTER TABLE ONLY companies.companies
    ADD CONSTRAINT companies_pkey PRIMARY KEY (id);
ALTER TABLE ONLY contacts.contacts
    ADD CONSTRAINT contacts_pkey PRIMARY KEY (id);
ALTER TABLE ONLY files.files_content
    ADD CONSTRAINT files_content_pkey PRIMARY KEY (item, sha256, number);
ALTER TABLE ONLY files.files
    ADD CONSTRAINT files_pkey PRIMARY KEY (id);
ALTER TABLE ONLY pegboard.client
    ADD CONSTRAINT client_pkey PRIMARY KEY (id);
ALTER TABLE ONLY pegboard.client
    ADD CONSTRAINT client_username_unique UNIQUE (username);
ALTER TABLE ONLY pegboard.idempotency
    ADD CONSTRAINT idempotency_pkey PRIMARY KEY (client_id, path, key);
ALTER TABLE ONLY pegboard.migration
    ADD CONSTRAINT migration_pkey PRIMARY KEY (plugin, version);
ALTER TABLE ONLY pegboard.secret
    ADD CONSTRAINT secret_pkey PRIMARY KEY (name);
CREATE INDEX companies__search_index ON companies.companies USING gin (_search);
CREATE INDEX companies_country_name_index ON companies.companies USING btree (country, name, id);
CREATE INDEX companies_created_at_index ON companies.companies USING btree (created_at, id);
CREATE INDEX companies_name_index ON companies.companies USING btree (name, id);
CREATE INDEX companies_tags_index ON companies.companies USING gin (tags);
CREATE UNIQUE INDEX companies_vat_number_ignore_case_unique ON companies.companies USING btree (lower((vat_number COLLATE "default")) COLLATE "C");
CREATE INDEX contacts__search_index ON contacts.contacts USING gin (_search);
CREATE INDEX contacts_company_index ON contacts.contacts USING btree (company, id);
CREATE INDEX contacts_created_at_index ON contacts.contacts USING btree (created_at, id);
CREATE UNIQUE INDEX contacts_email_ignore_case_unique ON contacts.contacts USING btree (lower((email COLLATE "default")) COLLATE "C");
CREATE INDEX contacts_name_index ON contacts.contacts USING btree (name, id);
CREATE INDEX contacts_tags_index ON contacts.contacts USING gin (tags);
CREATE INDEX files__search_index ON files.files USING gin (_search);
CREATE INDEX files_created_at_index ON files.files USING btree (created_at, id);
CREATE INDEX files_name_index ON files.files USING btree (name, id);
CREATE INDEX files_resource_item_index ON files.files USING btree (resource, item, id);
CREATE INDEX idempotency_created_at ON pegboard.idempotency USING btree (created_at);
CREATE TRIGGER keep_an_administrator AFTER DELETE OR UPDATE OF active, grants ON pegboard.client FOR EACH ROW WHEN ((old.active AND ('*:*'::text = ANY (old.grants)))) EXECUTE FUNCTION pegboard.keep_an_administrator();
CREATE TRIGGER tell_of_client AFTER DELETE OR UPDATE ON pegboard.client FOR EACH ROW EXECUTE FUNCTION pegboard.tell_of_client();
ALTER TABLE ONLY contacts.contacts
    ADD CONSTRAINT contacts_company_reference FOREIGN KEY (company) REFERENCES companies.companies(id);
ALTER TABLE ONLY files.files_content
    ADD CONSTRAINT files_content_item_fkey FOREIGN KEY (item) REFERENCES files.files(id) ON DELETE CASCADE;
