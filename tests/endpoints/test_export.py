"""Exports of collections as NDJSON and CSV: exact values, one snapshot, constant memory, detectable truncation."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import orjson
import psutil
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pegboard import Context, Page, Resource, Schema, TableResource
from pegboard.endpoints.export import cell, record
from pegboard.schema import fields
from pegboard.values import PerPlugin
from tests.conftest import ADMIN, PASSWORD, Api, Response, Serve, basic, new_database, plugin

NDJSON = {"Accept": "application/x-ndjson"}
CSV = {"Accept": "text/csv"}
FORMATS = pytest.mark.parametrize("accept", [NDJSON, CSV], ids=["ndjson", "csv"])

HOSTILE = [
    "", " ", " padded ", ",", '"', '""', '",', "a\r\nb", "\n", "\r", "a\tb", "'", "'=1", "é\u2028\x85\x1f", "\U0001f600",
    "=cmd|' /C calc'!A0", "@SUM(1)", "\ttab", "\rreturn", "+1+1", "-2+3", "-", "+", "null", "true", "1e5", "00041",
]  # fmt: skip


class Thing(Schema):
    text = fields.String(allow_none=True)
    number = fields.Integer(allow_none=True)
    price = fields.Decimal(allow_none=True)
    ratio = fields.Float(allow_none=True)
    day = fields.Date(allow_none=True)
    at = fields.DateTime(allow_none=True)
    on = fields.Boolean(allow_none=True)
    tags = fields.List(fields.String(), load_default=list)
    extra = fields.Dict(allow_none=True)


class Things(TableResource):
    """Items with values of all types."""

    schema = Thing
    verbs = "GET", "HEAD", "POST", "DELETE"


class Loud(Thing):
    louder = fields.Function(lambda item: item["text"].upper() + "!")


class Shouts(TableResource):
    """Texts with a computed field."""

    schema = Loud
    verbs = "GET", "HEAD", "POST"
    search_fields = ("text",)


class Hidden(TableResource):
    """Items of which `list` returns only some."""

    schema = Thing
    verbs = "GET", "HEAD", "POST"

    async def list(self, context: Context) -> Page:
        page = await super().list(context)
        return replace(page, items=[{**item, "tags": []} for item in page.items if item["text"] != "secret"])


class Word(Schema):
    text = fields.String()


class Words(Resource):
    """Items without a table."""

    schema = Word
    verbs = "GET", "HEAD"

    async def list(self, context: Context) -> Any:
        return [{"id": f"0192f000-0000-7000-8000-{n:012x}", "text": text} for n, text in enumerate(HOSTILE)]


class Crowd(TableResource):
    """A hundred thousand items."""

    schema = Thing
    verbs = "GET", "HEAD"


@pytest.fixture(scope="module")
async def running(serve: Serve) -> Api:
    plugins = [plugin("things", Things), plugin("shouts", Shouts), plugin("hidden", Hidden)]
    shares = {"read_pool_size": 8, "plugin_pool_share": PerPlugin(50, {})}
    api = await serve([*plugins, plugin("words", Words), plugin("crowd", Crowd)], **shares)
    await api.service.database.write.execute(FILL)
    return api


FILL = """
INSERT INTO crowd.crowd (id, created_at, updated_at, _version, text, number, tags)
SELECT gen_random_uuid(), '2026-01-01Z', '2026-01-01Z', n, repeat('text ', 20), n, '{a,b}'
FROM generate_series(1, 100000) AS n"""


@pytest.fixture
async def api(running: Api) -> Api:
    for name in ("things", "shouts", "hidden"):
        await running.service.database.write.execute(f"TRUNCATE {name}.{name}")
    return running


async def wait_until_idle(api: Api) -> None:
    """Wait until no read connection is in use."""
    pool = api.service.database.read
    async with asyncio.timeout(10):
        while pool.idle != pool.size:  # noqa: ASYNC110 - there is nothing to await
            await asyncio.sleep(0.01)


def parse_csv(response: Response) -> list[dict[str, str]]:
    assert response.status == 200, response.body
    return list(csv.DictReader(io.StringIO(response.body.decode(), newline=""), strict=True))


def parse_lines(response: Response) -> list[dict[str, Any]]:
    assert response.status == 200, response.body
    assert response.body.endswith(b"\n") or not response.body
    return [orjson.loads(line) for line in response.body.splitlines()]


async def create(api: Api, path: str, items: list[Any]) -> list[dict[str, Any]]:
    response = await api.post(path, items)
    assert response.status == 201, response.body
    return list(response.json["items"])


CELLS = [
    (None, ""),
    ("", '""'),
    ("plain", "plain"),
    ("a,b", '"a,b"'),
    ('say "x"', '"say ""x"""'),
    ("a\nb", '"a\nb"'),
    (" a", '" a"'),
    (True, "true"),
    (0, "0"),
    (-5, "-5"),
    (-1e-7, "-1e-7"),
    (float("nan"), ""),
    (Decimal("-0.50"), "-0.50"),
    (date(2015, 2, 15), "2015-02-15"),
    (datetime(2015, 2, 15, 6, 21, 7, 9, tzinfo=UTC), "2015-02-15T06:21:07Z"),
    ([], "[]"),
    (["a", '"'], '"[""a"",""\\""""]"'),
    ({"a": None}, '"{""a"":null}"'),
    ("=1+1", "'=1+1"),
    ("=1,2", '"\'=1,2"'),
    ("@a", "'@a"),
    ("\ta", "'\ta"),
    ("\ra", '"\'\ra"'),
    ("+a", "'+a"),
    ("-a", "'-a"),
    ("-", "'-"),
    ("-1", "-1"),
    ("-1.5e-3", "-1.5e-3"),
    ("-.5", "-.5"),
    ("+1,234.50", '"+1,234.50"'),
    ("-1+1", "'-1+1"),
    ("-1\n", '"\'-1\n"'),
    ("+41 44 123 45 67", "+41 44 123 45 67"),
    ("+1 (555) 010-0100", "+1 (555) 010-0100"),
    ("+41/44/1234567", "+41/44/1234567"),
    ("+1-2", "'+1-2"),
    ("+41 44 cmd", "'+41 44 cmd"),
    ("-44 123 45 67", "'-44 123 45 67"),
    ("+" + "1-" * 30, "'+" + "1-" * 30),
    ("+٤١٤٤١٢٣٤٥٦٧", "'+٤١٤٤١٢٣٤٥٦٧"),
]


