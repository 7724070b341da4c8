"""The read and the write pool, and the translation of real PostgreSQL errors for clients."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from pegboard import errors
from pegboard.errors import ApiError
from pegboard.postgres.database import Database, translate
from pegboard.postgres.embedded import EmbeddedServer

SCHEMA = """
DROP TABLE IF EXISTS pet, owner, choice;
CREATE TABLE owner (id int PRIMARY KEY, name text NOT NULL UNIQUE, age smallint CHECK (age >= 0), nick varchar(3));
CREATE TABLE pet (id int PRIMARY KEY, owner int REFERENCES owner, first int REFERENCES owner ON DELETE RESTRICT,
                  late int REFERENCES owner DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE choice (span int4range, EXCLUDE USING gist (span WITH &&));
INSERT INTO owner VALUES (1, 'Ann'), (2, 'Bob'), (3, 'Cid');
INSERT INTO pet VALUES (1, 1, NULL), (2, NULL, 2);
INSERT INTO choice VALUES ('[1,5]')
"""


@pytest.fixture
async def database(dsn: str) -> AsyncIterator[Database]:
    database = Database(dsn, statement_timeout=0.5)
    await database.start()
    await database.write.execute(SCHEMA)
    yield database
    await database.close()


async def client_error(work: Any) -> ApiError:
    """Return the client error into which the failure of `work` is translated."""
    with pytest.raises(Exception) as raised:  # noqa: PT011 - the tests check the types
        await work
    error = translate(raised.value)
    assert error is not None, raised.value
    return error


async def test_the_read_pool_cannot_write(database: Database) -> None:
    assert database.available
    assert await database.write.fetchval("INSERT INTO owner VALUES (4, 'Dee') RETURNING name") == "Dee"
    assert await database.read.fetchval("SELECT name FROM owner WHERE id = $1", 4) == "Dee"
    with pytest.raises(RuntimeError, match="read-only connection"):
        await database.read.fetchval("DELETE FROM owner WHERE id = 4 RETURNING id")
    assert await database.ping()


async def test_reads_use_the_read_server(dsn: str) -> None:
    database = Database(dsn, dsn.replace("/pegboard?", "/postgres?"))
    await database.start()
    assert await database.write.fetchval("SELECT current_database()") == "pegboard"
    async with asyncio.timeout(10):
        while await database.read.fetchval("SELECT current_database()") != "postgres":  # noqa: ASYNC110 - there is nothing to await
            await asyncio.sleep(0.01)
    await database.close()


async def test_the_pools_can_start_before_the_database(server: EmbeddedServer, dsn: str) -> None:
    calls = []

    async def on_available() -> None:
        calls.append("now")

    early = Database(dsn, on_available=on_available)
    await asyncio.to_thread(server.stop)
    try:
        await early.start()
        assert await states(early) == (False, False)
        with pytest.raises(ApiError) as refused:
            await early.read.fetch("SELECT 1")
        assert type(refused.value) is errors.DatabaseUnavailable
    finally:
        await asyncio.to_thread(server.start)
    async with asyncio.timeout(10):
        await early.wait()
    assert await states(early) == (True, True)
    await asyncio.sleep(0.3)
    assert calls == ["now"]
    await early.close()
    assert not await early.ping()


async def states(database: Database) -> tuple[bool, bool]:
    return database.available, await database.ping()


async def test_failures_at_startup_are_retried(dsn: str) -> None:
    calls = 0

    async def on_available() -> None:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise LookupError

    database = Database(dsn, on_available=on_available)
    await database.start()
    assert not database.available
    async with asyncio.timeout(10):
        await database.wait()
    assert calls == 3
    assert database.write.size == database.read.size == 1
    await database.close()


async def test_the_pools_can_be_closed_while_retrying() -> None:
    database = Database("postgresql://x@127.0.0.1:1/x")
    await database.start()
    await asyncio.sleep(0.15)
    await database.close()
    assert not database.available


@pytest.mark.parametrize(
    ("sql", "args", "kind"),
    [
        ("INSERT INTO owner VALUES (9, 'Ann')", (), errors.Conflict),
        ("INSERT INTO choice VALUES ('[4,9]')", (), errors.Conflict),
        ("INSERT INTO owner VALUES (9, NULL)", (), errors.NullNotAllowed),
        ("INSERT INTO owner VALUES (9, 'x', -1)", (), errors.InvalidValue),
        ("INSERT INTO owner VALUES (9, 'x', 1, 'long')", (), errors.TooLong),
        ("INSERT INTO owner SELECT 9, string_agg(sha512(n::text::bytea)::text, '') FROM generate_series(1, 99) n", (), errors.TooLong),
        ("INSERT INTO owner VALUES (9, 'x', $1)", (2**15,), errors.OutOfRange),
        ("INSERT INTO owner VALUES ($1, 'x')", (2**70,), errors.OutOfRange),
        ("SELECT $1::int * 2", (2**31 - 1,), errors.OutOfRange),
        ("SELECT make_date($1, 13, 1)", (2000,), errors.OutOfRange),
        ("INSERT INTO owner VALUES (9, $1)", ("\0",), errors.InvalidCharacters),
        ("INSERT INTO owner VALUES (9, $1)", ("\ud800",), errors.InvalidCharacters),
        ("SELECT $1::jsonb", ("\0",), errors.InvalidCharacters),
        ("INSERT INTO owner VALUES (9, $1)", (5,), errors.InvalidValue),
        ("SELECT $1::text::int", ("x",), errors.InvalidValue),
        ("INSERT INTO pet VALUES (9, 77)", (), errors.InvalidValue),
        ("UPDATE pet SET owner = 77", (), errors.InvalidValue),
        ("DELETE FROM owner WHERE id = 1", (), errors.StillReferenced),
        ("DELETE FROM owner WHERE id = 2", (), errors.StillReferenced),
        ("UPDATE owner SET id = 78 WHERE id = 1", (), errors.StillReferenced),
        ("SELECT pg_sleep(3)", (), errors.TimedOut),
    ],
)  # fmt: skip
async def test_statement_errors_have_their_codes(
    database: Database, sql: str, args: tuple[Any, ...], kind: type[ApiError]
) -> None:
    error = await client_error(database.write.fetch(sql, *args))
    assert type(error) is kind
    assert error.details[0].message in (kind.message, "Refers to an item that does not exist.")
    assert dict(error.headers) == {}
    assert database.write.idle == database.write.size


async def test_deferred_references_distinguish_missing_and_still_referenced(database: Database) -> None:
    async def run(sql: str) -> None:
        async with database.write.transaction() as connection:
            await connection.execute(sql)

    error = await client_error(run("INSERT INTO pet VALUES (8, NULL, NULL, 77)"))
    assert (type(error), error.details[0].message) == (errors.InvalidValue, "Refers to an item that does not exist.")
    await run("INSERT INTO pet VALUES (8, NULL, NULL, 3)")
    assert type(await client_error(run("DELETE FROM owner WHERE id = 3"))) is errors.StillReferenced


async def test_a_lost_connection_is_503_with_retry_after(database: Database) -> None:
    async def lose() -> None:
        async with database.write.transaction() as connection:
            await database.read.fetch(
                "SELECT pg_terminate_backend($1)", await connection.fetchval("SELECT pg_backend_pid()")
            )
            await connection.execute("SELECT pg_sleep(0.4)")

    async def use_after_the_end() -> None:
        async with database.write.connection() as connection:
            connection.terminate()
            await connection.execute("SELECT 1")

    for work in (lose(), use_after_the_end()):
        error = await client_error(work)
        assert type(error) is errors.DatabaseUnavailable
        assert error.headers == {"Retry-After": "1"}


async def test_deadlocks_and_lock_timeouts_are_503_with_retry_after(database: Database) -> None:
    async with database.write.transaction() as holder:
        await holder.execute("LOCK TABLE owner")
        error = await client_error(database.write.execute("/* at once */ BEGIN; LOCK TABLE owner NOWAIT"))
    assert type(error) is errors.DatabaseUnavailable
    assert error.headers == {"Retry-After": "1"}

    async def cross(first: int, second: int) -> None:
        async with database.write.transaction() as connection:
            await connection.execute("SET LOCAL deadlock_timeout = '50ms'; SET LOCAL statement_timeout = 0")
            await connection.execute("UPDATE owner SET age = 1 WHERE id = $1", first)
            await asyncio.sleep(0.05)
            await connection.execute("UPDATE owner SET age = 1 WHERE id = $1", second)

    failures = [
        result
        for result in await asyncio.gather(cross(1, 2), cross(2, 1), return_exceptions=True)
        if isinstance(result, BaseException)
    ]
    assert [type(failure) for failure in failures] == [asyncpg.DeadlockDetectedError]
    error = await client_error(_raise(failures[0]))
    assert type(error) is errors.DatabaseUnavailable


async def _raise(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (asyncpg.TooManyConnectionsError("sorry"), errors.DatabaseUnavailable),
        (asyncpg.DiskFullError("full"), errors.DatabaseUnavailable),
        (asyncpg.AdminShutdownError("bye"), errors.DatabaseUnavailable),
        (asyncpg.CannotConnectNowError("starting"), errors.DatabaseUnavailable),
        (asyncpg.ReadOnlySQLTransactionError("standby"), errors.DatabaseUnavailable),
        (asyncpg.SerializationError("again"), errors.DatabaseUnavailable),
        (asyncpg.IdleInTransactionSessionTimeoutError("idle"), errors.TimedOut),
        (TimeoutError(), errors.TimedOut),
    ],
)
def test_errors_that_are_hard_to_provoke_have_their_codes(error: Exception, kind: type[ApiError]) -> None:
    translated = translate(error)
    assert translated is not None
    assert type(translated) is kind


async def test_programming_errors_are_not_translated(database: Database) -> None:
    for sql, args in (("SELECT * FROM nowhere", ()), ("SELEC 1", ()), ("SELECT $1::int", ())):
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)) as raised:
            await database.read.fetch(sql, *args)
        assert translate(raised.value) is None
    for error in (ValueError(), FileNotFoundError(), ConnectionRefusedError()):
        assert translate(error) is None
