"""The order of files across plugins, tables that refer to each other, and processes that are killed in between."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from pegboard.migrations.runner import migrate, preview, status
from pegboard.migrations.status import PluginMigrations
from pegboard.schema.column import Column
from pegboard.schema.ddl import TableSpec

PEOPLE = """
CREATE TABLE people (name text, city text);
INSERT INTO people VALUES ('Ada', 'London');
"""


def package(folder: Path, name: str, **texts: str) -> PluginMigrations:
    """Write the files of a plugin, `_0001_first="..."` each."""
    (folder / name).mkdir(exist_ok=True)
    for file, text in texts.items():
        (folder / name / f"{file[1:]}.sql").write_text(text)
    return PluginMigrations(name, folder / name)


async def failures(dsn: str, *sources: PluginMigrations) -> dict[str, str]:
    outcomes = await migrate(dsn, sources)
    assert {name: (await status(dsn, sources))[name].failure for name in outcomes} == {
        name: outcome.failure for name, outcome in outcomes.items()
    }
    return {name: outcome.failure for name, outcome in outcomes.items() if outcome.failure}


async def test_a_resource_is_split_in_one_release(dsn: str, connection: asyncpg.Connection, tmp_path: Path) -> None:
    people = package(tmp_path, "people", _0001_people=PEOPLE)
    assert await failures(dsn, people) == {}
    # Sorted by name, the addresses would be copied after the column was dropped.
    people = package(
        tmp_path, "people", _0002_drop="-- pegboard: after towns 0001\nALTER TABLE people DROP COLUMN city;"
    )
    towns = package(
        tmp_path,
        "towns",
        _0001_copy="-- pegboard: after people 0001\nCREATE TABLE towns AS SELECT city FROM people.people;",
    )
    assert await failures(dsn, people, towns) == {}
    assert await connection.fetchval("SELECT city FROM towns.towns") == "London"


async def test_both_are_created_in_an_empty_database(dsn: str, connection: asyncpg.Connection, tmp_path: Path) -> None:
    people = package(
        tmp_path,
        "people",
        _0001_people=PEOPLE,
        _0002_drop="-- pegboard: after towns 0001\n-- pegboard: no-transaction\nALTER TABLE people DROP COLUMN city;",
    )
    towns = package(
        tmp_path,
        "towns",
        _0001_copy="-- pegboard: after people 0001\n\nCREATE TABLE towns AS SELECT city FROM people.people;",
        _0002_later="-- pegboard: after people 0002\n-- pegboard: after people 0001\nALTER TABLE towns ADD x int;",
    )
    assert await failures(dsn, towns, people) == {}
    assert await connection.fetchval("SELECT city FROM towns.towns") == "London"


@pytest.mark.parametrize(
    ("mark", "reason"),
    [
        ("after nothing 0001", "0001_a.sql must run after nothing 0001, which is not applied"),
        ("after b 0007", "0001_a.sql must run after b 0007, which is not applied"),
        (
            "after b 0001",
            "0001_a.sql must run after b 0001, which is not applied, as it waits in turn: remove one of the lines",
        ),
        ("after a 0001", "0001_a.sql must run after a 0001, which is not applied, as it waits in turn: remove one"),
        ("after a 1", "0001_a.sql has the unknown mark 'after a 1' in line 1: write -- pegboard: and no-transaction,"),
        ("unraed", "0001_a.sql has the unknown mark 'unraed'"),
    ],
)
async def test_an_impossible_order_fails_its_plugins(dsn: str, tmp_path: Path, mark: str, reason: str) -> None:
    one = package(tmp_path, "a", _0001_a=f"-- pegboard: {mark}\nSELECT 1;")
    other = package(tmp_path, "b", _0001_b="-- pegboard: after a 0001\nSELECT 1;")
    free = package(tmp_path, "c", _0001_c="SELECT 1;")
    found = await failures(dsn, one, other, free)
    assert found["a"].startswith(reason)
    assert found["b"].startswith("0001_b.sql must run after a 0001, which is not applied")
    assert set(found) == {"a", "b"}
    assert (await preview(dsn, [one, other, free]))["a"].refused


async def test_a_file_runs_after_a_table_that_is_made_by_its_schema(
    dsn: str, connection: asyncpg.Connection, tmp_path: Path
) -> None:
    one = package(tmp_path, "a", _0001_a="-- pegboard: after b 0000\nCREATE VIEW a AS SELECT id FROM b.b;")
    assert await failures(dsn, one, table("b")) == {}
    assert await connection.fetchval("SELECT count(*) FROM a.a") == 0
    package(tmp_path, "a", _0002_a="-- pegboard: after b 0000\nSELECT 1;")
    assert await failures(dsn, one, table("b")) == {}
    package(tmp_path, "a", _0003_a="-- pegboard: after b 0001\nSELECT 1;")
    reason = "0003_a.sql must run after b 0001, which is not applied"
    cure = ": the table of b is made by its schema, so write after b 0000"
    assert await failures(dsn, one, table("b")) == {"a": reason + cure}


async def test_a_file_does_not_run_after_a_table_that_failed(dsn: str, tmp_path: Path) -> None:
    one = package(tmp_path, "a", _0001_a="-- pegboard: after b 0000\nSELECT 1;")
    outcomes = await migrate(dsn, [one, table("b", "nowhere")])
    assert outcomes["a"].failure == "0001_a.sql must run after b 0000, which is not applied"
    assert "nowhere.nowhere, which does not exist" in (outcomes["b"].failure or "")


async def test_a_file_does_not_run_after_one_that_failed(dsn: str, tmp_path: Path) -> None:
    one = package(tmp_path, "a", _0001_a="-- pegboard: after b 0001\nSELECT 1;")
    other = package(tmp_path, "b", _0001_b="SELECT 1 / 0;")
    outcomes = await migrate(dsn, [one, other])
    assert outcomes["a"].failure == "0001_a.sql must run after b 0001, which is not applied"
    assert outcomes["b"].failure == "0001_b.sql: division by zero"
    package(tmp_path, "b", _0001_b="SELECT 1;")
    assert await failures(dsn, one, other) == {}


LICENCE = "-- Copyright of the authors.\n\n/* Pegboard: a licence,\n   in two lines. */\n;\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("-- pegboard: unread\nSELECT 1;", 1),
        ("\n\n-- pegboard: unread\nSELECT 1;", 3),
        (f"{LICENCE}-- pegboard: unread\nSELECT 1;", 6),
        ("SELECT 1;\n-- pegboard: unread", 2),
        ("SELECT 1; -- Pegboard:UNREAD", 1),
        ("--pegboard:unread\nSELECT 1;", 1),
        ("--  pegboard unread\nSELECT 1;", 1),
        ("---- pegboard : unread.\nSELECT 1;", 1),
        ("/* pegboard: unread */ SELECT 1;", 1),
        ("/*\n * pegboard: unread\n */\nSELECT 1;", 2),
        ("-- pegboard: no-transaction\n-- pegboard: unread\nSELECT 1;", 2),
        ("SELECT '-- no comment';\n-- pegboard: unread\n", 2),
    ],
)
async def test_a_draft_is_unread_wherever_it_is_marked(dsn: str, tmp_path: Path, text: str, line: int) -> None:
    source = package(tmp_path, "people", _0001_people=text)
    reason = f"0001_people.sql is a draft that nobody has read: edit it and delete line {line}, which marks it as"
    assert (await failures(dsn, source))["people"].startswith(reason)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT '\n-- pegboard: unread\n';",
        "DO $$ BEGIN\n-- pegboard: unread\nEND $$;",
        "-- An unread book is a book on the pegboard.\nSELECT 1;",
        "-- The pegboard: unread books.\nSELECT 1;",
        "/* Pegboard: a licence. */ SELECT 1;",
    ],
)
async def test_what_only_contains_the_words_is_no_mark(dsn: str, tmp_path: Path, text: str) -> None:
    assert await failures(dsn, package(tmp_path, "people", _0001_people=text)) == {}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("SELECT 1;\n-- pegboard: after b 0001", "has the mark 'after b 0001' in line 2, behind its first statement"),
        ("SELECT 1;\n\n-- pegboard: no-transaction", "has the mark 'no-transaction' in line 3, behind its first"),
        ("SELECT 1; -- pegboard: baseline x", "has the mark 'baseline x' in line 1, behind its first statement"),
        ("'a';\n-- pegboard: no-transaction", "has the mark 'no-transaction' in line 2, behind its first statement"),
        ("SELECT 1;\n-- pegboard: unraed", "has the unknown mark 'unraed' in line 2: write -- pegboard: and"),
        ("--pegboard: no-transaction\nSELECT 1;", "has the unknown mark 'no-transaction' in line 1"),
        ("-- Pegboard: after b 0001\nSELECT 1;", "has the unknown mark 'after b 0001' in line 1"),
        (f"{LICENCE}-- pegboard : no-transaction\nSELECT 1;", "has the unknown mark 'no-transaction' in line 6"),
        ("-- pegboard: no transaction\nSELECT 1;", "has the unknown mark 'no transaction' in line 1"),
        ("-- pegboard:\nSELECT 1;", "has the unknown mark '' in line 1"),
    ],
)
async def test_a_misspelt_or_misplaced_mark_fails_its_plugin(dsn: str, tmp_path: Path, text: str, reason: str) -> None:
    source = package(tmp_path, "people", _0001_people=text)
    assert reason in (await failures(dsn, source))["people"]


async def test_comments_and_blank_lines_may_precede_marks(
    dsn: str, connection: asyncpg.Connection, tmp_path: Path
) -> None:
    one = package(tmp_path, "a", _0001_a=f"{LICENCE}-- pegboard: after b 0001\n\nCREATE TABLE a AS TABLE b.b;")
    mark = "-- pegboard: no-transaction"
    other = package(tmp_path, "b", _0001_b="CREATE TABLE b ()", _0002_b=f"\n{LICENCE}{mark}\nVACUUM b;")
    assert await failures(dsn, one, other) == {}


async def test_a_draft_that_nobody_has_read_is_never_run(dsn: str, tmp_path: Path) -> None:
    draft = "-- pegboard: unread\nDROP TABLE people;"
    source = package(tmp_path, "people", _0001_people=PEOPLE, _0002_drop=draft)
    reason = "0002_drop.sql is a draft that nobody has read: edit it and delete line 1, which marks it as unread, or delete the file"
    assert await failures(dsn, source) == {"people": reason}
    assert (await preview(dsn, [source]))["people"].sql == f"-- refused: {reason}\n"
    package(tmp_path, "people", _0002_drop="DROP TABLE people;")
    assert await failures(dsn, source) == {}


# Tables that refer to each other --------------------------------------------------------------------------------------


def table(name: str, *targets: str) -> PluginMigrations:
    columns = tuple(Column(f"to_{target}", "uuid", references=(target, target)) for target in targets)
    return PluginMigrations(name, table=TableSpec(name, name, columns))


FOREIGN_KEYS = """
    SELECT conrelid::regclass || ' ' || confrelid::regclass FROM pg_constraint
    WHERE contype = 'f' AND connamespace::regnamespace::text <> 'pegboard' ORDER BY 1
