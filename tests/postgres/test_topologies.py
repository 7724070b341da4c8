"""PostgreSQL in production topologies: behind PgBouncer, with a replica, on several hosts, over TLS."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pegboard import database_urls
from pegboard.postgres import hosts
from pegboard.postgres.database import Database, Unusable
from pegboard.settings import Settings
from tests import servers
from tests.cli.test_cli import error_line, pegboard
from tests.conftest import PASSWORD, Api, Serve
from tests.servers import LOCAL, Bouncer, Postgres, chown, free_port, program, run

DATABASE = "pegboard"
COMMANDS = (("serve", "--port", "0"), ("serve", "--port", "0", "--workers", "2"), ("migrate",), ("client", "list"))
HBA = """
host all knocker 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
host replication all 127.0.0.1/32 trust
"""


@pytest.fixture(scope="module")
def base_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pegboard-topologies-") as folder:
        # The servers run as another user, who needs access.
        Path(folder).chmod(0o711)
        yield Path(folder)


def make_folder(base_folder: Path, name: str) -> Path:
    (base_folder / name).mkdir()
    return base_folder / name


@pytest.fixture(scope="module")
def authority(base_folder: Path) -> Path:
    """Create a certificate authority and a certificate for localhost; return their folder."""
    folder = make_folder(base_folder, "tls")
    for command in (
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=ca",
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout server.key -out server.csr -subj /CN=localhost",
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -out server.crt",
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout no.key -out other.crt -days 2 -subj /CN=o",
    ):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
    for name in ("server.key", "server.crt"):
        chown(folder / name)
    return folder


@pytest.fixture(scope="module")
def primary(base_folder: Path, authority: Path) -> Iterator[Postgres]:
    server = Postgres(make_folder(base_folder, "primary"))
    tls = {"ssl": "on", "ssl_cert_file": f"{authority}/server.crt", "ssl_key_file": f"{authority}/server.key"}
    (server.folder / "hba").write_text(HBA)
    server.start(hba_file=f"{server.folder}/hba", **tls)
    server.sql(f"CREATE DATABASE {DATABASE}")
    server.sql("CREATE ROLE knocker LOGIN PASSWORD 'right'")
    yield server
    server.stop(signal.SIGQUIT)


@pytest.fixture(scope="module")
def replica(base_folder: Path, primary: Postgres) -> Iterator[Postgres]:
    server = Postgres(make_folder(base_folder, "replica"))
    server.follow(primary, hba_file=f"{primary.folder}/hba")
    yield server
    server.stop(signal.SIGQUIT)


@pytest.fixture(scope="module")
def bouncer(primary: Postgres, base_folder: Path) -> Iterator[Bouncer]:
    server = Bouncer(make_folder(base_folder, "bouncer"))
    server.start(primary)
    yield server
    server.stop(signal.SIGQUIT)


@pytest.fixture(scope="module")
def database_url(primary: Postgres) -> str:
    return primary.url(DATABASE)


async def wait_until(condition: Callable[[], Awaitable[bool]], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - there is nothing to await
            await asyncio.sleep(0.02)


async def ready(api: Api) -> bool:
    return (await api.get("/ready")).status == 200


def dump_of(url: str) -> list[str]:
    """Return the lines of a dump, without the key that each one has of its own."""
    return [
        line
        for line in run(program("pg_dump"), url).splitlines()
        if not line.startswith(("\\restrict", "\\unrestrict"))
    ]


def contact(name: str) -> dict[str, str]:
    return {"name": name, "email": f"{name}@example.org"}


async def create(api: Api, name: str) -> str:
    response = await api.post("/contacts", contact(name))
    assert response.status == 201, response.body
    return str(response.json["id"])


async def test_sessions_are_not_mixed_up_behind_a_pooler_in_transaction_mode(
    serve: Serve, primary: Postgres, bouncer: Bouncer
) -> None:
    url = bouncer.url(DATABASE)
    # Two services, so that four pools share the same two sessions of the server.
    services = [await serve(database_url=url, direct_database_url=primary.url(DATABASE)) for _ in range(2)]
    ids = await asyncio.gather(*(create(services[n % 2], f"bounced{n}") for n in range(20)))

    async def use(number: int) -> None:
        api, id, name = services[number % 2], ids[number], f"bounced{number}"
        for _ in range(3):
            assert (await api.get(f"/contacts/{id}")).json["name"] == name
            assert [item["id"] for item in (await api.get(f"/contacts?name={name}")).json["items"]] == [id]
            changed = await api.patch(f"/contacts/{id}", {"phone": f"+41{number:09}"})
            assert (changed.status, changed.json["name"]) == (200, name)

    async def export() -> None:
        for _ in range(4):
            response = await services[0].get("/contacts?fields=name", headers={"Accept": "application/x-ndjson"})
            assert response.body.count(b"bounced") == 20

    await asyncio.gather(export(), *(use(number) for number in range(20)))
    keyed = {"headers": {"Idempotency-Key": "once"}}
    once, again = [await api.post("/contacts", contact("keyed"), **keyed) for api in services]
    assert (once.status, again.json, again.headers["Idempotency-Replayed"]) == (201, once.json, "true")
    database = services[0].service.database
    with pytest.raises(RuntimeError, match="read-only connection"):
        await database.read.execute("CREATE TABLE made_by_a_read ()")
    assert await database.read.fetchval("SELECT current_setting('statement_timeout')") == "30s"
    # Changes of clients by other workers arrive, since notifications bypass the pooler.
    client = {"username": "bounced", "password": "a password 1", "grants": ["contacts:GET"]}
    id = (await services[0].post("/clients", client)).json["id"]
    other = services[1].as_client("bounced", "a password 1")
    assert (await other.get("/contacts?limit=1")).status == 200
    assert (await services[0].delete(f"/clients/{id}")).status == 204
    await asyncio.sleep(0.3)
    assert (await other.get("/contacts?limit=1")).status == 401
    # It stops and starts again: nothing has to be restarted.
    bouncer.stop(signal.SIGKILL)
    assert (await services[0].get(f"/contacts/{ids[0]}")).status == 503
    bouncer.start(primary)
    await wait_until(lambda: ready(services[0]))
    assert (await services[0].get(f"/contacts/{ids[0]}")).status == 200
    await asyncio.gather(*(api.delete(f"/contacts/{id}") for api in services for id in ids))


async def test_an_unconfigured_pooler_is_reported(bouncer: Bouncer, caplog: pytest.LogCaptureFixture) -> None:
    database = Database(bouncer.url(DATABASE))
    await database.start()
    assert not database.available
    assert "set PEGBOARD_DIRECT_DATABASE_URL" in caplog.text
    await database.close()


@pytest.fixture(scope="module")
async def pair(serve: Serve, primary: Postgres, replica: Postgres) -> tuple[Api, Api]:
    """Run two services that read from the replica, like two workers."""
    first, second = [await serve(read_database_url=replica.url(DATABASE)) for _ in range(2)]
    await wait_until(lambda: reads_from_replica(first))
    return first, second


async def reads_from_replica(api: Api) -> bool:
    return bool(await api.service.database.read.fetchval("SELECT pg_is_in_recovery()"))


async def count_stale_reads(writer: Api, reader: Api, rounds: int) -> tuple[int, int]:
    """Write by one service and read by the other; return how many reads missed the write, and how many used the replica."""
    id = await create(writer, "fresh")
    missed = 0
    replica: Any = reader.service.database._replica
    start = asyncio.get_running_loop().time()
    from_replica = 0
    for number in range(rounds):
        phone = f"+41{number:09}"
        assert (await writer.patch(f"/contacts/{id}", {"phone": phone})).status == 200
        from_replica += replica.is_current()
        missed += (await reader.get(f"/contacts/{id}")).json["phone"] != phone
    assert (await writer.delete(f"/contacts/{id}")).status == 204
    assert (await reader.get(f"/contacts/{id}")).status == 404
    assert asyncio.get_running_loop().time() - start < 0.4 * (rounds + 2)
    return missed, from_replica


async def test_acknowledged_writes_of_any_worker_are_read(pair: tuple[Api, Api], replica: Postgres) -> None:
    missed, from_replica = await count_stale_reads(*pair, rounds=40)
    assert missed == 0
    assert from_replica > 20
    # A replica that lags slightly: writes wait for it.
    replica.sql("ALTER SYSTEM SET recovery_min_apply_delay = '60ms'")
    replica.sql("SELECT pg_reload_conf()")
    await asyncio.sleep(0.1)
    missed, from_replica = await count_stale_reads(*pair, rounds=10)
    assert missed == 0
    # Counter-check: without waiting, the previous state is read.
    database = pair[0].service.database
    await database.write.execute("CREATE TABLE IF NOT EXISTS late (n int); INSERT INTO late VALUES (1)")
    await database.wait_until_visible()
    await wait_until(lambda: reads_from_replica(pair[0]))
    await database.write.execute("INSERT INTO late VALUES (2)")
    before = await pair[1].service.database.read.fetchval("SELECT count(*) FROM late")
    await database.wait_until_visible()
    after = await pair[1].service.database.read.fetchval("SELECT count(*) FROM late")
    assert (before, after) in ((1, 2), (2, 2))
    replica.sql("ALTER SYSTEM RESET recovery_min_apply_delay")
    replica.sql("SELECT pg_reload_conf()")


async def test_a_stalled_replica_is_not_used(pair: tuple[Api, Api], replica: Postgres) -> None:
    await wait_until(lambda: reads_from_replica(pair[1]))
    replica.sql("SELECT pg_wal_replay_pause()")
    missed, from_replica = await count_stale_reads(*pair, rounds=4)
    assert (missed, from_replica) == (0, 0)
    assert await ready(pair[0])
    replica.sql("SELECT pg_wal_replay_resume()")
    await wait_until(lambda: reads_from_replica(pair[1]))


async def test_a_read_cancelled_by_the_replica_is_retried_on_the_primary(
    pair: tuple[Api, Api], primary: Postgres, replica: Postgres
) -> None:
    database = pair[0].service.database
    await database.write.execute("CREATE TABLE swept AS SELECT n FROM generate_series(1, 99) n")
    await database.wait_until_visible()
    replica.sql("ALTER SYSTEM SET max_standby_streaming_delay = 0")
    replica.sql("SELECT pg_reload_conf()")
    await wait_until(lambda: reads_from_replica(pair[0]))
    sql = "SELECT count(*) FILTER (WHERE pg_is_in_recovery()) AS there, count(*) FROM swept, pg_sleep(0.7)"
    reading = asyncio.create_task(database.read.fetchrow(sql))
    await asyncio.sleep(0.2)
    primary.sql("DELETE FROM swept", DATABASE)
    primary.sql("VACUUM swept", DATABASE)
    row = await reading
    assert row is not None
    assert tuple(row) == (0, 0)
    assert "cancel" in (replica.folder / "log").read_text()
    # An export uses the snapshot of the replica.
    await wait_until(lambda: reads_from_replica(pair[0]))
    async with database.read.snapshot() as connection:
        assert await connection.fetchval("SELECT pg_is_in_recovery()")
    response = await pair[0].get("/contacts", headers={"Accept": "application/x-ndjson"})
    assert response.status == 200


async def test_a_killed_replica_fails_no_read(pair: tuple[Api, Api], primary: Postgres, replica: Postgres) -> None:
    api = pair[0]
    await wait_until(lambda: reads_from_replica(api))
    statuses: list[int] = []
    end = asyncio.get_running_loop().time() + 1

    async def read() -> None:
        while asyncio.get_running_loop().time() < end:
            statuses.append((await api.get("/contacts?limit=1")).status)

    readers = asyncio.gather(*(read() for _ in range(8)))
    await asyncio.sleep(0.3)
    await asyncio.to_thread(replica.stop, signal.SIGQUIT)
    await readers
    assert set(statuses) == {200}
    assert await ready(api)
    await asyncio.to_thread(lambda: replica.start(hba_file=f"{primary.folder}/hba"))
    await wait_until(lambda: reads_from_replica(api))


async def test_the_server_certificate_is_verified(
    serve: Serve, primary: Postgres, authority: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = primary.url(DATABASE).replace(LOCAL, "localhost")
    good = await serve(database_url=f"{url}sslmode=verify-full&sslrootcert={authority}/ca.crt")
    assert (await good.get("/contacts?limit=1")).status == 200
    for pool in (good.service.database.write, good.service.database.read):
        assert await pool.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    sessions = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl"
    listening = f"{sessions} AND application_name = 'pegboard notices'"
    assert await good.service.database.read.fetchval(listening) >= 1
    # Another authority, and a host name that the certificate does not contain.
    for bad in (
        f"{url}sslmode=verify-full&sslrootcert={authority}/other.crt",
        f"{primary.url(DATABASE)}sslmode=verify-full&sslrootcert={authority}/ca.crt",
    ):
        api = await serve(database_url=bad)
        response = await api.get("/ready")
        assert (response.status, response.errors) == (503, [(15003, None)])
        assert "certificate verify failed" in caplog.text.splitlines()[-1]


PROVIDERS = (
    "sslmode=require&channel_binding=require",
    "sslmode=require&connect_timeout=5&application_name=pegs&options=-c%20geqo%3Doff",
    "target_session_attrs=read-write&keepalives=1&keepalives_idle=9&tcp_user_timeout=9000&gssencmode=disable",
    "ssl=true&client_encoding=utf8&load_balance_hosts=random&fallback_application_name=other&sslsni=1",
)


@pytest.mark.parametrize("query", PROVIDERS)
async def test_options_that_providers_put_into_urls_are_taken(serve: Serve, primary: Postgres, query: str) -> None:
    url = f"{primary.url(DATABASE)}{query}"
    api = await serve(database_url=url, direct_database_url=url, read_database_url=url)
    assert (await api.get("/contacts?limit=1")).status == 200
    pool = api.service.database.write
    state = "SELECT ssl, current_setting('geqo') AS geqo, current_setting('application_name') AS name"
    row = await pool.fetchrow(f"{state} FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    assert row is not None
    assert tuple(row) == (
        True,
        "off" if "geqo" in query else "on",
        "pegs" if "&application_name" in query else "pegboard",
    )


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_parameter_that_the_server_does_not_know_stops_the_start(
    primary: Postgres, tmp_path: Path, command: tuple[str, ...]
) -> None:
    url = f"{primary.url(DATABASE)}options=-c%20no_such_parameter%3D1"
    line = error_line(pegboard(tmp_path / "data", *command, database_url=url, log_level="critical"))
    assert "the server rejects the options of its URL: unrecognized configuration parameter" in line


@pytest.mark.parametrize("command", [*COMMANDS, ("plugins",), ("check",), ("healthcheck",)], ids=" ".join)
def test_an_invalid_option_stops_every_command(primary: Postgres, tmp_path: Path, command: tuple[str, ...]) -> None:
    url = f"{primary.url(DATABASE)}target_session_attrs=foo"
    line = error_line(pegboard(tmp_path / "data", *command, database_url=url))
    assert line.startswith("PEGBOARD_DATABASE_URL must be a URL whose target_session_attrs is one of any, ")


async def test_connect_timeout_limits_the_time_for_a_host(primary: Postgres) -> None:
    with socket.create_server((LOCAL, 0)) as silent:
        hosts_and_ports = f"{LOCAL}:{silent.getsockname()[1]},{LOCAL}:{primary.port}"
        async with asyncio.timeout(20):
            connection = await hosts.connect(
                f"postgresql://postgres@{hosts_and_ports}/{DATABASE}?connect_timeout=1", 3600, {}
            )
        await connection.close()


async def test_the_authorities_of_the_system_are_trusted(
    primary: Postgres, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = primary.url(DATABASE).replace(LOCAL, "localhost") + "sslrootcert=system"
    for file, trusted in (("other.crt", False), ("ca.crt", True)):
        monkeypatch.setenv("SSL_CERT_FILE", f"{authority}/{file}")
        database_urls._system_context.cache_clear()
        if not trusted:
            with pytest.raises(ssl.SSLCertVerificationError):
                await hosts.connect(url, 10, {})
            continue
        connection = await hosts.connect(url, 10, {})
        assert await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        await connection.close()
    database_urls._system_context.cache_clear()


@pytest.mark.parametrize(
    ("change", "message", "log_text"),
    [
        (
            {"user": "knocker", "password": "wrong"},
            "rejects the password of the service",
            "password authentication failed",
        ),
        ({"dbname": "nowhere"}, "does not exist", 'database "nowhere" does not exist'),
    ],
)
async def test_rejected_database_logins_are_reported_and_retried(
    serve: Serve,
    primary: Postgres,
    caplog: pytest.LogCaptureFixture,
    change: dict[str, str],
    message: str,
    log_text: str,
) -> None:
    user, password = change.get("user", "postgres"), change.get("password", "")
    url = f"postgresql://{user}:{password}@{LOCAL}:{primary.port}/{change.get('dbname', DATABASE)}"
    api = await serve(database_url=url)
    assert (await api.get("/health")).status == 200
    response = await api.get("/ready")
    assert (response.status, response.errors) == (503, [(15003, None)])
    assert message in response.json["errors"][0]["message"]
    assert log_text in caplog.text
    await asyncio.sleep(0.8)
    assert caplog.text.count(log_text) == 1
    primary.sql("ALTER ROLE knocker PASSWORD 'wrong' SUPERUSER" if "user" in change else "CREATE DATABASE nowhere")
    await wait_until(lambda: ready(api))
    assert (await api.get("/contacts?limit=1")).status == 200


async def test_an_older_core_beside_a_newer_one_does_not_start_and_changes_nothing(
    serve: Serve, primary: Postgres, tmp_path: Path
) -> None:
    primary.sql("CREATE DATABASE newer")
    url = primary.url("newer")
    newer = await serve(database_url=url)
    assert await ready(newer)
    settings = {"database_url": url, "log_level": "critical", "admin_password": "another password"}
    message = "the database was migrated by a newer pegboard (0099_later.sql)"
    # First nothing is pending but a record of the owner, then also the table of a plugin.
    for change in (
        "INSERT INTO pegboard.migration VALUES ('pegboard', 99, '0099_later.sql', 'x');"
        "COMMENT ON SCHEMA contacts IS NULL",
        "DROP SCHEMA files CASCADE",
    ):
        primary.sql(change, "newer")
        before = dump_of(url)
        with pytest.raises(Unusable, match=re.escape(message)):
            await serve(database_url=url)
        for command in (*COMMANDS, ("migrate", "--dry-run"), ("client", "add", "bob")):
            result = await asyncio.to_thread(pegboard, tmp_path / "data", *command, stdin="a password 1\n", **settings)
            assert error_line(result).startswith(message)
        assert dump_of(url) == before
    assert (await newer.get("/contacts?limit=1")).status == 200


async def test_an_older_core_that_waited_for_a_newer_database_is_not_ready(serve: Serve, primary: Postgres) -> None:
    url = primary.url("upgraded")
    older = await serve(database_url=url)
    primary.sql("CREATE DATABASE prepared")
    assert await ready(await serve(database_url=primary.url("prepared")))
    primary.sql("INSERT INTO pegboard.migration VALUES ('pegboard', 99, '0099_later.sql', 'x')", "prepared")
    drop = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'prepared'"
    primary.sql("ALTER DATABASE prepared ALLOW_CONNECTIONS false")
    primary.sql(drop)
    primary.sql("ALTER DATABASE prepared RENAME TO upgraded")
    primary.sql("ALTER DATABASE upgraded ALLOW_CONNECTIONS true")

    async def reports_newer_core() -> bool:
        response = await older.get("/ready")
        assert response.status == 503
        return "migrated by a newer pegboard (0099_later.sql)" in response.json["errors"][0]["message"]

    await wait_until(reports_newer_core)
    assert (await older.get("/health")).status == 200


async def test_a_promoted_host_is_found(serve: Serve, primary: Postgres, replica: Postgres, database_url: str) -> None:
    addresses = f"{LOCAL}:{free_port()},{LOCAL}:{replica.port},{LOCAL}:{primary.port}"
    api = await serve(database_url=f"postgresql://postgres@{addresses}/{DATABASE}", pool_timeout=2.0)
    assert not await api.service.database.write.fetchval("SELECT pg_is_in_recovery()")
    id = await create(api, "survivor")
    written = primary.sql("SELECT pg_current_wal_flush_lsn()")
    reached = f"SELECT pg_last_wal_replay_lsn() >= '{written}'"
    await asyncio.to_thread(servers.wait_until, lambda: replica.sql(reached) == "t")
    await asyncio.to_thread(primary.stop, signal.SIGQUIT)
    assert (await api.post("/contacts", contact("early"))).status == 503
    assert not await ready(api)
    await asyncio.to_thread(run, program("pg_ctl"), "promote", "-D", replica.folder / "data")
    await wait_until(lambda: ready(api))
    assert (await api.get(f"/contacts/{id}")).json["name"] == "survivor"
    assert (await api.patch(f"/contacts/{id}", {"phone": "+41000000001"})).status == 200


def test_replica_and_direct_urls_require_a_database_url() -> None:
    with pytest.raises(Exception, match="PEGBOARD_DATABASE_URL is not"):
        Settings.load({"PEGBOARD_READ_DATABASE_URL": "postgresql://db/main", "PEGBOARD_ADMIN_PASSWORD": PASSWORD})
