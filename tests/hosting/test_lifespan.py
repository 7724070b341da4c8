"""Lifespans: code that runs alongside requests, and the state of a plugin whose lifespan fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from pegboard import Context, Schema, TableResource
from pegboard.api.resource import Resource
from pegboard.app import SERVICE, create_app
from pegboard.hosting.checks.declaration import problem
from pegboard.hosting.discovery import Plugin, State
from pegboard.running import make_runner
from pegboard.schema import fields
from pegboard.settings import Settings
from pegboard.testing.client import Target
from tests.conftest import PASSWORD, Api, Serve, plugin

EVENTS: list[str] = []


class Thing(Schema):
    name = fields.String(required=True)


class Things(TableResource):
    """Things that record their lifespan."""

    schema = Thing
    verbs = "GET", "POST"


class Steady(Things):
    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        # Its table exists.
        count = await self.database.read.fetchval(f'SELECT count(*) FROM "{self.name}"."{self.name}"')
        EVENTS.append(f"{self.name} begins with {count}")
        async with asyncio.TaskGroup() as group:
            ticking = group.create_task(asyncio.Event().wait())
            yield
            ticking.cancel()
        EVENTS.append(f"{self.name} ends")

    async def list(self, context: Context) -> Any:
        EVENTS.append(f"{self.name} lists")
        await asyncio.sleep(0.1)
        page = await super().list(context)
        EVENTS.append(f"{self.name} has listed")
        return page


def refuse() -> None:
    raise SystemExit("no\nqueue")


class Failing(Things):
    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        refuse()
        yield


class Hanging(Things):
    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        await asyncio.Event().wait()
        yield


class Clinging(Things):
    """Things whose lifespan fails on exit."""

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        yield
        raise LookupError("where was I?")


class Staying(Things):
    """Things whose lifespan never exits by itself."""

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        yield
        await asyncio.Event().wait()


class Breaking(Things):
    """Things whose lifespan fails while they serve."""

    broken = asyncio.Event()

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._fall_over())
            yield

    async def _fall_over(self) -> None:
        await self.broken.wait()
        raise ConnectionError("the queue is gone")


RESOURCES: dict[str, type[Resource]] = {
    "alpha": Steady,
    "beta": Steady,
    "failing": Failing,
    "hanging": Hanging,
    "clinging": Clinging,
    "staying": Staying,
    "plain": Things,
}


async def started(database_url: str, plugins: list[Plugin]) -> web.AppRunner:
    settings = Settings.load(
        {
            "PEGBOARD_ADMIN_PASSWORD": PASSWORD,
            "PEGBOARD_DATABASE_URL": database_url,
            "PEGBOARD_LIFESPAN_TIMEOUT": "0.4",
            "PEGBOARD_SHUTDOWN_TIMEOUT": "2",
        }
    )
    runner = make_runner(create_app(settings, plugins), settings)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner


async def test_lifespans_begin_before_requests_and_end_after_them(
    database_url: str, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    EVENTS.clear()
    runner = await started(database_url, [plugin(name, resource) for name, resource in RESOURCES.items()])
    service = runner.app[SERVICE]
    errors = {failed.name: failed.error for failed in service.plugins if failed.state is not State.READY}
    assert errors == {
        "failing": "its lifespan failed at the start: SystemExit: no queue",
        "hanging": "its lifespan did not start within 0.4 s",
    }
    other = await serve([])
    host, port = runner.addresses[0][:2]
    api = Api(Target(service, other.session, asyncio.get_running_loop()), f"http://{host}:{port}")
    assert (await api.get("/failing")).errors == [(15002, None)]
    assert (await api.get("/hanging")).status == 503
    assert (await api.post("/plain", {"name": "one"})).status == 201
    assert sorted(EVENTS) == ["alpha begins with 0", "beta begins with 0"]
    caplog.clear()
    running = asyncio.create_task(api.get("/alpha"))
    while "alpha lists" not in EVENTS:  # noqa: ASYNC110 - EVENTS is a list
        await asyncio.sleep(0.01)
    await runner.cleanup()
    assert (await running).status == 200
    assert EVENTS[2:] == ["alpha lists", "alpha has listed", "beta ends", "alpha ends"]
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert messages == [
        "the lifespan of staying did not stop within 0.4 s",
        "the lifespan of clinging failed when the service stopped",
    ]


async def test_a_failing_lifespan_disables_its_plugin(serve: Serve) -> None:
    api = await serve([plugin("breaking", Breaking), plugin("plain", Things)])
    assert (await api.get("/breaking")).status == 200
    Breaking.broken.set()
    breaking = api.service.plugins[0]
    while breaking.state is State.READY:  # noqa: ASYNC110 - there is nothing to await
        await asyncio.sleep(0.01)
    assert (breaking.error or "").startswith("its lifespan failed: ExceptionGroup")
    assert (await api.get("/breaking")).status == 503
    assert (await api.get("/plain")).status == 200


def test_a_lifespan_must_be_an_async_context_manager() -> None:
    class Wrong(Things):
        async def lifespan(self) -> AsyncIterator[None]:  # type: ignore[override]  # deliberately invalid
            yield

    assert "write @contextlib.asynccontextmanager above it" in (problem(Wrong) or "")
