"""Authentication, and how soon every worker applies a change."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import asyncpg
import pytest

from pegboard.auth.clients import Clients
from pegboard.auth.passwords import Cost, Passwords
from pegboard.postgres.embedded import EmbeddedServer

# Cheap hashes, so that floods in tests are limited by requests and not by hashing.
CHEAP = Cost(memory=8, passes=1)
SLOW = Cost(memory=64 * 1024, passes=8)
SECRET = "correct horse"
CHALLENGE = 'Basic realm="pegboard", charset="UTF-8"'
ANY_PROXY = (ip_network("127.0.0.0/8"),)
NOT_AUTHENTICATED, WRONG_CREDENTIALS, TOO_MANY_REQUESTS, DATABASE_UNAVAILABLE = 12000, 12001, 12003, 15003

Start = Callable[..., Awaitable[Any]]


@pytest.fixture
async def start(serve: Start) -> Start:
    """Start workers without plugins, behind a proxy that forwards client addresses."""

    async def start(**changes: Any) -> Any:
        api = await serve([], **{"trusted_proxies": ANY_PROXY, **changes})
        api.service.clients.passwords = Passwords(CHEAP)
        await wait_for_listener(api)
        return api

    return start


@pytest.fixture(scope="module")
async def worker(serve: Start) -> Any:
    api = await serve([], trusted_proxies=ANY_PROXY)
    api.service.clients.passwords = Passwords(CHEAP)
    await wait_for_listener(api)
    return api


@pytest.fixture
async def other_worker(start: Start) -> Any:
    return await start()


async def wait_for_listener(api: Any) -> None:
    await wait_until(lambda: api.service.authentication._notifications.until > time.monotonic())


async def wait_until(condition: Callable[[], bool]) -> None:
    async def check() -> bool:
        return condition()

    await within(5, check)


async def within(seconds: float, condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(seconds):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.01)


async def new_client(api: Any, *grants: str) -> str:
    username = f"client-{uuid4().hex}"
    await api.service.clients.add(username, SECRET, grants)
    return username


async def status(api: Any, username: str, password: str = SECRET, address: str = "192.0.2.1") -> int:
    response = await api.as_client(username, password).get("/", headers={"X-Forwarded-For": address})
    assert isinstance(response.status, int)
    return response.status


async def send_raw(api: Any, *headers: bytes, path: bytes = b"/") -> tuple[int, dict[str, str], Any]:
    """Send a request with these header lines and return the status, headers and JSON of the response."""
    parts = urlsplit(api.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    lines = (b"GET " + path + b" HTTP/1.1", b"Host: a", b"Connection: close", *headers)
    writer.write(b"\r\n".join(lines) + b"\r\n\r\n")
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    first, *fields = head.decode("latin-1").split("\r\n")
    return int(first.split()[1]), dict(field.split(": ", 1) for field in fields), json.loads(body)


def authorization(pair: str | bytes, scheme: bytes = b"Basic ") -> bytes:
    encoded = b64encode(pair.encode() if isinstance(pair, str) else pair)
    return b"Authorization: " + scheme + encoded


GOOD = authorization(f"admin:{SECRET}")


@pytest.mark.parametrize("scheme", [b"Basic ", b"basic ", b"BASIC ", b"BaSiC ", b"Basic    "])
async def test_valid_credentials_are_accepted(worker: Any, scheme: bytes) -> None:
    assert (await send_raw(worker, authorization(f"admin:{SECRET}", scheme)))[0] == 200


@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("zoë", "pä:ss wörd"),
        ("🦊 with spaces", "🔑🔑🔑🔑🔑🔑🔑🔑"),
        ("colons", ":::::::::"),
        ("plus", "+/+/=+/+/="),
        ("long", "x" * 1024),
    ],
)
async def test_user_names_and_passwords_are_utf_8(worker: Any, username: str, password: str) -> None:
    with suppress(Exception):
        await worker.service.clients.remove(username)
    await worker.service.clients.add(username, password)
    assert (await send_raw(worker, authorization(f"{username}:{password}")))[0] == 200


async def test_a_password_may_be_sent_in_decomposed_form(worker: Any) -> None:
    username = await new_client(worker)
    await worker.service.clients.set_password(username, "caf\N{LATIN SMALL LETTER E WITH ACUTE} noir")
    assert (await send_raw(worker, authorization(f"{username}:cafe\N{COMBINING ACUTE ACCENT} noir")))[0] == 200


async def test_missing_credentials_are_401_with_a_challenge(worker: Any) -> None:
    status, headers, body = await send_raw(worker)
    assert (status, headers["WWW-Authenticate"]) == (401, CHALLENGE)
    assert headers["Content-Type"] == "application/json"
    assert headers["Cache-Control"] == "no-store"
    assert [error["code"] for error in body["errors"]] == [NOT_AUTHENTICATED]


MALFORMED = {
    "empty": [b"Authorization:"],
    "only a scheme": [b"Authorization: Basic"],
    "no scheme": [b"Authorization: " + b64encode(b"admin:" + SECRET.encode())],
    "another scheme": [b"Authorization: Bearer abc"],
    "a digest": [b'Authorization: Digest username="admin"'],
    "a scheme that begins alike": [authorization(f"admin:{SECRET}", b"Basics ")],
    "a tab after the scheme": [authorization(f"admin:{SECRET}", b"Basic\t")],
    "no space after the scheme": [authorization(f"admin:{SECRET}", b"Basic")],
    "twice": [GOOD, GOOD],
    "a good and a bad one": [GOOD, authorization("admin:wrong horse")],
    "a bad and a good one": [authorization("admin:wrong horse"), GOOD],
    "two in one": [GOOD + b", Basic " + b64encode(b"admin:wrong horse")],
    "not Base64": [b"Authorization: Basic !!!!"],
    "no padding": [b"Authorization: Basic " + b64encode(b"admin:correct horse!").rstrip(b"=")],
    "too much padding": [b"Authorization: Basic " + b64encode(b"admin:correct horse!") + b"===="],
    "bits beyond the end": [b"Authorization: Basic YWRtaW46Y29ycmVjdCBob3JzZR=="],
    "a space within": [b"Authorization: Basic YWRtaW46 Y29ycmVjdCBob3JzZQ=="],
    "URL-safe Base64": [b"Authorization: Basic YWRtaW46___-Pj4-Pj4-"],
    "no colon": [authorization("admin")],
    "Latin-1": [authorization("zoë:pässwörd".encode("latin-1"))],
    "UTF-16": [authorization("admin:correct horse".encode("utf-16"))],
    "a surrogate": [authorization(b"admin:correct horse\xed\xa0\x80")],
    "overlong UTF-8": [authorization(b"admin:correct horse\xc0\xaf")],
    "NUL in the user name": [authorization("ad\0min:correct horse")],
    "NUL in the password": [authorization("admin:correct\0horse")],
    "a line feed": [authorization("admin:correct horse\n")],
    "a C1 control": [authorization("admin:correct horse\x85")],
    "raw UTF-8": ["Authorization: Basic zoë:pässwörd".encode()],
    "raw Latin-1": ["Authorization: Basic zoë:pässwörd".encode("latin-1")],
    "quoted": [b'Authorization: Basic "' + b64encode(b"admin:correct horse") + b'"'],
}  # fmt: skip


@pytest.mark.parametrize("lines", MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_authorization_header_is_401(worker: Any, lines: list[bytes]) -> None:
    status, headers, body = await send_raw(worker, *lines)
    assert (status, headers["WWW-Authenticate"]) == (401, CHALLENGE)
    [error] = body["errors"]
    assert (error["code"], error["header"]) == (NOT_AUTHENTICATED, "Authorization")
    assert "horse" not in error["message"]


WRONG = {
    "another password": "admin:wrong horse",
    "another case": "admin:Correct Horse",
    "a space more": f"admin:{SECRET} ",
    "an unknown user": f"nobody:{SECRET}",
    "another case of the user": f"ADMIN:{SECRET}",
    "an empty user": f":{SECRET}",
    "an empty password": "admin:",
    "a short password": "admin:short",
    "nothing but a colon": ":",
    "a long password": "admin:" + "x" * 5000,
    "a user name of 10 kB": "x" * 10_000 + ":" + SECRET,
    "emoji": "🦊:🔑🔑🔑🔑🔑🔑🔑🔑",
    "SQL": "' OR 1=1 --:" + SECRET,
}


@pytest.mark.parametrize(("number", "pair"), [*enumerate(WRONG.values())], ids=WRONG)
async def test_all_wrong_credentials_get_the_same_response(worker: Any, number: int, pair: str) -> None:
    status, headers, body = await send_raw(worker, authorization(pair), b"X-Forwarded-For: 203.0.113.%d" % number)
    assert (status, headers["WWW-Authenticate"]) == (401, CHALLENGE)
    expected = {"message": "The user name or the password is wrong.", "code": WRONG_CREDENTIALS}
    assert body == {"errors": [expected]}


async def test_an_inactive_client_gets_the_same_response(worker: Any) -> None:
    username = await new_client(worker)
    await deactivate(worker.service.clients, username)
    status, _, body = await send_raw(worker, authorization(f"{username}:{SECRET}"))
    assert (status, [error["code"] for error in body["errors"]]) == (401, [WRONG_CREDENTIALS])


async def test_public_paths_ignore_credentials(worker: Any) -> None:
    for lines in ([], [authorization("admin:wrong horse")], [b"Authorization: Bearer x"], [GOOD, GOOD]):
        assert (await send_raw(worker, *lines, path=b"/health"))[0] == 200


@pytest.mark.parametrize(
    "path", [b"/nothing", b"/errors", b"/plugins", b"/health/", b"/Health", b"/healt%68x", b"//health"]
)
async def test_all_other_paths_require_credentials(worker: Any, path: bytes) -> None:
    assert (await send_raw(worker, path=path))[0] == 401


async def test_concurrent_first_requests_of_a_client_share_one_password_check(start: Start) -> None:
    api = await start()
    api.service.clients.passwords = Passwords(CHEAP, threads=1, waiting=1)
    username = await new_client(api)
    assert set(await asyncio.gather(*(status(api, username) for _ in range(100)))) == {200}


async def test_memory_and_log_contain_no_secret(worker: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    username = await new_client(worker)
    assert await status(worker, username) == 200
    assert await status(worker, username, "wrong zebra") == 401
    assert await status(worker, "some\nbody", SECRET) == 401
    await send_raw(worker, authorization(f"{username}{SECRET}"))
    authentication = worker.service.authentication
    held = repr([*authentication._entries.items(), *authentication._proven, vars(authentication._throttle)])
    assert username in held
    for text in (held, caplog.text):
        assert "horse" not in text
        assert "zebra" not in text
        assert b64encode(f"{username}:{SECRET}".encode()).decode() not in text


async def test_each_failure_is_logged_in_one_line(worker: Any, caplog: pytest.LogCaptureFixture) -> None:
    address, username = "198.51.100.20", "eve\u202e"
    for number in range(7):
        await send_raw(
            worker,
            authorization(f"{username}:guess {number:04}"),
            b"X-Forwarded-For: 198.51.100.20",
            b"X-Request-Id: r-%d" % number,
        )
    lines = [record.getMessage() for record in caplog.records if record.name == "pegboard.auth"]
    assert lines == [
        *(f"login failed: user='eve\\u202e' address={address} request=r-{number}" for number in range(5)),
        *(f"login throttled: user='eve\\u202e' address={address} request=r-{number}" for number in (5, 6)),
    ]


async def deactivate(clients: Clients, username: str) -> None:
    sql = "UPDATE pegboard.client SET active = false WHERE username = $1 RETURNING id"
    assert await clients._pool.fetchval(sql, username)


CHANGES: dict[str, Callable[[Clients, str], Awaitable[object]]] = {
    "password": lambda clients, name: clients.set_password(name, "another horse"),
    "active": deactivate,
    "removal": lambda clients, name: clients.remove(name),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_every_worker_applies_a_change_of_credentials_within_a_second(
    worker: Any, other_worker: Any, change: Any
) -> None:
    username = await new_client(worker)
    for api in (worker, other_worker):
        assert await status(api, username) == 200
    await change(worker.service.clients, username)
    await assert_applied_within_a_second(worker, other_worker, username)


async def assert_applied_within_a_second(worker: Any, other_worker: Any, username: str) -> None:
    async def locked_out() -> bool:
        return [await status(api, username) for api in (worker, other_worker)] == [401, 401]

    await within(1, locked_out)


async def test_changed_grants_apply_within_a_second(worker: Any, other_worker: Any) -> None:
    username = await new_client(worker, "plugins:GET")
    read = other_worker.as_client(username, SECRET)
    assert (await read.get("/plugins")).status == 200
    await worker.service.clients.set_grants(username, [])

    async def robbed() -> bool:
        return bool((await read.get("/plugins")).status == 403)

    await within(1, robbed)


async def test_a_change_of_one_client_keeps_other_clients_cached(worker: Any) -> None:
    kept, changed = await new_client(worker), await new_client(worker)
    assert [await status(worker, name) for name in (kept, changed)] == [200, 200]
    size = len(worker.service.authentication._entries)
    await worker.service.clients.remove(changed)
    await wait_until(lambda: len(worker.service.authentication._entries) == size - 1)
    entries = worker.service.authentication._entries.values()
    assert kept in [entry.client.username for entry in entries]


async def test_a_password_changed_during_its_check_is_not_cached(worker: Any) -> None:
    slow = Clients(worker.service.database.write, Passwords(SLOW))
    username = f"client-{uuid4().hex}"
    await slow.add(username, SECRET)
    running = asyncio.ensure_future(status(worker, username))
    await wait_until(lambda: bool(worker.service.authentication._checks))
    await asyncio.sleep(0.02)
    await worker.service.clients.set_password(username, "another horse")
    await wait_until(lambda: worker.service.authentication._cache.generation > 0)
    assert not running.done()
    assert await running in (200, 401)
    assert await status(worker, username) == 401
    assert await status(worker, username, "another horse") == 200


async def test_changes_during_a_lost_connection_are_applied(worker: Any, other_worker: Any) -> None:
    username = await new_client(worker)
    for api in (worker, other_worker):
        assert await status(api, username) == 200
    connection = await asyncpg.connect(worker.service.settings.direct_url)
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'pegboard notices' AND datname = current_database()"
    )
    await connection.close()
    await worker.service.clients.remove(username)
    await assert_applied_within_a_second(worker, other_worker, username)
    for api in (worker, other_worker):
        await wait_for_listener(api)
        assert await status(api, "admin") == 200


@asynccontextmanager
async def pooler_without_notifications(dsn: str) -> AsyncIterator[str]:
    """Simulate a pooler in transaction mode: everything except notifications passes."""
    writers: list[asyncio.StreamWriter] = []

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host = unquote(urlsplit(dsn).netloc.rpartition("@")[2].partition(":")[0])
        upstream, upstream_writer = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.5432")
        writers.extend((writer, upstream_writer))

        async def relay_responses() -> None:
            try:
                while True:
                    head = await upstream.readexactly(5)
                    body = await upstream.readexactly(int.from_bytes(head[1:]) - 4)
                    if head[:1] != b"A":
                        writer.write(head + body)
            finally:
                writer.close()

        responses = asyncio.ensure_future(relay_responses())
        while data := await reader.read(65536):
            upstream_writer.write(data)
        responses.cancel()
        with suppress(asyncio.CancelledError, asyncio.IncompleteReadError, ConnectionError):
            await responses
        upstream_writer.close()
        writer.close()

    server = await asyncio.start_server(relay, "127.0.0.1")
    host, port = server.sockets[0].getsockname()
    parts = urlsplit(dsn)
    yield f"postgresql://{parts.username or 'postgres'}@{host}:{port}{parts.path}?sslmode=disable"
    server.close()
    for writer in writers:
        writer.close()
    await asyncio.sleep(0)


async def test_changes_are_polled_if_notifications_do_not_arrive(serve: Start, worker: Any) -> None:
    async with pooler_without_notifications(worker.service.settings.direct_url) as dsn:
        api = await serve([], trusted_proxies=ANY_PROXY, database_url=dsn)
        api.service.clients.passwords = Passwords(CHEAP)
        username = await new_client(worker)
        assert await status(api, username) == 200
        await asyncio.sleep(1.1)
        assert await status(api, username) == 200
        await worker.service.clients.remove(username)

        async def out() -> bool:
            return await status(api, username) == 401

        await within(1.2, out)
        assert api.service.authentication._notifications.until < time.monotonic()
        await api.service.authentication.close()
        await api.service.database.close()


async def test_cached_clients_stay_authenticated_while_the_database_is_unavailable(
    serve: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = EmbeddedServer(tmp_path)
    api = await serve([], database_url=await asyncio.to_thread(server.start), pool_timeout=0.5)
    try:
        assert await status(api, "admin") == 200
        await asyncio.to_thread(server.stop)
        await wait_until(lambda: api.service.authentication._notifications.until < time.monotonic() - 0.2)
        for _ in range(3):
            assert await status(api, "admin") == 200
        status_, headers, body = await send_raw(api, authorization("admin:unknown horse"))
        assert (status_, headers["Retry-After"]) == (503, "1")
        assert [error["code"] for error in body["errors"]] == [DATABASE_UNAVAILABLE]
        assert (await send_raw(api, authorization("nobody:unknown horse")))[0] == 503
        assert (await send_raw(api))[0] == 401
        await asyncio.to_thread(server.start)
        await wait_for_listener(api)
        assert await status(api, "admin", "unknown horse") == 401
        assert await status(api, "admin") == 200
    finally:
        await api.service.authentication.close()
        await api.service.database.close()
        await asyncio.to_thread(server.stop)
    assert "horse" not in caplog.text


async def test_cached_credentials_expire(start: Start) -> None:
    api = await start(remember_seconds=0.2)
    username = await new_client(api)
    assert await status(api, username) == 200
    [entry] = api.service.authentication._entries.values()
    await asyncio.sleep(0.3)
    assert await status(api, username) == 200
    assert [kept is entry for kept in api.service.authentication._entries.values()] == [False]


async def test_a_login_rehashes_a_password_with_outdated_cost(worker: Any) -> None:
    username = f"client-{uuid4().hex}"
    await Clients(worker.service.database.write, Passwords(Cost(memory=16, passes=2))).add(username, SECRET)
    assert await status(worker, username, "wrong horse") == 401
    stored = await worker.service.clients.read(username)
    assert "$m=16,t=2,p=1$" in stored.password
    assert await status(worker, username) == 200
    renewed = await worker.service.clients.read(username)
    assert "$m=8,t=1,p=1$" in renewed.password
    assert await status(worker, username) == 200


async def test_repeated_failures_are_throttled_with_retry_after(worker: Any) -> None:
    username = await new_client(worker)
    statuses = [await status(worker, username, f"guess {n:04}", "198.51.100.30") for n in range(8)]
    assert statuses == [401] * 5 + [429] * 3
    code, headers, body = await send_raw(
        worker, authorization(f"{username}:guess 9999"), b"X-Forwarded-For: 198.51.100.30"
    )
    assert (code, headers["Retry-After"]) == (429, "1")
    assert [error["code"] for error in body["errors"]] == [TOO_MANY_REQUESTS]
    assert await status(worker, username, SECRET, "198.51.100.30") == 429
    assert await status(worker, username, SECRET, "198.51.100.31") == 200


async def test_concurrent_guesses_are_throttled(worker: Any) -> None:
    username = await new_client(worker)
    guesses = (status(worker, username, f"guess {n:04}", "198.51.100.40") for n in range(40))
    statuses = await asyncio.gather(*guesses)
    assert statuses.count(401) == 5
    assert statuses.count(429) == 35


async def test_an_authenticated_client_is_not_locked_out_by_its_address(start: Start) -> None:
    api = await start(remember_seconds=0)
    username = await new_client(api)
    assert await status(api, username) == 200
    for number in range(10):
        await status(api, username, f"guess {number:04}")
    assert await status(api, username, "guess 9999") == 429
    assert await status(api, username) == 200


async def test_a_success_after_the_wait_resets_the_failures(worker: Any) -> None:
    username = await new_client(worker)
    for number in range(6):
        await status(worker, username, f"guess {number:04}", "198.51.100.50")
    assert await status(worker, username, SECRET, "198.51.100.50") == 429
    await asyncio.sleep(1.1)
    assert await status(worker, username, SECRET, "198.51.100.50") == 200
    assert await status(worker, username, "guess 9999", "198.51.100.50") == 401


async def test_workers_share_failure_counts(worker: Any, other_worker: Any) -> None:
    username = await new_client(worker)
    for number in range(5):
        assert await status(worker, username, f"guess {number:04}", "198.51.100.60") == 401
    throttle = other_worker.service.authentication._throttle
    await wait_until(lambda: throttle.wait(username, "198.51.100.60") > 0)
    assert await status(other_worker, username, "guess 9999", "198.51.100.60") == 429


async def test_only_trusted_proxies_can_set_the_client_address(start: Start) -> None:
    api = await start(trusted_proxies=())
    username = await new_client(api)
    statuses = [await status(api, username, f"guess {n:04}", f"198.51.100.{n}") for n in range(8)]
    assert statuses == [401] * 5 + [429] * 3


async def test_a_flood_of_guesses_does_not_block_cached_clients(start: Start) -> None:
    api = await start()
    api.service.clients.passwords = Passwords(replace(SLOW, memory=8 * 1024), threads=1, waiting=8)
    cached, newcomer = await new_client(api), await new_client(api)
    assert await status(api, cached, address="192.0.2.1") == 200
    flood = [
        asyncio.ensure_future(status(api, f"user {n}", f"guess {n:04}", f"203.0.{n // 250}.{n % 250}"))
        for n in range(100)
    ]
    await asyncio.sleep(0.05)
    assert await status(api, cached, address="192.0.2.1") == 200
    assert await status(api, newcomer, address="192.0.2.1") == 200
    assert not all(task.done() for task in flood)
    statuses = await asyncio.gather(*flood)
    assert {401, 429} == set(statuses)
