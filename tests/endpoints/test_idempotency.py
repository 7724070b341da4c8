"""`Idempotency-Key`: a repeated POST is executed once and gets the first response again."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from yarl import URL

from pegboard import Context, Schema, TableResource, Unique, errors, validate
from pegboard.schema import fields
from tests.conftest import Api, Response, Serve, plugin

VARYING = ("date", "x-request-id", "idempotency-replayed")


class Order(Schema):
    name = fields.String(required=True, validate=validate.Length(1, 50))
    notes = fields.String(allow_none=True)
    rank = fields.Integer(allow_none=True)


class Orders(TableResource):
    """Orders, some of which fail after being stored."""

    schema = Order
    verbs = "GET", "POST"
    unique = (Unique("name"),)

    async def create(self, context: Context, data: Any) -> Any:
        item = await super().create(context, data)
        if data["name"].startswith("refused"):
            raise errors.Forbidden
        if data["name"].startswith("crash"):
            raise LookupError("the printer is on fire")
        if data["name"].startswith("slow"):
            await asyncio.sleep(0.5)
        return item


class Bulk(TableResource):
    """Orders created in bulk."""

    schema = Order
    verbs = "GET", "POST"
    unique = (Unique("name"),)


@pytest.fixture(scope="module")
async def api(serve: Serve) -> Api:
    api = await serve([plugin("orders", Orders), plugin("bulk", Bulk)])
    await api.service.clients.add("other", "another client", ["*:*"])
    await api.service.clients.add("leaver", "will lose it", ["orders:POST"])
    return api


def key(value: str | None = None) -> dict[str, str]:
    return {"Idempotency-Key": value or uuid4().hex}


def stable_headers(response: Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name.lower() not in VARYING}


async def stored_orders(api: Api, name: str) -> int:
    count: int = await api.service.database.write.fetchval("SELECT count(*) FROM orders.orders WHERE name = $1", name)
    return count


async def stored_responses(api: Api, value: str) -> int:
    sql = "SELECT count(*) FROM pegboard.idempotency WHERE key = $1"
    count: int = await api.service.database.write.fetchval(sql, value)
    return count


@pytest.mark.parametrize(
    "headers",
    [{}, {"Prefer": "return=minimal"}, {"Accept-Encoding": "gzip"}],
    ids=["plain", "minimal", "compressed"],
)
@pytest.mark.parametrize("many", [False, True])
async def test_a_retry_gets_the_first_response_byte_for_byte(api: Api, headers: dict[str, str], many: bool) -> None:
    name = uuid4().hex
    order = {"name": name, "notes": "x" * 3000}
    body: Any = [order, {"name": f"{name}-2"}] if many else order
    first_headers = {**headers, **key()}
    first = await api.post("/orders", body, headers=first_headers)
    assert first.status == 201
    assert "Idempotency-Replayed" not in first.headers
    await api.service.database.write.execute("UPDATE orders.orders SET rank = 5 WHERE name = $1", name)
    for _ in range(2):
        again = await api.post("/orders", body, headers=first_headers)
        assert (again.status, again.body, stable_headers(again)) == (first.status, first.body, stable_headers(first))
        assert again.headers["Idempotency-Replayed"] == "true"
    assert await stored_orders(api, name) == 1


async def test_a_key_with_another_body_is_422(api: Api) -> None:
    headers = key()
    await api.post("/orders", {"name": uuid4().hex}, headers=headers)
    response = await api.post("/orders", {"name": uuid4().hex}, headers=headers)
    assert (response.status, response.errors) == (422, [(13007, "Idempotency-Key")])


async def test_bodies_are_compared_byte_for_byte(api: Api) -> None:
    headers = {**key(), "Content-Type": "application/json"}
    name = uuid4().hex.encode()
    first = await api.request("POST", "/orders", data=b'{"name": "%b"}' % name, headers=headers)
    response = await api.request("POST", "/orders", data=b'{"name":"%b"}' % name, headers=headers)
    assert (first.status, response.status) == (201, 422)


async def test_a_key_is_specific_to_its_path(api: Api) -> None:
    headers, body = key(), {"name": uuid4().hex}
    first, other = await api.post("/orders", body, headers=headers), await api.post("/bulk", body, headers=headers)
    assert (first.status, other.status) == (201, 201)
    assert "Idempotency-Replayed" not in other.headers


async def test_a_key_is_specific_to_its_client(api: Api) -> None:
    headers = key()
    other = api.as_client("other", "another client")
    assert (await api.post("/orders", {"name": uuid4().hex}, headers=headers)).status == 201
    response = await other.post("/orders", {"name": uuid4().hex}, headers=headers)
    assert (response.status, "Idempotency-Replayed" in response.headers) == (201, False)


async def test_a_replay_requires_the_grant(api: Api) -> None:
    leaver, headers, body = api.as_client("leaver", "will lose it"), key(), {"name": uuid4().hex}
    assert (await leaver.post("/orders", body, headers=headers)).status == 201
    await api.service.clients.set_grants("leaver", ["orders:GET"])
    async with asyncio.timeout(5):
        while (response := await leaver.post("/orders", body, headers=headers)).status == 201:  # noqa: ASYNC110 - there is nothing to await
            await asyncio.sleep(0.05)
    assert response.status == 403


@pytest.mark.parametrize("value", ["x", "x" * 255, "a b c", "~!@#$%^&*()", "00000000-0000-0000-0000-000000000000"])
async def test_a_key_can_be_any_printable_text(api: Api, value: str) -> None:
    body = {"name": uuid4().hex}
    assert (await api.post("/orders", body, headers=key(value))).status == 201
    assert (await api.post("/orders", body, headers=key(value))).headers["Idempotency-Replayed"] == "true"


async def test_a_retry_while_the_first_request_runs_is_409(api: Api) -> None:
    headers, body = key(), {"name": f"slow {uuid4().hex}"}
    first = asyncio.create_task(api.post("/orders", body, headers=headers))
    await asyncio.sleep(0.2)
    second = await api.post("/orders", body, headers=headers)
    assert (second.status, second.errors) == (409, [(13008, "Idempotency-Key")])
    assert int(second.headers["Retry-After"]) >= 1
    assert (await first).status == 201
    again = await api.post("/orders", body, headers=headers)
    assert (again.status, again.body) == (201, (await first).body)


async def test_one_of_many_concurrent_requests_does_the_work(api: Api) -> None:
    headers, body = key(), {"name": uuid4().hex}
    responses = await asyncio.gather(*(api.post("/orders", body, headers=headers) for _ in range(40)))
    assert {response.status for response in responses} <= {201, 409}
    made = [response for response in responses if response.status == 201]
    assert len({response.body for response in made}) == 1
    assert sum("Idempotency-Replayed" not in response.headers for response in made) == 1
    assert await stored_orders(api, body["name"]) == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"name": ""}', 422),
        (b'{"name": 5}', 422),
        (b"{}", 422),
        (b"[]", 422),
        (b"{]", 400),
        (b"5", 400),
        (b"", 400),
        (b'{"name": "refused"}', 403),
        (b'{"name": "crash"}', 500),
    ],
)
async def test_failed_requests_store_nothing(api: Api, body: bytes, status: int) -> None:
    headers = {**key(), "Content-Type": "application/json"}
    for _ in range(2):
        response = await api.request("POST", "/orders", data=body, headers=headers)
        assert response.status == status
        assert "Idempotency-Replayed" not in response.headers
    assert await stored_responses(api, headers["Idempotency-Key"]) == 0
    assert await stored_orders(api, "refused") == await stored_orders(api, "crash") == 0
    assert (await api.post("/orders", {"name": uuid4().hex}, headers=headers)).status == 201


@pytest.mark.parametrize("path", ["/orders", "/bulk"])
async def test_a_conflict_stores_nothing_and_names_the_field(api: Api, path: str) -> None:
    name, headers = uuid4().hex, key()
    await api.post(path, {"name": name})
    assert (await api.post(path, {"name": name}, headers=headers)).errors == [(13002, "/name")]
    many = [{"name": uuid4().hex}, {"name": name}]
    plain = await api.post(path, many)
    keyed = await api.post(path, many, headers=headers)
    assert plain.errors == keyed.errors == [(13002, "/1/name")]
    assert await stored_responses(api, headers["Idempotency-Key"]) == 0
    assert not (await api.get(f"{path}?name={many[0]['name']}")).json["items"]
    assert (await api.post(path, many[:1], headers=headers)).status == 201


async def test_a_key_expires_after_a_day(api: Api) -> None:
    headers = key()
    await api.post("/orders", {"name": uuid4().hex}, headers=headers)
    pool = api.service.database.write
    for age, status in (("23 hours 59 minutes", 422), ("24 hours 1 minute", 201)):
        await pool.execute(
            f"UPDATE pegboard.idempotency SET created_at = now() - interval '{age}' WHERE key = $1",
            headers["Idempotency-Key"],
        )
        response = await api.post("/orders", {"name": uuid4().hex}, headers=headers)
        assert response.status == status


async def test_expired_keys_are_deleted(api: Api) -> None:
    pool, headers = api.service.database.write, key()
    await api.post("/orders", {"name": uuid4().hex}, headers=headers)
    await pool.execute(
        "UPDATE pegboard.idempotency SET created_at = now() - interval '2 days' WHERE key = $1",
        headers["Idempotency-Key"],
    )
    for _ in range(3):
        await api.post("/orders", {"name": uuid4().hex}, headers=key())
    assert await stored_responses(api, headers["Idempotency-Key"]) == 0


async def test_other_methods_ignore_the_key(api: Api) -> None:
    response = await api.get("/orders", headers=key())
    assert (response.status, "Idempotency-Replayed" in response.headers) == (200, False)


async def test_the_request_body_is_not_stored(api: Api) -> None:
    headers, secret = key(), uuid4().hex
    await api.post("/orders", {"name": secret}, headers={**headers, "Prefer": "return=minimal"})
    row = await api.service.database.write.fetchrow(
        "SELECT * FROM pegboard.idempotency WHERE key = $1", headers["Idempotency-Key"]
    )
    assert row is not None
    assert secret not in repr(dict(row))
    assert "X-Request-Id" not in row["headers"]


# Disconnected clients ----------------------------------------------------------------------------------------


async def hang_up(api: Api, name: str, seconds: float, headers: dict[str, str]) -> None:
    """Send a POST and close the connection after `seconds`, without waiting for the response."""
    url = URL(api.url)
    _, writer = await asyncio.open_connection(url.host, url.port)
    body = b'[{"name": "%b-1"}, {"name": "%b-2"}]' % (name.encode(), name.encode())
    all_headers = {
        "Host": "test",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        **api.headers,
        **headers,
    }
    head = "".join(f"{field}: {value}\r\n" for field, value in all_headers.items())
    writer.write(f"POST /orders HTTP/1.1\r\n{head}\r\n".encode() + body)
    await asyncio.sleep(seconds)
    writer.transport.abort()


async def test_writes_of_disconnected_clients_are_complete_or_absent(api: Api, database_url: str) -> None:
    await api.get("/orders")
    run = uuid4().hex[:8]
    # Arrays do not use the bulk insert of the table: each is many statements.
    names = [f"gone-{run}-{number}" for number in range(200)]
    await asyncio.gather(
        *(hang_up(api, name, number % 40 / 1000, key() if number % 2 else {}) for number, name in enumerate(names))
    )
    connection = await asyncpg.connect(database_url)
    try:
        async with asyncio.timeout(15):
            while await connection.fetchval(  # noqa: ASYNC110 - there is nothing to await
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND "
                "application_name = 'pegboard' AND state <> 'idle'"
            ):
                await asyncio.sleep(0.05)
        rows = await connection.fetch("SELECT name FROM orders.orders WHERE name LIKE $1", f"gone-{run}-%")
        made = {row["name"] for row in rows}
        halves = [name for name in names if len({f"{name}-1", f"{name}-2"} & made) == 1]
        assert not halves
        locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = $1"
        oid = await connection.fetchval("SELECT oid FROM pg_database WHERE datname = current_database()")
        assert await connection.fetchval(locks, oid) == 0
    finally:
        await connection.close()
    pool = api.service.database.write
    assert (pool.idle, pool.waiting) == (pool.size, 0)
    assert (await api.post("/orders", {"name": uuid4().hex}, headers=key())).status == 201
