"""The runner of migrations, on a real PostgreSQL and a database that is empty before each test."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from pegboard.migrations.removal import drop
from pegboard.migrations.runner import Preview, migrate, preview, status
from pegboard.migrations.sqlfiles import MigrationError
from pegboard.migrations.status import Outcome, PluginMigrations
from pegboard.schema.column import Column
from pegboard.schema.ddl import Index, TableSpec, Unique, create, fingerprint

NOTES = TableSpec("notes", "notes", (Column("text", "text", nullable=False, max_length=100),))
FIRST = "CREATE TABLE note (text text);\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "migrations"
    folder.mkdir()
    return folder


def with_files(folder: Path, plugin: str = "notes", **texts: str) -> PluginMigrations:
    """Write files, `_0001_first="..."` each, and return them as a plugin's."""
    for name, text in texts.items():
        (folder / f"{name[1:]}.sql").write_text(text)
    return PluginMigrations(plugin, folder)


def with_table(*columns: Column) -> PluginMigrations:
    return PluginMigrations("notes", table=replace(NOTES, columns=(*NOTES.columns, *columns)))


async def failure(dsn: str, source: PluginMigrations, **options: Any) -> str:
    outcome = (await migrate(dsn, [source], **options))[source.plugin]
    assert outcome.failure is not None
    assert "\n" not in outcome.failure
    return outcome.failure


async def tables(connection: asyncpg.Connection, schema: str = "notes") -> list[str]:
    rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = $1 ORDER BY 1", schema)
    return [row["tablename"] for row in rows]


async def test_migrations_are_applied_once_in_the_schema_of_the_plugin(
    dsn: str, connection: asyncpg.Connection, folder: Path
) -> None:
    source = with_files(folder, _0001_first=FIRST, _0002_second="INSERT INTO note VALUES ('a'); SELECT 1;")
    names = ("0001_first.sql", "0002_second.sql")
    assert (await migrate(dsn, [source]))["notes"] == Outcome(applied=names, now=names)
    assert (await migrate(dsn, [source]))["notes"] == Outcome(applied=names)
    assert await connection.fetchval("SELECT count(*) FROM notes.note") == 1
    with_files(folder, _0003_third="-- nothing but a comment\n;")
    assert (await migrate(dsn, [source]))["notes"].now == ("0003_third.sql",)


async def test_core_tables_are_created_before_those_of_plugins(dsn: str, connection: asyncpg.Connection) -> None:
    outcomes = await migrate(dsn, [])
    assert outcomes["pegboard"].now
    assert not outcomes["pegboard"].pending
    assert {"client", "migration"} <= set(await tables(connection, "pegboard"))


async def test_a_failed_migration_is_rolled_back_and_does_not_affect_other_plugins(
    dsn: str, connection: asyncpg.Connection, tmp_path: Path
) -> None:
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    broken.mkdir()
    whole.mkdir()
    sources = [
        with_files(
            broken, "a", _0001_first=FIRST, _0002_bad="CREATE TABLE b ();\nSELECT\n  nothing;", _0003_c="SELECT 1"
        ),
        with_files(whole, "b", _0001_first=FIRST),
    ]
    outcomes = await migrate(dsn, sources)
    assert outcomes["a"].failure == '0002_bad.sql, line 3: column "nothing" does not exist'
    assert (outcomes["a"].now, outcomes["a"].pending) == (("0001_first.sql",), ("0002_bad.sql", "0003_c.sql"))
    assert outcomes["b"].failure is None
    assert (await tables(connection, "a"), await tables(connection, "b")) == (["note"], ["note"])
    with_files(broken, "a", _0002_bad="CREATE TABLE b ()")
    assert (await migrate(dsn, sources))["a"].now == ("0002_bad.sql", "0003_c.sql")


