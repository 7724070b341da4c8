"""The conformance suite with values whose text, order or equality in PostgreSQL differs from that of their JSON."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any
from uuid import uuid4

import asyncpg
import hypothesis
import orjson
import pytest
from hypothesis import strategies as st

from pegboard import ExistingTable, Resource, Schema, TableResource, fields, rendering, validate
from pegboard.testing import Running
from pegboard.testing.conformance import CHECKS, examine
from pegboard.testing.service import Loop, settings_for
from pegboard.testing.subject import Subject
from tests.conftest import plugin

WITHOUT = "created_at", "updated_at", "_version"
VALUES = (
    *("creates_an_item", "creates_all_or_none", "creates_by_put", "replaces_all_fields"),
    *("patches_only_the_fields_sent", "accepts_an_item_as_it_was_read", "refuses_a_stale_etag"),
    *("pages_show_each_item_once", "sorts_by_every_field", "filters_by_every_field", "exports_match_the_pages"),
    *("expands_references", "returns_404_for_an_unknown_id"),
)
RULES = [check for check in CHECKS if str(check) in VALUES]

NUMBERS = (
    "-0",
    "0",
    "0.0",
    "-0.00",
    "0E+5",
    "1E+2",
    "100",
    "1e-2",
    "0.10",
    "0.1",
    "-0.1",
    "10",
    "9",
    "-9",
    "1.00",
    1.5,
)


class Price(Schema):
    price = fields.Decimal(required=True, places=2)
    least = fields.Decimal(load_default=Decimal("-0.0"))
    prices = fields.List(fields.Decimal(places=2), load_default=list)


class Prices(TableResource):
    schema = Price


class Cost(Schema):
    cost = fields.Decimal(required=True, places=2, metadata={"column_type": "numeric(10,2)"})


class Costs(TableResource):
    """Numbers that PostgreSQL shows with the scale of their column."""

    schema = Cost


class Weight(Schema):
    grams = fields.Decimal(required=True, places=2)


class Weights(Resource):
    """Numbers in memory."""

    schema = Weight
    verbs = "GET", "POST", "DELETE"
    items: dict[str, dict[str, Any]] = {}

    async def list(self, context: Any) -> Any:
        return [*self.items.values()]

    async def retrieve(self, context: Any, id: str) -> Any:
        return self.items[id]

    async def create(self, context: Any, data: Any) -> Any:
        id = str(uuid4())
        self.items[id] = {"id": id, **data}
        return self.items[id]

    async def delete(self, context: Any, id: str) -> None:
        del self.items[id]


class Flight(Schema):
    gate = fields.String(required=True, validate=validate.Length(max=2))


class Flights(TableResource):
    """Numeric ids that the table generates."""

    schema = Flight
    table = ExistingTable("legacy.flights", key="no", key_type="bigint", without=WITHOUT)


class Room(Schema):
    no = fields.Integer(required=True)
    beds = fields.Integer(required=True)


class Rooms(TableResource):
    """Numeric ids that are also a field."""

    schema = Room
    creates_by_put = True
    table = ExistingTable("legacy.rooms", key="no", key_type="bigint", without=WITHOUT)


class Country(Schema):
    code = fields.String(required=True, validate=validate.Length(1, 20))
    name = fields.String(required=True)


class Countries(TableResource):
    """Texts as ids that are also a field."""

    schema = Country
    creates_by_put = True
    table = ExistingTable("legacy.countries", key="code", key_type="text", without=WITHOUT)


class Label(Schema):
    name = fields.String(required=True)


class Labels(TableResource):
    """Texts as ids that the table generates."""

    schema = Label
    table = ExistingTable("legacy.labels", key="code", key_type="text", without=WITHOUT)


class Letter(Schema):
    text = fields.String(required=True)


class Letters(TableResource):
    """Texts that are sorted only by their beginning."""

    schema = Letter


class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"


class Parcel(Schema):
    size = fields.Enum(Size, load_default=Size.SMALL)
    code = fields.Enum(Size, by_value=True, allow_none=True)
    sender = fields.IP(allow_none=True)
    cost = fields.Decimal(places=2, rounding=ROUND_HALF_EVEN, load_default="1.5")
    weight = fields.Float(allow_none=True, metadata={"column_type": "real"})
    about = fields.JSON(load_default=dict)
    sent = fields.Time(allow_none=True)


class Parcels(TableResource):
    """Values whose stored form differs from what Python has."""

    schema = Parcel
    creates_by_put = True


RESOURCES: dict[str, type[Resource]] = {
    "parcels": Parcels,
    "prices": Prices,
    "costs": Costs,
    "flights": Flights,
    "rooms": Rooms,
    "countries": Countries,
    "labels": Labels,
    "letters": Letters,
}
TEXTS = ("=", "'=", "-1", "+", "10", "9", "a/b", "a%2Fb", "a,b", "a\\", "é", "e", "\U0001f600", "\uffff", "Z", " ", "~")
BODIES: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "parcels": st.fixed_dictionaries(
        {},
        optional={
            "size": st.sampled_from(("SMALL", "LARGE")),
            "code": st.sampled_from(("s", "l", None)),
            "sender": st.ip_addresses().map(str),
            "cost": st.sampled_from((*NUMBERS, "0.005", "0.015")),
            "weight": st.floats(width=32, allow_nan=False, allow_infinity=False),
            "about": st.sampled_from(({}, [], [1.5], "x")),
            "sent": st.times().map(str),
        },
    ),
    "prices": st.builds(
        lambda price, prices: {"price": price, "prices": prices},
        st.sampled_from(NUMBERS),
        st.lists(st.sampled_from(NUMBERS), max_size=2),
    ),
    "costs": st.sampled_from(NUMBERS).map(lambda cost: {"cost": cost}),
    "flights": st.sampled_from(("A", "B")).map(lambda gate: {"gate": gate}),
    "rooms": st.builds(lambda no, beds: {"no": no, "beds": beds}, st.integers(-120, 120), st.integers(8, 11)),
    "countries": st.sampled_from(TEXTS).map(lambda code: {"code": code, "name": "x"}),
    "labels": st.just({"name": "x"}),
    "letters": st.sampled_from(TEXTS).map(lambda end: {"text": "x" * 500 + end}),
}
LEGACY = r"""
CREATE SCHEMA legacy;
CREATE TABLE legacy.flights (no bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, gate text NOT NULL);
INSERT INTO legacy.flights (gate) SELECT 'C' FROM generate_series(1, 12);
CREATE TABLE legacy.rooms (no bigint PRIMARY KEY, beds bigint NOT NULL);
INSERT INTO legacy.rooms SELECT number, 9 FROM generate_series(1001, 1012) AS number;
CREATE TABLE legacy.countries (code text PRIMARY KEY, name text NOT NULL);
CREATE TABLE legacy.labels (code text PRIMARY KEY DEFAULT 'é,\' || trunc(random() * 1e9), name text NOT NULL);
INSERT INTO legacy.labels SELECT number, 'x' FROM generate_series(1, 12) AS number;
"""


async def _build(database: str) -> None:
    connection = await asyncpg.connect(database)
    await connection.execute(LEGACY)
    await connection.close()


@pytest.fixture(scope="module")
def values_service(pegboard_database: str, pegboard_loop: Loop) -> Iterator[Running]:
    pegboard_loop.run(_build(pegboard_database))
    plugins = [plugin(name, resource) for name, resource in {**RESOURCES, "weights": Weights}.items()]
    running = Running(pegboard_loop, settings_for(pegboard_database, {}), plugins)
    yield running
    running.close()


@pytest.mark.parametrize("check", RULES, ids=str)
@pytest.mark.parametrize("name", RESOURCES)
def test_a_conforming_resource_passes(values_service: Running, name: str, check: Any) -> None:
    subject = Subject(values_service, name)
    subject.bodies = BODIES[name]
    examine(check, subject, phases=[hypothesis.Phase.generate], max_examples=12)


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("name", ["prices", "weights"])
def test_a_number_has_the_same_text_in_the_response_to_the_write_and_in_later_reads(
    values_service: Running, name: str, number: Any
) -> None:
    subject = Subject(values_service, name)
    field = subject.writable[0]
    created = subject.send("POST", subject.path, {field: number}).json
    read = subject.send("GET", f"{subject.path}/{created['id']}").json
    line = subject.send("GET", subject.path, headers={"Accept": "application/x-ndjson"}).body.splitlines()[-1]
    expected = f"{abs(Decimal(str(number))) if not float(number) else Decimal(str(number)):.2f}"
    assert (created[field], read[field], orjson.loads(line)[field]) == (expected, expected, expected)
    subject.remove(created)


def test_a_decimal_is_shown_as_postgresql_shows_it(pegboard_database: str, pegboard_loop: Loop) -> None:
    connection = pegboard_loop.run(asyncpg.connect(pegboard_database))

    @hypothesis.settings(deadline=None, database=None, max_examples=30)
    @hypothesis.given(
        st.lists(st.builds(Decimal, st.from_regex(r"-?\d{1,9}(\.\d{1,9})?([eE][+-]?\d)?", fullmatch=True)))
    )
    def check(numbers: list[Decimal]) -> None:
        shown = pegboard_loop.run(connection.fetchval("SELECT $1::numeric[]::text[]", numbers))
        assert orjson.loads(rendering.dumps(numbers)) == shown

    check()
    pegboard_loop.run(connection.close())
