"""The connection pool: connections are never in an odd state or lost, and waiting always ends."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import asyncpg
import pytest

from pegboard.errors import ApiError, Busy, DatabaseUnavailable
from pegboard.postgres.embedded import EmbeddedServer
from pegboard.postgres.pool import Pool

MakePool = Callable[..., Any]

PID = "SELECT pg_backend_pid()"


@pytest.fixture
async def admin(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """Return a connection outside the pools; create an empty table."""
    connection = await asyncpg.connect(dsn)
    await connection.execute("DROP TABLE IF EXISTS item; CREATE TABLE item (id bigint PRIMARY KEY, note text)")
    yield connection
    await connection.close()


@pytest.fixture
async def make_pool(dsn: str, admin: asyncpg.Connection) -> AsyncIterator[MakePool]:
    async with AsyncExitStack() as stack:

        async def make_pool(**options: Any) -> Pool:
            pool = Pool(dsn, **options)
            await pool.open()
            stack.push_async_callback(pool.close)
            return pool

        yield make_pool


async def wait_until_idle(pool: Pool) -> None:
    """Wait until no connection is in use."""
    async with asyncio.timeout(10):
        while pool.idle != pool.size or pool.waiting:  # noqa: ASYNC110 - there is nothing to await
            await asyncio.sleep(0.005)


async def insert(pool: Pool, *ids: int, then: BaseException | None = None) -> None:
    """Insert items one by one in a transaction."""
    async with pool.transaction() as connection:
        for number in ids:
            await connection.execute("INSERT INTO item VALUES ($1)", number)
        if then is not None:
            raise then


async def sessions(admin: asyncpg.Connection) -> list[str]:
    rows = await admin.fetch(
        "SELECT state FROM pg_stat_activity WHERE application_name = 'pegboard' AND state IS NOT NULL"
    )
    return [row["state"] for row in rows]


async def until_running(admin: asyncpg.Connection, query: str) -> int:
    async with asyncio.timeout(5):
        while True:
            pid: int | None = await admin.fetchval(
                "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query LIKE $1 AND pid <> pg_backend_pid()",
                f"%{query}%",
            )
            if pid is not None:
                return pid
            await asyncio.sleep(0.005)


def assert_unavailable(error: ApiError) -> None:
    assert type(error) is DatabaseUnavailable
    assert error.headers == {"Retry-After": "1"}


async def test_rows_single_rows_values_and_statuses_can_be_fetched(make_pool: MakePool) -> None:
    pool = await make_pool()
    assert await pool.execute("INSERT INTO item VALUES ($1, $2), (2, 'b')", 1, "a") == "INSERT 0 2"
    assert [tuple(row) for row in await pool.fetch("SELECT * FROM item ORDER BY id")] == [(1, "a"), (2, "b")]
    assert tuple(await pool.fetchrow("SELECT * FROM item ORDER BY id DESC")) == (2, "b")
    assert await pool.fetchrow("SELECT * FROM item WHERE id = $1", 3) is None
    assert await pool.fetchval("SELECT note FROM item WHERE id = $1", 2) == "b"
    assert await pool.fetchval("SELECT note FROM item WHERE id = $1", 3) is None


async def test_sessions_are_configured_uniformly(make_pool: MakePool) -> None:
    pool = await make_pool(read_only=True, statement_timeout=7.5, idle_in_transaction_timeout=20)
    names = "TimeZone", "application_name", "jit", "default_transaction_read_only"
    timeouts = "statement_timeout", "idle_in_transaction_session_timeout"
    values = [await pool.fetchval("SELECT current_setting($1)", name) for name in names + timeouts]
    assert values == ["UTC", "pegboard", "off", "on", "7500ms", "20s"]


async def test_json_is_encoded_and_decoded(make_pool: MakePool) -> None:
    pool = await make_pool()
    value = {"a": [1, 2.5, None, "ö"], "at": datetime(2015, 2, 15, 5, 21, 7, tzinfo=UTC)}
    row = await pool.fetchrow("SELECT $1::jsonb, $1::json", value)
    assert row[0] == row[1] == {"a": [1, 2.5, None, "ö"], "at": "2015-02-15T05:21:07Z"}


async def test_the_most_recently_used_connection_is_acquired_first(make_pool: MakePool) -> None:
    pool = await make_pool()
    first = await pool.fetchval(PID)
    assert {await pool.fetchval(PID) for _ in range(5)} == {first}
    assert (pool.size, pool.idle, pool.waits) == (1, 1, 0)
    async with pool.transaction() as one, pool.transaction() as other:
        pids = [await one.fetchval(PID), await other.fetchval(PID)]
    assert pids[0] == first
    assert await pool.fetchval(PID) == first
    assert pool.size == 2


async def test_the_pool_size_is_never_exceeded_and_waiting_is_fifo(make_pool: MakePool) -> None:
    pool = await make_pool(size=3)
    served = []

    async def ask(number: int) -> int:
        pid: int = await pool.fetchval("SELECT pg_backend_pid() FROM pg_sleep(0.002)")
        served.append(number)
        return pid

    pids = set(await asyncio.gather(*(ask(number) for number in range(60))))
    assert len(pids) <= 3
    assert pool.size <= 3
    assert pool.waits >= 57
    assert max(abs(index - number) for index, number in enumerate(served)) < 20


async def test_acquiring_times_out_without_losing_a_connection(make_pool: MakePool) -> None:
    pool = await make_pool(size=1, timeout=0.15)
    async with pool.connection():
        begun = monotonic()
        results = await asyncio.gather(*(pool.fetchval("SELECT 1") for _ in range(3)), return_exceptions=True)
        assert 0.1 < monotonic() - begun < 1
    for result in results:
        assert isinstance(result, ApiError)
        assert_unavailable(result)
    assert pool.waiting == 0
    await wait_until_idle(pool)
    assert await pool.fetchval("SELECT 1") == 1


async def test_a_cancelled_wait_leaves_the_queue(make_pool: MakePool) -> None:
    pool = await make_pool(size=1)
    async with pool.connection():
        waiting = [asyncio.create_task(pool.fetchval("SELECT 1")) for _ in range(3)]
        await asyncio.sleep(0.01)
        waiting[0].cancel()
        waiting[2].cancel()
        await asyncio.sleep(0.01)
        assert pool.waiting == 1
    assert await waiting[1] == 1


async def test_a_cancelled_query_is_cancelled_on_the_server_and_its_connection_reused(
    make_pool: MakePool, admin: asyncpg.Connection
) -> None:
    pool = await make_pool(size=1)
    pid = await pool.fetchval(PID)
    task = asyncio.create_task(pool.fetch("SELECT pg_sleep(30)"))
    await until_running(admin, "pg_sleep(30)")
    task.cancel()
    begun = monotonic()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await pool.fetchval(PID) == pid
    assert monotonic() - begun < 2


async def test_an_exception_rolls_back(make_pool: MakePool, admin: asyncpg.Connection) -> None:
    pool = await make_pool(size=1)
    with pytest.raises(LookupError):
        await insert(pool, 1, then=LookupError())
    assert (pool.size, pool.idle) == (1, 1)
    with pytest.raises(asyncpg.UniqueViolationError):
        await insert(pool, 1, 1)
    assert await admin.fetchval("SELECT count(*) FROM item") == 0
    await insert(pool, 1)
    assert await admin.fetchval("SELECT count(*) FROM item") == 1


async def test_a_nested_transaction_is_a_savepoint(make_pool: MakePool, admin: asyncpg.Connection) -> None:
    pool = await make_pool()
    async with pool.transaction() as connection:
        await connection.execute("INSERT INTO item VALUES (1)")
        with pytest.raises(asyncpg.UniqueViolationError):
            async with connection.transaction():
                await connection.execute("INSERT INTO item VALUES (1)")
        await connection.execute("INSERT INTO item VALUES (2)")
    assert await admin.fetchval("SELECT count(*) FROM item") == 2


async def test_an_error_swallowed_inside_a_transaction_is_still_an_error(make_pool: MakePool) -> None:
    pool = await make_pool(size=1)

    async def ignore_error() -> None:
        async with pool.transaction() as connection:
            await connection.execute("INSERT INTO item VALUES (1)")
            with suppress(asyncpg.UniqueViolationError):
                await connection.execute("INSERT INTO item VALUES (1)")

    with pytest.raises(asyncpg.InFailedSQLTransactionError):
        await ignore_error()
    assert await pool.fetchval("SELECT count(*) FROM item") == 0


async def test_two_hundred_cancelled_writers_leak_nothing(make_pool: MakePool, admin: asyncpg.Connection) -> None:
    pool = await make_pool(size=5)
    await admin.execute("INSERT INTO item VALUES (0)")
    chance = random.Random(7)

    async def write(number: int) -> None:
        async with pool.transaction() as connection:
            await connection.execute("INSERT INTO item VALUES ($1, 'a')", 2 * number)
            await connection.fetch("SELECT pg_sleep(0.002)")
            await connection.execute("INSERT INTO item VALUES ($1, 'b')", 2 * number + 1)

    async def hang_up(number: int) -> None:
        task = asyncio.create_task(write(number) if number % 2 else pool.fetch("SELECT pg_sleep(0.003)"))
        await asyncio.sleep(chance.random() * 0.25)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    await asyncio.gather(*(hang_up(number) for number in range(1, 201)))
    await wait_until_idle(pool)
    assert set(await sessions(admin)) == {"idle"}
    assert 1 <= pool.size <= 5
    halves = await admin.fetch("SELECT id / 2 FROM item WHERE id > 0 GROUP BY 1 HAVING count(*) <> 2")
    assert halves == []
    assert await asyncio.gather(*(pool.fetchval("SELECT 1") for _ in range(20))) == [1] * 20


async def test_a_connection_is_usable_after_a_statement_timeout(make_pool: MakePool) -> None:
    pool = await make_pool(size=1, statement_timeout=0.05)
    pid = await pool.fetchval(PID)
    with pytest.raises(asyncpg.QueryCanceledError):
        await pool.fetch("SELECT pg_sleep(5)")
    assert await pool.fetchval(PID) == pid


async def test_a_connection_is_usable_after_invalid_statements(make_pool: MakePool) -> None:
    pool = await make_pool(size=1)
    pid = await pool.fetchval(PID)
    for sql, args in (
        ("SELECT $1::int", ("x",)),
        ("SELECT $1::int", ()),
        ("SELECT nothing", ()),
        ("SELECT $1::text", ("\0",)),
    ):
        with pytest.raises((asyncpg.InterfaceError, asyncpg.PostgresError)):
            await pool.fetch(sql, *args)
    assert (pool.size, pool.idle) == (1, 1)
    assert await pool.fetchval(PID) == pid


async def test_connections_closed_by_the_server_are_replaced_transparently(
    make_pool: MakePool, admin: asyncpg.Connection
) -> None:
    pool = await make_pool(size=4)
    await asyncio.gather(*(pool.fetch("SELECT pg_sleep(0.01)") for _ in range(4)))
    kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pegboard'"
    write = "INSERT INTO item SELECT coalesce(max(id), 0) + 1 FROM item RETURNING id"
    await pool.fetchval(write)
    await admin.execute(kill)
    await asyncio.sleep(0.05)
    assert await pool.fetchval(write) == 2
    await admin.execute(kill)
    await asyncio.sleep(0.05)
    async with pool.transaction() as connection:
        assert await connection.fetchval(write) == 3
    await admin.execute(kill)
    await asyncio.sleep(0.05)
    assert await pool.execute("UPDATE item SET note = 'x'") == "UPDATE 3"
    assert pool.idle == pool.size


async def test_a_read_is_retried_if_its_connection_breaks(make_pool: MakePool, admin: asyncpg.Connection) -> None:
    pool = await make_pool(size=2, read_only=True)
    reading = asyncio.create_task(pool.fetchval("SELECT 'read' FROM pg_sleep(0.3)"))
    pid = await until_running(admin, "pg_sleep(0.3)")
    await admin.execute("SELECT pg_terminate_backend($1)", pid)
    assert await reading == "read"
    await wait_until_idle(pool)
    assert pool.size == 1


async def test_a_write_with_an_unknown_outcome_is_not_retried(make_pool: MakePool, admin: asyncpg.Connection) -> None:
    pool = await make_pool(size=1)
    write = "INSERT INTO item SELECT count(*) FROM item, pg_sleep(0.3) RETURNING id"
    writing = asyncio.create_task(pool.fetchval(write))
    pid = await until_running(admin, "pg_sleep(0.3)")
    await admin.execute("SELECT pg_terminate_backend($1)", pid)
    with pytest.raises(asyncpg.ConnectionDoesNotExistError):
        await writing
    assert await admin.fetchval("SELECT count(*) FROM item") == 0
    assert await pool.fetchval(write) == 0


async def test_after_one_stale_statement_no_session_uses_another(
    make_pool: MakePool, admin: asyncpg.Connection
) -> None:
    pool = await make_pool(size=5)
    together = asyncio.Barrier(5)

    async def read() -> None:
        async with pool.transaction() as connection:
            await connection.fetch("SELECT * FROM item")
            await together.wait()

    await asyncio.gather(*(read() for _ in range(5)))
    await admin.execute("ALTER TABLE item ADD COLUMN more text")
    together = asyncio.Barrier(1)
    with pytest.raises(asyncpg.InvalidCachedStatementError):
        await read()
    together = asyncio.Barrier(5)
    await asyncio.gather(*(read() for _ in range(5)))


async def test_a_connection_that_breaks_inside_a_transaction_is_replaced(
    make_pool: MakePool, admin: asyncpg.Connection
) -> None:
    pool = await make_pool(size=1)

    async def lose() -> None:
        async with pool.transaction() as connection:
            await connection.execute("INSERT INTO item VALUES (1)")
            await admin.execute("SELECT pg_terminate_backend($1)", await connection.fetchval(PID))
            await connection.execute("SELECT pg_sleep(5)")

    with pytest.raises((asyncpg.PostgresError, asyncpg.InternalClientError, asyncpg.InterfaceError)):
        await lose()
    async with pool.connection() as connection:
        connection.terminate()
    assert await pool.fetchval("SELECT count(*) FROM item") == 0


async def test_the_pool_reconnects_to_a_restarted_server(
    make_pool: MakePool, server: EmbeddedServer, admin: asyncpg.Connection
) -> None:
    read, write = await make_pool(read_only=True, size=4), await make_pool(size=4)
    for pool in (read, write):
        await asyncio.gather(*(pool.fetch("SELECT pg_sleep(0.01)") for _ in range(4)))
    await asyncio.to_thread(server.stop)
    begun = monotonic()
    for pool in (read, write):
        with pytest.raises(ApiError) as refused:
            await pool.fetch("SELECT 1")
        assert_unavailable(refused.value)
    assert monotonic() - begun < 1
    await asyncio.to_thread(server.start)
    assert await read.fetchval("SELECT 1") == 1
    assert await write.fetchval("INSERT INTO item VALUES (1) RETURNING id") == 1


async def test_an_unnoticed_restart_fails_no_request(make_pool: MakePool, server: EmbeddedServer) -> None:
    read, write = await make_pool(read_only=True), await make_pool()
    for pool in (read, write):
        await asyncio.gather(*(pool.fetch("SELECT pg_sleep(0.01)") for _ in range(4)))
    # These block the event loop, so that it does not notice the lost connections before the next statement.
    server.stop()
    server.start()
    assert await read.fetchval("SELECT 1") == 1
    assert await write.fetchval("INSERT INTO item VALUES (1) RETURNING id") == 1
    server.stop()
    server.start()
    results = await asyncio.gather(
        *(pool.fetchval("SELECT id FROM item") for pool in (read, write, read, write)), return_exceptions=True
    )
    assert results == [1, 1, 1, 1]


@pytest.mark.parametrize("read_only", [False, True])
async def test_a_plan_outdated_by_a_migration_is_prepared_again(
    make_pool: MakePool, admin: asyncpg.Connection, read_only: bool
) -> None:
    pool = await make_pool(size=3, read_only=read_only)
    await admin.execute("INSERT INTO item VALUES (1, '7')")
    read = "SELECT note, pg_sleep(0.01) FROM item WHERE id = $1"
    await asyncio.gather(*(pool.fetchrow(read, 1) for _ in range(3)))
    assert pool.size == 3
    await admin.execute("ALTER TABLE item ALTER COLUMN note TYPE int USING note::int")
    rows = await asyncio.gather(*(pool.fetchrow(read, 1) for _ in range(9)))
    assert {row["note"] for row in rows} == {7}


async def test_deallocated_statements_are_prepared_again(make_pool: MakePool) -> None:
    pool = await make_pool(size=1)
    assert await pool.fetchval("SELECT 1") == 1
    async with pool.connection() as connection:
        await connection.execute("DEALLOCATE ALL")
    assert await pool.fetchval("SELECT 1") == 1


async def test_a_read_pool_cannot_write(make_pool: MakePool, admin: asyncpg.Connection) -> None:
    pool = await make_pool(size=1, read_only=True)
    with pytest.raises(RuntimeError, match="read-only connection"):
        await pool.fetch("INSERT INTO item VALUES (1)")
    with pytest.raises(RuntimeError, match="read-only connection"):
        await pool.execute("INSERT INTO item VALUES (1)")
    with pytest.raises(RuntimeError, match="read-only connection"):
        async with pool.transaction() as connection:
            await connection.execute("INSERT INTO item VALUES (1)")
    with pytest.raises(RuntimeError, match="read-only connection"):
        async with pool.connection() as connection:
            await connection.execute("INSERT INTO item VALUES (1)")
    await wait_until_idle(pool)
    assert await pool.fetchval("SELECT count(*) FROM item") == 0


async def test_a_write_pool_leaves_a_server_that_becomes_a_standby(
    make_pool: MakePool, admin: asyncpg.Connection
) -> None:
    pool = await make_pool(size=3)
    await asyncio.gather(*(pool.fetch("SELECT pg_sleep(0.01)") for _ in range(3)))
    await wait_until_idle(pool)
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await pool.execute("/* as a standby does */ BEGIN READ ONLY; INSERT INTO item VALUES (1)")
    assert pool.size == 0
    assert await pool.fetchval("INSERT INTO item VALUES (1) RETURNING id") == 1


async def test_session_settings_are_reset_on_release(make_pool: MakePool, admin: asyncpg.Connection) -> None:
    pool = await make_pool(size=1)
    pid = await pool.fetchval(PID)
    async with pool.connection() as connection:
        await connection.execute("SET timezone = 'Europe/Paris'; SET statement_timeout = 1; RESET statement_timeout")
        await connection.execute("CREATE TEMP TABLE left_over (a int); CREATE ROLE other; SET ROLE other")
        await connection.fetch("RESET ROLE")
        await connection.execute("SET ROLE other; LISTEN news; SELECT pg_advisory_lock(7)")
    assert await pool.fetchval(PID) == pid
    assert await pool.fetchval("SELECT current_setting('timezone') || current_user") == "UTC" + "postgres"
    assert await pool.fetchval("SELECT to_regclass('left_over')") is None
    assert await pool.fetchval("SELECT count(*) FROM pg_listening_channels()") == 0
    assert await admin.fetchval("SELECT pg_try_advisory_lock(7)")


async def test_an_open_transaction_is_rolled_back_on_release(make_pool: MakePool, admin: asyncpg.Connection) -> None:
    pool = await make_pool(size=1)
    async with pool.connection() as connection:
        await connection.execute("BEGIN")
        await connection.execute("INSERT INTO item VALUES (1)")
    await pool.execute("/* hidden */ BEGIN; INSERT INTO item VALUES (1)")
    await wait_until_idle(pool)
    assert await sessions(admin) == ["idle"]
    assert await pool.fetchval("SELECT count(*) FROM item") == 0


@pytest.mark.parametrize("sql", ["BEGIN", " start transaction", "set timezone = 'UTC'", "LISTEN news"])
async def test_a_statement_that_changes_its_session_is_rejected(make_pool: MakePool, sql: str) -> None:
    pool = await make_pool(size=1)
    for run in (pool.fetch, pool.fetchrow, pool.fetchval, pool.execute):
        with pytest.raises(ValueError, match=r"connection\(\)"):
            await run(sql)
    assert pool.idle == pool.size


async def test_the_number_of_prepared_statements_is_bounded(make_pool: MakePool) -> None:
    pool = await make_pool(size=1)
    for number in range(300):
        assert await pool.fetchval(f"SELECT {number}") == number
    assert await pool.fetchval("SELECT 0") == 0
    assert 200 < await pool.fetchval("SELECT count(*) FROM pg_prepared_statements") < 262


async def test_without_prepare_the_server_has_no_prepared_statements(make_pool: MakePool) -> None:
    pool = await make_pool(size=1, prepare=False, read_only=True)
    for _ in range(3):
        assert await pool.fetchval("SELECT $1::int", 7) == 7
        assert len(await pool.fetch("SELECT generate_series(1, 3)")) == 3
    assert await pool.fetchval("SELECT count(*) FROM pg_prepared_statements WHERE name <> ''") == 0
    for name, value in (("transaction_read_only", "on"), ("statement_timeout", "30s"), ("jit", "off")):
        assert await pool.fetchval(f"SELECT current_setting('{name}')") == value
    with pytest.raises(RuntimeError, match="read-only connection"):
        await pool.execute("CREATE TABLE kept (id int)")


async def test_tcp_connections_work(dsn: str, admin: asyncpg.Connection) -> None:
    path = (await admin.fetchval("SHOW unix_socket_directories")).strip('"') + "/.s.PGSQL.5432"

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner = await asyncio.open_unix_connection(path)
        await asyncio.gather(copy(reader, inner[1]), copy(inner[0], writer))

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as relayed:
        pool = Pool(f"postgresql://postgres@127.0.0.1:{relayed.sockets[0].getsockname()[1]}/pegboard")
        assert await pool.fetchval("SELECT 1") == 1
        await pool.close()


async def test_an_outage_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    pool = Pool("postgresql://x:secret@127.0.0.1:1/x")
    for _ in range(3):
        with pytest.raises(ApiError):
            await pool.fetch("SELECT 1")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "secret" not in caplog.text


async def test_a_refused_connection_fails_immediately() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        pool = Pool(f"postgresql://x@127.0.0.1:{port}/x", timeout=5)
        begun = monotonic()
        results = await asyncio.gather(*(pool.fetch("SELECT 1") for _ in range(20)), return_exceptions=True)
        for result in results:
            assert isinstance(result, ApiError)
            assert_unavailable(result)
        with pytest.raises(ConnectionRefusedError):
            await pool.open()
        assert monotonic() - begun < 2
    assert pool.size == 0


async def test_connecting_to_an_unresponsive_server_times_out() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        pool = Pool(f"postgresql://x@127.0.0.1:{silent.getsockname()[1]}/x", timeout=0.2)
        begun = monotonic()
        with pytest.raises(ApiError) as refused:
            await pool.fetch("SELECT 1")
        assert_unavailable(refused.value)
        with pytest.raises(TimeoutError):
            await pool.open()
        assert monotonic() - begun < 2
        await pool.close()
    assert pool.size == 0


async def test_a_snapshot_is_consistent_and_read_only(make_pool: MakePool, admin: asyncpg.Connection) -> None:
    pool = await make_pool()
    await insert(pool, 1, 2)
    async with pool.snapshot() as connection:
        assert await connection.fetchval("SELECT count(*) FROM item") == 2
        await admin.execute("DELETE FROM item")
        assert await connection.fetchval("SELECT count(*) FROM item") == 2
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        async with pool.snapshot() as connection:
            await connection.execute("INSERT INTO item VALUES (3)")
    await wait_until_idle(pool)
    await insert(pool, 3)


async def test_a_snapshot_has_a_longer_timeout(make_pool: MakePool) -> None:
    pool = await make_pool(size=1, statement_timeout=0.1, idle_in_transaction_timeout=0.1)
    async with pool.snapshot() as connection:
        await connection.execute("SELECT pg_sleep(0.3)")
        await asyncio.sleep(0.3)
        assert await connection.fetchval("SELECT 1") == 1
    assert await pool.fetchval("SHOW statement_timeout") == "100ms"
    assert await pool.fetchval("SHOW idle_in_transaction_session_timeout") == "100ms"


@pytest.mark.parametrize(("size", "most"), [(1, 1), (2, 1), (3, 1), (4, 2)])
async def test_snapshots_use_at_most_half_of_the_connections(make_pool: MakePool, size: int, most: int) -> None:
    pool = await make_pool(size=size)
    for _ in range(2):
        async with AsyncExitStack() as stack:
            for _ in range(most):
                await stack.enter_async_context(pool.snapshot())
            with pytest.raises(ApiError) as refused:
                await stack.enter_async_context(pool.snapshot())
            assert (type(refused.value), refused.value.headers) == (Busy, {"Retry-After": "5"})
            if size > 1:
                assert await pool.fetchval("SELECT 1") == 1
        await wait_until_idle(pool)


async def test_a_pool_works_with_fewer_connections_than_its_size(
    make_pool: MakePool, admin: asyncpg.Connection
) -> None:
    await admin.execute("DROP ROLE IF EXISTS narrow; CREATE ROLE narrow LOGIN CONNECTION LIMIT 2")
    dsn_of_narrow = (await make_pool())._options.dsn.replace("user=postgres", "user=narrow")
    pool = Pool(dsn_of_narrow, size=8)
    await pool.open()
    results = await asyncio.gather(*(pool.fetchval("SELECT 1 FROM pg_sleep(0.005)") for _ in range(40)))
    assert results == [1] * 40
    assert pool.size <= 2
    await pool.close()


async def test_closing_waits_for_acquired_connections_and_cancels_waiters(
    make_pool: MakePool, admin: asyncpg.Connection
) -> None:
    pool = await make_pool(size=1)
    running = asyncio.create_task(pool.fetchval("SELECT 'done' FROM pg_sleep(0.1)"))
    await until_running(admin, "pg_sleep(0.1)")
    waiting = asyncio.create_task(pool.fetchval("SELECT 1"))
    await asyncio.sleep(0)
    await pool.close()
    assert await running == "done"
    for late in (waiting, pool.fetchval("SELECT 1")):
        with pytest.raises(ApiError) as refused:
            await late
        assert_unavailable(refused.value)
    assert (pool.size, pool.idle) == (0, 0)
    assert await sessions(admin) == []