async def test_settings_changed_by_a_migration_do_not_affect_others(
    dsn: str, connection: asyncpg.Connection, tmp_path: Path
) -> None:
    rude, next_one = tmp_path / "rude", tmp_path / "next"
    rude.mkdir()
    next_one.mkdir()
    text = "SET search_path TO pg_catalog; SET default_transaction_read_only TO on; SELECT pg_advisory_unlock_all();"
    sources = [with_files(rude, "a", _0001_rude=text), with_files(next_one, "b", _0001_first=FIRST)]
    outcomes = await migrate(dsn, sources)
    assert outcomes["b"].failure is None
    assert await tables(connection, "b") == ["note"]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"_0001_a": FIRST, "_0003_c": FIRST}, "0003_c.sql: the number 0003 is out of order: use 0002"),
        ({"_0002_b": FIRST}, "0002_b.sql: the number 0002 is out of order: use 0001"),
        ({"_0001_a": FIRST, "_0001_b": FIRST}, "0001_b.sql: the number 0001 is used twice"),
        ({"_1_a": FIRST}, "1_a.sql is not a valid name for a migration"),
        ({"_0001-a": FIRST}, "0001-a.sql is not a valid name for a migration"),
        ({"_0001_A": FIRST}, "0001_A.sql is not a valid name for a migration"),
        ({"_0001_a": "BEGIN;\nSELECT 1;\nCOMMIT;"}, "0001_a.sql contains BEGIN, but already runs in one transaction"),
        ({"_0001_a": "SELECT 1; -- so\n commit ;"}, "0001_a.sql contains COMMIT"),
        ({"_0001_a": "CREATE TABLE a (); END; SELECT 1"}, "it ends the transaction that it runs in"),
        ({"_0001_a": "DO $$ BEGIN RAISE 'so\n%', 1; END $$"}, "0001_a.sql: so 1"),
        ({"_0001_a": "SELECT pg_terminate_backend(pg_backend_pid())"}, "0001_a.sql: "),
    ],
)
async def test_an_invalid_migration_fails_its_plugin_by_name(
    dsn: str, folder: Path, texts: dict[str, str], message: str
) -> None:
    assert message in await failure(dsn, with_files(folder, **texts))


async def test_transaction_keywords_are_allowed_in_function_bodies_and_literals(dsn: str, folder: Path) -> None:
    text = """
        CREATE FUNCTION one() RETURNS int LANGUAGE plpgsql AS $body$ BEGIN; RETURN 1; COMMIT; END $body$;
        CREATE FUNCTION two() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END;
        SELECT 'a; COMMIT', E'\\'; COMMIT' /* ; COMMIT */ AS "; COMMIT"; -- ; COMMIT
    """.replace("BEGIN; RETURN", "BEGIN RETURN")
    assert (await migrate(dsn, [with_files(folder, _0001_bodies=text)]))["notes"].failure is None


async def test_a_file_that_is_not_utf_8_fails_its_plugin(dsn: str, folder: Path) -> None:
    (folder / "0001_latin.sql").write_bytes(b"SELECT '\xe9'")
    assert await failure(dsn, PluginMigrations("notes", folder)) == "0001_latin.sql is not UTF-8"


async def test_line_endings_and_other_files_are_ignored(dsn: str, folder: Path) -> None:
    source = with_files(folder, _0001_first="CREATE TABLE note (\n    text text\n);\n")
    (folder / "README.md").write_text("Notes.")
    await migrate(dsn, [source])
    file = folder / "0001_first.sql"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert (await migrate(dsn, [source]))["notes"].failure is None


async def test_edited_and_out_of_order_migrations_are_rejected(
    dsn: str, connection: asyncpg.Connection, folder: Path
) -> None:
    source = with_files(folder, _0001_first=FIRST, _0002_second="SELECT 2")
    await migrate(dsn, [source])
    with_files(folder, _0001_first="SELECT 1")
    assert (await failure(dsn, source)).startswith("0001_first.sql was edited after it was applied")
    with_files(folder, _0001_first=FIRST)
    await connection.execute("DELETE FROM pegboard.migration WHERE plugin = 'notes' AND version = 1")
    assert (await failure(dsn, source)).startswith("0001_first.sql is new, but 0002 is already applied")


