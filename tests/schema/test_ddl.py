"""The table made from a description, and the changes to it, on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import asyncpg
import pytest

from pegboard.migrations.comparison import plan_for
from pegboard.migrations.difference import difference
from pegboard.migrations.inspection import declared_table, inspect
from pegboard.migrations.plan import Plan, resolve
from pegboard.migrations.tables import Past, Tables
from pegboard.schema.column import Column
from pegboard.schema.ddl import (
    Index,
    TableSpec,
    Unique,
    constraint_columns,
    create,
    fingerprint,
    object_name,
)
from tests.conftest import create_core_tables

CONTACTS = TableSpec(
    "contacts",
    "contacts",
    (
        Column("name", "text", nullable=False, max_length=200, min_length=1),
        Column("email", "text", nullable=False),
        Column("phone", "text", max_length=40),
        Column("birthday", "date"),
        Column("tags", "text[]", nullable=False, default="'{}'", max_length=20),
        Column("seen_at", "timestamptz"),
    ),
    uniques=(Unique("email", ignore_case=True),),
    indexes=(Index(("-created_at", "name")), Index(("name",)), Index(("tags",))),
    search=("name", "email"),
)

UNKNOWN = Past()


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Give a connection whose changes are rolled back."""
    connection = await asyncpg.connect(database_url)
    transaction = connection.transaction()
    await transaction.start()
    await create_core_tables(connection)
    yield connection
    await transaction.rollback()
    await connection.close()


async def make(connection: asyncpg.Connection, spec: TableSpec) -> None:
    for statement in create(spec):
        await connection.execute(statement)


async def change(connection: asyncpg.Connection, spec: TableSpec, past: Past = UNKNOWN) -> Plan:
    actual = (await inspect(connection, [(spec.schema, spec.name)]))[spec.schema, spec.name]
    tables = Tables(spec, await declared_table(connection, spec), actual, past)
    return await resolve(connection, difference(tables))


async def insert(connection: asyncpg.Connection, **values: Any) -> None:
    names = ", ".join(f'"{name}"' for name in values)
    marks = ", ".join(f"${number}" for number in range(1, len(values) + 1))
    await connection.execute(
        f'INSERT INTO contacts.contacts (id, "_version", {names}) VALUES (gen_random_uuid(), 1, {marks})',
        *values.values(),
    )


def with_column(column: Column) -> TableSpec:
    """Return the contacts with one column added, or replaced where there is one of its name."""
    others = tuple(c for c in CONTACTS.columns if c.name != column.name)
    return replace(CONTACTS, columns=(*others, column))


def column(name: str) -> Column:
    return next(column for column in CONTACTS.columns if column.name == name)


async def test_a_table_has_the_standard_columns_followed_by_declared_ones(connection: asyncpg.Connection) -> None:
    await make(connection, CONTACTS)
    await insert(connection, name="Zoë", email="zoe@example.org")
    row = await connection.fetchrow("SELECT * FROM contacts.contacts")
    assert row is not None
    assert list(row.keys())[:5] == ["id", "created_at", "updated_at", "_version", "name"]
    assert (row["tags"], row["phone"], row["created_at"].microsecond) == ([], None, 0)


async def test_a_new_table_needs_no_change(connection: asyncpg.Connection) -> None:
    await make(connection, CONTACTS)
    assert await change(connection, CONTACTS) == Plan(())


