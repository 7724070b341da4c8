"""The clients resource, as seen by administrators and by the clients themselves."""

from __future__ import annotations

import asyncio
import functools
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from tests.conftest import PASSWORD, Api, Response, Serve

SECRET = "a secret that is never exposed"
OTHER = "another secret that is never exposed"
ADA = {"username": "ada", "password": SECRET, "grants": ["contacts:GET"]}
JSON_PATCH = {"Content-Type": "application/json-patch+json"}
NOT_ALLOWED, CONFLICT, NOT_FOUND = 12002, 13002, 13000
LAST = "The last active client that holds *:* must keep it and stay active."


@dataclass
class Recorded:
    """All responses and log records of one test."""

    responses: list[Response]
    log: pytest.LogCaptureFixture


@pytest.fixture(autouse=True)
def recorded(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Any:
    """Check that no response or log record of any test contains one of the secrets sent."""
    caplog.set_level(logging.DEBUG)
    recorded = Recorded([], caplog)
    request = Api.request

    async def recording(api: Api, *args: Any, **options: Any) -> Response:
        response = await request(api, *args, **options)
        recorded.responses.append(response)
        return response

    monkeypatch.setattr(Api, "request", recording)
    yield recorded
    texts = [response.body + str(response.headers).encode() for response in recorded.responses] + [caplog.text.encode()]
    for secret in (SECRET, OTHER, PASSWORD, "$argon2"):
        assert not any(secret.encode() in text for text in texts)


@pytest.fixture
async def api(running: Api) -> Api:
    """Return the running service with all clients deleted except the administrator."""
    sql = "DELETE FROM pegboard.client WHERE username <> 'admin' RETURNING id::text"
    for row in await running.service.database.write.fetch(sql):
        # Immediately, so that a client of the next test with the same name and password is not mistaken for this one.
        running.service.authentication._cache.evict(row["id"])
    await running.service.database.write.execute("TRUNCATE pegboard.idempotency")
    return running


async def create(api: Api, **fields: Any) -> Any:
    response = await api.post("/clients", {**ADA, **fields})
    assert response.status == 201, response.body
    return response.json


async def manager(api: Api, *grants: str) -> Api:
    """Return the service authenticated as a client that manages others and also holds `grants`."""
    await create(api, username="manager", grants=["clients:*", *grants])
    return api.as_client("manager", SECRET)


async def wait_until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until the condition is true, for at most a second."""
    async with asyncio.timeout(1):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.01)


async def responds_with(api: Api, status: int) -> bool:
    """Whether this worker responds to the client with this status."""
    return (await api.get("/contacts")).status == status


# The resource.


async def test_a_new_client_is_returned_without_its_password(api: Api) -> None:
    response = await api.post("/clients", ADA)
    assert response.status == 201
    item = response.json
    assert list(item) == ["id", "username", "grants", "active", "created_at", "updated_at"]
    assert (item["username"], item["grants"], item["active"]) == ("ada", ["contacts:GET"], True)
    assert response.headers["Location"] == f"/clients/{item['id']}"
    assert (await api.get(response.headers["Location"])).json == item
    assert (await api.as_client("ada", SECRET).get("/contacts")).status == 200


async def test_clients_are_listed_filtered_sorted_and_paged(api: Api) -> None:
    for name in ("bob", "cyd", "ada"):
        await create(api, username=name, active=name != "bob")

    async def names(query: str) -> list[str]:
        return [item["username"] for item in (await api.get(f"/clients?{query}")).json["items"]]

    assert await names("sort=username") == ["ada", "admin", "bob", "cyd"]
    assert await names("sort=-username&limit=2") == ["cyd", "bob"]
    assert await names("active=false") == ["bob"]
    assert await names("grants__has=*:*") == ["admin"]
    assert await names("username__prefix=ad&sort=username") == ["ada", "admin"]
    first = (await api.get("/clients?sort=username&limit=3&count=exact")).json
    assert first["total"] == 4
    assert [item["username"] for item in (await api.get(first["next"])).json["items"]] == ["cyd"]
    for media_type in ("application/x-ndjson", "text/csv"):
        response = await api.get("/clients", headers={"Accept": media_type})
        assert response.status == 200
        assert response.body.count(b"\n") == 4 + (media_type == "text/csv")


@pytest.mark.parametrize(
    "query", ["password=x", "sort=password", "fields=password", "password__prefix=%24argon2", "q=x"]
)
async def test_a_password_cannot_be_used_in_queries(api: Api, query: str) -> None:
    assert (await api.get(f"/clients?{query}")).status == 400


async def test_clients_are_updated_replaced_and_deleted_like_any_item(api: Api) -> None:
    item = await create(api)
    path = f"/clients/{item['id']}"
    tag = (await api.get(path)).headers["ETag"]
    changed = await api.patch(path, {"active": False}, headers={"If-Match": tag})
    assert (changed.status, changed.json["active"]) == (200, False)
    assert (await api.patch(path, {"active": True}, headers={"If-Match": tag})).status == 412
    patch = [
        {"op": "add", "path": "/grants/-", "value": "contacts:POST"},
        {"op": "test", "path": "/username", "value": "ada"},
    ]
    assert (await api.patch(path, patch, headers=JSON_PATCH)).json["grants"] == ["contacts:GET", "contacts:POST"]
    replaced = await api.put(path, {"username": "lovelace", "password": OTHER})
    assert (replaced.json["grants"], replaced.json["active"], replaced.json["username"]) == ([], True, "lovelace")
    assert (await api.as_client("lovelace", OTHER).get("/")).status == 200
    assert (await api.get(path, headers={"If-None-Match": replaced.headers["ETag"]})).status == 304
    assert (await api.delete(path)).status == 204
    assert (await api.delete(path)).status == 404
    assert (await api.as_client("lovelace", OTHER).get("/")).status in (200, 401)


async def test_a_client_that_was_read_can_be_sent_back_and_keeps_its_password(api: Api) -> None:
    item = await create(api)
    tag = (await api.get(f"/clients/{item['id']}")).headers["ETag"]
    response = await api.put(f"/clients/{item['id']}", item)
    assert (response.status, response.json, response.headers["ETag"]) == (200, item, tag)
    assert (await api.as_client("ada", SECRET).get("/contacts")).status == 200


async def test_clients_are_created_atomically(api: Api) -> None:
    response = await api.post("/clients", [{**ADA, "username": name} for name in ("a", "b", "c")])
    assert [item["username"] for item in response.json["items"]] == ["a", "b", "c"]
    assert (await api.as_client("b", SECRET).get("/contacts")).status == 200
    response = await api.post("/clients", [{**ADA, "username": name} for name in ("d", "a", "e")])
    assert (response.status, response.errors) == (409, [(CONFLICT, "/1/username")])
    assert (await api.get("/clients?username__in=d,e&count=exact")).json["total"] == 0


async def test_a_retry_creates_one_client_and_stores_no_password(api: Api) -> None:
    headers = {"Idempotency-Key": "k"}
    first, again = await api.post("/clients", ADA, headers=headers), await api.post("/clients", ADA, headers=headers)
    assert (first.status, again.status, again.body) == (201, 201, first.body)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (await api.post("/clients", {**ADA, "password": OTHER}, headers=headers)).status == 422
    rows = await api.service.database.write.fetch(
        "SELECT i::text || convert_from(body, 'UTF8') AS row FROM pegboard.idempotency i"
    )
    assert len(rows) == 1
    assert SECRET not in rows[0]["row"]


async def test_no_table_contains_a_plain_text_password(api: Api) -> None:
    item = await create(api)
    await api.patch(f"/clients/{item['id']}", {"password": OTHER})
    database = api.service.database.write
    tables = await database.fetch(
        "SELECT format('%I.%I', table_schema, table_name) AS name FROM information_schema.tables "
        "WHERE table_schema IN ('pegboard', 'contacts')"
    )
    assert len(tables) >= 4
    for table in tables:
        rows = await database.fetch(f"SELECT t::text AS row FROM {table['name']} t")
        assert not any(SECRET in row["row"] or OTHER in row["row"] for row in rows)


# Validation.


@pytest.mark.parametrize(
    ("fields", "errors"),
    [
        ({"grants": ["contacts:GET", "nonsense", "*:*", "*:archive"]}, [(11000, "/grants/1"), (11000, "/grants/3")]),
        ({"grants": ["contacts:HEAD"]}, [(11000, "/grants/0")]),
        ({"grants": ["contacts:OPTIONS"]}, [(11000, "/grants/0")]),
        ({"grants": [7]}, [(11004, "/grants/0")]),
        ({"grants": "*:*"}, [(11004, "/grants")]),
        ({"grants": None}, [(11003, "/grants")]),
        ({"grants": ["contacts:\0"]}, [(11013, "/grants/0")]),
        ({"username": ""}, [(11005, "/username")]),
        ({"username": "x" * 201}, [(11006, "/username")]),
        ({"username": "a:b"}, [(11013, "/username")]),
        ({"username": "a\nb"}, [(11013, "/username")]),
        ({"username": "a\0b"}, [(11013, "/username")]),
        ({"username": 7}, [(11004, "/username")]),
        ({"username": None}, [(11003, "/username")]),
        ({"password": "short"}, [(11005, "/password")]),
        ({"password": "x" * 1025}, [(11006, "/password")]),
        ({"password": "x" * 100_000}, [(11006, "/password")]),
        ({"password": "e\u0301" * 7}, [(11005, "/password")]),
        ({"password": "secret\nsecret"}, [(11013, "/password")]),
        ({"password": None}, [(11003, "/password")]),
        ({"password": 12345678}, [(11004, "/password")]),
        ({"active": "true"}, [(11004, "/active")]),
        ({"active": None}, [(11003, "/active")]),
        ({"role": "boss"}, [(11002, "/role")]),
        ({"username": "a:b", "password": "x", "grants": ["x"]}, [(11013, "/username"), (11005, "/password"), (11000, "/grants/0")]),
    ],
)  # fmt: skip
async def test_validation_errors_of_a_client_have_pointers(
    api: Api, fields: dict[str, Any], errors: list[tuple[int, str]]
) -> None:
    response = await api.post("/clients", {**ADA, **fields})
    assert (response.status, response.errors) == (422, errors)
    item = await create(api)
    assert (await api.put(f"/clients/{item['id']}", {**ADA, **fields})).errors == errors
    resettable = {name for name, value in fields.items() if value is None and name in ("grants", "active")}
    if not resettable:
        assert (await api.patch(f"/clients/{item['id']}", fields)).errors == errors


async def test_a_client_requires_a_name_and_a_password(api: Api) -> None:
    assert (await api.post("/clients", {})).errors == [(11001, "/username"), (11001, "/password")]


async def test_grants_for_unknown_resources_are_kept_and_duplicates_removed(api: Api) -> None:
    grants = ["not_there:archive", "contacts:any", "not_there:archive"]
    assert (await create(api, grants=grants))["grants"] == ["not_there:archive", "contacts:any"]


@pytest.mark.parametrize("verb", ["POST", "PUT", "PATCH"])
async def test_user_names_are_unique(api: Api, verb: str) -> None:
    item = await create(api)
    path = "/clients" if verb == "POST" else f"/clients/{item['id']}"
    body = {"username": "admin"} if verb == "PATCH" else {**ADA, "username": "admin"}
    response = await api.request(verb, path, body)
    assert (response.status, response.errors) == (409, [(CONFLICT, "/username")])
    assert b"admin" not in response.body


async def test_passwords_are_measured_and_compared_in_composed_form(api: Api) -> None:
    await create(api, password="e\u0301" * 8)
    assert (await api.as_client("ada", "\u00e9" * 8).get("/clients/me")).status == 200
    assert (await api.as_client("ada", "e\u0301" * 8).get("/clients/me")).status == 200


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"x"', b"[[]]", b"[1]", b'{"username": "\xff"}', b'{"password": "\\ud800xxxxxxxxx"}']
)
async def test_a_malformed_body_is_a_standard_error(api: Api, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    for verb, path in (("POST", "/clients"), ("PATCH", "/clients/me")):
        response = await api.request(verb, path, data=body, headers=headers)
        assert response.status in (400, 422)
        assert response.errors


# The client itself.


async def test_every_client_can_read_itself(api: Api) -> None:
    item = await create(api, grants=[])
    ada = api.as_client("ada", SECRET)
    response = await ada.get("/clients/me")
    assert (response.status, response.json) == (200, item)
    assert response.headers["ETag"] == (await api.get(f"/clients/{item['id']}")).headers["ETag"]
    head = await ada.head("/clients/me")
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", str(len(response.body)))
    assert (await ada.get("/clients/me", headers={"If-None-Match": response.headers["ETag"]})).status == 304
    assert (await ada.get("/clients/me?fields=username")).json == {"id": item["id"], "username": "ada"}
    assert (await ada.get("/clients/me?limit=1")).status == 400
    assert (await api.as_client("", "").get("/clients/me")).status == 401
    for method, path in (("GET", f"/clients/{item['id']}"), ("GET", "/clients"), ("PATCH", f"/clients/{item['id']}")):
        assert (await ada.request(method, path, {"password": OTHER} if method == "PATCH" else None)).status == 403


async def test_options_of_the_own_client_lists_the_methods(api: Api) -> None:
    await create(api, grants=[])
    ada = api.as_client("ada", SECRET)
    response = await ada.request("OPTIONS", "/clients/me")
    assert (response.status, response.headers["Allow"]) == (204, "GET, HEAD, PATCH, OPTIONS")
    assert "json-patch" in response.headers["Accept-Patch"]
    for method in ("PUT", "DELETE", "POST"):
        response = await ada.request(method, "/clients/me", ADA)
        assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD, PATCH, OPTIONS")
    assert (await ada.get("/clients/me/")).headers["Location"] == "/clients/me"
    assert (await ada.get("/contacts/me")).status == 404


@pytest.mark.parametrize(
    ("patch", "headers"),
    [
        ({"password": OTHER}, {}),
        ({"password": OTHER}, {"Content-Type": "application/merge-patch+json"}),
        (
            [{"op": "test", "path": "/username", "value": "ada"}, {"op": "add", "path": "/password", "value": OTHER}],
            JSON_PATCH,
        ),
    ],
)
async def test_every_client_can_change_its_own_password(api: Api, patch: Any, headers: dict[str, str]) -> None:
    item = await create(api, grants=[])
    ada = api.as_client("ada", SECRET)
    response = await ada.patch("/clients/me", patch, headers=headers)
    assert (response.status, response.json["id"]) == (200, item["id"])
    assert (await api.as_client("ada", OTHER).get("/clients/me")).status == 200

    async def is_rejected() -> bool:
        return (await ada.get("/clients/me")).status == 401

    await wait_until(is_rejected)


@pytest.mark.parametrize(
    ("patch", "pointers"),
    [
        ({"grants": ["*:*"]}, ["/grants"]),
        ({"grants": []}, ["/grants"]),
        ({"grants": "nonsense"}, ["/grants"]),
        ({"active": True}, ["/active"]),
        ({"username": "boss", "active": False, "password": OTHER}, ["/username", "/active"]),
        ({"id": "x"}, ["/id"]),
        ({"nonsense": 1}, ["/nonsense"]),
        ({"a/b": 1}, ["/a~1b"]),
        ([{"op": "add", "path": "/grants/-", "value": "*:*"}], ["/0"]),
        ([{"op": "replace", "path": "", "value": ADA}], ["/0"]),
        ([{"op": "move", "from": "/grants", "path": "/password"}], ["/0"]),
        ([{"op": "add", "path": "/password", "value": OTHER}, {"op": "remove", "path": "/active"}], ["/1"]),
        ([{"op": "copy", "from": "/password", "path": "/username"}], ["/0"]),
    ],
)
@pytest.mark.parametrize("who", ["ada", "admin"])
async def test_a_client_can_change_nothing_else_of_itself(api: Api, who: str, patch: Any, pointers: list[str]) -> None:
    await create(api, grants=["clients:*", "*:PATCH"])
    client = api.as_client("ada", SECRET) if who == "ada" else api
    before = (await client.get("/clients/me")).json
    response = await client.patch("/clients/me", patch, headers=JSON_PATCH if isinstance(patch, list) else {})
    assert (response.status, response.errors) == (403, [(NOT_ALLOWED, pointer) for pointer in pointers])
    assert (await client.get("/clients/me")).json == before


async def test_the_own_new_password_is_validated(api: Api) -> None:
    await create(api, grants=[])
    ada = api.as_client("ada", SECRET)
    assert (await ada.patch("/clients/me", {"password": "short"})).errors == [(11005, "/password")]
    assert (await ada.patch("/clients/me", {"password": None})).errors == [(11003, "/password")]
    assert (await ada.patch("/clients/me", {"password": OTHER}, headers={"If-Match": '"0"'})).status == 412
    assert (await ada.patch("/clients/me", {})).status == 200


# Granting.


@pytest.mark.parametrize(
    ("held", "grants", "status"),
    [
        (["contacts:GET"], ["contacts:GET"], 201),
        (["contacts:*"], ["contacts:GET", "contacts:any", "contacts:*"], 201),
        (["*:GET"], ["contacts:GET", "*:GET", "not_there:GET"], 201),
        ([], ["clients:*", "clients:PATCH"], 201),
        ([], [], 201),
        ([], ["contacts:GET"], 403),
        (["contacts:GET"], ["contacts:*"], 403),
        (["contacts:GET"], ["*:GET"], 403),
        (["*:GET", "*:POST", "*:PUT", "*:PATCH", "*:DELETE"], ["*:*"], 403),
        (["*:GET"], ["contacts:any"], 403),
        (["*:GET"], ["contacts:archive"], 403),
    ],
)
async def test_clients_cannot_grant_what_they_do_not_hold(
    api: Api, held: list[str], grants: list[str], status: int
) -> None:
    boss = await manager(api, *held)
    response = await boss.post("/clients", {**ADA, "grants": ["clients:GET", *grants]})
    assert response.status == status
    ada = await create(api, username="bob", grants=[])
    path = f"/clients/{ada['id']}"
    for changed in (
        await boss.patch(path, {"grants": grants}),
        await boss.put(path, {**ADA, "username": "bob", "grants": grants}),
        await boss.patch(path, [{"op": "replace", "path": "/grants", "value": grants}], headers=JSON_PATCH),
    ):
        assert changed.status == (200 if status == 201 else 403)
    if status == 403:
        assert response.errors == [(NOT_ALLOWED, "/grants/1")]
        assert changed.errors == [(NOT_ALLOWED, "/grants/0")]
        assert (
            await boss.post("/clients", [ADA | {"grants": []}, {**ADA, "username": "c", "grants": grants}])
        ).errors == [(NOT_ALLOWED, "/1/grants/0")]
        assert (await api.get("/clients?username=ada&count=exact")).json["total"] == 0


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("PATCH", {"password": OTHER}),
        ("PATCH", {"grants": []}),
        ("PATCH", {"active": True}),
        ("PATCH", {"username": "x"}),
        ("PATCH", {}),
        ("PUT", {"username": "x", "password": OTHER}),
        ("DELETE", None),
    ],
)
@pytest.mark.parametrize("tag", [None, "*"])
async def test_clients_cannot_change_a_client_with_more_grants(api: Api, verb: str, body: Any, tag: str | None) -> None:
    boss = await manager(api, "*:GET", "*:POST", "*:PUT", "*:PATCH", "*:DELETE")
    await create(api, username="second", grants=["*:*"])
    headers = {"If-Match": tag} if tag else {}
    for victim in ({"grants": ["*:*"]}, {"grants": ["contacts:any"], "active": False}):
        item = await create(api, **victim)
        response = await boss.request(verb, f"/clients/{item['id']}", body, headers=headers)
        assert (response.status, response.errors) == (403, [(NOT_ALLOWED, None)])
        assert (await api.get(f"/clients/{item['id']}")).json == item
        assert (await api.delete(f"/clients/{item['id']}")).status == 204
    assert (await boss.request(verb, f"/clients/{item['id']}", body, headers=headers)).status == 404


async def test_clients_can_change_and_delete_clients_with_no_more_grants(api: Api) -> None:
    boss = await manager(api, "contacts:*")
    path = f"/clients/{(await create(api, grants=['contacts:any', 'clients:PUT']))['id']}"
    assert (await boss.patch(path, {"password": OTHER, "active": False})).status == 200
    assert (await boss.delete(path)).status == 204


async def test_clients_can_reduce_their_own_grants_but_not_extend_them(api: Api) -> None:
    boss = await manager(api, "contacts:GET")
    path = f"/clients/{(await boss.get('/clients/me')).json['id']}"
    assert (await boss.patch(path, {"grants": ["*:*"]})).errors == [(NOT_ALLOWED, "/grants/0")]
    assert (await boss.patch(path, {"grants": ["clients:PATCH", "clients:GET"]})).status == 200
    assert (await boss.patch(path, {"grants": ["clients:*"]})).status == 403


async def test_revoked_grants_cannot_be_passed_on_while_still_cached(api: Api) -> None:
    boss = await manager(api, "*:*")
    own = (await boss.get("/clients/me")).json["id"]
    # No worker is notified, as with a pooler in transaction mode.
    async with api.service.database.write.transaction() as connection:
        await connection.execute("ALTER TABLE pegboard.client DISABLE TRIGGER tell_of_client")
        await connection.execute("UPDATE pegboard.client SET grants = '{clients:*}' WHERE username = 'manager'")
        await connection.execute("ALTER TABLE pegboard.client ENABLE TRIGGER tell_of_client")
    assert (await boss.get("/contacts")).status == 200
    assert (await boss.post("/clients", {**ADA, "grants": ["*:*"]})).status == 403
    assert (await boss.patch(f"/clients/{own}", {"grants": ["*:*"]})).status == 403
    await api.service.database.write.execute("DELETE FROM pegboard.client WHERE username = 'manager'")


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("PATCH", {"active": False}),
        ("PATCH", {"grants": ["*:GET"]}),
        ("PUT", {"username": "admin"}),
        ("DELETE", None),
    ],
)
async def test_the_last_administrator_cannot_be_removed(api: Api, verb: str, body: Any) -> None:
    await create(api, grants=["*:*"], active=False)
    path = f"/clients/{(await api.get('/clients/me')).json['id']}"
    response = await api.request(verb, path, body)
    assert (response.status, response.errors) == (409, [(CONFLICT, None)])
    assert response.json["errors"][0]["message"] == LAST
    assert (await api.get("/clients/me")).json["grants"] == ["*:*"]


async def test_one_of_two_administrators_that_delete_each_other_remains(api: Api) -> None:
    for number in range(5):
        # New names each time: a deleted client may be cached for a second.
        bob = await create(api, username=f"bob {number}", grants=["*:*"])
        ada = await create(api, username=f"ada {number}", grants=["*:*"])
        await api.service.database.write.execute("UPDATE pegboard.client SET active = false WHERE username = 'admin'")
        ways = (
            (api.as_client(bob["username"], SECRET), ada),
            (api.as_client(ada["username"], SECRET), bob),
        )
        responses = await asyncio.gather(*(who.delete(f"/clients/{whom['id']}") for who, whom in ways))
        assert sorted(response.status for response in responses)[0] == 204
        assert {response.status for response in responses} <= {204, 409, 403, 401}
        left = await api.service.database.write.fetchval(
            "SELECT count(*) FROM pegboard.client WHERE active AND '*:*' = ANY (grants)"
        )
        assert left == 1
        await api.service.database.write.execute("UPDATE pegboard.client SET active = true WHERE username = 'admin'")
        await api.service.database.write.execute("DELETE FROM pegboard.client WHERE username <> 'admin'")


# How soon a change applies, also in another worker.


@pytest.fixture(scope="module")
async def other_worker(serve: Serve, running: Api) -> Api:
    return await serve()


CHANGES: dict[str, tuple[str, Any, int]] = {
    "password": ("PATCH", {"password": OTHER}, 401),
    "grants": ("PATCH", {"grants": ["clients:GET"]}, 403),
    "active": ("PATCH", {"active": False}, 401),
    "removal": ("DELETE", None, 401),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_a_change_applies_in_every_worker_within_a_second(
    api: Api, other_worker: Api, change: tuple[str, Any, int]
) -> None:
    verb, body, status = change
    item = await create(api)
    workers = [worker.as_client("ada", SECRET) for worker in (api, other_worker)]
    for worker in workers:
        assert (await worker.get("/contacts")).status == 200
    assert (await api.request(verb, f"/clients/{item['id']}", body)).status in (200, 204)

    # Each worker is asked until it rejects the client, and then no more: further failures would be throttled.
    await asyncio.gather(*(wait_until(functools.partial(responds_with, worker, status)) for worker in workers))
    if "password" in (body or {}):
        assert (await other_worker.as_client("ada", OTHER).get("/contacts")).status == 200


async def test_a_password_changed_while_being_checked_is_not_cached(api: Api, other_worker: Api) -> None:
    for _ in range(5):
        item = await create(api)
        checks = [asyncio.create_task(other_worker.as_client("ada", SECRET).get("/contacts")) for _ in range(3)]
        await asyncio.sleep(0.005)
        assert (await api.patch(f"/clients/{item['id']}", {"password": OTHER})).status == 200
        assert {(await check).status for check in checks} <= {200, 401}

        async def is_rejected() -> bool:
            return (await other_worker.as_client("ada", SECRET).get("/contacts")).status == 401

        await wait_until(is_rejected)
        await api.delete(f"/clients/{item['id']}")


# Logging.


async def test_every_change_is_logged_with_its_author(api: Api, recorded: Recorded) -> None:
    recorded.log.clear()
    item = await create(api)
    path = f"/clients/{item['id']}"
    await api.patch(path, {"password": OTHER, "active": True}, headers={"X-Request-Id": "r-1"})
    await api.put(path, {**ADA, "username": "a\u202eb"})
    await api.patch("/clients/me", {})
    await api.delete(path)
    await api.post("/clients", [{**ADA, "username": "x"}, {**ADA, "username": "x"}])
    await api.post("/clients", ADA, headers={"Idempotency-Key": "log"})
    await api.post("/clients", ADA, headers={"Idempotency-Key": "log"})
    lines = [record.getMessage() for record in recorded.log.records if record.name == "pegboard.clients"]
    plain = [re.sub(r"request=\S+", "request=...", line) for line in lines]
    assert plain == [
        "client added: user='ada' by='admin' request=...",
        "client password, active set: user='ada' by='admin' request=...",
        "client replaced: user='a\\u202eb' by='admin' request=...",
        "client removed: user='a\\u202eb' by='admin' request=...",
        "client added: user='ada' by='admin' request=...",
    ]
    assert lines[1].endswith("request=r-1")


async def test_the_catalogue_and_the_error_codes_contain_no_secret(api: Api) -> None:
    catalogue = (await api.get("/")).json
    assert {"name": "clients", "path": "/clients"}.items() <= {
        key: value for entry in catalogue["resources"] if entry["name"] == "clients" for key, value in entry.items()
    }.items()
    assert orjson.dumps((await api.get("/plugins")).json)