async def test_an_older_package_keeps_migrations_applied_by_a_newer_one(dsn: str, folder: Path) -> None:
    source = with_files(folder, _0001_first=FIRST, _0002_second="SELECT 2")
    await migrate(dsn, [source])
    (folder / "0002_second.sql").unlink()
    outcome = (await migrate(dsn, [source]))["notes"]
    assert (outcome.missing, outcome.failure) == (("0002_second.sql",), None)


async def test_a_migration_can_opt_out_of_the_transaction(
    dsn: str, connection: asyncpg.Connection, folder: Path
) -> None:
    index = "-- pegboard: no-transaction\nCREATE INDEX CONCURRENTLY note_text ON note (text);\n"
    source = with_files(folder, _0001_first=FIRST, _0002_index=index, _0003_after="INSERT INTO note VALUES ('a')")
    assert (await migrate(dsn, [source]))["notes"].failure is None
    assert await connection.fetchval(
        "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid='notes.note'::regclass"
    )
    with_files(folder, _0004_no="CREATE INDEX CONCURRENTLY ON note (text)")
    assert "cannot run inside a transaction block" in await failure(dsn, source)


async def test_waiting_for_a_held_lock_times_out(dsn: str, connection: asyncpg.Connection, folder: Path) -> None:
    source = with_files(folder, _0001_first=FIRST)
    await migrate(dsn, [source])
    with_files(folder, _0002_second="ALTER TABLE note ADD COLUMN b int")
    async with connection.transaction():
        await connection.execute("LOCK TABLE notes.note")
        assert "canceling statement due to lock timeout" in await failure(dsn, source, lock_timeout=0.1)
    assert (await migrate(dsn, [source]))["notes"].now == ("0002_second.sql",)


async def test_concurrent_starts_all_succeed(dsn: str, connection: asyncpg.Connection, folder: Path) -> None:
    index = "-- pegboard: no-transaction\nCREATE INDEX CONCURRENTLY note_text ON note (text);\n"
    source = with_files(folder, "files", _0001_first=FIRST, _0002_index=index, _0003_slow="SELECT pg_sleep(0.2)")
    results = await asyncio.gather(*(migrate(dsn, [source, with_table()]) for _ in range(6)))
    assert {outcome.failure for result in results for outcome in result.values()} == {None}
    assert sum(len(result["files"].now) for result in results) == 3
    assert sum(len(result["notes"].now) for result in results) == 1


async def test_concurrent_processes_all_succeed(dsn: str, folder: Path) -> None:
    with_files(folder, _0001_first=FIRST, _0002_slow="SELECT pg_sleep(0.2)")
    program = (
        "import asyncio, pathlib, sys; from pegboard.migrations.runner import migrate; from pegboard.migrations.status import *;"
        "source = PluginMigrations('notes', pathlib.Path(sys.argv[2]));"
        "outcome = asyncio.run(migrate(sys.argv[1], [source]))['notes'];"
        "sys.stdout.write(f'{len(outcome.applied)} {len(outcome.now)} {outcome.failure}')"
    )
    command = (sys.executable, "-c", program, dsn, str(folder))
    starters = [
        await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(4)
    ]
    outputs = sorted([(await starter.communicate())[0].decode() for starter in starters])
    assert outputs == ["2 0 None"] * 3 + ["2 2 None"]


async def test_waiting_for_another_migration_fails_with_a_reason(dsn: str, connection: asyncpg.Connection) -> None:
    await connection.execute("SELECT pg_advisory_lock($1)", int.from_bytes(b"pegboard"))
    pid = connection.get_server_pid()
    with pytest.raises(MigrationError, match=rf"waited 0\.1 s .* backend {pid}\) is running"):
        await migrate(dsn, [], wait=0.1)


