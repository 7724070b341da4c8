"""The paths of the service itself: catalogue, error codes, plugins, health and readiness."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from importlib.metadata import version

import pytest
from yarl import URL

from pegboard import ApiError, Schema, TableResource
from pegboard.hosting.discovery import Plugin, State
from pegboard.hosting.names import RESERVED
from pegboard.postgres.embedded import EmbeddedServer
from pegboard.schema import fields
from tests.conftest import Api, Serve, new_database, plugin


class Note(Schema):
    text = fields.String(required=True)


class Locked(ApiError, number=5, status=409, message="The note is locked."): ...


class Notes(TableResource):
    """Notes you take.

    And more about them.
    """

    schema = Note
    verbs = "POST", "GET"
    error_codes = (Locked,)


def broken(name: str, state: State = State.FAILED, fault: str | None = "it is broken") -> Plugin:
    return Plugin(name, "pegboard-broken", "2", state, fault)


@pytest.fixture(scope="module")
async def api(serve: Serve) -> Api:
    disabled = broken("disabled", State.DISABLED, None)
    plugins = [broken("broken"), broken("torn", State.CONFLICT), disabled, plugin("notes", Notes, version="1.5")]
    api = await serve(plugins)
    await api.service.clients.add("nobody", "without grants", [])
    return api


@pytest.fixture(scope="module")
def unprivileged(api: Api) -> Api:
    """Return the service authenticated as a client without grants."""
    return api.as_client("nobody", "without grants")


async def test_the_catalogue_lists_resources(unprivileged: Api) -> None:
    response = await unprivileged.get("/")
    assert response.status == 200
    assert response.json == {
        "name": "pegboard",
        "version": version("pegboard"),
        "resources": [
            {
                "name": "notes",
                "path": "/notes",
                "verbs": ["GET", "POST"],
                "summary": "Notes you take.",
                "plugin": "tests",
                "version": "1.5",
            }
        ],
    }


async def test_error_codes_of_plugins_are_listed(unprivileged: Api) -> None:
    items = (await unprivileged.get("/errors")).json["items"]
    assert items[0] == {"code": 10000, "status": 400, "message": "JSON parsing error.", "plugin": None}
    assert {"code": 20005, "status": 409, "message": "The note is locked.", "plugin": "notes"} in items
    codes = [item["code"] for item in items]
    assert codes == sorted(set(codes))


async def test_plugins_are_listed_with_their_state(api: Api) -> None:
    items = {item["name"]: item for item in (await api.get("/plugins")).json["items"]}
    assert items["notes"] == {
        "name": "notes",
        "distribution": "tests",
        "version": "1.5",
        "state": "ready",
        "verbs": ["GET", "POST"],
        "migrations": ["schema"],
        "fault": None,
    }
    assert {name: (item["state"], item["fault"]) for name, item in items.items()} == {
        "notes": ("ready", None),
        "broken": ("failed", "it is broken"),
        "torn": ("conflict", "it is broken"),
        "disabled": ("disabled", None),
    }


async def test_only_the_plugins_path_requires_a_grant(unprivileged: Api) -> None:
    assert (await unprivileged.get("/plugins")).status == 403
    assert (await unprivileged.head("/plugins")).status == 403
    assert (await unprivileged.request("OPTIONS", "/plugins")).status == 204
    for path in ("/", "/errors"):
        assert (await unprivileged.get(path)).status == 200


@pytest.mark.parametrize("path", ["/", "/errors", "/plugins", "/nothing", "/notes", "/broken", "/health/"])
async def test_only_health_paths_are_public(api: Api, path: str) -> None:
    stranger = api.as_client("", "")
    for method in ("GET", "OPTIONS", "POST"):
        assert (await stranger.request(method, path)).status == 401


async def test_health_and_readiness_are_public(api: Api) -> None:
    stranger = api.as_client("", "")
    health, ready = await stranger.get("/health"), await stranger.get("/ready")
    assert (health.status, health.json) == (200, {"status": "ok"})
    assert (ready.status, ready.json) == (200, {"status": "ready"})
    # Wrong credentials are ignored by public paths.
    assert (await api.as_client("x", "wrong").get("/health")).status == 200


@pytest.mark.parametrize("path", ["/", "/errors", "/plugins", "/health", "/ready"])
async def test_service_paths_are_read_only(api: Api, path: str) -> None:
    options = await api.request("OPTIONS", path)
    assert (options.status, options.headers["Allow"], options.body) == (204, "GET, HEAD, OPTIONS", b"")
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        response = await api.request(method, path)
        assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")
    assert (await api.get(path)).headers["Vary"] == "Accept, Accept-Encoding"


async def test_options_asterisk_lists_the_methods(api: Api) -> None:
    for headers, status in ((api.headers, 204), ({}, 401)):
        lines = "".join(
            f"{name}: {value}\r\n" for name, value in {"Host": "a", "Connection": "close", **headers}.items()
        )
        url = URL(api.url)
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(f"OPTIONS * HTTP/1.1\r\n{lines}\r\n".encode())
        response = (await reader.read()).decode()
        writer.close()
        assert response.startswith(f"HTTP/1.1 {status} ")
        assert ("Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n" in response) is (status == 204)


@pytest.mark.parametrize("name", ["broken", "torn", "disabled"])
async def test_a_failed_plugin_is_503_at_its_path(api: Api, name: str) -> None:
    for path in (f"/{name}", f"/{name}/5", f"/{name}/"):
        response = await api.get(path)
        assert (response.status, response.errors) == (503, [(15002, None)])
        assert response.headers["Retry-After"]
        assert "broken" not in response.json["errors"][0]["message"]
    assert (await api.get("/notes")).status == 200


# Readiness ---------------------------------------------------------------------------------------------------


async def test_a_service_with_a_failed_required_plugin_is_not_ready(serve: Serve) -> None:
    api = await serve([broken("broken"), plugin("notes", Notes)], plugins_required=("broken", "absent"))
    response = await api.get("/ready")
    assert (response.status, response.errors) == (503, [(15002, None)])
    assert (await api.get("/health")).status == 200
    assert (await api.get("/notes")).status == 200


async def test_a_draining_service_is_not_ready(serve: Serve) -> None:
    api = await serve([plugin("notes", Notes)])
    api.service.draining = True
    response = await api.get("/ready")
    assert (response.status, response.errors) == (503, [(15004, None)])
    assert (await api.get("/health")).status == 200


@pytest.fixture(scope="module")
def stoppable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EmbeddedServer, str]]:
    """Provide a PostgreSQL that can be stopped, and its URL."""
    server = EmbeddedServer(tmp_path_factory.mktemp("own"))
    yield server, server.start()
    server.stop()


async def wait_until_ready(api: Api) -> None:
    async with asyncio.timeout(15):
        while (await api.get("/ready")).status != 200:  # noqa: ASYNC110 - there is nothing to await
            await asyncio.sleep(0.05)


async def test_without_the_database_the_service_is_healthy_but_not_ready(
    serve: Serve, stoppable: tuple[EmbeddedServer, str]
) -> None:
    server, url = stoppable
    api = await serve([plugin("notes", Notes)], database_url=await new_database(url), pool_timeout=0.5)
    assert (await api.get("/ready")).status == 200
    assert (await api.get("/notes")).status == 200
    server.stop()
    ready = await api.get("/ready")
    assert (ready.status, ready.errors, ready.headers["Retry-After"]) == (503, [(15003, None)], "1")
    assert (await api.get("/health")).status == 200
    # Cached and uncached clients get the same database error.
    for one in (api, api.as_client("somebody", "unknown here")):
        response = await one.get("/notes")
        assert (response.status, response.errors) == (503, [(15003, None)])
        assert response.headers["Retry-After"]
        assert response.headers["X-Request-Id"] in response.json["errors"][0]["message"]
    assert (await api.as_client("", "").get("/notes")).status == 401
    assert (await api.get("/")).status == 200
    server.start()
    await wait_until_ready(api)
    assert (await api.get("/notes")).status == 200


async def test_a_service_started_before_its_database_becomes_ready(
    serve: Serve, stoppable: tuple[EmbeddedServer, str]
) -> None:
    server, url = stoppable
    url = await new_database(url)
    server.stop()
    api = await serve([plugin("notes", Notes)], database_url=url, pool_timeout=0.5)
    assert (await api.get("/health")).status == 200
    assert (await api.get("/ready")).status == 503
    assert (await api.get("/notes")).errors == [(15003, None)]
    server.start()
    await wait_until_ready(api)
    assert (await api.get("/notes")).status == 200


async def test_no_resource_can_have_the_name_of_a_service_path(api: Api) -> None:
    names = {
        path.split("/")[1] for path, route in api.service.table.paths.items() if route.bulkhead is None and path != "*"
    }
    assert names - {""} == RESERVED - {"pegboard", "public", "information_schema"}
