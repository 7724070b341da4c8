"""The log: one line for each request, without secrets, safe from injection."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from pegboard import Resource, Schema, fields
from pegboard.api.context import Context
from pegboard.http import tracecontext
from pegboard.telemetry import logs
from tests.conftest import PASSWORD, Api, Serve, plugin

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"
FORGED = "2026-01-01T00:00:00.000Z info    pegboard.auth: client added"
NASTY = f"a\r\n{FORGED}\x1b[2K\x00\x7f\x85\u2028\u202e\ud800é"


@contextmanager
def log_stream(format: str) -> Iterator[io.StringIO]:
    """Write the log in one of its formats to the returned stream."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.FORMATS[format]())
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    root.handlers = [handler]
    root.setLevel(logging.DEBUG)
    try:
        yield stream
    finally:
        root.handlers = handlers
        root.setLevel(level)


class Text(Schema):
    text = fields.String(required=True)


class Echoes(Resource):
    """Fails with the value it receives."""

    schema = Text
    verbs = "GET", "POST"

    async def list(self, context: Context) -> list[dict[str, Any]]:
        return [{"id": str(uuid4()), "text": str(context.traceparent)}]

    async def create(self, context: Context, data: dict[str, Any]) -> dict[str, Any]:
        raise RuntimeError(data["text"])


@pytest.fixture(scope="module")
async def api(serve: Serve) -> Api:
    return await serve([plugin("echoes", Echoes)])


def requests(stream: io.StringIO) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in stream.getvalue().splitlines()]
    return [entry for entry in entries if entry["logger"] == "pegboard.access"]


async def test_a_request_is_logged_in_one_complete_line(api: Api) -> None:
    with log_stream("json") as stream:
        response = await api.get("/echoes?limit=7", headers={"traceparent": TRACEPARENT, "X-Request-Id": "mine"})
    (entry,) = requests(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry.pop("time"))
    assert entry.pop("ms") >= 0
    assert entry == {
        "level": "info",
        "logger": "pegboard.access",
        "message": "request",
        "method": "GET",
        "template": "/echoes",
        "status": 200,
        "bytes": len(response.body),
        "client": "admin",
        "request": "mine",
        "plugin": "echoes",
        "trace_id": TRACE,
    }


async def test_an_export_is_logged_after_its_end_with_its_size(api: Api) -> None:
    with log_stream("json") as stream:
        response = await api.get("/echoes", headers={"Accept": "application/x-ndjson"})
    (entry,) = requests(stream)
    assert (entry["status"], entry["template"]) == (200, "/echoes")
    assert entry["bytes"] > len(response.body)


async def test_the_log_contains_no_secret(api: Api) -> None:
    for form in logs.FORMATS:
        with log_stream(form) as stream:
            await api.get("/echoes?q=hidden-in-query")
            await api.post("/echoes", {"text": 5, "hidden-in-body": "hidden-in-body"})
            await api.as_client("someone", "hidden-password").get("/echoes")
            await api.get("/hidden-path/hidden-id")
        text = stream.getvalue()
        assert text.count("pegboard.access") == 4
        assert "hidden" not in text
        assert PASSWORD not in text
        assert api.headers["Authorization"].split()[1] not in text


@pytest.mark.parametrize("form", logs.FORMATS)
async def test_a_request_cannot_inject_a_log_line(api: Api, form: str) -> None:
    with log_stream(form) as stream:
        response = await api.post("/echoes", {"text": NASTY.replace("\ud800", "").replace("\x00", "")})
        await api.as_client(FORGED.replace(":", "\n"), "wrong one").get("/echoes")
        await api.get("/echoes", headers={"X-Request-Id": "a b=c", "traceparent": FORGED})
    assert response.status == 500
    lines = stream.getvalue().split("\n")
    assert not [line for line in lines if line.startswith("2026-01-01")]
    assert stream.getvalue().replace("\n", "").isprintable()
    if form == "json":
        assert all(json.loads(line) for line in lines if line)