async def test_an_interrupted_migration_releases_its_lock(dsn: str, folder: Path) -> None:
    source = with_files(folder, _0001_slow="SELECT pg_sleep(60)")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(migrate(dsn, [source]), 0.5)
    with_files(folder, _0001_slow=FIRST)
    assert (await migrate(dsn, [source], wait=10))["notes"].now == ("0001_slow.sql",)


async def test_a_table_is_created_from_its_spec_and_extended_with_it(dsn: str, connection: asyncpg.Connection) -> None:
    assert (await migrate(dsn, [with_table()]))["notes"] == Outcome(applied=("schema",), now=("schema",))
    assert (await migrate(dsn, [with_table()]))["notes"] == Outcome(applied=("schema",))
    await connection.execute("INSERT INTO notes.notes (id, \"_version\", text) VALUES (gen_random_uuid(), 1, 'a')")
    longer = with_table(Column("author", "text"))
    assert (await migrate(dsn, [longer]))["notes"] == Outcome(applied=("schema",), now=("schema",))
    assert await connection.fetchval("SELECT author IS NULL FROM notes.notes")
    # The declaration before, which another process may still have, undoes nothing.
    assert (await migrate(dsn, [with_table()]))["notes"] == Outcome(applied=("schema",))
    assert (await migrate(dsn, [longer]))["notes"] == Outcome(applied=("schema",))
    message = await failure(dsn, with_table(Column("writer", "text")))
    assert "the column writer is new, and may be one that is no longer declared under another name" in message
    assert message.endswith(
        'ALTER TABLE "notes"."notes" RENAME COLUMN "author" TO "writer"; '
        'or, if it was not renamed: ALTER TABLE "notes"."notes" ADD COLUMN "writer" text COLLATE "C";'
    )


async def test_a_table_without_rows_follows_every_change(dsn: str, connection: asyncpg.Connection) -> None:
    await migrate(dsn, [with_table(Column("author", "text"))])
    assert (await migrate(dsn, [with_table(Column("author", "date", nullable=False))]))["notes"].failure is None
    query = "SELECT format_type(atttypid, -1) FROM pg_attribute WHERE attrelid = 'notes.notes'::regclass AND attname = 'author'"
    assert await connection.fetchval(query) == "date"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Column("author", "text"), Column("author", "date", nullable=False)),
        (Column("author", "bigint"), Column("author", "date")),
        (Column("author", "bigint", nullable=False, default="5"), Column("author", "text[]")),
        (Column("author", "text", max_length=9), Column("author", "text[]", max_length=9)),
        (Column("author", "text", max_length=9), Column("author", "text", max_length=5, min_length=2)),
        (Column("author", "jsonb"), Column("author", "uuid", references=("notes", "notes"))),
        (Column("author", "uuid"), Column("author", "bigint", choices=(1, 2))),
        (Column("author", "text", choices=("a", "b")), Column("author", "text", choices=("b", "c"))),
        (Column("author", "date"), Column("author", "text", nullable=False)),
        (Column("author", "text"), Column("writer", "text", nullable=False)),
    ],
)
@pytest.mark.parametrize("searched", [False, True])
async def test_a_table_without_rows_is_changed_and_loses_no_column(
    dsn: str, connection: asyncpg.Connection, before: Column, after: Column, searched: bool
) -> None:
    def source(column: Column) -> PluginMigrations:
        search = ("text", *((column.name,) if column.type == "text" else ())) if searched else ()
        indexes = () if column.type == "jsonb" else (Index((column.name,)),)
        uniques = (Unique(column.name, ignore_case=True),) if column.type == "text" else ()
        spec = replace(NOTES, columns=(*NOTES.columns, column), search=search, indexes=indexes, uniques=uniques)
        return PluginMigrations("notes", table=spec)

    made = "SELECT attname FROM pg_attribute WHERE attrelid = 'notes.notes'::regclass AND attnum > 0"
    await migrate(dsn, [source(before)])
    table = await connection.fetchval("SELECT 'notes.notes'::regclass::oid")
    names = {row[0] for row in await connection.fetch(made)}
    for declared in (after, before):
        newer = replace(source(declared), version="2" if declared is after else "3")
        assert (await migrate(dsn, [newer]))["notes"].failure is None
        assert await migrate(dsn, [newer]) == await status(dsn, [newer])
    assert await connection.fetchval("SELECT 'notes.notes'::regclass::oid") == table
    assert names <= {row[0] for row in await connection.fetch(made)}


