"""Responses to GET, HEAD and conditional requests, checked by httplint."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import cast

import pytest
from httplint import HttpRequestLinter, HttpResponseLinter, Note, levels

from tests.conftest import Api, Response

ITEM, PAGE, SORTED, DOCS, MANUAL, OPENAPI, STYLE, SCRIPT, ICON = (
    *("item", "page", "sorted", "docs", "manual", "openapi", "style", "script", "icon"),
)
REFERENCE = (DOCS, MANUAL, OPENAPI, STYLE, SCRIPT, ICON)
PROBLEM_LEVELS = (levels.WARN, levels.BAD)

Paths = dict[str, str]


@pytest.fixture(scope="module")
async def paths(running: Api) -> Paths:
    """Create enough items for compressed pages; return the paths to check."""
    contacts = [{"name": f"Ada {number}", "email": f"ada{number}@example.com"} for number in range(10)]
    assert (await running.post("/contacts", contacts)).status == 201
    item = (await running.post("/contacts", {"name": "Bob", "email": "bob@example.com"})).headers["Location"]
    assets = {
        name.rsplit(".", 1)[1]: name
        for name in re.findall(r"/docs/assets/[\w.]+", (await running.get("/docs")).body.decode())
    }
    return {
        ITEM: item,
        PAGE: "/contacts?limit=8",
        SORTED: "/contacts?sort=-name&count=exact&fields=name",
        DOCS: "/docs",
        MANUAL: "/docs/contacts",
        OPENAPI: "/openapi.json",
        STYLE: assets["css"],
        SCRIPT: assets["js"],
        ICON: assets["svg"],
    }


def problems(method: str, url: str, headers: Mapping[str, str], response: Response) -> list[str]:
    """Return the problems that httplint finds in the response to a request."""
    moment = time.time()
    request = HttpRequestLinter(start_time=moment)
    request.process_request_topline(method.encode(), url.encode(), b"1.1")
    request.process_headers([(name.encode(), value.encode()) for name, value in headers.items()])
    request.finish_content(True)
    linter = HttpResponseLinter(start_time=moment)
    linter.request = request
    linter.is_head_response = method == "HEAD"
    linter.process_response_topline(b"1.1", str(response.status).encode(), b"")
    linter.process_headers([(name.encode(), value.encode("latin-1")) for name, value in response.headers.items()])
    linter.feed_content(response.body)
    linter.finish_content(True)
    return [note.summary for note in flatten(cast(Iterable[Note], linter.notes)) if note.level in PROBLEM_LEVELS]


def flatten(notes: Iterable[Note]) -> Iterator[Note]:
    """Yield the notes, each followed by its subnotes."""
    for note in notes:
        yield note
        yield from flatten(note.subnotes)


@pytest.mark.parametrize("coding", ["identity", "gzip"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("name", [ITEM, PAGE, SORTED, *REFERENCE])
async def test_responses_pass_httplint(running: Api, paths: Paths, name: str, method: str, coding: str) -> None:
    url, headers = paths[name], {"Accept-Encoding": coding, "Host": "localhost", "User-Agent": "test"}
    response = await running.request(method, url, headers=headers)
    assert response.status == 200
    assert problems(method, url, headers, response) == []

    tag = response.headers.get("ETag")
    assert (tag is None) is (name in (STYLE, SCRIPT, ICON))
    if tag is not None:
        not_modified = await running.request(method, url, headers={**headers, "If-None-Match": tag})
        assert (not_modified.status, not_modified.headers["ETag"]) == (304, tag)
        assert problems(method, url, {**headers, "If-None-Match": tag}, not_modified) == []
    since = response.headers.get("Last-Modified")
    if since is not None:
        not_modified = await running.request(method, url, headers={**headers, "If-Modified-Since": since})
        assert not_modified.status == 304
        assert problems(method, url, {**headers, "If-Modified-Since": since}, not_modified) == []


@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
async def test_failed_preconditions_pass_httplint(running: Api, paths: Paths, header: str) -> None:
    headers = {"Host": "localhost", "User-Agent": "test", header: '"0"' if header == "If-Match" else "*"}
    method = "GET" if header == "If-Match" else "DELETE"
    response = await running.request(method, paths[ITEM], headers=headers)
    assert response.status == 412
    assert problems(method, paths[ITEM], headers, response) == []


async def test_httplint_detects_a_broken_response(running: Api, paths: Paths) -> None:
    headers = {"Host": "localhost", "User-Agent": "test"}
    response = await running.get(paths[ITEM])
    broken = Response(200, {**response.headers, "ETag": "x", "Content-Length": "1"}, response.body)
    assert len(problems("GET", paths[ITEM], headers, broken)) >= 2
