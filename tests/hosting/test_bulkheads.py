"""A plugin that hangs, leaks, spins or fails while serving: how it is limited, and that its neighbour is unaffected."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit

import aiohttp
import pytest

from pegboard import Context, Page, Resource, Schema, TableResource, errors, fields
from pegboard.hosting import bulkheads
from pegboard.values import PerPlugin
from tests.conftest import Api, Response, Serve, plugin

TIME = 0.4


class Word(Schema):
    """A word."""

    text = fields.String(load_default="")


class Quiet(TableResource):
    """The neighbour."""

    schema = Word
    verbs = "GET", "HEAD", "POST"


class Trouble(TableResource):
    """Do what the id demands."""

    schema = Word
    verbs = "GET", "HEAD", "POST"
    leaked: ClassVar[list[Any]] = []

    def parse_id(self, text: str) -> str | None:
        """Accept words as ids."""
        return text

    async def retrieve(self, context: Context, id: str) -> Any:
        """Run the method named by the id."""
        await getattr(self, id)()
        return {"id": id, "text": "done", "_version": 1, "created_at": None, "updated_at": None}

    async def create(self, context: Context, data: Mapping[str, Any]) -> Any:
        """Write, and then be slow if requested."""
        made = await super().create(context, data)
        if data["text"] == "slow once" and not Trouble.leaked:
            Trouble.leaked.append("seen")
            await asyncio.sleep(60)
        return made

    async def fine(self) -> None:
        """Return normally."""
        await self.database.read.fetchval("SELECT 1")

    async def hang(self) -> None:
        """Never return."""
        await asyncio.sleep(60)

    async def hold(self) -> None:
        """Never return from the database, within a transaction."""
        async with self.database.write.transaction() as connection:
            await connection.execute("CREATE TABLE public.never_there ()")
            await connection.execute("SELECT pg_sleep(60)")

    async def leak(self) -> None:
        """Acquire a connection and keep it."""
        borrowed = self.database.write.connection()
        await borrowed.__aenter__()
        Trouble.leaked.append(borrowed)

    async def borrow(self) -> None:
        """Acquire a connection for a moment."""
        await self.database.write.fetchval("SELECT 1")

    async def spin(self) -> None:
        """Block the event loop."""
        spin_for(1.2)

    async def later(self) -> None:
        """Block the event loop in a separate task."""
        Trouble.leaked.append(asyncio.get_running_loop().create_task(spin_later()))

    async def exit(self) -> None:
        """Try to exit the process."""
        sys.exit(3)

    async def cancel(self) -> None:
        """Raise CancelledError without a cancellation."""
        raise asyncio.CancelledError

    async def odd(self) -> None:
        """Raise an exception that `except Exception` does not catch."""
        raise Odd

    async def stubborn(self) -> None:
        """Ignore cancellation."""
        end = time.monotonic() + 3
        while time.monotonic() < end:
            try:
                await asyncio.sleep(0.1)
            except asyncio.CancelledError:
                continue

    async def done(self) -> None:
        """Return normally despite cancellation."""
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return


class Odd(BaseException):
    """An exception not derived from `Exception`."""


def spin_for(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


async def spin_later() -> None:
    spin_for(1.2)


class Flow(Resource):
    """A streamed collection, one part of which may never arrive."""

    schema = Word
    verbs = ("GET",)
    hangs: ClassVar[bool] = False

    def parse_id(self, text: str) -> str | None:
        """Accept words as ids."""
        return text

    async def list(self, context: Context) -> Page:
        """Return one of five pages, all but the first slowly."""
        number = int(context.query.after or 0)
        if number:
            await asyncio.sleep(60 if self.hangs else TIME / 2)
        return Page([{"id": str(number), "text": "x" * 10}], next=str(number + 1) if number < 4 else None)

    async def retrieve(self, context: Context, id: str) -> Any:
        """Find no item."""
        raise errors.NotFound


@pytest.fixture(scope="module")
async def troubled(serve: Serve) -> Api:
    plugins = [plugin("quiet", Quiet), plugin("trouble", Trouble, package="tests"), plugin("flow", Flow)]
    limits = PerPlugin(30.0, {"trouble": TIME, "flow": TIME})
    requests = PerPlugin(100, {"trouble": 3, "flow": 1})
    pools = {"pool_size": 4, "read_pool_size": 4, "pool_timeout": 0.5}
    shares = PerPlugin(80, {"trouble": 50})
    return await serve(
        plugins, plugin_timeout=limits, plugin_requests=requests, plugin_pool_share=shares, plugin_blocking=0.3, **pools
    )


@pytest.fixture
async def api(troubled: Api) -> Api:
    Trouble.leaked.clear()
    return troubled


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - there is nothing to await
            await asyncio.sleep(0.02)


async def assert_neighbour_serves(api: Api, times: int = 20) -> None:
    """Check that the neighbour serves."""
    for _ in range(times):
        assert (await api.get("/quiet")).status == 200
    assert (await api.post("/quiet", {"text": "x"})).status == 201
    assert (await api.get("/health")).status == 200


async def test_a_hanging_request_is_cancelled_at_its_deadline(api: Api) -> None:
    bulkhead = api.service.bulkheads["trouble"]
    before = bulkhead.timed_out
    hanging = asyncio.gather(*(api.get("/trouble/hang") for _ in range(3)))
    await wait_until(lambda: bulkhead.running == 3)
    await assert_neighbour_serves(api)
    responses = await hanging
    assert [(response.status, response.errors) for response in responses] == [(504, [(15005, None)])] * 3
    assert (bulkhead.running, bulkhead.timed_out - before) == (0, 3)
    assert (await api.get("/trouble/fine")).status == 200


async def test_a_cancelled_request_leaks_no_transaction_or_connection(api: Api) -> None:
    database = api.service.database
    assert (await api.get("/trouble/hold")).errors == [(15005, None)]
    await wait_until(lambda: database.write.idle == database.write.size)
    running = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%pg_sleep(60)%'"
    assert await database.read.fetchval(f"{running} AND state <> 'idle' AND pid <> pg_backend_pid()") == 0
    assert await database.read.fetchval("SELECT to_regclass('public.never_there')") is None
    assert api.service.bulkheads["trouble"].shares.write.used == 0


async def test_requests_above_the_concurrency_limit_are_rejected(api: Api) -> None:
    bulkhead = api.service.bulkheads["trouble"]
    refused = bulkhead.refused
    hanging = asyncio.gather(*(api.get("/trouble/hang") for _ in range(3)))
    await wait_until(lambda: bulkhead.running == 3)
    response = await api.get("/trouble/fine")
    assert (response.status, response.errors, response.headers["Retry-After"]) == (503, [(15006, None)], "1")
    assert bulkhead.refused == refused + 1
    await assert_neighbour_serves(api)
    assert (await api.request("OPTIONS", "/trouble")).status == 204
    await hanging
    assert (await api.get("/trouble/fine")).status == 200


async def test_leaked_connections_only_affect_their_plugin(api: Api) -> None:
    bulkhead = api.service.bulkheads["trouble"]
    # Half of four are two.
    assert [(await api.get("/trouble/leak")).status for _ in range(2)] == [200, 200]
    waits = bulkhead.pool_waits
    refused = asyncio.gather(api.get("/trouble/borrow"), api.get("/trouble/borrow"))
    await assert_neighbour_serves(api)
    for response in await refused:
        # Its own deadline and the pool timeout expire at about the same time.
        assert (response.status, response.errors[0][0]) in ((503, 15006), (504, 15005))
    assert bulkhead.pool_waits == waits + 2
    assert bulkhead.shares.write.used == 2
    for borrowed in Trouble.leaked:
        await borrowed.__aexit__(None, None, None)
    assert bulkhead.shares.write.used == 0
    assert (await api.get("/trouble/borrow")).status == 200


@pytest.mark.parametrize(("word", "function"), [("spin", "spin_for"), ("later", "spin_later")])
async def test_a_plugin_that_blocks_the_loop_is_logged_by_name(
    api: Api, caplog: pytest.LogCaptureFixture, word: str, function: str
) -> None:
    bulkhead = api.service.bulkheads["trouble"]
    blocked = bulkhead.blocked
    with caplog.at_level(logging.WARNING, "pegboard.plugins"):
        await api.get(f"/trouble/{word}")
        await wait_until(lambda: "the event loop resumed" in caplog.text)
    messages = [record.getMessage() for record in caplog.records if "blocks the event loop" in record.getMessage()]
    assert len(messages) == 1
    assert messages[0].startswith("the plugin trouble blocks the event loop")
    assert function in messages[0]
    assert bulkhead.blocked == blocked + 1
    await assert_neighbour_serves(api)


@pytest.mark.parametrize("how", ["exit", "cancel", "odd"])
async def test_exceptions_that_would_stop_the_service_are_errors_of_the_plugin(api: Api, how: str) -> None:
    response = await api.get(f"/trouble/{how}")
    assert (response.status, response.errors) == (500, [(15000, None)])
    await assert_neighbour_serves(api, 1)
    assert api.service.bulkheads["trouble"].running == 0


async def test_a_request_that_finishes_despite_its_cancellation_succeeds(api: Api) -> None:
    assert (await api.get("/trouble/done")).status == 200


async def test_a_request_that_ignores_its_cancellation_is_disconnected(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(bulkheads, "_GRACE", 0.3)
    with pytest.raises(aiohttp.ClientError):
        await api.get("/trouble/stubborn")
    assert "the plugin trouble still runs after it was cancelled" in caplog.text
    await assert_neighbour_serves(api)
    await wait_until(lambda: api.service.bulkheads["trouble"].running == 0)
    assert (await api.get("/trouble/fine")).status == 200


async def test_a_retry_after_the_deadline_does_the_work_once(api: Api) -> None:
    async def send() -> Response:
        return await api.post("/trouble", {"text": "slow once"}, headers={"Idempotency-Key": "one"})

    assert (await send()).errors == [(15005, None)]
    responses = [await send(), await send()]
    assert [response.status for response in responses] == [201, 201]
    assert responses[0].body == responses[1].body
    assert await api.service.database.read.fetchval("SELECT count(*) FROM trouble.trouble") == 1


async def test_a_disconnected_request_frees_its_slot_at_the_deadline(api: Api) -> None:
    bulkhead = api.service.bulkheads["trouble"]
    task = asyncio.ensure_future(api.get("/trouble/hang"))
    await wait_until(lambda: bulkhead.running == 1)
    task.cancel()
    await wait_until(lambda: bulkhead.running == 0)
    assert (await api.get("/trouble/fine")).status == 200


async def test_the_deadline_excludes_the_time_to_receive_the_body(api: Api) -> None:
    address = urlsplit(api.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = f"POST /trouble HTTP/1.1\r\nHost: x\r\nAuthorization: {api.headers['Authorization']}\r\n"
    writer.write(f"{head}Content-Type: application/json\r\nContent-Length: 16\r\n\r\n".encode())
    for part in (b'{"text"', b': "lat', b'e"'):
        writer.write(part)
        await asyncio.sleep(TIME)
    writer.write(b"}")
    line = await reader.readline()
    writer.close()
    assert line.startswith(b"HTTP/1.1 201 "), line


async def test_a_stream_has_a_deadline_for_each_chunk_and_occupies_a_slot(api: Api) -> None:
    bulkhead = api.service.bulkheads["flow"]
    flowing = asyncio.ensure_future(api.get("/flow", headers={"Accept": "application/x-ndjson"}))
    await wait_until(lambda: bulkhead.running == 1)
    assert (await api.get("/flow")).errors == [(15006, None)]
    response = await flowing
    assert (response.status, response.body.count(b"\n")) == (200, 5)
    await wait_until(lambda: bulkhead.running == 0)
    assert (await api.get("/flow")).status == 200


async def test_a_hanging_stream_is_cancelled(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    bulkhead = api.service.bulkheads["flow"]
    monkeypatch.setattr(Flow, "hangs", True)
    with pytest.raises(aiohttp.ClientError):
        await api.get("/flow", headers={"Accept": "application/x-ndjson"})
    await wait_until(lambda: bulkhead.running == 0)
    assert (await api.get("/flow")).status == 200