async def test_what_does_not_depend_on_rows_is_left_to_the_author_without_them(
    dsn: str, connection: asyncpg.Connection
) -> None:
    await migrate(dsn, [with_table()])
    await connection.execute("ALTER TABLE notes.notes SET UNLOGGED")
    assert "it is unlogged" in await failure(dsn, with_table(Column("author", "text", nullable=False)))


async def test_an_existing_table_is_never_dropped(dsn: str, connection: asyncpg.Connection) -> None:
    await connection.execute("CREATE SCHEMA notes; CREATE TABLE notes.notes (text int)")
    assert "the column text is declared text, but is integer" in await failure(dsn, with_table())


async def test_plugins_are_migrated_after_those_they_reference(dsn: str) -> None:
    def table(name: str, *targets: str) -> PluginMigrations:
        columns = tuple(Column(f"to_{target}", "uuid", references=(target, target)) for target in targets)
        return PluginMigrations(name, table=TableSpec(name, name, columns))

    sources = [
        table("a", "b", "a"),
        table("b", "c"),
        table("c"),
        table("d", "nowhere"),
        table("e", "f"),
        table("f", "e"),
    ]
    outcomes = await migrate(dsn, sources)
    assert [outcomes[name].failure for name in "abcef"] == [None] * 5
    wanted = "schema: it refers to nowhere.nowhere, which does not exist: is the plugin nowhere ready?"
    assert outcomes["d"].failure == wanted


async def test_migrations_take_over_from_a_spec(dsn: str, connection: asyncpg.Connection, folder: Path) -> None:
    await migrate(dsn, [with_table()])
    await connection.execute("INSERT INTO notes.notes (id, \"_version\", text) VALUES (gen_random_uuid(), 1, 'a')")
    baseline = f"-- pegboard: baseline {fingerprint(NOTES)}\n" + ";\n".join(create(NOTES))
    source = with_files(folder, _0001_baseline=baseline, _0002_shout="UPDATE notes SET text = upper(text)")
    outcome = (await migrate(dsn, [source]))["notes"]
    assert (outcome.failure, outcome.applied) == (None, ("schema", "0001_baseline.sql", "0002_shout.sql"))
    assert await connection.fetchval("SELECT text FROM notes.notes") == "A"
    # The version before, started again, leaves the table to the files.
    assert (await migrate(dsn, [with_table(Column("author", "text"))]))["notes"].now == ()


async def test_a_baseline_creates_a_missing_table(dsn: str, connection: asyncpg.Connection, folder: Path) -> None:
    baseline = f"-- pegboard: baseline {fingerprint(NOTES)}\n" + ";\n".join(create(NOTES))
    assert (await migrate(dsn, [with_files(folder, _0001_baseline=baseline)]))["notes"].failure is None
    assert await tables(connection) == ["notes"]


async def test_a_baseline_of_another_spec_is_rejected(dsn: str, folder: Path) -> None:
    await migrate(dsn, [with_table(Column("author", "text"))])
    baseline = f"-- pegboard: baseline {fingerprint(NOTES)}\n" + ";\n".join(create(NOTES))
    assert "created from another version of the schema" in await failure(
        dsn, with_files(folder, _0001_baseline=baseline)
    )


