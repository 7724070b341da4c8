"""The conformance suite: resources that fulfil the contract pass, deliberately broken ones fail."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any
from uuid import uuid4

import asyncpg
import hypothesis
import pytest
from hypothesis import strategies as st

from pegboard import (
    Content,
    ContentResource,
    Context,
    ExistingTable,
    Page,
    Resource,
    Schema,
    TableResource,
    Unique,
    ValidationError,
    errors,
    fields,
    operation,
    validate,
    validates_schema,
)
from pegboard.testing import Client, Conformance, Running
from pegboard.testing.conformance import CHECKS, examine
from pegboard.testing.openapi import Undescribed
from pegboard.testing.service import Loop, settings_for
from pegboard.testing.subject import ContractViolation, Subject
from tests.conftest import plugin

ALL = "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"


class TestContacts(Conformance):
    resource = "contacts"
    effort = 0.3


class TestContactsOfACompany(Conformance):
    """Items that need an item of another resource."""

    resource = "contacts"
    effort = 0.1

    async def example(self, client: Client) -> dict[str, Any]:
        company = await client.post("/companies", {"name": "Acme"})
        return {"name": "Ada", "email": f"{uuid4()}@example.org", "company": company.json["id"]}


class TestContactsOfOneCompany(Conformance):
    resource = "contacts"
    effort = 0.1

    async def examples(self, client: Client) -> st.SearchStrategy[dict[str, Any]]:
        company = await client.post("/companies", {"name": "Acme"})
        generated = await super().examples(client)
        return generated.map(lambda body: {**body, "company": company.json["id"]})


class TestClients(Conformance):
    resource = "clients"
    normalized = ("grants",)
    effort = 0.3


# Conforming, each with some peculiarity


class Kind(enum.Enum):
    ONE = "one"
    TWO = "two"


class Size(Schema):
    height = fields.Float(required=True, validate=validate.Range(0, 10, min_inclusive=False))
    label = fields.String(allow_none=True)


class Odd(Schema):
    """One of everything."""

    name = fields.String(required=True, data_key="the name", validate=validate.Length(1, 20))
    kind = fields.String(validate=validate.OneOf(["one", "two"]), load_default="one")
    code = fields.String(allow_none=True, validate=validate.Regexp(r"[A-Z]{2}-\d{1,3}\Z"))
    size = fields.Nested(Size, allow_none=True)
    more = fields.Dict(keys=fields.String(), values=fields.Integer(), load_default=dict)
    anything = fields.Raw(allow_none=True)
    holes = fields.Dict(load_default=lambda: {"list": [None], "inner": {"gone": None}})
    price = fields.Decimal(places=2, allow_none=True)
    weight = fields.Float(allow_none=True)
    open = fields.Boolean(load_default=False)
    at = fields.Time(allow_none=True)
    since = fields.DateTime(allow_none=True)
    day = fields.Date(allow_none=True)
    mark = fields.UUID(allow_none=True)
    site = fields.Url(allow_none=True)
    numbers = fields.List(fields.Integer(), load_default=list, validate=validate.Length(max=3))
    secret = fields.Password(allow_none=True)
    shout = fields.Function(lambda item: str(item["name"]).upper())


class Odds(TableResource):
    schema = Odd
    verbs = ALL
    creates_by_put = True
    public = ("GET", "HEAD")


class Pay(Schema):
    by = fields.String(required=True, validate=validate.Length(1, 20))
    cents = fields.Integer(load_default=1, validate=validate.Range(1, 1000))


class Bill(Schema):
    title = fields.String(required=True, validate=validate.Length(max=20))
    paid_by = fields.String(dump_only=True)
    media_type = fields.String(dump_only=True)
    size = fields.Integer(dump_only=True)
    sha256 = fields.String(dump_only=True)


class Bills(ContentResource):
    """Content, and operations of every kind."""

    schema = Bill
    verbs = "GET", "POST", "DELETE"
    content = Content(max_size=1000)
    needs_match = True

    @operation(request=Pay)
    async def pay(self, context: Context, id: str, data: Mapping[str, Any]) -> Any:
        if (await self.retrieve(context, id))["paid_by"]:
            raise errors.Conflict("It is paid.")
        return await self.update(context, id, {"paid_by": data["by"]})

    @operation(response=None)
    async def shred(self, context: Context, id: str, data: Mapping[str, Any]) -> None:
        await self.delete(context, id)

    @operation(on="collection", response=Pay)
    async def last(self, context: Context, data: Mapping[str, Any]) -> Any:
        return {"by": "nobody", "cents": 5}


class Plane(Schema):
    model = fields.String(required=True, validate=validate.Length(1, 40))
    seats = fields.Integer(allow_none=True, validate=validate.Range(1, 1000))


class Planes(TableResource):
    """An existing table with numeric ids."""

    schema = Plane
    verbs = "GET", "POST", "PUT", "PATCH", "DELETE"
    table = ExistingTable(
        "hangar.planes", key="plane_no", key_type="bigint", without=("created_at", "updated_at", "_version")
    )

    @operation
    async def strip(self, context: Context, id: str, data: Mapping[str, Any]) -> Any:
        return await self.update(context, id, {"seats": None})


class Person(Schema):
    name = fields.String(required=True, validate=validate.Length(max=20))
    boss = fields.Reference("people", allow_none=True)
    odd = fields.Reference("odds", required=True)
    born = fields.Date(allow_none=True)
    died = fields.Date(allow_none=True)

    @validates_schema
    def check_life(self, data: dict[str, Any], **_: Any) -> None:
        if data.get("born") and data.get("died") and data["died"] < data["born"]:
            raise ValidationError("Dies before being born.", "died")


class People(TableResource):
    schema = Person
    verbs = ALL
    needs_match = True
    owned = True
    unique = (Unique("name"),)


class Planet(Schema):
    moons = fields.Integer()


class Planets(Resource):
    """Read-only items in memory, with custom ids."""

    schema = Planet
    verbs = "GET", "HEAD"
    moons = {"mercury": 0, "venus": 0, "earth": 1, "mars": 2, "jupiter": 97}

    def parse_id(self, text: str) -> str | None:
        return text if text.isalpha() else None

    async def list(self, context: Context) -> Any:
        return [{"id": name, "moons": moons} for name, moons in self.moons.items()]

    async def retrieve(self, context: Context, id: str) -> Any:
        if id not in self.moons:
            raise errors.NotFound
        return {"id": id, "moons": self.moons[id]}


class Shelf(Schema):
    code = fields.String(required=True, validate=lambda code: code == f"shelf {len(code)}")


class Shelves(TableResource):
    """Items that cannot be generated."""

    schema = Shelf


class Box(Schema):
    shelf = fields.Reference("shelves", required=True)


class Boxes(TableResource):
    schema = Box


class Letter(Schema):
    text = fields.String(required=True)


class Letterbox(Resource):
    """Write-only items."""

    schema = Letter
    verbs = ("POST",)

    async def create(self, context: Context, data: Mapping[str, Any]) -> Any:
        return {"id": str(uuid4()), **data}


class Note(Schema):
    text = fields.String(required=True, validate=validate.Length(max=50))
    stars = fields.Integer(allow_none=True)
    tags = fields.List(fields.String(), load_default=list)


class Notes(Resource):
    """All methods, in memory."""

    schema = Note
    verbs = ALL

    def __init__(self, *about: Any) -> None:
        super().__init__(*about)
        self.items: dict[str, dict[str, Any]] = {}

    async def list(self, context: Context) -> Any:
        return [*self.items.values()]

    async def retrieve(self, context: Context, id: str) -> Any:
        if id not in self.items:
            raise errors.NotFound
        return self.items[id]

    async def create(self, context: Context, data: Mapping[str, Any]) -> Any:
        item = {"id": str(uuid4()), "stars": None, **data}
        self.items[item["id"]] = item
        return item

    async def replace(self, context: Context, id: str, data: Mapping[str, Any]) -> Any:
        await self.retrieve(context, id)
        self.items[id] = {"id": id, "stars": None, **data}
        return self.items[id]

    async def update(self, context: Context, id: str, data: Mapping[str, Any]) -> Any:
        self.items[id] = {**await self.retrieve(context, id), **data}
        return self.items[id]

    async def delete(self, context: Context, id: str) -> None:
        await self.retrieve(context, id)
        del self.items[id]


OF_EXAMPLES: dict[str, type[Resource]] = {"shelves": Shelves, "boxes": Boxes}
CONFORMING: dict[str, type[Resource]] = {
    "odds": Odds,
    "people": People,
    "bills": Bills,
    "planes": Planes,
    "planets": Planets,
    "letterbox": Letterbox,
    "notes": Notes,
}


# Broken, each in one respect


class Table(TableResource):
    schema = Note
    verbs = ALL


class Stamped(Note):
    seen = fields.Function(lambda item: "2015-02-15 05:21:07+00:00")


class DatesByHand(Table):
    schema = Stamped


class WrongTotal(Table):
    async def list(self, context: Context) -> Page:
        page = await super().list(context)
        return replace(page, total=None if page.total is None else page.total + 1)


class LostWrite(Notes):
    async def update(self, context: Context, id: str, data: Mapping[str, Any]) -> Any:
        return {**await self.retrieve(context, id), **data}


class LostField(Notes):
    async def create(self, context: Context, data: Mapping[str, Any]) -> Any:
        return await super().create(context, {**data, "tags": []})


class Trimming(Table):
    async def create(self, context: Context, data: Mapping[str, Any]) -> Any:
        return await super().create(context, {**data, "text": data["text"].strip()[:5]})


class Renaming(Notes):
    async def create(self, context: Context, data: Mapping[str, Any]) -> Any:
        return await super().create(context, {**data, "text": "shown"})


class BlindToTags(Notes):
    checks_version = True


class Merging(Notes):
    async def replace(self, context: Context, id: str, data: Mapping[str, Any]) -> Any:
        values = {name: value for name, value in data.items() if value not in (None, [])}
        return await self.update(context, id, values)


class Redefaulting(Notes):
    async def update(self, context: Context, id: str, data: Mapping[str, Any]) -> Any:
        return await super().update(context, id, {"tags": [], **data})


class Keeping(Notes):
    async def delete(self, context: Context, id: str) -> None:
        await self.retrieve(context, id)


class Forgetful(Table):
    async def list(self, context: Context) -> Page:
        page = await super().list(context)
        return replace(page, items=page.items[:-1]) if page.next else page


class Unsorted(Table):
    async def list(self, context: Context) -> Page:
        context.query = replace(context.query, sort=())
        return await super().list(context)


class Unfiltered(Table):
    async def list(self, context: Context) -> Page:
        context.query = replace(context.query, filters=())
        return await super().list(context)


class Surprised(Notes):
    async def retrieve(self, context: Context, id: str) -> Any:
        return self.items[id]


class Choosy(Note):
    text = fields.String(required=True, validate=lambda text: text[0] != "x")


class RaisingValidator(Table):
    schema = Choosy


class Boasting(Note):
    text = fields.String(required=True, metadata={"maxLength": 5})


class WrongDocument(Table):
    schema = Boasting


class Restless(Notes):
    async def retrieve(self, context: Context, id: str) -> Any:
        return {**await super().retrieve(context, id), "stars": uuid4().int % 2**40}


class HalfExport(Table):
    async def list(self, context: Context) -> Page:
        page = await super().list(context)
        # The batches of an export have this size.
        return replace(page, items=page.items[1:]) if context.query.limit == 250 else page


class ForgettingIds(Notes):
    async def update(self, context: Context, id: str, data: Mapping[str, Any]) -> Any:
        item = await super().update(context, id, data)
        return {**item, "id": str(uuid4())}


class OpenToAll(Notes):
    async def create(self, context: Context, data: Mapping[str, Any]) -> Any:
        raise errors.Forbidden


class Fragile(Table):
    @operation(request=Pay)
    async def stamp(self, context: Context, id: str, data: Mapping[str, Any]) -> Any:
        return await self.update(context, id, {"stars": 100 // (data["cents"] - 1)})


class Counting(Notes):
    @operation(on="collection", response=Pay)
    async def draw(self, context: Context, data: Mapping[str, Any]) -> Any:
        return {"by": 5, "cents": "many"}


class Deaf(Table):
    @operation(request=Pay)
    async def ring(self, context: Context, id: str, data: Mapping[str, Any]) -> Any:
        raise errors.MethodNotAllowed


BROKEN: dict[type[Resource], str] = {
    DatesByHand: "creates_an_item",
    LostField: "creates_an_item",
    Trimming: "creates_an_item",
    Renaming: "creates_an_item",
    RaisingValidator: "creates_an_item",
    OpenToAll: "creates_an_item",
    Merging: "replaces_all_fields",
    LostWrite: "patches_only_the_fields_sent",
    Redefaulting: "patches_only_the_fields_sent",
    ForgettingIds: "patches_only_the_fields_sent",
    BlindToTags: "refuses_a_stale_etag",
    Keeping: "deletes_an_item",
    WrongTotal: "pages_show_each_item_once",
    Forgetful: "pages_show_each_item_once",
    Unsorted: "sorts_by_every_field",
    Unfiltered: "filters_by_every_field",
    HalfExport: "exports_match_the_pages",
    Restless: "returns_304_for_a_current_etag",
    WrongDocument: "refuses_invalid_values",
    Surprised: "returns_404_for_an_unknown_id",
    Fragile: "operations_handle_any_input",
    Counting: "operations_handle_any_input",
    Deaf: "operations_run_once_per_key",
}
HANGAR = """
CREATE SCHEMA hangar CREATE TABLE planes (
    plane_no integer GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, model varchar(40) NOT NULL, seats smallint
)
"""
RULES = {str(check): check for check in CHECKS}


async def _build(database: str) -> None:
    connection = await asyncpg.connect(database)
    await connection.execute(HANGAR)
    await connection.close()


@pytest.fixture(scope="module")
def conformance_service(pegboard_database: str, pegboard_loop: Loop) -> Iterator[Running]:
    plugins = [plugin(name, resource) for name, resource in {**CONFORMING, **OF_EXAMPLES}.items()]
    plugins += [plugin(broken.__name__.lower(), broken) for broken in BROKEN]
    pegboard_loop.run(_build(pegboard_database))
    running = Running(pegboard_loop, settings_for(pegboard_database, {}), plugins)
    yield running
    running.close()


class TestBoxes(Conformance):
    """Items that refer to one that cannot be generated."""

    resource = "boxes"
    effort = 0.1

    @pytest.fixture
    def service(self, conformance_service: Running) -> Running:
        return conformance_service

    async def example(self, client: Client) -> dict[str, Any]:
        shelf = await client.post("/shelves", {"code": "shelf 7"})
        return {"shelf": shelf.json["id"]}


@pytest.mark.parametrize("name", CONFORMING)
def test_a_conforming_resource_passes(conformance_service: Running, name: str) -> None:
    skipped = []
    for check in CHECKS:
        try:
            examine(
                check,
                Subject(conformance_service, name),
                phases=[hypothesis.Phase.generate],
                max_examples=min(2, check.examples),
            )
        except pytest.skip.Exception:
            skipped.append(str(check))
    assert len(skipped) <= {"planets": 20, "letterbox": 23, "bills": 11}.get(name, 8), skipped


@pytest.mark.parametrize("name", ["example", "examples"])
def test_a_method_that_is_no_coroutine_is_reported(
    conformance_service: Running, pytestconfig: pytest.Config, name: str
) -> None:
    own = type("TestNotes", (Conformance,), {"resource": "notes", name: lambda self, client: {"text": "x"}})
    with pytest.raises(TypeError, match=rf"TestNotes.{name} is no coroutine: write `async def {name}\(self, client\)`"):
        own().test_contract(RULES["creates_an_item"], conformance_service, pytestconfig)


@pytest.mark.parametrize("broken", BROKEN)
def test_a_nonconforming_resource_fails(conformance_service: Running, broken: type[Resource]) -> None:
    rule = RULES[BROKEN[broken]]
    with pytest.raises((ContractViolation, Undescribed)) as caught:
        examine(
            rule,
            Subject(conformance_service, broken.__name__.lower()),
            phases=[hypothesis.Phase.generate],
            max_examples=60,
        )
    if isinstance(caught.value, ContractViolation):
        assert re.search(r": expected .*, got ", str(caught.value).splitlines()[0])


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (Renaming, "text of the item that was written: expected 'sent', got 'shown'"),
        (OpenToAll, "expected the status 201, got 403"),
    ],
)
def test_a_message_tells_the_expected_value_from_the_one_that_was_received(
    conformance_service: Running, broken: type[Resource], message: str
) -> None:
    subject = Subject(conformance_service, broken.__name__.lower())
    subject.bodies = st.just({"text": "sent"})
    with pytest.raises(ContractViolation) as caught:
        examine(RULES["creates_an_item"], subject, phases=[hypothesis.Phase.generate])
    assert str(caught.value).splitlines()[0] == f"{subject.name}: {message}"