@pytest.mark.parametrize(
    ("type_name", "default"),
    [
        ("text", "''"),
        ("text", "'it''s'"),
        ("varchar(20)", "'a'"),
        ("bigint", "0"),
        ("bigint", "-1"),
        ("int", "7"),
        ("double precision", "0.5"),
        ("float8", "1"),
        ("numeric", "-1.50"),
        ("numeric(12, 2)", "0"),
        ("boolean", "false"),
        ("bool", "true"),
        ("uuid", "'00000000-0000-0000-0000-000000000000'"),
        ("date", "'2015-02-15'"),
        ("timestamptz", "now()"),
        ("time", "'05:21:07'"),
        ("jsonb", "'{}'"),
        ("jsonb", "'[]'"),
        ("text[]", "'{}'"),
        ("bigint[]", "'{1,2}'"),
        ("inet", None),
        ("text", "'5'::text"),
        ("boolean", "'false'::boolean"),
        ("bigint", "'5'::bigint"),
        ("double precision", "'0.5'::double precision"),
        ("numeric", "'1.50'::numeric"),
        ("date", "'2015-02-15'::date"),
        ("jsonb", "'{}'::jsonb"),
        ("text[]", "ARRAY[]::text[]"),
        ("text[]", "ARRAY['a', 'b']::text[]"),
    ],
)
async def test_every_type_and_default_is_inspected(
    connection: asyncpg.Connection, type_name: str, default: str | None
) -> None:
    spec = with_column(Column("extra", type_name, default is None, default, max_length=9, min_length=0))
    await make(connection, spec)
    assert await change(connection, spec) == Plan(())


async def test_names_that_need_quotes_or_are_too_long_work(connection: asyncpg.Connection) -> None:
    long = "x" * 60
    spec = TableSpec(
        "time-entries",
        "time-entries",
        (Column('sel"ect', "text", max_length=3), Column(long, "text", max_length=5, min_length=1)),
        uniques=(Unique(long, 'sel"ect'), Unique(long, ignore_case=True)),
        indexes=(Index((long,)), Index((f"-{long}",))),
        search=('sel"ect', long),
    )
    await make(connection, spec)
    assert await change(connection, spec) == Plan(())


def test_a_too_long_name_is_truncated_and_stays_unique() -> None:
    one, two = (object_name("t", ["é" * 40, last], "_unique") for last in "ab")
    assert one != two
    assert one.endswith("_unique")
    assert max(len(one.encode()), len(two.encode())) <= 63


@pytest.mark.parametrize(
    ("values", "constraint"),
    [
        ({"name": "x" * 201, "email": "a"}, ("name",)),
        ({"name": "", "email": "a"}, ("name",)),
        ({"name": "a", "email": "ZOË@example.org"}, ("email",)),
        ({"name": "a", "email": "b", "tags": ["t"] * 21}, ("tags",)),
    ],
)
async def test_a_violated_constraint_maps_to_its_columns(
    connection: asyncpg.Connection, values: dict[str, Any], constraint: tuple[str, ...]
) -> None:
    await make(connection, CONTACTS)
    await insert(connection, name="é" * 200, email="zoë@Example.org", tags=["t"] * 20)
    with pytest.raises(asyncpg.IntegrityConstraintViolationError) as raised:
        await insert(connection, **values)
    assert constraint_columns(CONTACTS)[str(raised.value.constraint_name)] == constraint


async def test_text_sorts_by_code_point(connection: asyncpg.Connection) -> None:
    await make(connection, CONTACTS)
    for name in ("b", "É", "a", "Z"):
        await insert(connection, name=name, email=name)
    rows = await connection.fetch("SELECT name FROM contacts.contacts ORDER BY name")
    assert [row["name"] for row in rows] == ["Z", "a", "b", "É"]


async def test_an_index_serves_keyset_paging_in_either_direction(connection: asyncpg.Connection) -> None:
    await make(connection, CONTACTS)
    rows = await connection.fetch("SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'contacts'")
    definitions = {row["indexname"]: row["indexdef"].partition(" USING ")[2] for row in rows}
    assert definitions["contacts_created_at_descending_name_index"] == "btree (created_at DESC, name, id)"
    assert definitions["contacts_name_index"] == "btree (name, id)"
    assert definitions["contacts_tags_index"] == "gin (tags)"
    assert definitions["contacts__search_index"] == "gin (_search)"