async def test_status_and_preview_list_pending_migrations_and_change_nothing(
    dsn: str, connection: asyncpg.Connection, folder: Path
) -> None:
    files = with_files(folder, "files", _0001_first=FIRST)
    assert (await status(dsn, [files]))["files"] == Outcome(pending=("0001_first.sql",))
    assert (await preview(dsn, [files, with_table()]))["files"] == Preview(f"-- 0001_first.sql\n{FIRST}", False)
    assert await tables(connection, "pegboard") == []
    await migrate(dsn, [files, with_table(Column("author", "text"))])
    await connection.execute("INSERT INTO notes.notes (id, \"_version\", text) VALUES (gen_random_uuid(), 1, 'a')")
    assert await preview(dsn, [files, with_table(Column("author", "text"))]) == {}
    texts = await preview(dsn, [files, with_table(Column("author", "bigint"))])
    assert list(texts) == ["notes"]
    assert texts["notes"].refused
    assert texts["notes"].sql.startswith(
        "-- refused: the column author is declared bigint, but is text. "
        "It fails on a value that cannot be converted.\nALTER"
    )
    texts = await preview(dsn, [files, with_table()])
    assert not texts["notes"].refused
    assert texts["notes"].sql.startswith("-- notice: the column author is no longer declared: it keeps its values")
    with_files(folder, _0001_first="SELECT 1")
    assert (await preview(dsn, [files]))["files"].sql.startswith("-- refused: 0001_first.sql was edited")


async def test_an_uninstalled_plugin_is_listed_and_not_changed(
    dsn: str, connection: asyncpg.Connection, folder: Path
) -> None:
    await migrate(dsn, [with_files(folder, _0001_first=FIRST)])
    gone = Outcome(missing=("0001_first.sql",), installed=False)
    assert (await migrate(dsn, []))["notes"] == (await status(dsn, []))["notes"] == gone
    assert await tables(connection) == ["note"]


async def test_a_removed_plugin_can_be_installed_again(dsn: str, connection: asyncpg.Connection, folder: Path) -> None:
    source = with_files(folder, _0001_first=FIRST, _0002_second="SELECT 2")
    await migrate(dsn, [source])
    await drop(dsn, "notes", "/notes")
    assert await tables(connection) == []
    assert "notes" not in await status(dsn, [])
    for name in ("notes", "public", "pegboard", "nothing"):
        with pytest.raises(MigrationError, match=f"the plugin {name} has no tables in this database"):
            await drop(dsn, name, f"/{name}")
    assert len((await migrate(dsn, [source]))["notes"].now) == 2


async def test_a_manually_dropped_schema_is_recreated(dsn: str, connection: asyncpg.Connection, folder: Path) -> None:
    source = with_files(folder, _0001_first=FIRST, _0002_second="SELECT 2")
    await migrate(dsn, [source])
    await connection.execute("DROP SCHEMA notes CASCADE")
    (folder / "0002_second.sql").unlink()
    assert (await migrate(dsn, [source]))["notes"] == Outcome(applied=("0001_first.sql",), now=("0001_first.sql",))


@pytest.mark.parametrize("plugin", ["public", "pg_notes", "information_schema"])
async def test_names_reserved_by_postgresql_are_rejected(dsn: str, folder: Path, plugin: str) -> None:
    assert "PostgreSQL reserves" in await failure(dsn, with_files(folder, plugin, _0001_first=FIRST))


async def test_a_plugin_without_tables_has_nothing_to_do(dsn: str, tmp_path: Path) -> None:
    assert (await migrate(dsn, [PluginMigrations("notes", tmp_path / "none")]))["notes"] == Outcome()


async def test_an_unavailable_database_is_reported_as_such() -> None:
    with pytest.raises(ConnectionRefusedError):
        await migrate("postgresql://postgres@127.0.0.1:1/none", [])
