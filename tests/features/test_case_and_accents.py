# ruff: noqa: RUF001 - characters that look alike are the subject.
"""Uniqueness, filters and search by one rule of case and accents, for tables and collections in memory."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from pegboard import Context, Resource, Schema, TableResource, Unique, fields, validate
from pegboard.api import declared
from pegboard.query import sql
from pegboard.query.parsing import parse
from tests.conftest import Api, Serve, plugin

VERBS = "GET", "POST", "PATCH"


class Person(Schema):
    name = fields.String(required=True, validate=validate.Length(max=200))
    email = fields.String(required=True, validate=validate.Length(max=200))
    team = fields.String(load_default="", validate=validate.Length(max=50))
    badge = fields.Integer(load_default=0)
    notes = fields.String(allow_none=True)


class People(TableResource):
    """People."""

    schema = Person
    verbs = VERBS
    unique = (Unique("email", ignore_case=True), Unique("team", "badge", "name", ignore_case=True))
    search_fields = ("name", "notes")
    ignore_accents = ("name",)


class Guests(Resource):
    """Guests, in memory."""

    schema = Person
    verbs = ("GET",)
    ignore_accents = ("name",)

    async def list(self, context: Context) -> Any:
        return [
            {"id": str(number), "name": name, "email": email, "team": "", "badge": 0, "notes": notes}
            for number, (name, email, notes) in enumerate(ROWS)
        ]

    def parse_id(self, text: str) -> str | None:
        return text


ROWS = (
    ("José García", "Mixed.Case@Example.org", "L'été à Orléans"),
    ("MÜLLER Jean-Luc", "MÜLLER@example.org", "Größe 100%"),
    ("Ισμήνη Σίσυφος", "INFO@example.org", None),
    ("İsmail Işık", "ısı@example.org", "東京タワー"),
    ("jo se", "jo_se@example.org", "Москва, Ёлка"),
    ("Jose\u0301 Decomposed", "e\u0301@example.org", "ada@example.org"),
)


@pytest.fixture(scope="module")
async def running(serve: Serve) -> Api:
    api = await serve([plugin("people", People), plugin("guests", Guests)])
    body = [{"name": name, "email": email, "notes": notes} for name, email, notes in ROWS]
    assert (await api.post("/people", body)).status == 201
    return api


async def found(api: Api, query: str, path: str = "/people") -> set[int]:
    """Return the numbers of the rows that a query finds."""
    response = await api.get(f"{path}?{query}&fields=email")
    assert response.status == 200, response.body
    emails = [email for _, email, _ in ROWS]
    return {emails.index(item["email"]) for item in response.json["items"]}


ALL = set(range(len(ROWS)))


@pytest.mark.parametrize(
    ("parameter", "value", "expected"),
    [
        ("email", "mixed.case@example.org", {0}),
        ("email", "MIXED.CASE@EXAMPLE.ORG", {0}),
        ("email", "müller@EXAMPLE.org", {1}),
        ("email", "muller@example.org", set()),
        ("email", "info@example.org", {2}),
        ("email", "ISI@example.org", set()),
        ("email", "É@example.org", set()),
        ("email__in", "INFO@EXAMPLE.ORG,Müller@example.org,none", {1, 2}),
        ("email__ne", "mixed.case@example.org", ALL - {0}),
        ("name", "JO SE", {4}),
        ("name__in", "JO SE,ισμήνη σίσυφοσ", {2, 4}),
    ],
)
async def test_equality_ignores_case_where_uniqueness_does(
    running: Api, parameter: str, value: str, expected: set[int]
) -> None:
    assert await found(running, f"{parameter}={quote(value)}") == expected


PARTS = [
    ("email__prefix", "mixed", set()),
    ("email__prefix", "Mixed", {0}),
    ("email__contains", "CASE@", {0}),
    ("email__contains", "mÜLLer", {1}),
    ("email__contains", "muller", set()),
    ("email__contains", "O_S", {4}),
    ("notes__contains", "GRÖSSE", set()),
    ("notes__contains", "GRÖẞE 100%", {1}),
    ("notes__contains", "ета", set()),
    ("notes__contains", "ёлка", {4}),
    ("notes", "москва, ёлка", set()),
    ("name__prefix", "jose", {0, 5}),
    ("name__prefix", "JOSÉ G", {0}),
    ("name__prefix", "muller", {1}),
    ("name__prefix", "ismail isik", {3}),
    ("name__prefix", "", ALL),
    ("name__contains", "GARCIA", {0}),
    ("name__contains", "σισυφος", {2}),
    ("name__contains", "%", set()),
]


@pytest.mark.parametrize("path", ["/people", "/guests"])
@pytest.mark.parametrize(("parameter", "value", "expected"), PARTS)
async def test_parts_are_found_with_other_accents_only_where_declared(
    running: Api, path: str, parameter: str, value: str, expected: set[int]
) -> None:
    assert await found(running, f"{parameter}={quote(value)}", path) == expected


@pytest.mark.parametrize(
    ("q", "expected"),
    [
        ("jos", {0, 5}),
        ("JOSE garc", {0}),
        ("garc jose", {0}),
        ("ose", set()),
        ("jean-luc", {1}),
        ("jean luc müll", {1}),
        ("grosse", {1}),
        ("l'été", {0}),
        ("ete orl", {0}),
        ("ισμηνη", {2}),
        ("Σίσυφος", {2}),
        ("ISIK", {3}),
        ("東京", {3}),
        ("タワー", {3}),
        ("елка моск", {4}),
        ("ada@exam", {5}),
        ('"jose garcia"', {0}),
        ("jose or muller", set()),
        ("jose -garcia", {0}),
        ("😀", set()),
        ("'); --", set()),
        ("jose jose JOSÉ", {0, 5}),
        ("x" * 500, set()),
    ],
)
async def test_a_search_finds_all_words_by_their_beginnings(running: Api, q: str, expected: set[int]) -> None:
    assert await found(running, f"q={quote(q)}") == expected


async def test_values_that_differ_in_case_conflict_in_every_write(running: Api) -> None:
    [taken] = (await running.get("/people?email=INFO@EXAMPLE.ORG")).json["items"]
    [other] = (await running.get("/people?email=mixed.case@example.org")).json["items"]
    again = {"name": "n", "email": "info@EXAMPLE.org"}
    for response, pointer in (
        (await running.post("/people", again), "/email"),
        (await running.post("/people", [{"name": "o", "email": "o"}, again]), "/1/email"),
        (await running.patch(f"/people/{other['id']}", {"email": "Info@Example.Org"}), "/email"),
    ):
        assert response.status == 409, response.body
        assert [error["pointer"] for error in response.json["errors"]] == [pointer]
    assert (await running.patch(f"/people/{taken['id']}", {"email": "Info@example.org"})).status == 200
    assert (await running.patch(f"/people/{taken['id']}", {"email": "INFO@example.org"})).status == 200
    same_name = {"name": "JOSÉ garcía", "email": "p"}
    assert (await running.post("/people", same_name)).status == 409


@pytest.mark.parametrize("query", ["email=A@B", "email__in=A,B"])
async def test_equality_that_ignores_case_uses_the_index(running: Api, query: str) -> None:
    table = sql.Table("people", "people", declared.columns(People))
    text, args = table.count(parse(query, declared.rules(People)))
    async with running.service.database.write.transaction() as connection:
        await connection.execute("SET LOCAL enable_seqscan = off")
        plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {text}", *args))
    assert "people_email_ignore_case_unique" in plan
    assert "Index Cond: " in plan


async def test_a_search_uses_its_index(running: Api) -> None:
    table = sql.Table("people", "people", declared.columns(People))
    text, args = table.count(parse("q=jos", declared.rules(People)))
    async with running.service.database.write.transaction() as connection:
        await connection.execute("SET LOCAL enable_seqscan = off")
        plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN {text}", *args))
    assert "people__search_index" in plan


async def test_the_reference_names_what_each_filter_ignores(running: Api) -> None:
    parameters = (await running.get("/openapi.json")).json["components"]["parameters"]
    described = {name: parameters[f"people.{name}"]["description"] for name in FILTERS}
    assert described == FILTERS


FILTERS = {
    "email": "Only items whose `email` is this, ignoring case.",
    "email__ne": "Only items whose `email` is not this, ignoring case, including null.",
    "email__in": "Only items whose `email` is one of these, ignoring case, separated by commas; `\\,` is a comma within a value.",
    "email__prefix": "Only items whose `email` begins with this.",
    "name__prefix": "Only items whose `name` begins with this, ignoring case and accents.",
    "name__contains": "Only items whose `name` contains this, ignoring case and accents.",
    "notes__contains": "Only items whose `notes` contains this, ignoring case.",
    "notes": "Only items whose `notes` is this.",
}
