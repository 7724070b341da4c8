"""Column types: each spelling that PostgreSQL accepts works like the usual name."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import pytest

from pegboard import Schema, TableResource, fields
from tests.conftest import Serve, plugin

NOON, FIRST = "12:00:00", "0001-01-01T00:00:00Z"

SPELLINGS: tuple[tuple[type[fields.Field[Any]], str, Any], ...] = (
    (fields.DateTime, "TIMESTAMPTZ", FIRST),
    (fields.DateTime, "timestamp with time zone", FIRST),
    (fields.DateTime, "timestamptz (0)", FIRST),
    (fields.DateTime, "timestamp(0) with time zone", FIRST),
    (fields.DateTime, "Timestamp (3)  With Time Zone", FIRST),
    (fields.DateTime, "pg_catalog.timestamptz", FIRST),
    (fields.Time, "time without time zone", NOON),
    (fields.Time, "time(0)", NOON),
    (fields.Date, "DATE", "9999-12-31"),
    (fields.Integer, "int", 5),
    (fields.Integer, "INT8", 5),
    (fields.Integer, "int2", 5),
    (fields.Float, "float8", 0.5),
    (fields.Float, "float", 0.5),
    (fields.Decimal, "decimal(10, 2)", "1.50"),
    (fields.Decimal, "NUMERIC(10,2)", "1.50"),
    (fields.Boolean, "bool", True),
    (fields.String, "character varying(20)", "a text"),
    (fields.String, "VARCHAR(20)", "a text"),
    (fields.UUID, "UUID", "0190d1f8-0000-7000-8000-000000000000"),
)


@pytest.mark.parametrize(("kind", "spelling", "value"), SPELLINGS, ids=[spelling for _, spelling, _ in SPELLINGS])
async def test_every_spelling_of_a_type_works(
    serve: Serve, kind: type[fields.Field[Any]], spelling: str, value: Any
) -> None:
    name = f"kept{SPELLINGS.index((kind, spelling, value))}-{re.sub('[^a-z0-9]+', '', spelling.lower())}"

    class First(Schema):
        value = kind(metadata={"column_type": spelling})

    class Second(First):
        another = fields.String()

    class Kept(TableResource):
        """Items with a value."""

        schema = First

    class Extended(Kept):
        """Items with another field."""

        schema = Second

    path = f"/{name}"
    api = await serve([plugin(name, Kept)])
    created = await api.post(path, {"value": value})
    assert (created.status, created.json.get("value")) == (201, value)
    assert (await api.post(path, [{"value": value}] * 2)).status == 201
    item = f"{path}/{created.json['id']}"
    assert (await api.patch(item, {"value": None})).status in (200, 422)
    assert (await api.put(item, {"value": value})).json["value"] == value
    page = (
        await api.get(f"{path}?value={quote(str(value).lower() if value is True else str(value))}&count=exact")
    ).json
    assert (page["total"], {item["value"] for item in page["items"]}) == (3, {value})
    seen: list[str] = []
    link = f"{path}?sort=value&limit=2"
    while link and len(seen) < 10:
        page = (await api.get(link)).json
        seen += [item["id"] for item in page["items"]]
        link = page["next"]
    assert len(seen) == len({*seen}) == 3
    # Another field makes the next version compare the table with the declaration.
    extended = plugin(name, Extended)
    api = await serve([extended])
    assert extended.error is None
    assert (await api.get(f"{path}?value__isnull=false&count=exact")).json["total"] == 3
