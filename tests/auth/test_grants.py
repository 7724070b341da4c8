"""Authorization: every grant is tried with every method of every route of the resources and the service itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from pegboard import Context, Resource, Schema, TableResource
from pegboard.auth.passwords import Cost, Passwords
from pegboard.hosting import discovery
from pegboard.schema import fields
from tests.conftest import Api, Serve, plugin

SECRET = "a password"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
VERBS = ("GET", "POST", "PUT", "PATCH", "DELETE")
PUBLIC = {"/health", "/ready", "/docs", "/openapi.json"}
"""Paths that require no credentials, including all paths below them."""
UNRESTRICTED = {"/", "/errors", "*"}
"""Paths that require credentials, but no grant."""
NOT_ALLOWED = 12002


class Note(Schema):
    text = fields.String(required=True)


class Notes(TableResource):
    """Notes with an owner."""

    schema = Note
    verbs = METHODS
    owned = True
    creates_by_put = True


class Moods(Resource):
    """Read-only items without storage."""

    schema = Note
    verbs = "GET", "HEAD"
    reads = 0

    async def list(self, context: Context) -> list[Any]:
        type(self).reads += 1
        return []


class Box(TableResource):
    """Write-only items."""

    schema = Note
    verbs = ("POST",)


@pytest.fixture(scope="module")
async def api(serve: Serve) -> Api:
    """Run a service with all installed plugins and a few special ones."""
    special = {"notes": Notes, "moods": Moods, "box": Box}
    installed = discovery.discover(discovery.installed())
    api = await serve([*installed, *(plugin(name, resource) for name, resource in special.items())])
    api.service.clients.passwords = Passwords(Cost(memory=8, passes=1))
    return api


@pytest.fixture(scope="module")
async def resource_names(api: Api) -> list[str]:
    """Return the names of all resources."""
    return [entry["name"] for entry in (await api.get("/")).json["resources"]]


@pytest.fixture(scope="module")
async def clients(api: Api, resource_names: list[str]) -> dict[str, Api]:
    """Return a client for each possible grant, by grant; the empty string stands for a client without grants."""
    service_names = [
        path[1:] for path in service_paths(api) if path.count("/") == 1 and path not in PUBLIC | UNRESTRICTED
    ]
    actions = [*VERBS, "*", "any", "archive"]
    grants = [
        "",
        "*:*",
        *(f"*:{verb}" for verb in VERBS),
        *(f"{name}:{action}" for name in [*resource_names, *service_names, "other"] for action in actions),
    ]
    for grant in grants:
        await api.service.clients.add(f"with {grant.replace(':', ' ')}", SECRET, [grant] if grant else [])
    return {grant: api.as_client(f"with {grant.replace(':', ' ')}", SECRET) for grant in grants}


def service_paths(api: Api) -> list[str]:
    paths = [path for path, route in api.service.table.paths.items() if route.bulkhead is None]
    return [path.replace("{resource}", "contacts") for path in paths]


def sufficient_grants(name: str, method: str) -> set[str]:
    verb = "GET" if method == "HEAD" else method
    return {f"{name}:{verb}", f"{name}:*", f"*:{verb}", "*:*"}


def routes(name: str) -> Iterator[tuple[str, str]]:
    yield f"/{name}", f"/{name}"
    yield f"/{name}/{{id}}", f"/{name}/{uuid4()}"
    yield f"/{name}/{{id}}/content", f"/{name}/{uuid4()}/content"
    yield f"/{name}/me", f"/{name}/me"


async def allowed_methods_of(api: Api, path: str) -> list[str]:
    """Return the methods of a path, which OPTIONS lists without a grant; empty if there is no such path."""
    response = await api.request("OPTIONS", path)
    if response.status == 404:
        return []
    assert response.status == 204
    return [verb for verb in response.headers["Allow"].split(", ") if verb != "OPTIONS"]


async def test_every_method_of_every_resource_requires_a_sufficient_grant(
    api: Api, resource_names: list[str], clients: dict[str, Api]
) -> None:
    checked = set()
    for name in resource_names:
        for template, path in routes(name):
            allowed_methods = await allowed_methods_of(clients[""], path)
            mine = template.endswith("/me")
            for method in METHODS if allowed_methods else ():
                for grant, client in clients.items():
                    # An invalid body, so that an authorized request is rejected before it has an effect.
                    response = await client.request(
                        method, path, data=b"{", headers={"Content-Type": "application/json"}
                    )
                    what = f"{method} {path} with {grant!r}: {response.status}"
                    if method not in allowed_methods:
                        assert response.status == 405, what
                    elif mine or grant in sufficient_grants(name, method):
                        assert response.status in (200, 400, 404), what
                    else:
                        assert response.status == 403, what
                        assert method == "HEAD" or response.errors == [(NOT_ALLOWED, None)], what
            if allowed_methods:
                checked.add(template)
    mounted = {
        path for path, allowed_methods in api.service.table.paths.items() if allowed_methods.bulkhead is not None
    }
    assert checked == mounted


async def test_service_paths_require_a_grant_of_their_name_unless_public(api: Api, clients: dict[str, Api]) -> None:
    for path in service_paths(api):
        if path == "*":
            continue
        public = path in PUBLIC or path.startswith("/docs/")
        for method in ("GET", "HEAD"):
            assert ((await api.as_client("", "").request(method, path)).status == 401) is not public, path
            # A public path also accepts the credentials of a client without grants, hence of any client.
            for grant, client in {"": clients[""]}.items() if public else clients.items():
                response = await client.request(method, path, headers={"Accept": "*/*"})
                free = public or path in UNRESTRICTED or grant in sufficient_grants(path[1:], method)
                assert (response.status == 403) is not free, f"{method} {path} with {grant!r}: {response.status}"
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            assert (await clients["*:*"].request(method, path)).status == 405, f"{method} {path}"
            assert (await clients[""].request(method, path)).status == 405


async def test_an_unknown_path_is_404_even_without_grants(clients: dict[str, Api]) -> None:
    for path in ("/nothing", "/contacts/x", "/contacts/x/y", "/contacts/me", f"/moods/{uuid4()}"):
        assert (await clients[""].get(path)).status == 404
    assert (await clients[""].request("BREW", "/contacts")).status == 501


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE"])
async def test_a_missing_grant_does_not_reveal_whether_an_item_exists(
    api: Api, clients: dict[str, Api], method: str
) -> None:
    contact = (await api.post("/contacts", {"name": "Ada", "email": f"{uuid4()}@example.org"})).json
    for path in (f"/contacts/{contact['id']}", f"/contacts/{uuid4()}"):
        for headers in (
            {},
            {"If-Match": '"0"'},
            {"If-None-Match": "*"},
            {"Accept": "text/nonsense"},
            {"If-Match": "x"},
        ):
            response = await clients["other:*"].request(method, f"{path}?nonsense=1", headers=headers)
            assert response.status == 403
            assert method == "HEAD" or response.errors == [(NOT_ALLOWED, None)]


async def test_nothing_is_read_without_a_grant(clients: dict[str, Api]) -> None:
    before = Moods.reads
    assert (await clients["notes:*"].get("/moods")).status == 403
    assert Moods.reads == before
    assert (await clients["moods:GET"].get("/moods")).status == 200
    assert Moods.reads == before + 1


async def test_several_grants_are_combined(api: Api) -> None:
    await api.service.clients.add("both", SECRET, ["contacts:GET", "notes:POST"])
    both = api.as_client("both", SECRET)
    assert (await both.get("/contacts")).status == 200
    assert (await both.post("/notes", {"text": "x"})).status == 201
    assert (await both.get("/notes")).status == 403
    assert (await both.post("/contacts", {})).status == 403


async def test_the_any_grant_only_extends_another_grant(api: Api, clients: dict[str, Api]) -> None:
    item = (await api.post("/notes", {"text": "x"})).json
    assert (await clients["notes:any"].get(f"/notes/{item['id']}")).status == 403
    assert (await clients["notes:GET"].get(f"/notes/{item['id']}")).status == 404
    assert (await clients["*:GET"].get(f"/notes/{item['id']}")).status == 404
    assert (await clients["notes:*"].get(f"/notes/{item['id']}")).status == 200
    assert (await clients["*:*"].get(f"/notes/{item['id']}")).status == 200


async def test_a_put_that_creates_requires_the_post_grant(api: Api) -> None:
    await api.service.clients.add("put only", SECRET, ["notes:PUT", "*:GET"])
    path = f"/notes/{uuid4()}"
    assert (await api.as_client("put only", SECRET).put(path, {"text": "x"})).status == 404
    assert (await api.put(path, {"text": "x"})).status == 201