@pytest.mark.parametrize("form", logs.FORMATS)
def test_any_record_is_one_line_and_logging_never_raises(form: str, capfd: pytest.CaptureFixture[str]) -> None:
    class Mute:
        def __str__(self) -> str:
            raise ValueError("no word")

    log = logging.getLogger("tests")
    with log_stream(form) as stream:
        log.info(NASTY)
        log.info("%s", NASTY, extra={"fields": {"client": NASTY, "set": {1}, "large": 2**70, 5: None, "mute": Mute()}})
        log.info("%d", "no number")
        log.info("fields", extra={"fields": [1]})
        log.info("a name with =", extra={"fields": {"client": 'x status=200 "'}})
    lines = stream.getvalue().splitlines()
    assert len(lines) == 5
    assert all(line.isprintable() for line in lines)
    assert "no number" not in stream.getvalue()
    assert capfd.readouterr().err == ""
    if form == "json":
        entries = [json.loads(line) for line in lines]
        assert entries[4]["client"] == 'x status=200 "'
        assert "é" in entries[1]["client"]
    else:
        assert lines[4].endswith(r'client="x status=200 \""')


def failure(detail: str) -> Exception:
    error = asyncpg.UniqueViolationError("duplicate key value")
    error.detail = detail
    return error


@pytest.mark.parametrize("form", logs.FORMATS)
def test_tracebacks_contain_no_database_details(form: str) -> None:
    stored = failure("Key (email)=(hidden@example.org)\nDETAIL: exists.")
    with log_stream(form) as stream:
        try:
            try:
                raise ExceptionGroup("several", [stored, ValueError("seen")])
            except ExceptionGroup as group:
                raise RuntimeError("on top") from group
        except RuntimeError:
            logging.getLogger("tests").exception("failed")
    text = stream.getvalue()
    assert "hidden" not in text
    assert all(part in text for part in ("duplicate key value", "seen", "on top", "[redacted]", "Traceback"))
    assert "hidden" in str(stored)


def test_traceback_lines_cannot_be_mistaken_for_log_lines() -> None:
    with log_stream("text") as stream:
        try:
            raise ValueError(f"first\n{FORGED}")
        except ValueError:
            logging.getLogger("tests").exception("failed")
    first, *rest = stream.getvalue().splitlines()
    assert first.endswith("tests: failed")
    assert all(line.startswith("  ") for line in rest)


# Traces ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([TRACEPARENT], TRACEPARENT),
        ([f" {TRACEPARENT}\t"], TRACEPARENT),
        ([f"00-{TRACE}-b7ad6b7169203331-00"], f"00-{TRACE}-b7ad6b7169203331-00"),
        # The known part of a future version.
        ([f"01-{TRACE}-b7ad6b7169203331-03-more"], TRACEPARENT),
        ([f"cc-{TRACE}-b7ad6b7169203331-02"], f"00-{TRACE}-b7ad6b7169203331-00"),
        ([], None),
        ([TRACEPARENT, TRACEPARENT], None),
        ([""], None),
        ([f"ff-{TRACE}-b7ad6b7169203331-01"], None),
        ([f"00-{'0' * 32}-b7ad6b7169203331-01"], None),
        ([f"00-{TRACE}-{'0' * 16}-01"], None),
        ([TRACEPARENT.upper()], None),
        ([f"{TRACEPARENT}-more"], None),
        ([f"01-{TRACE}-b7ad6b7169203331-01more"], None),
        ([TRACEPARENT[:-1]], None),
        ([f"{TRACEPARENT}\n"], None),
        ([TRACEPARENT.replace("-", "_")], None),
        ([TRACEPARENT.replace("0a", "\u0660a")], None),
        ([f"01-{TRACE}-b7ad6b7169203331-01-{'x' * 1000}"], None),
    ],
)
def test_traceparent_is_parsed_strictly(values: list[str], expected: str | None) -> None:
    assert tracecontext.parse(values) == expected


async def test_an_action_can_read_the_traceparent_to_propagate(api: Api) -> None:
    for header, expected in ((TRACEPARENT, TRACEPARENT), ("nonsense", "None"), (None, "None")):
        response = await api.get("/echoes", headers={"traceparent": header} if header else {})
        assert response.json["items"][0]["text"] == expected
