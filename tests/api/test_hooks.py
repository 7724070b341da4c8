"""Hooks: what they receive before and after a commit, and how they affect the write."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

import pytest

from pegboard import Change, Context, Resource, Schema, TableResource, errors, operation
from pegboard.auth.clients import ANONYMOUS
from pegboard.hosting.checks.declaration import problem
from pegboard.query.query import Query
from pegboard.schema import fields
from tests.conftest import Api, Serve, plugin

ALL = "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"


class Task(Schema):
    title = fields.String(required=True)
    code = fields.Password(allow_none=True)
    done = fields.Boolean(load_default=False)


class Log(Schema):
    text = fields.String(required=True)


class Logs(TableResource):
    """Log entries written by the hooks of another resource."""

    schema = Log
    verbs = "GET", "POST"


class Tasks(TableResource):
    """Tasks whose every change is logged in the same transaction."""

    schema = Task
    verbs = ALL
    creates_by_put = True
    before_calls: list[Change] = []
    after_calls: list[Change] = []

    async def before_commit(self, context: Context, change: Change) -> None:
        assert context.in_transaction
        self.before_calls.append(change)
        await self.resource("logs").create(context, {"text": change.action})
        if change.after and change.after["title"] == "bad":
            raise errors.InvalidValue("No bad titles.", pointer="/title")

    async def after_commit(self, context: Context, change: Change) -> None:
        assert not context.in_transaction
        if change.after and change.after["title"] == "crash":
            raise SystemExit("the hook fell over")
        await asyncio.sleep(0)
        self.after_calls.append(change)

    @operation
    async def finish(self, context: Context, id: str, data: Mapping[str, Any]) -> Any:
        """Finish a task."""
        return await self.update(context, id, {"done": True})

    @operation(on="collection", response=None)
    async def clear(self, context: Context, data: Mapping[str, Any]) -> None:
        """Clear a task."""


class Lamps(Resource):
    """Lamps in memory."""

    schema = Task
    verbs = "PATCH", "GET"
    lamps: dict[str, dict[str, Any]] = {"desk": {"id": "desk", "title": "off"}}
    after_calls: list[Change] = []

    def parse_id(self, text: str) -> str | None:
        return text

    async def retrieve(self, context: Context, id: str) -> Any:
        return self.lamps[id]

    async def update(self, context: Context, id: str, data: Mapping[str, Any]) -> Any:
        self.lamps[id].update(data)
        return self.lamps[id]

    async def after_commit(self, context: Context, change: Change) -> None:
        self.after_calls.append(change)


@pytest.fixture(scope="module")
async def running(serve: Serve) -> Api:
    return await serve([plugin("logs", Logs), plugin("tasks", Tasks), plugin("lamps", Lamps)])


@pytest.fixture
async def api(running: Api) -> Api:
    await running.service.database.write.execute("TRUNCATE tasks.tasks, logs.logs")
    Tasks.before_calls.clear()
    Tasks.after_calls.clear()
    return running


async def wait_for_callbacks(api: Api) -> None:
    """Wait until all after-commit callbacks have finished."""
    await api.service._background_tasks.close()


def summarize(changes: list[Change]) -> list[tuple[str, str | None, str | None]]:
    """Return the action and the previous and new title of each change."""
    return [
        (change.action, change.before and change.before["title"], change.after and change.after["title"])
        for change in changes
    ]


async def log_texts(api: Api) -> list[str]:
    return [item["text"] for item in (await api.get("/logs")).json["items"]]


async def test_hooks_run_before_and_after_the_commit_of_every_write(api: Api) -> None:
    item = (await api.post("/tasks", {"title": "one", "code": "a password"})).json
    path = f"/tasks/{item['id']}"
    tag = (await api.put(path, {"title": "two"})).headers["ETag"]
    assert (await api.patch(path, {"title": "three"}, headers={"If-Match": tag})).status == 200
    steps = [{"op": "replace", "path": "/title", "value": "four"}]
    patch = {"Content-Type": "application/json-patch+json"}
    assert (await api.patch(path, steps, headers=patch)).status == 200
    assert (await api.post(f"{path}/finish")).json["done"] is True
    assert (await api.post("/tasks/clear")).status == 204
    assert (await api.delete(path)).status == 204
    await wait_for_callbacks(api)
    expected = [
        ("create", None, "one"),
        ("replace", "one", "two"),
        ("update", "two", "three"),
        ("update", "three", "four"),
        ("finish", "four", "four"),
        ("clear", None, None),
        ("delete", "four", None),
    ]
    assert summarize(Tasks.before_calls) == expected
    assert sorted(summarize(Tasks.after_calls), key=str) == sorted(expected, key=str)
    assert [change.id for change in Tasks.before_calls] == [item["id"]] * 5 + [None, item["id"]]
    assert await log_texts(api) == [action for action, _, _ in expected]


async def test_an_error_in_a_hook_rolls_back_the_write_and_the_hooks_changes(api: Api) -> None:
    response = await api.post("/tasks", {"title": "bad"}, headers={"Idempotency-Key": "bad"})
    assert (response.status, response.errors) == (422, [(11000, "/title")])
    item = (await api.post("/tasks", {"title": "good"})).json
    assert (await api.patch(f"/tasks/{item['id']}", {"title": "bad"})).status == 422
    assert (await api.get(f"/tasks/{item['id']}")).json == item
    await wait_for_callbacks(api)
    assert summarize(Tasks.after_calls) == [("create", None, "good")]
    assert await log_texts(api) == ["create"]


async def test_an_error_in_a_hook_points_to_the_rejected_array_element(api: Api) -> None:
    response = await api.post("/tasks", [{"title": "good"}, {"title": "bad"}])
    assert (response.status, response.errors) == (422, [(11000, "/1/title")])
    assert (await api.post("/tasks", [{"title": "bad"}])).errors == [(11000, "/0/title")]
    assert (await api.get("/tasks?count=exact")).json["total"] == 0
    assert (await api.post("/tasks", [{"title": "1"}, {"title": "2"}])).status == 201
    await wait_for_callbacks(api)
    assert summarize(Tasks.after_calls) == [("create", None, "1"), ("create", None, "2")]


async def test_hooks_do_not_run_for_failed_or_replayed_writes(api: Api) -> None:
    item = (await api.post("/tasks", {"title": "one"})).json
    path = f"/tasks/{item['id']}"
    assert (await api.patch(path, {"title": "two"}, headers={"If-Match": '"0"'})).status == 412
    assert (await api.delete(path[:-1] + ("0" if path[-1] != "0" else "1"))).status == 404
    key = {"Idempotency-Key": "once"}
    assert (await api.post("/tasks", {"title": "kept"}, headers=key)).status == 201
    assert (await api.post("/tasks", {"title": "kept"}, headers=key)).headers["Idempotency-Replayed"] == "true"
    await wait_for_callbacks(api)
    assert summarize(Tasks.after_calls) == [("create", None, "one"), ("create", None, "kept")]


async def test_a_put_that_creates_calls_hooks_with_the_create_action(api: Api) -> None:
    path = "/tasks/018cc251-f400-7000-8000-000000000001"
    assert (await api.put(path, {"title": "new"})).status == 201
    await wait_for_callbacks(api)
    assert summarize(Tasks.after_calls) == [("create", None, "new")]
    assert await log_texts(api) == ["create"]


async def test_an_error_after_the_commit_does_not_affect_the_response(
    api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    response = await api.post("/tasks", [{"title": "crash"}, {"title": "fine"}])
    assert response.status == 201
    await wait_for_callbacks(api)
    assert summarize(Tasks.after_calls) == [("create", None, "fine")]
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage() == "the hook after create of tasks failed"


async def test_a_failing_after_commit_callback_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    context: Any = Context(client=None, request_id="r", query=None)  # type: ignore[arg-type]  # not used here
    context.after_commit(lambda: 1 / 0)
    assert [record.getMessage() for record in caplog.records] == ["a callback after a commit failed"]


async def test_hooks_of_a_resource_in_memory_get_the_previous_item(api: Api) -> None:
    assert (await api.patch("/lamps/desk", {"title": "on"})).status == 200
    await wait_for_callbacks(api)
    assert summarize(Lamps.after_calls) == [("update", "off", "on")]


async def test_a_hanging_hook_is_cancelled(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pegboard.api.changes.HOOK_TIMEOUT", 0.05)

    async def hang(_: Change) -> None:
        await asyncio.sleep(60)

    api.service._background_tasks.start("tasks", hang, [Change("create", None, None, None)])
    async with asyncio.timeout(5):
        await wait_for_callbacks(api)


def test_a_hook_must_be_a_coroutine_function() -> None:
    class Wrong(Tasks):
        def after_commit(self, context: Context, change: Change) -> None: ...  # type: ignore[override]  # deliberately invalid

    assert problem(Wrong) == "after_commit must be a coroutine: write async def after_commit"


async def test_a_callback_of_a_derived_context_runs_after_the_commit(api: Api) -> None:
    tasks = api.service.resource("tasks")
    client = (await api.service.clients.list())[0]
    calls: list[str] = []

    async def run(*, fail: bool) -> None:
        context = Context(client, "r", Query())
        async with tasks.transaction(context) as connection:
            assert connection is context.connection is context.without_locks().connection
            context.without_locks().after_commit(lambda: calls.append("derived"))
            copy.copy(context).after_commit(lambda: calls.append("copied"))
            assert calls == []
            if fail:
                raise errors.Conflict

    await run(fail=False)
    assert calls == ["derived", "copied"]
    calls.clear()
    with pytest.raises(errors.Conflict):
        await run(fail=True)
    assert calls == []


async def test_a_context_outside_a_transaction_has_no_connection() -> None:
    context = Context(ANONYMOUS, "r", Query())
    assert not context.in_transaction
    with pytest.raises(RuntimeError, match="there is no transaction"):
        _ = context.connection
    with pytest.raises(TypeError):
        dataclasses.replace(context, query=Query())  # type: ignore[type-var]  # which would lose the callbacks


async def test_a_coroutine_function_is_no_callback() -> None:
    async def callback() -> None: ...

    with pytest.raises(TypeError, match="after_commit takes a plain function"):
        Context(ANONYMOUS, "r", Query()).after_commit(callback)  # type: ignore[arg-type]  # deliberately invalid