async def test_search_finds_words_and_accepts_any_text(connection: asyncpg.Connection) -> None:
    await make(connection, replace(CONTACTS, uniques=()))
    await insert(connection, name="Zoë Öhman", email="zoe@example.org")
    await insert(connection, name="b", email=" ".join(f"{number} 😀" for number in range(400_000)))
    found = 'SELECT count(*) FROM contacts.contacts WHERE "_search" @@ $1::text::tsquery'
    words = ("zoe", "ohman", "example", "17", "zo", "zo:*", "399999")
    assert [await connection.fetchval(found, word) for word in words] == [1, 1, 1, 1, 0, 1, 0]


async def test_a_reference_is_enforced_indexed_and_may_target_its_own_table(connection: asyncpg.Connection) -> None:
    companies = TableSpec("companies", "companies", (Column("parent", "uuid", references=("companies", "companies")),))
    spec = with_column(Column("company", "uuid", references=("companies", "companies")))
    await make(connection, companies)
    await make(connection, spec)
    assert await change(connection, spec) == Plan(())
    assert await change(connection, companies) == Plan(())
    await connection.execute('INSERT INTO companies.companies (id, "_version") VALUES (gen_random_uuid(), 1)')
    company = await connection.fetchval("SELECT id FROM companies.companies")
    await insert(connection, name="a", email="a", company=company)
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await connection.execute("DELETE FROM companies.companies")


PHONE, NAME, TAGS = column("phone"), column("name"), column("tags")