@pytest.mark.parametrize(("value", "expected"), CELLS, ids=repr)
def test_csv_cells_have_the_documented_format(value: object, expected: str) -> None:
    assert cell(value) == expected


@example(HOSTILE)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x00")), min_size=2))
def test_any_text_survives_csv(texts: list[str]) -> None:
    (row,) = csv.reader(io.StringIO(record(texts).decode(), newline=""), strict=True)
    for found, text in zip(row, texts, strict=True):
        assert found in (text, "'" + text)
        assert found == text or text[0] in "=@\t\r+-"
        assert found[:1] not in ("=", "@", "\t", "\r")


async def test_every_value_survives_an_export(api: Api) -> None:
    values: list[dict[str, Any]] = [{"text": text, "tags": [text], "extra": {"a": text}} for text in HOSTILE]
    values.append({"text": None, "number": -(2**40), "price": "-12.50", "ratio": -1e-7, "day": "2015-02-15"})
    values.append({"at": "2015-02-15T06:21:07+01:00", "on": False, "extra": None})
    items = await create(api, "/things", values)
    response = await api.get("/things", headers=CSV)
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8; header=present"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Vary"] == "Accept, Accept-Encoding"
    assert "ETag" not in response.headers
    rows = parse_csv(response)
    assert list(rows[0]) == list(items[0])
    assert response.body.endswith(b"\r\n")
    for row, item in zip(rows, items, strict=True):
        for name, value in item.items():
            written = row[name]
            if value is None or isinstance(value, str):
                guarded = isinstance(value, str) and value[:1] in tuple("=@\t\r+-") and name == "text"
                assert written == ("'" if guarded else "") + (value or "")
            else:
                assert orjson.loads(written) == value


async def test_null_and_empty_text_are_distinguished(api: Api) -> None:
    await create(api, "/things", [{"text": None}, {"text": ""}])
    response = await api.get("/things?fields=text", headers=CSV)
    assert [line.partition(b",")[2] for line in response.body.split(b"\r\n")] == [b"text", b"", b'""', b""]


async def test_lines_of_an_export_equal_the_items_of_a_page(api: Api) -> None:
    items = await create(api, "/things", [{"text": text, "at": "2015-02-15T06:21:07+01:00"} for text in HOSTILE])
    response = await api.get("/things", headers=NDJSON)
    assert response.headers["Content-Type"] == "application/x-ndjson"
    assert response.body.count(b"\n") == len(items)
    assert parse_lines(response) == items


