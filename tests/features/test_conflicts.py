"""Conflicts of transactions, and lost connections: requests are retried, a few times, and take effect once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from pegboard import (
    Change,
    Content,
    ContentResource,
    Context,
    Resource,
    Schema,
    TableResource,
    Unique,
    errors,
    fields,
    operation,
)
from tests.conftest import Api, Response, Serve, new_database, plugin

MERGE, PATCH = "application/merge-patch+json", "application/json-patch+json"
BUSY = "The database is busy with conflicting requests; try again later."


class Person(Schema):
    email = fields.String(required=True)
    note = fields.String(allow_none=True)


class People(TableResource):
    """People with unique addresses."""

    schema = Person
    unique = (Unique("email", ignore_case=True),)


class Counter(Schema):
    name = fields.String(load_default="")
    number = fields.Integer(load_default=0)


class Plain(TableResource):
    """Counters, each written by one statement."""

    schema = Counter


class Hooked(TableResource):
    """Counters with hooks."""

    schema = Counter
    checked: list[Any] = []
    committed: list[Any] = []

    async def before_commit(self, context: Context, change: Change) -> None:
        self.checked.append(change.id)

    async def after_commit(self, context: Context, change: Change) -> None:
        self.committed.append(change.id)


class Pairs(TableResource):
    """Counters, of which an action writes two."""

    schema = Counter
    meeting = asyncio.Barrier(2)
    tries: list[str] = []
    callbacks: list[str] = []

    async def update(self, context: Context, id: str, data: Mapping[str, Any]) -> Any:
        async with self.transaction(context):
            self.tries.append(id)
            context.after_commit(lambda: self.callbacks.append(id))
            item = await super().update(context, id, {"number": data["number"]})
            if len(self.tries) <= 2:
                async with asyncio.timeout(10):
                    await self.meeting.wait()
            await super().update(context, data["name"], {"number": data["number"]})
            return item

    @operation
    async def swap(self, context: Context, id: str, data: Mapping[str, Any]) -> Any:
        """Write this counter, and then the only other one."""
        others = await context.connection.fetch("SELECT id::text FROM pairs.pairs WHERE id <> $1", id)
        return await self.update(context, id, {"number": 7, "name": others[0]["id"]})


class Cut(TableResource):
    """Counters whose first transaction loses its connection."""

    schema = Counter
    lost: list[int] = []

    async def create(self, context: Context, data: Mapping[str, Any]) -> Any:
        async with self.transaction(context) as connection:
            if not self.lost:
                self.lost.append(connection.get_server_pid())
                # By another connection, before the first statement.
                await self.database.write.fetchval("SELECT pg_terminate_backend($1, 5000)", self.lost[0])
            return await super().create(context, data)


class File(Schema):
    name = fields.String(load_default="")
    media_type = fields.String(dump_only=True)
    size = fields.Integer(dump_only=True)
    sha256 = fields.String(dump_only=True)


class Files(ContentResource):
    """Files of which the first upload loses its connection in its midst."""

    schema = File
    content = Content()
    lost: list[int] = []

    async def write_content(self, context: Context, id: str, upload: Any) -> Any:
        async with self.transaction(context) as connection:
            item = await super().write_content(context, id, upload)
            if not self.lost:
                self.lost.append(connection.get_server_pid())
                await self.database.write.fetchval("SELECT pg_terminate_backend($1, 5000)", self.lost[0])
            return await super().write_content(context, id, upload) or item


class Elsewhere(Resource):
    """Items without a table, whose writes have a conflict after something was committed."""

    schema = Counter
    calls: list[str] = []

    async def retrieve(self, context: Context, id: str) -> Any:
        return {"id": id}

    async def create(self, context: Context, data: Mapping[str, Any]) -> Any:
        return await self._conflict("create")

    async def delete(self, context: Context, id: str) -> None:
        await self._conflict("delete")

    async def _conflict(self, name: str) -> Any:
        self.calls.append(name)
        async with self.database.write.transaction() as connection:
            await connection.execute("DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '40001'; END $$")


PLUGINS = {
    "people": People,
    "plain": Plain,
    "hooked": Hooked,
    "pairs": Pairs,
    "cut": Cut,
    "files": Files,
    "elsewhere": Elsewhere,
}


async def serve_isolated(serve: Serve, postgres: str, isolation: str) -> Api:
    url = await new_database(postgres)
    connection = await asyncpg.connect(url)
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(
        f"ALTER DATABASE \"{name}\" SET default_transaction_isolation = '{isolation}'; "
        f"ALTER DATABASE \"{name}\" SET deadlock_timeout = '20ms'"
    )
    await connection.close()
    return await serve([plugin(name, kind) for name, kind in PLUGINS.items()], database_url=url)


@pytest.fixture(scope="module")
async def api(serve: Serve, postgres: str) -> Api:
    """Run a service whose transactions are serializable."""
    return await serve_isolated(serve, postgres, "serializable")


@pytest.fixture(scope="module")
async def committed(serve: Serve, postgres: str) -> Api:
    """Run a service whose transactions see what others have committed: they have conflicts only as deadlocks."""
    return await serve_isolated(serve, postgres, "read committed")


@pytest.fixture
async def admin(api: Api) -> AsyncIterator[asyncpg.Connection]:
    """Connect to the database of the service."""
    connection = await asyncpg.connect(api.service.settings.database_url)
    yield connection
    await connection.close()


async def new(api: Api, name: str) -> tuple[str, str]:
    """Create an item, and return its path and its entity tag."""
    created = await api.post(f"/{name}", {})
    assert created.status == 201
    return created.headers["Location"], created.headers["ETag"]


async def metric(api: Api, name: str) -> float:
    text = (await api.get("/metrics")).body.decode()
    return next(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))


def statuses(responses: list[Response]) -> list[int]:
    return sorted(response.status for response in responses)


@pytest.mark.parametrize("key", [False, True], ids=["", "with Idempotency-Key"])
@pytest.mark.parametrize("isolation", ["serializable", "read committed"])
async def test_arrays_that_name_each_others_addresses_in_opposite_order_are_created_or_refused(
    api: Api, committed: Api, isolation: str, key: bool
) -> None:
    api = api if isolation == "serializable" else committed
    for _ in range(8):
        items = [{"email": f"{uuid4().hex}@example.com"} for _ in range(300)]
        sent = [{"headers": {"Idempotency-Key": uuid4().hex} if key else {}} for _ in range(2)]
        responses = await asyncio.gather(
            api.post("/people", items, **sent[0]), api.post("/people", items[::-1], **sent[1])
        )
        assert statuses(list(responses)) == [201, 409]


@pytest.mark.parametrize("name", ["plain", "hooked"])
async def test_concurrent_patches_of_one_item_all_succeed(api: Api, name: str) -> None:
    path, _ = await new(api, name)
    responses = await asyncio.gather(*(api.patch(path, {"number": number}) for number in range(20)))
    assert statuses(list(responses)) == [200] * 20


@pytest.mark.parametrize("name", ["plain", "hooked"])
async def test_concurrent_json_patches_of_one_item_all_succeed(api: Api, name: str) -> None:
    path, _ = await new(api, name)
    patches = [[{"op": "replace", "path": "/number", "value": number}] for number in range(1, 21)]
    responses = await asyncio.gather(*(api.patch(path, patch, headers={"Content-Type": PATCH}) for patch in patches))
    assert statuses(list(responses)) == [200] * 20


@pytest.mark.parametrize("name", ["plain", "hooked"])
async def test_of_concurrent_patches_with_the_same_entity_tag_one_succeeds(api: Api, name: str) -> None:
    path, tag = await new(api, name)
    headers = {"If-Match": tag}
    responses = await asyncio.gather(*(api.patch(path, {"number": n}, headers=headers) for n in range(1, 21)))
    assert statuses(list(responses)) == [200] + [412] * 19


async def test_hooks_run_before_each_commit_and_once_after_it(api: Api) -> None:
    path, _ = await new(api, "hooked")
    await api.service._background_tasks.close()
    Hooked.checked.clear()
    Hooked.committed.clear()
    responses = await asyncio.gather(*(api.patch(path, {"number": number}) for number in range(1, 11)))
    assert statuses(list(responses)) == [200] * 10
    await api.service._background_tasks.close()
    assert len(Hooked.checked) >= 10
    assert len(Hooked.committed) == 10


@pytest.mark.parametrize("way", ["update", "swap"])
async def test_an_action_whose_own_transaction_deadlocks_is_called_again(
    api: Api, admin: asyncpg.Connection, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    await admin.execute("TRUNCATE pairs.pairs")
    (first, _), (second, _) = await new(api, "pairs"), await new(api, "pairs")
    ids = [path.rpartition("/")[2] for path in (first, second)]
    Pairs.tries.clear()
    Pairs.callbacks.clear()
    before = await metric(api, 'pegboard_plugin_requests_retried_total{plugin="pairs"}')
    with caplog.at_level(logging.INFO, "pegboard"):
        if way == "swap":
            sent = [api.post(f"{path}/swap", {}) for path in (first, second)]
        else:
            others = zip((first, second), ids[::-1], strict=True)
            sent = [api.patch(path, {"number": 7, "name": other}) for path, other in others]
        assert statuses(list(await asyncio.gather(*sent))) == [200, 200]
    assert len(Pairs.tries) >= 3
    assert sorted(Pairs.callbacks) == sorted(ids)
    assert [row["number"] for row in await admin.fetch("SELECT number FROM pairs.pairs")] == [7, 7]
    assert await metric(api, 'pegboard_plugin_requests_retried_total{plugin="pairs"}') > before
    assert any("retried after DeadlockDetectedError (1 of 3)" in record.getMessage() for record in caplog.records)


@pytest.fixture(params=["plain", "hooked"])
async def conflicting(admin: asyncpg.Connection, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """Make each write to a table fail, count them, and return the table's name."""
    table = f"{request.param}.{request.param}"
    await admin.execute(
        "CREATE SEQUENCE tries; CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "PERFORM nextval('tries'); RAISE EXCEPTION 'never' USING ERRCODE = '40001'; END $$; "
        f"CREATE TRIGGER refusing BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    yield str(request.param)
    await admin.execute(f"DROP TRIGGER refusing ON {table}; DROP FUNCTION refuse; DROP SEQUENCE tries")


async def test_a_write_that_always_has_a_conflict_is_tried_four_times(
    api: Api, admin: asyncpg.Connection, conflicting: str
) -> None:
    refused = await api.post(f"/{conflicting}", {})
    assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
    assert refused.errors == [(errors.DatabaseUnavailable.code, None)]
    assert refused.json["errors"][0]["message"].startswith(BUSY)
    assert await admin.fetchval("SELECT last_value FROM tries") == 4
    assert (await api.post(f"/{conflicting}", [{}, {}])).status == 503
    assert await admin.fetchval("SELECT last_value FROM tries") == 8


@pytest.mark.parametrize("conflicting", ["hooked"], indirect=True)
async def test_a_service_that_drains_retries_no_request(
    serve: Serve, api: Api, admin: asyncpg.Connection, conflicting: str
) -> None:
    other = await serve([plugin("hooked", Hooked)], database_url=api.service.settings.database_url)
    other.service.drain()
    assert (await other.post(f"/{conflicting}", {})).status == 503
    assert await admin.fetchval("SELECT last_value FROM tries") == 1


@pytest.mark.parametrize("conflicting", ["hooked"], indirect=True)
async def test_a_request_whose_client_has_left_is_not_retried(
    api: Api, admin: asyncpg.Connection, conflicting: str
) -> None:
    await admin.execute("BEGIN; LOCK hooked.hooked")
    sending = asyncio.create_task(api.post(f"/{conflicting}", {}))
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    async with asyncio.timeout(10):
        while not await admin.fetchval(waiting):  # noqa: ASYNC110 - there is nothing to await
            await asyncio.sleep(0.01)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await admin.execute("COMMIT")
        while api.service.bulkheads[conflicting].running:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
    assert await admin.fetchval("SELECT last_value FROM tries") == 1


async def test_a_resource_without_a_table_is_called_again_only_for_idempotent_methods(api: Api) -> None:
    Elsewhere.calls.clear()
    refused = await api.post("/elsewhere", {})
    assert refused.status == 503
    assert refused.json["errors"][0]["message"].startswith(BUSY)
    assert Elsewhere.calls == ["create"]
    assert (await api.delete(f"/elsewhere/{uuid4()}")).status == 503
    assert Elsewhere.calls == ["create"] + ["delete"] * 4


async def test_a_connection_lost_before_the_first_statement_of_a_transaction_is_replaced(
    api: Api, admin: asyncpg.Connection
) -> None:
    Cut.lost.clear()
    created = await api.post("/cut", {"number": 5})
    assert (created.status, created.json["number"]) == (201, 5)
    assert len(Cut.lost) == 1
    assert await admin.fetchval("SELECT count(*) FROM cut.cut") == 1


@pytest.mark.parametrize("name", ["plain", "hooked"])
async def test_idle_connections_that_were_cut_are_replaced(api: Api, admin: asyncpg.Connection, name: str) -> None:
    path, _ = await new(api, name)
    for send in (lambda: api.patch(path, {"number": 3}), lambda: api.get(path), lambda: api.post(f"/{name}", [{}])):
        await admin.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name = 'pegboard'"
        )
        assert (await send()).status in (200, 201)