@pytest.mark.parametrize(
    "spec",
    [
        with_column(Column("extra", "text", max_length=5)),
        with_column(Column("extra", "text", nullable=False, default="''", max_length=5)),
        with_column(Column("extra", "uuid", references=("contacts", "contacts"))),
        with_column(replace(PHONE, max_length=41)),
        with_column(replace(PHONE, max_length=None)),
        with_column(replace(PHONE, default="'none'")),
        with_column(replace(NAME, nullable=True, min_length=0)),
        with_column(replace(TAGS, default=None)),
        replace(CONTACTS, indexes=(Index(("birthday",)), Index(("-birthday",)))),
        replace(CONTACTS, uniques=()),
        replace(CONTACTS, search=("phone", "name")),
        replace(with_column(Column("extra", "text")), uniques=(Unique("extra", "name"),), search=("extra",)),
    ],
    ids=lambda spec: str(spec.columns[-1]) + str(spec.uniques) + str(spec.search),
)
async def test_additive_and_relaxing_changes_are_applied(connection: asyncpg.Connection, spec: TableSpec) -> None:
    await make(connection, CONTACTS)
    await insert(connection, name="a", email="a")
    await insert(connection, name="b", email="b")
    todo = await change(connection, spec)
    assert todo.additive
    assert not todo.manual
    for statement in todo.additive:
        await connection.execute(statement)
    assert await change(connection, spec) == Plan(())
    assert await connection.fetchval("SELECT count(*) FROM contacts.contacts") == 2


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (
            replace(CONTACTS, columns=(*CONTACTS.columns[:-1], Column("met_at", "timestamptz"))),
            "met_at is new, and may be one that is no longer declared under another name",
        ),
        (with_column(replace(PHONE, type="bigint", max_length=None)), "phone is declared bigint, but is text"),
        (with_column(replace(PHONE, nullable=False)), "phone is declared without null, but allows null"),
        (
            with_column(Column("extra", "text", nullable=False)),
            "extra is new, but does not allow null and has no default",
        ),
        (with_column(replace(PHONE, max_length=39)), "phone is declared with length <= 39"),
        (with_column(replace(PHONE, min_length=1)), "phone is declared with length >= 1"),
        (with_column(replace(column("email"), max_length=9)), "email is declared with length <= 9"),
        (replace(CONTACTS, uniques=(Unique("name", "email"),)), "name, email is declared unique"),
        (
            replace(with_column(Column("extra", "text", default="'x'")), uniques=(Unique("extra"),)),
            "extra is declared unique",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_change_that_may_fail_for_existing_rows_is_rejected_with_its_sql(
    connection: asyncpg.Connection, spec: TableSpec, reason: str
) -> None:
    await make(connection, CONTACTS)
    todo = await change(connection, spec)
    assert [reason in step.reason for step in todo.manual] == [True]
    # Without rows the SQL given does all that is needed.
    for statement in todo.statements:
        await connection.execute(statement)
    assert await change(connection, spec, Past(spec, changed=False)) == Plan(())


async def test_a_column_that_is_no_longer_declared_is_kept_and_allows_null(connection: asyncpg.Connection) -> None:
    await make(connection, CONTACTS)
    await insert(connection, name="a", email="a", phone="1")
    columns = tuple(c for c in CONTACTS.columns if c.name not in ("name", "phone"))
    spec = replace(CONTACTS, columns=columns, indexes=(), search=("email",))
    todo = await change(connection, spec, Past(CONTACTS, frozenset(c.name for c in CONTACTS.columns)))
    assert not todo.manual
    assert [notice.partition(":")[0] for notice in todo.notices] == [
        "the column name is no longer declared",
        "the column phone is no longer declared",
    ]
    for statement in todo.additive:
        await connection.execute(statement)
    await insert(connection, email="b")
    rows = await connection.fetch("SELECT name, phone FROM contacts.contacts ORDER BY email")
    assert [tuple(row) for row in rows] == [("a", "1"), (None, None)]


async def test_the_search_column_is_kept_for_the_version_before(connection: asyncpg.Connection) -> None:
    await make(connection, CONTACTS)
    assert await change(connection, replace(CONTACTS, search=())) == Plan(())


async def test_constraints_and_indexes_of_others_are_kept(connection: asyncpg.Connection) -> None:
    await make(connection, CONTACTS)
    await connection.execute("CREATE INDEX contacts_phone_index ON contacts.contacts (phone)")
    await connection.execute(
        "ALTER TABLE contacts.contacts ADD CONSTRAINT contacts_phone_min_length CHECK (char_length(phone) >= 1)"
    )
    assert await change(connection, CONTACTS, Past(CONTACTS, changed=False)) == Plan(())
    assert await change(connection, replace(CONTACTS, columns=CONTACTS.columns), Past(CONTACTS)) == Plan(())


@pytest.mark.parametrize(
    ("before", "after", "value", "expected"),
    [
        (("bigint", None), ("text", "''::text"), 7, "7"),
        (("bigint", "0"), ("text", "'a'"), 7, "7"),
        (("text", "'0'"), ("bigint", "5"), "7", 7),
        (("text", "'{}'"), ("text[]", "'{}'"), "a", ["a"]),
        (("text[]", "'{}'"), ("jsonb", "'[]'"), ["a"], '["a"]'),
        (("bigint", "0"), ("boolean", "false"), 7, True),
        (("boolean", "false"), ("bigint", "0"), True, 1),
        (("boolean", None), ("text", None), True, "true"),
        (("boolean", None), ("double precision", None), True, 1.0),
        (("timestamptz", "now()"), ("date", None), datetime(2015, 2, 15, 5, tzinfo=UTC), date(2015, 2, 15)),
    ],
)
async def test_the_sql_for_another_type_keeps_existing_values(
    connection: asyncpg.Connection,
    before: tuple[str, str | None],
    after: tuple[str, str | None],
    value: Any,
    expected: Any,
) -> None:
    await make(connection, with_column(Column("extra", before[0], default=before[1])))
    await insert(connection, name="a", email="a", extra=value)
    spec = with_column(Column("extra", after[0], default=after[1]))
    todo = await change(connection, spec)
    assert len(todo.manual) == 1
    for statement in todo.statements:
        await connection.execute(statement)
    assert await change(connection, spec) == Plan(())
    assert await connection.fetchval("SELECT extra FROM contacts.contacts") == expected


async def test_the_sql_for_a_text_column_sorts_by_code_point(connection: asyncpg.Connection) -> None:
    await make(connection, with_column(Column("extra", "bigint")))
    spec = with_column(Column("extra", "text"))
    spec = replace(spec, columns=(*spec.columns, Column("more", "text", nullable=False)))
    for statement in (await change(connection, spec)).statements:
        await connection.execute(statement)
    collations = "SELECT attcollation::regcollation::text FROM pg_attribute WHERE attname IN ('extra', 'more')"
    assert [row[0] for row in await connection.fetch(collations)] == ['"C"', '"C"']


async def test_a_reference_that_existing_rows_may_violate_is_rejected(connection: asyncpg.Connection) -> None:
    await make(connection, with_column(Column("boss", "uuid")))
    await insert(connection, name="a", email="a", boss="018cc251-f400-7000-8000-000000000001")
    todo = await change(connection, with_column(Column("boss", "uuid", references=("contacts", "contacts"))))
    assert ["boss now refers to contacts.contacts" in step.reason for step in todo.manual] == [True]


async def test_unknown_indexes_and_constraints_are_kept(connection: asyncpg.Connection) -> None:
    await make(connection, CONTACTS)
    await connection.execute("CREATE UNIQUE INDEX ON contacts.contacts (phone)")
    await connection.execute("ALTER TABLE contacts.contacts ADD CHECK (name <> 'nobody')")
    assert await change(connection, CONTACTS) == Plan(())


async def test_an_empty_table_is_recreated_only_if_nothing_is_lost(connection: asyncpg.Connection) -> None:
    spec = with_column(replace(PHONE, type="date", max_length=None))
    await make(connection, CONTACTS)

    async def plan(*, managed: bool) -> Plan:
        actual = (await inspect(connection, [("contacts", "contacts")]))["contacts", "contacts"]
        return await plan_for(connection, spec, actual, UNKNOWN, managed=managed, lock=True)

    assert not (await plan(managed=True)).manual
    assert (await plan(managed=False)).manual
    await connection.execute("CREATE VIEW contacts.names AS SELECT name FROM contacts.contacts")
    assert (await plan(managed=True)).manual
    await connection.execute("DROP VIEW contacts.names")
    referring = TableSpec("notes", "notes", (Column("contact", "uuid", references=("contacts", "contacts")),))
    await make(connection, referring)
    assert (await plan(managed=True)).manual
    await connection.execute("DROP TABLE notes.notes")
    await insert(connection, name="a", email="a")
    assert (await plan(managed=True)).manual


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"columns": (Column("id", "uuid"),)}, "column id is declared twice or is one of the standard"),
        ({"columns": (Column("_search", "text"),)}, "column _search is declared twice"),
        ({"columns": (Column("a", "text"), Column("a", "text"))}, "column a is declared twice"),
        ({"columns": (Column("é" * 32, "text"),)}, "is not a valid name in PostgreSQL"),
        ({"columns": (), "indexes": (Index(("-nothing",)),)}, "uses the column nothing, which does not exist"),
        ({"columns": (), "search": ("nothing",)}, "uses the column nothing"),
        ({"columns": (), "uniques": (Unique(),)}, "has no columns"),
        (
            {
                "columns": tuple(Column(name, "text") for name in ("a_b", "a", "b")),
                "uniques": (Unique("a_b"), Unique("a", "b")),
            },
            "two unique constraints would have the same name",
        ),
    ],
)
def test_a_contradictory_spec_is_rejected(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TableSpec("t", "t", **arguments)


def test_fingerprints_distinguish_specs_and_are_pinned() -> None:
    specs = (CONTACTS, with_column(replace(PHONE, max_length=41)), replace(CONTACTS, search=()))
    assert len({fingerprint(spec) for spec in specs}) == 3
    # Databases and baseline files hold it: it must be the same in every version.
    assert fingerprint(TableSpec("t", "t", (Column("a", "text", max_length=3),))).startswith("134d4ec63f62")