@FORMATS
async def test_an_empty_collection_is_an_empty_export(api: Api, accept: dict[str, str]) -> None:
    response = await api.get("/things?fields=text", headers=accept)
    assert (response.status, response.body) == (200, b"" if accept is NDJSON else b"id,text\r\n")


async def test_query_parameters_work_as_for_pages(api: Api) -> None:
    await create(api, "/things", [{"number": number, "text": "x"} for number in (3, 1, 2, 5, 4)])
    response = await api.get("/things?number__gt=1&sort=-number&fields=number&limit=3&count=exact", headers=CSV)
    assert [row["number"] for row in parse_csv(response)] == ["5", "4", "3"]
    assert list(parse_csv(response)[0]) == ["id", "number"]
    assert response.headers["X-Total-Count"] == "4"
    response = await api.get("/things?sort=number&fields=number&count=estimated", headers=NDJSON)
    assert [item["number"] for item in parse_lines(response)] == [1, 2, 3, 4, 5]
    assert [list(item) for item in parse_lines(response)] == [["id", "number"]] * 5
    assert response.headers["X-Total-Count"] == "5"


@FORMATS
async def test_the_limit_of_an_export_may_exceed_the_page_limit(running: Api, accept: dict[str, str]) -> None:
    for limit in (1, 250, 1000, 1001):
        response = await running.get(f"/crowd?limit={limit}&sort=-number&fields=number", headers=accept)
        numbers = [int(row["number"]) for row in (parse_lines if accept is NDJSON else parse_csv)(response)]
        assert numbers == list(range(100_000, 100_000 - limit, -1))
    assert (await running.get("/words?limit=999999999999999999", headers=accept)).status == 200


@FORMATS
@pytest.mark.parametrize(
    ("query", "code", "parameter"),
    [
        ("after=abc", 10012, "after"),
        ("before=abc", 10012, "before"),
        ("limit=0", 10012, "limit"),
        ("limit=1000000000000000000", 10012, "limit"),
        ("sort=nothing", 10012, "sort"),
        ("nothing=1", 10013, "nothing"),
        ("number=x", 10012, "number"),
        ("q=x", 10013, "q"),
    ],
)
async def test_an_invalid_query_is_rejected_before_anything_is_sent(
    running: Api, accept: dict[str, str], query: str, code: int, parameter: str
) -> None:
    for path in ("/things", "/words"):
        response = await running.get(f"{path}?{query}", headers=accept)
        if path == "/things" or parameter != "number":
            assert (response.status, response.errors) == (400, [(code, parameter)])
            assert response.headers["Content-Type"] == "application/json"


async def test_a_cursor_is_rejected_with_a_hint(running: Api) -> None:
    response = await running.get("/things?after=abc", headers=CSV)
    assert (
        response.json["errors"][0]["message"]
        == "A stream has no pages; leave the parameter out, or accept application/json."
    )