"""


@pytest.mark.parametrize(
    "circle",
    [
        [("a", "b"), ("b", "a")],
        [("a", "b", "a"), ("b", "a", "b")],
        [("a", "b"), ("b", "c"), ("c", "a")],
        [("c", "b", "a"), ("a", "b", "c"), ("b", "a", "c")],
    ],
)
async def test_tables_may_refer_to_each_other(
    dsn: str, connection: asyncpg.Connection, circle: list[tuple[str, ...]]
) -> None:
    sources = [table(*names) for names in circle]
    shown = "".join(part.sql for part in (await preview(dsn, sources)).values())
    assert shown.count("FOREIGN KEY") == sum(len(names) - 1 for names in circle)
    assert await failures(dsn, *sources) == {}
    keys = [row[0] for row in await connection.fetch(FOREIGN_KEYS)]
    assert keys == sorted(f"{name}.{name} {target}.{target}" for name, *targets in circle for target in targets)
    assert await preview(dsn, sources) == {}
    assert {outcome.now for outcome in (await migrate(dsn, sources)).values()} == {()}


async def test_a_table_that_comes_to_refer_back_is_extended(dsn: str, connection: asyncpg.Connection) -> None:
    assert await failures(dsn, table("a", "b"), table("b")) == {}
    await connection.execute('INSERT INTO b.b (id, "_version") VALUES (gen_random_uuid(), 1)')
    assert await failures(dsn, table("a", "b"), table("b", "a")) == {}
    assert len(await connection.fetch(FOREIGN_KEYS)) == 2


async def test_a_circle_through_a_missing_plugin_names_it(dsn: str) -> None:
    found = await failures(dsn, table("a", "b"), table("b", "a", "nowhere"))
    assert found["b"] == "schema: it refers to nowhere.nowhere, which does not exist: is the plugin nowhere ready?"
    assert found["a"] == "schema: it refers to b.b, which does not exist: is the plugin b ready?"


async def test_a_start_that_was_killed_between_tables_is_continued(dsn: str, connection: asyncpg.Connection) -> None:
    sources = [table("a", "b"), table("b", "c"), table("c", "a")]
    assert await failures(dsn, *sources) == {}
    # As if the process had been killed before the second pass, with rows that were added since.
    for name, target in ("ab", "bc", "ca"):
        await connection.execute(
            f"""ALTER TABLE {name}.{name} DROP CONSTRAINT {name}_to_{target}_reference;
            UPDATE pegboard.declaration SET verified = '';
            INSERT INTO {name}.{name} (id, "_version") VALUES (gen_random_uuid(), 1)"""
        )
    assert await failures(dsn, *sources) == {}
    assert len(await connection.fetch(FOREIGN_KEYS)) == 3


async def test_a_declaration_that_was_not_recorded_is_recorded_by_the_next_start(
    dsn: str, connection: asyncpg.Connection
) -> None:
    sources = [table("a")]
    assert await failures(dsn, *sources) == {}
    await connection.execute("DELETE FROM pegboard.declaration WHERE plugin = 'a'")
    assert {outcome.now for outcome in (await migrate(dsn, sources)).values()} == {()}
    assert await connection.fetchval("SELECT count(*) FROM pegboard.declaration WHERE plugin = 'a'") == 1


async def test_a_declaration_of_the_core_before_is_known_by_its_fingerprint(
    dsn: str, connection: asyncpg.Connection
) -> None:
    first = table("a")
    spec = first.table
    assert spec is not None
    assert await failures(dsn, first) == {}
    # As the core before has left it.
    await connection.execute(
        """
        DROP TABLE pegboard.declaration;
        DROP FUNCTION pegboard.words_1, pegboard.unaccent_1, pegboard.fold_1, pegboard.replaced_1,
            pegboard.folded_1, pegboard.split_1, pegboard.words_without_marks_1;
        DELETE FROM pegboard.migration WHERE plugin = 'pegboard' AND version >= 5
        """
    )
    second = replace(first, table=replace(spec, columns=(Column("x", "text"),)), version="2")
    assert await failures(dsn, second) == {}
    assert (await migrate(dsn, [replace(first, version="2")]))["a"].now == ()
    assert await connection.fetchval("SELECT count(*) FROM pg_attribute WHERE attname = 'x' AND attnum > 0") == 1
    ledger = "SELECT version FROM pegboard.declaration WHERE plugin = 'a' ORDER BY number"
    assert [row[0] for row in await connection.fetch(ledger)] == ["", "2"]
