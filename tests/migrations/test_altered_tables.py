"""Tables that were altered by hand: each way that ALTER TABLE knows is repaired, found at the next start, or harmless."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from pegboard.migrations.fitness import Use
from pegboard.migrations.runner import migrate, preview, status
from pegboard.migrations.status import Outcome, PluginMigrations
from pegboard.query.existing import ExistingTable
from pegboard.query.mapping import table_columns
from pegboard.schema import fields
from pegboard.schema.column import Column
from pegboard.schema.ddl import Index, TableSpec, Unique, create
from pegboard.schema.schema import Schema

ALL = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})
AUTHORS = TableSpec("authors", "authors", (Column("name", "text", nullable=False),))
BOOKS = TableSpec(
    "books",
    "books",
    (
        Column("title", "text", nullable=False, max_length=200, min_length=1),
        Column("isbn", "text", max_length=13),
        Column("pages", "bigint"),
        Column("price", "numeric(10,2)", nullable=False, default="'0'::numeric"),
        Column("tags", "text[]", nullable=False, default="'{}'::text[]", max_length=5),
        Column("code", "varchar(20)"),
        Column("author", "uuid", references=("authors", "authors")),
    ),
    uniques=(Unique("isbn"), Unique("title", ignore_case=True)),
    indexes=(Index(("-pages",)), Index(("tags",))),
    search=("title",),
)
ROWS = """
INSERT INTO authors.authors (id, _version, name) VALUES ('018cc251-f400-7000-8000-000000000001', 1, 'Jane');
INSERT INTO books.books (id, _version, title, isbn, pages, author)
VALUES ('018cc251-f400-7000-8000-000000000002', 1, 'Emma', '1', 400, '018cc251-f400-7000-8000-000000000001'),
       ('018cc251-f400-7000-8000-000000000003', 1, 'Persuasion', NULL, NULL, NULL)
"""
# How PostgreSQL describes a table, whatever the order of its columns.
CATALOGUE = """
    SELECT concat_ws(' ', attname, format_type(atttypid, atttypmod), attnotnull, attcollation::regcollation,
                     attgenerated, attidentity, pg_get_expr(adbin, adrelid))
    FROM pg_attribute LEFT JOIN pg_attrdef ON (adrelid, adnum) = (attrelid, attnum)
    WHERE attrelid = 'books.books'::regclass AND attnum > 0 AND NOT attisdropped
    UNION SELECT conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
    WHERE conrelid = 'books.books'::regclass AND contype <> 'n'
    UNION SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'books.books'::regclass
    ORDER BY 1