@pytest.mark.parametrize(
    ("accept", "status", "content_type"),
    [
        ("*/*", 200, "application/json"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", 200, "application/json"),
        ("text/csv, application/json", 200, "application/json"),
        ("text/csv, application/json;q=0.5", 200, "text/csv"),
        ("text/*", 200, "text/csv"),
        ("application/x-ndjson;q=0.9, text/csv;q=0.8", 200, "application/x-ndjson"),
        ("text/html", 406, "application/json"),
    ],
)
async def test_the_client_chooses_the_format(running: Api, accept: str, status: int, content_type: str) -> None:
    response = await running.get("/words", headers={"Accept": accept})
    assert (response.status, response.headers["Content-Type"].partition(";")[0]) == (status, content_type)


async def test_an_item_cannot_be_exported(api: Api) -> None:
    (item,) = await create(api, "/things", [{"text": "x"}])
    assert (await api.get(f"/things/{item['id']}", headers=CSV)).errors == [(10004, "Accept")]
    assert (await api.post("/things", {"text": "x"}, headers=CSV)).status == 406


async def test_an_export_has_no_etag_for_preconditions(api: Api) -> None:
    assert (await api.get("/things", headers={**CSV, "If-None-Match": '"a"'})).status == 200
    assert (await api.get("/things", headers={**CSV, "If-Match": '"a"'})).status == 412
    assert (await api.get("/things", headers={**CSV, "If-Match": "a"})).status == 400


@FORMATS
async def test_head_has_the_headers_and_no_body(running: Api, accept: dict[str, str]) -> None:
    response = await running.head("/crowd?count=exact", headers=accept)
    assert (response.status, response.body, response.headers["X-Total-Count"]) == (200, b"", "100000")
    assert response.headers["Content-Type"].startswith(accept["Accept"])
    await wait_until_idle(running)


@FORMATS
async def test_an_export_is_compressed_if_the_client_accepts_it(running: Api, accept: dict[str, str]) -> None:
    plain = await running.get("/crowd?sort=number&limit=5000", headers=accept)
    packed = await running.get("/crowd?sort=number&limit=5000", headers={**accept, "Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert "Content-Encoding" not in plain.headers


async def test_computed_fields_are_exported(api: Api) -> None:
    items = await create(api, "/shouts", [{"text": text} for text in HOSTILE])
    assert parse_lines(await api.get("/shouts", headers=NDJSON)) == items
    response = await api.get("/shouts?sort=created_at", headers=CSV)
    assert list(parse_csv(response)[0]) == list(items[0])
    assert [row["louder"].removeprefix("'") for row in parse_csv(response)] == [
        item["louder"].removeprefix("'") for item in items
    ]


@FORMATS
async def test_search_results_are_exported_by_rank(api: Api, accept: dict[str, str]) -> None:
    await create(api, "/shouts", [{"text": text} for text in ("far away", "near", "near near near", "near near")])
    response = await api.get("/shouts?q=near&text__ne=none&limit=2", headers=accept)
    rows: list[dict[str, Any]] = (parse_lines if accept is NDJSON else parse_csv)(response)
    assert [row["text"] for row in rows] == ["near near near", "near near"]


@FORMATS
async def test_nulls_are_sorted_as_in_pages(api: Api, accept: dict[str, str]) -> None:
    items = await create(
        api, "/things", [{"number": number, "text": text} for number in (2, None, 1) for text in "bab"]
    )
    for sort in ("number,-text", "-number,text"):
        pages = (await api.get(f"/things?sort={sort}")).json["items"]
        response = await api.get(f"/things?sort={sort}", headers=accept)
        rows: list[dict[str, Any]] = (parse_lines if accept is NDJSON else parse_csv)(response)
        assert [row["id"] for row in rows] == [item["id"] for item in pages]
        assert len(rows) == len(items)


@FORMATS
async def test_an_export_excludes_items_that_list_hides(api: Api, accept: dict[str, str]) -> None:
    await create(api, "/hidden", [{"text": "secret" if n % 3 else f"{n}", "tags": ["secret"]} for n in range(900)])
    response = await api.get("/hidden", headers=accept)
    assert b"secret" not in response.body
    rows: list[dict[str, Any]] = (parse_lines if accept is NDJSON else parse_csv)(response)
    assert [row["text"] for row in rows] == [f"{n}" for n in range(0, 900, 3)]


async def test_a_resource_without_a_table_can_be_exported(running: Api) -> None:
    assert [item["text"] for item in parse_lines(await running.get("/words", headers=NDJSON))] == HOSTILE
    rows = parse_csv(await running.get("/words?limit=3&count=exact", headers=CSV))
    assert [row["text"] for row in rows] == HOSTILE[:3]


@asynccontextmanager
async def open_export(api: Api, path: str) -> AsyncIterator[aiohttp.StreamReader]:
    """Start an export, of which only the test reads; disconnect at the end."""
    headers = {**api.headers, **NDJSON, "Accept-Encoding": "identity"}
    async with aiohttp.ClientSession() as session:
        response = await session.get(api.url + path, headers=headers)
        assert response.status == 200
        yield response.content
        response.close()


async def test_an_export_is_a_consistent_snapshot(running: Api) -> None:
    write = running.service.database.write
    async with open_export(running, "/crowd?sort=number") as content:
        lines = [await content.readline()]
        await write.execute("UPDATE crowd.crowd SET number = -number WHERE number > 99000")
        await write.execute("DELETE FROM crowd.crowd WHERE number BETWEEN 98000 AND 99000")
        await write.execute(FILL.replace("100000", "10"))
        lines += [line async for line in content]
    await write.execute("TRUNCATE crowd.crowd")
    await write.execute(FILL)
    assert [orjson.loads(line)["number"] for line in lines] == list(range(1, 100_001))


async def test_a_disconnected_client_does_not_leak_a_connection(running: Api) -> None:
    for _ in range(5):
        async with open_export(running, "/crowd") as first, open_export(running, "/crowd?sort=-text") as second:
            await first.readline()
            await second.readline()
        await wait_until_idle(running)
    rows = await running.service.database.write.fetch("SELECT state FROM pg_stat_activity WHERE state LIKE 'idle in%'")
    assert rows == []


async def test_an_error_during_an_export_is_an_incomplete_transfer(running: Api) -> None:
    async with open_export(running, "/crowd") as content:
        await content.readline()
        ended = await running.service.database.write.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            # Between two batches, or fetching the next.
            "WHERE xact_start IS NOT NULL AND application_name = 'pegboard' AND datname = current_database() "
            "AND pid <> pg_backend_pid()"
        )
        assert ended == 1
        with pytest.raises(aiohttp.ClientError):
            await content.read()
    assert (await running.get("/crowd?limit=1", headers=CSV)).status == 200


async def test_exports_use_at_most_half_of_a_plugins_capacity(running: Api) -> None:
    async with open_export(running, "/crowd") as one, open_export(running, "/crowd") as other:
        await one.readline()
        await other.readline()
        response = await running.get("/crowd", headers=CSV)
        assert (response.status, response.errors) == (503, [(15006, None)])
        assert response.headers["Retry-After"] == "5"
        assert (await running.get("/crowd")).status == 200
        assert (await running.get("/words", headers=CSV)).status == 200
    await wait_until_idle(running)
    assert (await running.get("/crowd?limit=1", headers=CSV)).status == 200


SCRIPT = Path(sys.executable).with_name("pegboard")
SERVES = re.compile(rb"serves on (http://[0-9.:]+)")
PEOPLE = """
INSERT INTO contacts.contacts (id, created_at, updated_at, _version, name, email, notes, tags)
SELECT gen_random_uuid(), now(), now(), n, 'Name ' || n, n || '@example.org', repeat('note', 125), '{a,b}'
FROM generate_series(1, 100000) AS n"""

INDEXES = """
SELECT indexrelid::regclass AS name FROM pg_index
WHERE indrelid = 'contacts.contacts'::regclass AND NOT indisunique"""


@pytest.fixture(scope="module")
async def separate_service(postgres: str) -> AsyncIterator[tuple[str, psutil.Process]]:
    """Run a service in its own process, with a hundred thousand contacts."""
    url = await new_database(postgres)
    environment = {
        "PEGBOARD_DATABASE_URL": url,
        "PEGBOARD_ADMIN_PASSWORD": PASSWORD,
        "PEGBOARD_PLUGINS": "companies,contacts",
    }
    process = await asyncio.create_subprocess_exec(
        SCRIPT,
        "serve",
        "--port",
        "0",
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    async with asyncio.timeout(30):
        while (match := SERVES.search(await process.stdout.readline())) is None:
            pass
    connection = await asyncpg.connect(url)
    # Dropping the indexes takes a third of the time.
    for row in await connection.fetch(INDEXES):
        await connection.execute(f"DROP INDEX {row['name']}")
    await connection.execute(PEOPLE)
    await connection.close()
    yield match[1].decode(), psutil.Process(process.pid)
    process.terminate()
    await process.communicate()


@FORMATS
@pytest.mark.parametrize("coding", ["identity", "gzip"])
async def test_memory_usage_is_independent_of_the_collection_size(
    separate_service: tuple[str, psutil.Process], accept: dict[str, str], coding: str
) -> None:
    url, process = separate_service
    headers = {**basic(ADMIN, PASSWORD), **accept, "Accept-Encoding": coding}
    async with aiohttp.ClientSession(headers=headers, auto_decompress=False) as session:

        async def peak_memory(limit: int) -> tuple[int, int]:
            """Return the peak memory usage, and the number of bytes sent."""
            highest = sent = 0
            async with session.get(f"{url}/contacts?limit={limit}") as response:
                async for chunk in response.content.iter_any():
                    sent += len(chunk)
                    highest = max(highest, process.memory_info().rss)
            return highest, sent

        before, _ = await peak_memory(2_000)
        after, sent = await peak_memory(100_000)
    if coding == "identity":
        assert sent > 60_000_000
    assert after - before < 6_000_000
