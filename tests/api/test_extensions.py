"""Extension points for plugins: passwords, the client's own item, error codes, conflicts, existing tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from pegboard import ApiError, Client, Context, Schema, TableResource, errors
from pegboard.auth.passwords import Cost, Passwords
from pegboard.hosting.checks.declaration import problem
from pegboard.schema import fields
from tests.conftest import Api, Serve, plugin

SECRET = "a password"
ALL = "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"


class Odd(ApiError, number=7, status=422, message="An even number, please."): ...


class Taken(ApiError, number=8, status=409, message="The room is taken."): ...


def even(value: int) -> None:
    if value % 2:
        raise Odd(f"{value} is odd.")


class Door(Schema):
    code = fields.Password(allow_none=True)
    hint = fields.String(load_only=True, load_default="none")
    number = fields.Integer(load_default=0, validate=even)


class Doors(TableResource):
    """Doors that open with a code."""

    schema = Door
    verbs = ALL
    creates_by_put = True
    error_codes = (Odd,)


class Booking(Schema):
    room = fields.String(required=True)


class Bookings(TableResource):
    """Bookings in an existing table."""

    schema = Booking
    verbs = ALL
    table = "hotel.booking"
    constraint_errors: ClassVar[Mapping[str, type[ApiError]]] = {"one_at_a_time": Taken}
    error_codes = (Taken,)


class Profile(Schema):
    motto = fields.String(allow_none=True)
    rank = fields.String(allow_none=True)


class Profiles(TableResource):
    """Profiles, one for each client under a known id."""

    schema = Profile
    verbs = ALL
    creates_by_put = True
    me = "GET", "PATCH"

    def get_own_id(self, client: Client) -> str:
        return client.id[:-1] + "0"


class Announcements(TableResource):
    """Bookings with an after-commit callback."""

    schema = Booking
    verbs = ALL
    announced: list[str] = []

    async def create(self, context: Context, data: Mapping[str, Any]) -> dict[str, Any]:
        item = await super().create(context, data)
        context.after_commit(lambda: self.announced.append(item["room"]))
        if data["room"] == "bad":
            raise errors.Conflict
        return item


HOTEL = """
CREATE SCHEMA hotel;
CREATE TABLE hotel.booking (
    id uuid PRIMARY KEY, room text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL, "_version" bigint NOT NULL,
    CONSTRAINT one_at_a_time EXCLUDE USING btree (room WITH =)
)"""


@pytest.fixture(scope="module")
async def api(serve: Serve) -> Api:
    resources = {"doors": Doors, "bookings": Bookings, "profiles": Profiles, "announced": Announcements}
    # The table of another program exists before the service starts.
    first = await serve([])
    await first.service.database.write.execute(HOTEL)
    return await serve([plugin(name, resource) for name, resource in resources.items()])


async def stored_door(api: Api, id: str) -> Any:
    return await api.service.database.write.fetchrow("SELECT * FROM doors.doors WHERE id = $1", id)


async def test_a_password_field_is_stored_as_a_hash_and_never_returned(api: Api) -> None:
    passwords = Passwords(Cost())
    headers = {"Idempotency-Key": "door"}
    items = [
        (await api.post("/doors", {"code": SECRET})).json,
        (await api.post("/doors", {"code": SECRET}, headers=headers)).json,
        *(await api.post("/doors", [{"code": SECRET}, {"code": SECRET}])).json["items"],
    ]
    for item in items:
        assert list(item) == ["id", "number", "created_at", "updated_at"]
        assert await passwords.verify((await stored_door(api, item["id"]))["code"], SECRET.encode())
    path = f"/doors/{items[0]['id']}"
    assert (await api.patch(path, {"code": "another one"})).status == 200
    assert await passwords.verify((await stored_door(api, items[0]["id"]))["code"], b"another one")
    assert (await api.patch(path, {"code": None})).status == 200
    assert (await stored_door(api, items[0]["id"]))["code"] is None


async def test_put_leaves_omitted_write_only_fields_unchanged(api: Api) -> None:
    item = (await api.post("/doors", {"code": SECRET, "hint": "h", "number": 2})).json
    before = await stored_door(api, item["id"])
    assert (await api.put(f"/doors/{item['id']}", {})).json["number"] == 0
    after = await stored_door(api, item["id"])
    assert (after["code"], after["hint"]) == (before["code"], "h")
    assert (await api.put(f"/doors/{item['id']}", {"hint": "i"})).status == 200
    assert (await stored_door(api, item["id"]))["hint"] == "i"
    new = "018cc251-f400-7000-8000-000000000001"
    assert (await api.put(f"/doors/{new}", {})).status == 201
    assert (await stored_door(api, new))["hint"] == "none"


async def test_a_validator_can_set_the_error_code(api: Api) -> None:
    response = await api.post("/doors", {"number": 7, "code": "short"})
    assert (response.status, response.errors) == (422, [(11005, "/code"), (20007, "/number")])
    assert response.json["errors"][1]["message"] == "7 is odd."


async def test_an_existing_table_is_served_unchanged(api: Api) -> None:
    assert (await api.post("/bookings", {"room": "1"})).status == 201
    response = await api.post("/bookings", {"room": "1"})
    assert (response.status, response.errors) == (409, [(20008, None)])
    assert response.json["errors"][0]["message"] == "The room is taken."
    assert (await api.get("/bookings?room=1&count=exact")).json["total"] == 1
    plugins = {item["name"]: item for item in (await api.get("/plugins")).json["items"]}
    assert plugins["bookings"]["migrations"] == []


async def test_the_clients_own_item_has_the_path_me(api: Api) -> None:
    ada = await api.service.clients.add("ada", SECRET)
    own = api.as_client("ada", SECRET)
    assert (await own.get("/profiles/me")).status == 404
    path = f"/profiles/{ada.id[:-1]}0"
    assert (await api.put(path, {"motto": "Think"})).status == 201
    assert (await own.get("/profiles/me")).json["motto"] == "Think"
    assert (await own.patch("/profiles/me", {"motto": "More", "rank": "countess"})).json["rank"] == "countess"
    assert (await own.head("/profiles/me")).status == 405
    assert (await own.get(path)).status == 403


@pytest.mark.parametrize("me", [("PUT",), ("DELETE",), ("POST",), ("HEAD",)])
def test_invalid_methods_of_the_clients_own_item_are_rejected(me: tuple[str, ...]) -> None:
    error = problem(type("Wrong", (Profiles,), {"me": me, "verbs": ("GET", "PUT", "DELETE", "POST", "PATCH")}))
    assert error is not None
    assert me[0] in error


async def test_after_commit_callbacks_run_only_after_a_commit(api: Api) -> None:
    assert (await api.post("/announced", {"room": "alone"})).status == 201
    assert (await api.post("/announced", [{"room": "a"}, {"room": "bad"}])).status == 409
    assert (await api.post("/announced", [{"room": "b"}, {"room": "c"}])).status == 201
    headers = {"Idempotency-Key": "once"}
    assert (await api.post("/announced", {"room": "keyed"}, headers=headers)).status == 201
    assert (await api.post("/announced", {"room": "keyed"}, headers=headers)).status == 201
    assert (await api.post("/announced", {"room": "bad"}, headers={"Idempotency-Key": "bad"})).status == 409
    assert Announcements.announced == ["alone", "b", "c", "keyed"]


def test_a_client_holds_matching_grants() -> None:
    client = Client("0", "x", frozenset({"contacts:GET", "notes:*", "*:POST"}))
    for grant in ("contacts:GET", "notes:any", "notes:*", "other:POST", "*:POST"):
        assert client.holds(grant)
    for grant in ("contacts:*", "contacts:any", "*:GET", "*:*", "other:GET"):
        assert not client.holds(grant)
    assert replace(client, grants=frozenset({"*:*"})).holds("*:*")