"""


def authors() -> PluginMigrations:
    return PluginMigrations("authors", table=AUTHORS)


def books() -> PluginMigrations:
    return PluginMigrations("books", table=BOOKS)


async def outcome_of(dsn: str, source: PluginMigrations) -> Outcome:
    return (await migrate(dsn, [authors(), source]))[source.plugin]


@pytest.fixture
async def filled(dsn: str, connection: asyncpg.Connection) -> str:
    """Return the URL of a database with two rows in the table of a schema."""
    assert (await outcome_of(dsn, books())).failure is None
    await connection.execute(ROWS)
    return dsn


# The schema has made the table -----------------------------------------------------------------------------------


REPAIRED = [
    "DROP COLUMN pages",
    "DROP COLUMN price",
    "RENAME COLUMN pages TO leaves",
    "ALTER isbn SET NOT NULL",
    "ALTER price DROP DEFAULT",
    "ALTER price SET DEFAULT 5",
    "ALTER isbn SET DEFAULT 'none'",
    "ALTER code TYPE varchar(10)",
    "DROP COLUMN _search",
    "DROP CONSTRAINT books_author_reference, ADD CONSTRAINT books_author_reference FOREIGN KEY (author) "
    "REFERENCES authors.authors ON DELETE CASCADE",
    "RENAME CONSTRAINT books_title_max_length TO longest",
    "RENAME CONSTRAINT books_author_reference TO writer",
    "RENAME CONSTRAINT books_pkey TO key",
    "DROP CONSTRAINT books_isbn_max_length, ADD CONSTRAINT books_isbn_max_length CHECK (char_length(isbn) <= 10)",
    "ALTER created_at DROP DEFAULT",
    "ALTER id DROP DEFAULT, ALTER _version SET DEFAULT 5",
    "DROP COLUMN _version CASCADE",
    "ADD COLUMN note text, ALTER pages SET NOT NULL",
]


@pytest.mark.parametrize("statement", REPAIRED)
async def test_what_only_adds_or_relaxes_is_repaired(
    filled: str, connection: asyncpg.Connection, statement: str
) -> None:
    made = [row[0] for row in await connection.fetch(CATALOGUE)]
    await connection.execute("UPDATE books.books SET pages = 1, isbn = title, title = title")
    await connection.execute(f"ALTER TABLE books.books {statement}")
    assert (await status(filled, [authors(), books()]))["books"] == Outcome(("schema",), pending=("schema",))
    assert (await preview(filled, [authors(), books()]))["books"].refused is False
    assert (await outcome_of(filled, books())).failure is None
    kept = [row[0] for row in await connection.fetch(CATALOGUE) if not row[0].startswith(("note ", "leaves "))]
    assert [line for line in kept if " (leaves" not in line] == made
    assert await connection.fetchval("SELECT count(*) FROM books.books") == 2
    assert await outcome_of(filled, books()) == Outcome(applied=("schema",))


@pytest.mark.parametrize(
    "statement",
    [
        'DROP TRIGGER "~version" ON books.books',
        'ALTER TABLE books.books DISABLE TRIGGER "~version"',
        "ALTER TABLE books.books DISABLE TRIGGER USER",
        'DROP TRIGGER "~version" ON books.books; CREATE TRIGGER "~version" AFTER UPDATE ON books.books '
        "FOR EACH ROW EXECUTE FUNCTION pegboard.renew_version()",
    ],
)
async def test_the_trigger_of_the_core_is_restored(
    dsn: str, connection: asyncpg.Connection, tmp_path: Path, statement: str
) -> None:
    triggers = (
        "SELECT pg_get_triggerdef(oid), tgenabled FROM pg_trigger "
        "WHERE tgrelid = 'books.books'::regclass AND NOT tgisinternal"
    )
    for source in (books(), by_files(tmp_path)):
        assert (await outcome_of(dsn, source)).failure is None
        made = await connection.fetch(triggers)
        assert len(made) == 1
        await connection.execute(statement)
        assert (await outcome_of(dsn, source)).failure is None
        assert await connection.fetch(triggers) == made
        await connection.execute("DROP SCHEMA books CASCADE")


INDEXES = [
    "DROP INDEX books.books_pages_descending_index",
    "ALTER INDEX books.books_pages_descending_index RENAME TO another",
    "DROP INDEX books.books_pages_descending_index; CREATE INDEX books_pages_descending_index ON books.books (pages)",
    "DROP INDEX books.books_tags_index; CREATE INDEX books_tags_index ON books.books (tags)",
    "DROP INDEX books.books__search_index",
    "ALTER INDEX books.books_isbn_unique RENAME TO numbers",
    "DROP INDEX books.books_isbn_unique; CREATE INDEX books_isbn_unique ON books.books (isbn)",
    "DROP INDEX books.books_isbn_unique; CREATE UNIQUE INDEX books_isbn_unique ON books.books (isbn, pages)",
    "DROP INDEX books.books_title_ignore_case_unique; "
    "CREATE UNIQUE INDEX books_title_ignore_case_unique ON books.books (upper(title))",
    "ALTER TABLE books.books DROP COLUMN _search; ALTER TABLE books.books ADD COLUMN _search tsvector "
    "GENERATED ALWAYS AS (to_tsvector('english', title)) STORED",
    "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'books.books_isbn_unique'::regclass",
    "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'books.books_tags_index'::regclass",
]


@pytest.mark.parametrize("statement", INDEXES)
async def test_an_index_or_search_column_with_another_definition_is_rebuilt(
    filled: str, connection: asyncpg.Connection, statement: str
) -> None:
    made = {row[0] for row in await connection.fetch(CATALOGUE)}
    await connection.execute(statement)
    assert (await outcome_of(filled, books())).failure is None
    assert made <= {row[0] for row in await connection.fetch(CATALOGUE)}
    assert await connection.fetchval("SELECT bool_and(indisvalid) FROM pg_index")
    assert await outcome_of(filled, books()) == Outcome(applied=("schema",))


async def test_rows_that_collide_under_a_rebuilt_index_are_listed_and_nothing_changes(
    filled: str, connection: asyncpg.Connection
) -> None:
    await connection.execute(
        "DROP INDEX books.books_isbn_unique; CREATE UNIQUE INDEX books_isbn_unique ON books.books (isbn, pages);"
        "UPDATE books.books SET isbn = '1'"
    )
    altered = await connection.fetch(CATALOGUE)
    failure = (await outcome_of(filled, books())).failure or ""
    ids = "018cc251-f400-7000-8000-000000000002, 018cc251-f400-7000-8000-000000000003"
    assert f"isbn is to be unique in another way than before, which these rows violate (by id): {ids}." in failure
    assert await connection.fetch(CATALOGUE) == altered
    await connection.execute("UPDATE books.books SET isbn = NULL WHERE pages IS NULL")
    assert (await outcome_of(filled, books())).failure is None


REFUSED = {
    "DROP COLUMN title CASCADE": "the column title is new, but does not allow null",
    "DROP COLUMN id CASCADE": "its primary key is not id",
    "ADD COLUMN shelf text NOT NULL DEFAULT 'a'; ALTER TABLE books.books ALTER shelf DROP DEFAULT": (
        "the column shelf, which the schema does not have, does not allow null and has no default"
    ),
    "ALTER pages TYPE integer": "the column pages is declared bigint, but is integer",
    "ALTER price TYPE numeric(12,4)": "the column price is declared numeric(10,2), but is numeric(12,4)",
    "DROP COLUMN tags, ADD COLUMN tags text": "the column tags is declared text[], but is text",
    "ALTER code TYPE varchar(40)": "the column code is declared character varying(20), but is character varying(40)",
    'ALTER isbn TYPE text COLLATE "default"': "the column isbn is declared with the collation C, but has default",
    "ALTER title DROP NOT NULL": "the column title is declared without null, but allows null",
    "DROP COLUMN pages, ADD COLUMN pages bigint GENERATED ALWAYS AS (1) STORED": "the column pages is generated",
    "DROP COLUMN pages, ADD COLUMN pages bigint GENERATED ALWAYS AS IDENTITY": "the column pages is an identity",
    "DROP COLUMN _search, ADD COLUMN _search tsvector": "the column _search is not generated",
    "DROP CONSTRAINT books_pkey": "its primary key is not id",
    "DROP CONSTRAINT books_pkey, ADD PRIMARY KEY (id, title)": "its primary key is not id",
    "DROP CONSTRAINT books_title_max_length": "the column title is declared with length <= 200",
    "DROP CONSTRAINT books_title_max_length, "
    "ADD CONSTRAINT books_title_max_length CHECK (char_length(title) <= 300)": "title is declared with length <= 200",
    "DROP CONSTRAINT books_title_max_length, "
    "ADD CONSTRAINT books_title_max_length CHECK (char_length(title) <= 200) NOT VALID": "length <= 200",
    "DROP CONSTRAINT books_author_reference": "the column author now refers to authors.authors",
    "DROP CONSTRAINT books_author_reference, ADD CONSTRAINT books_author_reference FOREIGN KEY (author) "
    "REFERENCES authors.authors NOT VALID": "the column author now refers to authors.authors",
    "DROP CONSTRAINT books_author_reference, ADD CONSTRAINT books_author_reference FOREIGN KEY (author) "
    "REFERENCES books.books NOT VALID": "the column author now refers to authors.authors",
    "DISABLE TRIGGER ALL": "its foreign keys are switched off",
    "SET UNLOGGED": "it is unlogged",
    "RENAME TO novels": "the table books.books is missing, but was created before",
    "SET SCHEMA authors": "the table books.books is missing, but was created before",
}


@pytest.mark.parametrize(("statement", "reason"), [*REFUSED.items()])
async def test_what_may_lose_data_or_fail_keeps_the_plugin_out_with_the_sql(
    filled: str, connection: asyncpg.Connection, statement: str, reason: str
) -> None:
    await connection.execute(f"ALTER TABLE books.books {statement}")
    outcome = await outcome_of(filled, books())
    assert reason in (outcome.failure or "")
    assert (await status(filled, [authors(), books()]))["books"].failure == outcome.failure
    shown = (await preview(filled, [authors(), books()]))["books"]
    assert shown.refused
    assert reason in shown.sql


async def test_a_dropped_unique_index_keeps_the_plugin_out(filled: str, connection: asyncpg.Connection) -> None:
    await connection.execute("DROP INDEX books.books_isbn_unique")
    failure = (await outcome_of(filled, books())).failure or ""
    assert "isbn is declared unique, which existing rows may violate" in failure
    assert 'CREATE UNIQUE INDEX "books_isbn_unique" ON "books"."books" ("isbn");' in failure


async def test_a_table_that_others_inherit_from_is_found(filled: str, connection: asyncpg.Connection) -> None:
    await connection.execute("CREATE TABLE public.heir () INHERITS (books.books)")
    failure = (await outcome_of(filled, books())).failure or ""
    await connection.execute("DROP TABLE public.heir")
    assert 'ALTER TABLE public.heir NO INHERIT "books"."books";' in failure


HARMLESS = [
    "ADD COLUMN note text",
    "ADD COLUMN shelf text NOT NULL DEFAULT 'a'",
    "ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY",
    "ADD COLUMN size bigint GENERATED ALWAYS AS (char_length(title)) STORED",
    "ADD CHECK (pages > 0)",
    "ADD UNIQUE (pages)",
    "ALTER title SET STATISTICS 500",
    "ALTER title SET (n_distinct = 5)",
    "ALTER title SET STORAGE EXTERNAL",
    "CLUSTER ON books_pkey",
    "SET (fillfactor = 70)",
    "REPLICA IDENTITY FULL",
    "RENAME CONSTRAINT books_title_max_length TO books_title_max_length_2",
]


@pytest.mark.parametrize("statement", HARMLESS)
async def test_what_does_not_matter_is_left_alone(filled: str, connection: asyncpg.Connection, statement: str) -> None:
    await connection.execute(f"ALTER TABLE books.books {statement}")
    assert (await outcome_of(filled, books())).failure is None
    if statement.startswith("ADD"):
        added = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'books.books'::regclass AND attnum > 0"
        assert await connection.fetchval(added) >= 12


# SQL files have made the table, or another program ------------------------------------------------------------------


def by_files(folder: Path, *changes: str) -> PluginMigrations:
    (folder / "0001_books.sql").write_text(";\n".join(create(BOOKS)[1:]))
    if changes:
        (folder / "0002_change.sql").write_text(";\n".join(changes))
    return replace(books(), folder=folder)


def existing(**declared: Any) -> PluginMigrations:
    return PluginMigrations("shelf", table=BOOKS, use=Use(ALL, ExistingTable("books.books", **declared)))


MISFITS = {
    "ALTER TABLE books.books RENAME TO novels": "the table books.books does not exist",
    "ALTER TABLE books.books DROP COLUMN pages": "the column pages is missing",
    "ALTER TABLE books.books RENAME COLUMN pages TO leaves": (
        'the column pages is missing.*ALTER TABLE "books"."books" RENAME COLUMN "leaves" TO "pages"; or'
    ),
    "ALTER TABLE books.books DROP COLUMN updated_at": "the column updated_at is missing",
    "ALTER TABLE books.books DROP COLUMN _version CASCADE": "the column _version is missing",
    "ALTER TABLE books.books ALTER pages TYPE text": "the column pages is declared bigint, but is text",
    "ALTER TABLE books.books ALTER price TYPE float8": "the column price is declared numeric, but is double precision",
    "CREATE TYPE books.mood AS ENUM ('a'); ALTER TABLE books.books DROP COLUMN code, ADD COLUMN code books.mood": (
        "the column code is declared varchar, but is books.mood"
    ),
    "ALTER TABLE books.books DROP COLUMN pages, ADD COLUMN pages bigint GENERATED ALWAYS AS (1) STORED": (
        "the column pages is generated"
    ),
    "ALTER TABLE books.books DROP COLUMN pages, ADD COLUMN pages bigint GENERATED ALWAYS AS IDENTITY": (
        "the column pages is an identity"
    ),
    "UPDATE books.books SET pages = 1; CREATE DOMAIN books.number AS bigint NOT NULL;"
    "ALTER TABLE books.books ALTER pages TYPE books.number": (
        "the column pages does not allow null, but the schema leaves it out or null.*: ALTER DOMAIN books.number DROP NOT"
    ),
    "CREATE DOMAIN books.number AS bigint NOT NULL DEFAULT 1; ALTER TABLE books.books ADD x books.number DEFAULT 1;"
    "ALTER TABLE books.books ALTER x DROP DEFAULT; ALTER DOMAIN books.number DROP DEFAULT": (
        "the column x, which the schema does not have, does not allow null and has no default"
    ),
    "ALTER TABLE books.books ALTER price TYPE numeric(10,1)": (
        'the column price is numeric\\(10,1\\), .*: declare metadata={"column_type": "numeric\\(10,1\\)"} or places=1'
    ),
    "ALTER TABLE books.books ALTER price TYPE numeric(10)": "the column price is numeric\\(10,0\\), .* or places=0",
    "CREATE DOMAIN books.money AS numeric(10,1); ALTER TABLE books.books ALTER price TYPE books.money": (
        "the column price is numeric\\(10,1\\), to which the values of its field are rounded"
    ),
    "ALTER TABLE books.books DROP CONSTRAINT books_isbn_max_length, ALTER isbn TYPE varchar(12)": (
        "the column isbn is declared with length <= 13, but is character varying\\(12\\): declare Length\\(max=12\\)"
    ),
    "UPDATE books.books SET pages = 1; ALTER TABLE books.books ALTER pages SET NOT NULL": (
        "the column pages does not allow null, but the schema leaves it out or null"
    ),
    "ALTER TABLE books.books ADD COLUMN x int NOT NULL DEFAULT 1; ALTER TABLE books.books ALTER x DROP DEFAULT": (
        "the column x, which the schema does not have, does not allow null and has no default"
    ),
    "ALTER TABLE books.books DROP CONSTRAINT books_pkey": "the column id is the key, but has no unique index",
    "ALTER TABLE books.books DROP CONSTRAINT books_pkey, ADD PRIMARY KEY (id, title)": (
        "the column id is the key, but is unique only together with others: id, title"
    ),
    "ALTER TABLE books.books ALTER id TYPE text": "the column id is declared uuid, but is text",
    "DROP INDEX books.books_isbn_unique": "isbn is declared unique, but has no unique index",
    "DROP INDEX books.books_title_ignore_case_unique": "title is declared unique, but has no unique index",
    "ALTER TABLE books.books DROP CONSTRAINT books_author_reference": (
        "the column author refers to authors.authors, but has no foreign key"
    ),
    "ALTER TABLE books.books DROP COLUMN _search": "the column _search for full-text search is missing",
    "ALTER TABLE books.books DISABLE TRIGGER ALL": "its foreign keys are switched off",
}


@pytest.mark.parametrize(("statement", "reason"), [*MISFITS.items()])
async def test_a_table_of_files_that_does_not_fit_keeps_the_plugin_out(
    dsn: str, connection: asyncpg.Connection, tmp_path: Path, statement: str, reason: str
) -> None:
    assert (await outcome_of(dsn, by_files(tmp_path))).failure is None
    await connection.execute(ROWS)
    # Whether by one of its own files or by hand.
    source = by_files(tmp_path, statement)
    failure = (await outcome_of(dsn, source)).failure
    assert failure is not None
    assert re.search(reason, failure), failure
    assert (await status(dsn, [authors(), source]))["books"].failure == failure


@pytest.mark.parametrize(("statement", "reason"), [*MISFITS.items()])
async def test_an_existing_table_that_does_not_fit_keeps_the_plugin_out(
    filled: str, connection: asyncpg.Connection, statement: str, reason: str
) -> None:
    assert (await outcome_of(filled, existing())).failure is None
    await connection.execute(statement)
    failure = (await migrate(filled, [existing()]))["shelf"].failure
    assert failure is not None
    assert re.search(reason, failure), failure


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        ({"key": "code", "key_type": "text"}, "the column code is the key, but has no unique index"),
        ({"key": "number"}, "the column number is missing"),
        ({"key_type": "bigint"}, "the column id is declared bigint, but is uuid"),
    ],
)
async def test_a_wrong_declaration_of_an_existing_table_is_found(
    filled: str, declared: dict[str, Any], reason: str
) -> None:
    assert reason in ((await migrate(filled, [existing(**declared)]))["shelf"].failure or "")


async def test_an_existing_table_is_served_with_what_does_not_matter(
    filled: str, connection: asyncpg.Connection
) -> None:
    await connection.execute("""
        CREATE DOMAIN books.number AS text CHECK (value <> '');
        ALTER TABLE books.books
            ALTER pages TYPE smallint, ALTER code TYPE text, ALTER isbn TYPE books.number, ALTER title DROP NOT NULL,
            ADD COLUMN x int NOT NULL DEFAULT 1, ADD COLUMN y int, ADD COLUMN z int GENERATED ALWAYS AS IDENTITY,
            DROP CONSTRAINT books_title_max_length, DROP CONSTRAINT books_title_min_length;
        DROP INDEX books.books_pages_descending_index;
    """)
    before = await connection.fetch(CATALOGUE)
    assert (await migrate(filled, [existing()]))["shelf"] == Outcome()
    assert await connection.fetch(CATALOGUE) == before


@pytest.mark.parametrize(
    ("declared", "written"),
    [
        ("timetz", "time with time zone"),
        ("TIME(3) WITH TIME ZONE", "timetz(3)"),
        ("character(3)", "bpchar"),
        ("bpchar", "char(3)"),
        ("nchar(3)", "character(3)"),
        ("pg_catalog.bpchar", "character(3)"),
        ("char", "character"),
        ("varbit", "bit varying(5)"),
        ("bit varying(5)[]", "varbit[]"),
        ("char varying(5)", "varchar(5)"),
        ("dec(5,1)", "numeric(5,1)"),
    ],
)
async def test_every_spelling_of_a_type_matches_the_table(
    dsn: str, tmp_path: Path, declared: str, written: str
) -> None:
    spec = TableSpec("kept", "kept", (Column("value", written, default="NULL"),))
    (tmp_path / "0001_kept.sql").write_text(";\n".join(create(spec)[1:]))
    source = PluginMigrations("kept", tmp_path, replace(spec, columns=(Column("value", declared),)))
    assert (await migrate(dsn, [source]))["kept"].failure is None


async def test_a_constraint_that_is_checked_at_the_end_of_a_transaction_makes_a_key(
    dsn: str, connection: asyncpg.Connection, tmp_path: Path
) -> None:
    changes = (
        "ALTER TABLE books DROP CONSTRAINT books_pkey, ADD PRIMARY KEY (id) DEFERRABLE INITIALLY DEFERRED",
        "DROP INDEX books_isbn_unique",
        "ALTER TABLE books ADD UNIQUE (isbn) DEFERRABLE",
    )
    assert (await outcome_of(dsn, by_files(tmp_path, *changes))).failure is None
    await connection.execute("ALTER TABLE books.books ALTER pages SET DEFAULT 1")
    assert (await migrate(dsn, [authors(), existing()]))["shelf"].failure is None


class Priced(Schema):
    any_number = fields.Decimal()
    two_places = fields.Decimal(places=2)
    of_column = fields.Decimal(metadata={"column_type": "numeric(10,2)"})
    rounded = fields.Decimal(places=1, rounding="ROUND_HALF_UP")
    many = fields.List(fields.Decimal())
    tenths = fields.List(fields.Decimal(places=1))
    shown = fields.Decimal(dump_only=True)


@pytest.mark.parametrize(
    ("type_of", "refused"),
    [
        ("numeric", ()),
        ("numeric(38,20)", ()),
        ("numeric(10,4)", ("any_number", "many")),
        ("numeric(10,2)", ("any_number", "many")),
        ("numeric(10,1)", ("any_number", "two_places", "of_column", "many")),
        ("numeric(10)", ("any_number", "two_places", "of_column", "rounded", "many", "tenths")),
    ],
)
async def test_a_table_that_rounds_numbers_of_a_field_keeps_the_plugin_out(
    dsn: str, connection: asyncpg.Connection, tmp_path: Path, type_of: str, refused: tuple[str, ...]
) -> None:
    columns = table_columns(Priced())
    spec = TableSpec("prices", "prices", columns)
    written = replace(spec, columns=tuple(replace(c, type=type_of + "[]" * c.is_list) for c in columns))
    (tmp_path / "0001_prices.sql").write_text(";\n".join(create(written)[1:]))
    failure = (await migrate(dsn, [PluginMigrations("prices", tmp_path, spec)]))["prices"].failure or ""
    assert tuple(re.findall(r"the column (\w+) is numeric", failure)) == refused
    readers = PluginMigrations("p", table=spec, use=Use(frozenset({"GET"}), ExistingTable("prices.prices")))
    assert (await migrate(dsn, [readers]))["p"].failure is None


READERS = Use(frozenset({"GET"}), ExistingTable("books.shown"))
WRITERS = Use(ALL, ExistingTable("books.shown"))
SHOWN = TableSpec("books", "shown", (Column("title", "text", nullable=False),))


async def test_a_view_is_read_and_is_written_only_if_it_accepts_it(filled: str, connection: asyncpg.Connection) -> None:
    columns = "id, created_at, updated_at, _version, title"
    await connection.execute(f"CREATE VIEW books.shown AS SELECT DISTINCT {columns} FROM books.books")
    readers = PluginMigrations("shown", table=SHOWN, use=READERS)
    writers = PluginMigrations("shown", table=SHOWN, use=WRITERS)
    assert (await migrate(filled, [readers]))["shown"].failure is None
    failure = (await migrate(filled, [writers]))["shown"].failure or ""
    assert "it does not accept INSERT, UPDATE, DELETE: declare fewer verbs, or change it" in failure
    await connection.execute("""
        CREATE FUNCTION books.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER writes INSTEAD OF INSERT OR UPDATE OR DELETE ON books.shown
            FOR EACH ROW EXECUTE FUNCTION books.nothing();
    """)
    assert (await migrate(filled, [writers]))["shown"].failure is None


async def test_a_partitioned_table_is_served(filled: str, connection: asyncpg.Connection) -> None:
    await connection.execute("""
        CREATE TABLE books.shown (id uuid, created_at timestamptz, updated_at timestamptz, _version bigint, title text,
            PRIMARY KEY (id, title)) PARTITION BY HASH (title);
        CREATE TABLE books.part PARTITION OF books.shown FOR VALUES WITH (MODULUS 1, REMAINDER 0);
    """)
    for use in (READERS, WRITERS):
        assert (await migrate(filled, [PluginMigrations("shown", table=SHOWN, use=use)]))["shown"].failure is None


async def test_missing_privileges_and_row_security_are_found(filled: str, connection: asyncpg.Connection) -> None:
    await connection.execute("""
        CREATE ROLE reader LOGIN; GRANT USAGE ON SCHEMA books, pegboard TO reader;
        GRANT SELECT ON ALL TABLES IN SCHEMA pegboard TO reader;
    """)
    dsn = re.sub(r"postgres@|user=postgres", lambda match: match[0].replace("postgres", "reader"), filled)
    source = existing()

    async def failure() -> str:
        return (await status(dsn, [source]))["shelf"].failure or ""

    try:
        assert "the service's role may not INSERT, UPDATE, DELETE, SELECT in it" in await failure()
        await connection.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON books.books TO reader")
        assert await failure() == ""
        await connection.execute("ALTER TABLE books.books ENABLE ROW LEVEL SECURITY")
        assert "row security hides its rows" in await failure()
    finally:
        await connection.execute("DROP OWNED BY reader; DROP ROLE reader")


async def test_what_the_core_needs_is_added_to_a_table_of_files(
    dsn: str, connection: asyncpg.Connection, tmp_path: Path
) -> None:
    source = by_files(tmp_path, "ALTER TABLE books.books ALTER created_at DROP DEFAULT")
    assert (await outcome_of(dsn, source)).failure is None
    await connection.execute("ALTER TABLE books.books ALTER updated_at DROP DEFAULT")
    shown = (await preview(dsn, [authors(), source]))["books"]
    assert 'ALTER COLUMN "updated_at" SET DEFAULT' in shown.sql
    assert (await outcome_of(dsn, source)).failure is None
    defaults = "SELECT count(*) FROM information_schema.columns WHERE table_name = 'books' AND column_default ~ 'now'"
    assert await connection.fetchval(defaults) == 2
    assert await preview(dsn, [authors(), source]) == {}