async def test_an_upload_is_stored_again_without_being_sent_again(api: Api) -> None:
    path, _ = await new(api, "files")
    Files.lost.clear()
    content = bytes(range(256)) * 4096
    uploaded = await api.put(f"{path}/content", data=content, headers={"Content-Type": "application/octet-stream"})
    assert uploaded.status == 201
    assert len(Files.lost) == 1
    assert (await api.get(f"{path}/content")).body == content


async def test_a_table_can_be_altered_under_load(committed: Api) -> None:
    api = committed
    admin = await asyncpg.connect(api.service.settings.database_url)
    paths = {name: (await new(api, name))[0] for name in ("plain", "hooked")}
    for name in paths:
        # Later changes of the length do not write the rows again, which older snapshots would not see.
        await admin.execute(f"ALTER TABLE {name}.{name} ALTER COLUMN name TYPE varchar(99)")
    done = asyncio.Event()
    seen: list[int] = []

    async def load(name: str) -> None:
        while not done.is_set():
            responses = [
                await api.get(f"/{name}?limit=5"),
                await api.post(f"/{name}", {"number": 1}),
                await api.patch(paths[name], {"number": 2}),
                await api.patch(paths[name], {"number": 3}, headers={"If-None-Match": '"none"'}),
                await api.post(f"/{name}", [{}, {}], headers={"Idempotency-Key": uuid4().hex}),
            ]
            seen.extend(response.status for response in responses)

    loads = [asyncio.create_task(load(name)) for name in ("plain", "hooked") for _ in range(3)]
    for number in range(10):
        for name in ("plain", "hooked"):
            await admin.execute(f"ALTER TABLE {name}.{name} ADD COLUMN extra_{number} text")
            await admin.execute(f"ALTER TABLE {name}.{name} ALTER COLUMN name TYPE varchar({100 + number})")
        # A request is tried four times: changes without a pause could meet each of them.
        while len(seen) < 20 * (number + 1):
            await asyncio.wait(loads, timeout=0.005)
    done.set()
    await asyncio.gather(*loads)
    await admin.close()
    assert set(seen) <= {200, 201}
