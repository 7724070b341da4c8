"""A plain `Resource` whose list is filtered, sorted and paged by the service, like a table."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from pegboard import Context, Resource, Schema
from pegboard.schema import fields
from tests.conftest import Api, Serve, plugin

IDS = [f"0192f000-0000-7000-8000-{n:012x}" for n in range(30)]


class Reading(Schema):
    place = fields.String()
    degrees = fields.Integer(allow_none=True)
    taken_at = fields.DateTime()
    tags = fields.List(fields.String())


class Readings(Resource):
    """Sensor readings."""

    schema = Reading
    verbs = "GET", "HEAD"

    async def list(self, context: Context) -> Any:
        return [
            {
                "id": IDS[n],
                "place": "Zürich" if n % 2 else "anvers",
                "degrees": None if n % 5 == 0 else n % 7,
                "taken_at": datetime(2026, 1, 1 + n, microsecond=5, tzinfo=UTC),
                "tags": [f"t{n % 3}"],
            }
            for n in range(30)
        ]


class Place(Schema):
    rooms = fields.Integer()


class Places(Resource):
    """Sensor locations, identified by number or name."""

    schema = Place
    verbs = ("GET",)

    def parse_id(self, text: str) -> str | None:
        return text.lower() if text.isalnum() else None

    async def list(self, context: Context) -> Any:
        return [{"id": "attic", "rooms": 1}, {"id": "cellar", "rooms": 2}, {"id": "7", "rooms": 3}]

    async def retrieve(self, context: Context, id: str) -> Any:
        return next(item for item in await self.list(context) if item["id"] == id)


@pytest.fixture(scope="module")
async def running(serve: Serve) -> Api:
    return await serve([plugin("readings", Readings), plugin("places", Places)])


def numbers(response: Any) -> list[int]:
    assert response.status == 200, response.body
    return [IDS.index(item["id"]) for item in response.json["items"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("degrees=3", [n for n in range(30) if n % 5 and n % 7 == 3]),
        ("degrees__ne=3&limit=100", [n for n in range(30) if not (n % 5 and n % 7 == 3)]),
        ("degrees__isnull=true", [0, 5, 10, 15, 20, 25]),
        ("degrees__in=1,2", [n for n in range(30) if n % 5 and n % 7 in (1, 2)]),
        ("degrees__lt=1", [n for n in range(30) if n % 5 and n % 7 < 1]),
        ("degrees__gte=6", [n for n in range(30) if n % 5 and n % 7 >= 6]),
        ("place__prefix=Z&limit=3", [1, 3, 5]),
        ("place__contains=Z%C3%9CR&limit=3", [1, 3, 5]),
        ("tags__has=t2&limit=2", [2, 5]),
        (f"id={IDS[4].upper()}", [4]),
        ("taken_at__lte=2026-01-03T00:00:00Z", [0, 1, 2]),
        ("sort=-taken_at&limit=3", [29, 28, 27]),
        ("sort=place&limit=3", [1, 3, 5]),
        ("sort=degrees&limit=2&degrees__isnull=true", [0, 5]),
    ],
)
async def test_filters_and_sorting_work_as_for_a_table(running: Api, query: str, expected: list[int]) -> None:
    assert numbers(await running.get(f"/readings?{query}")) == expected


@pytest.mark.parametrize(
    "sort", ["", "&sort=degrees", "&sort=-degrees", "&sort=-degrees,place", "&sort=place,-degrees"]
)
async def test_pages_can_be_followed_forwards_and_backwards(running: Api, sort: str) -> None:
    expected = numbers(await running.get(f"/readings?limit=100{sort}"))
    forward: list[int] = []
    path, last = f"/readings?limit=7{sort}", None
    while path:
        page = await running.get(path)
        forward, last, path = forward + numbers(page), page, page.json["next"]
    assert forward == expected
    backward = numbers(last)
    while last and (prev := last.json["prev"]):
        last = await running.get(prev)
        backward = numbers(last) + backward
    assert backward == expected
    degrees = [n % 7 if n % 5 else None for n in expected]
    if sort == "&sort=degrees":
        assert degrees[-6:] == [None] * 6
    if sort == "&sort=-degrees":
        assert degrees[:6] == [None] * 6


async def test_the_total_counts_all_filtered_items(running: Api) -> None:
    response = await running.get("/readings?degrees__isnull=true&count=exact&limit=2")
    assert (response.json["total"], response.headers["X-Total-Count"]) == (6, "6")
    head = await running.head("/readings?count=estimated&limit=2")
    assert head.headers["X-Total-Count"] == "30"


async def test_a_resource_without_retrieve_has_no_item_endpoints(running: Api) -> None:
    assert (await running.get(f"/readings/{IDS[0]}")).status == 404


@pytest.mark.parametrize("query", ["colour=red", "degrees=warm", "sort=colour", "after=abc", "q=x"])
async def test_invalid_queries_are_400(running: Api, query: str) -> None:
    assert (await running.get(f"/readings?{query}")).status == 400


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("id=attic", [1]),
        ("id=ATTIC", [1]),
        ("id=7", [3]),
        ("id=shed", []),
        ("id__in=CELLAR,7,shed", [3, 2]),
        ("id__ne=attic", [3, 2]),
        ("id__gt=b", [2]),
        ("id__prefix=ce", [2]),
        ("sort=-id&limit=2", [2, 1]),
    ],
)
async def test_ids_in_filters_are_parsed_like_ids_in_urls(running: Api, query: str, expected: list[int]) -> None:
    response = await running.get(f"/places?{query}")
    assert (response.status, [item["rooms"] for item in response.json["items"]]) == (200, expected)


@pytest.mark.parametrize("parameter", ["id", "id__in"])
async def test_an_invalid_id_in_a_filter_is_rejected_by_parameter_name(running: Api, parameter: str) -> None:
    response = await running.get(f"/places?{parameter}=no-such")
    assert (response.status, response.json["errors"]) == (
        400,
        [{"message": "Not a valid id.", "code": 10012, "parameter": parameter}],
    )
