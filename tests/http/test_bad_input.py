"""Invalid requests of every known kind: each gets its errors, and the service keeps running."""

from __future__ import annotations

import asyncio
import re
from typing import Any, NamedTuple

import orjson
import pytest
from yarl import URL

from tests.conftest import Api, Response

MISSING_ID = "0193e4a0-0000-7000-8000-00000000dead"
GOOD = {"name": "Ada", "email": "ada@example.org"}
JSON = "application/json"
PATCH = "application/json-patch+json"
COLLECTION, ITEM = "/contacts", "/contacts/{id}"


class Case(NamedTuple):
    """A request, and the code and location of every error in its response."""

    method: str
    path: str
    status: int
    errors: set[tuple[int, str | None]]
    body: bytes | None = None
    headers: dict[str, str] = {}


def post(body: bytes | Any, status: int, *errors: tuple[int, str | None], **headers: str) -> Case:
    return write("POST", COLLECTION, body, status, *errors, **headers)


def put(body: bytes | Any, status: int, *errors: tuple[int, str | None], **headers: str) -> Case:
    return write("PUT", ITEM, body, status, *errors, **headers)


def patch(body: bytes | Any, status: int, *errors: tuple[int, str | None], **headers: str) -> Case:
    return write("PATCH", ITEM, body, status, *errors, **headers)


def operations(body: Any, status: int, *errors: tuple[int, str | None]) -> Case:
    return patch(body, status, *errors, Content_Type=PATCH)


def write(
    method: str, path: str, body: bytes | Any, status: int, *errors: tuple[int, str | None], **headers: str
) -> Case:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    all_headers = {"Content-Type": JSON, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return Case(method, path, status, set(errors), data, all_headers)


def get(path: str, status: int, *errors: tuple[int, str | None], **headers: str) -> Case:
    return Case(
        "GET", path, status, set(errors), None, {name.replace("_", "-"): text for name, text in headers.items()}
    )


def field(name: str, value: Any, code: int, pointer: str | None = None) -> Case:
    return post({**GOOD, name: value}, 422, (code, pointer or f"/{name}"))


BODIES = (
    post(b"", 400, (10002, None)),
    post(b"  \r\n\t", 400, (10002, None)),
    post(b"{", 400, (10000, None)),
    post(b'{"name": "Ada",}', 400, (10000, None)),
    post(b"{'name': 'Ada'}", 400, (10000, None)),
    post(b"name=Ada", 400, (10000, None)),
    post(b"<contact/>", 400, (10000, None)),
    post(b'{"name": "Ada"} {"name": "Bob"}', 400, (10000, None)),
    post(b'{"name": "Ada"} // me', 400, (10000, None)),
    post(b"nul", 400, (10000, None)),
    post(b'{"name": NaN}', 400, (10000, None)),
    post(b'{"name": Infinity}', 400, (10000, None)),
    post(b'{"name": -Infinity}', 400, (10000, None)),
    post(b'{"name": 01}', 400, (10000, None)),
    post(b'{"name": 0x1}', 400, (10000, None)),
    post(b'{"name": "\\ud800"}', 400, (10000, None)),
    post(b'{"name": "\\udfff\\ud800"}', 400, (10000, None)),
    post(b'{"\\ud800": 1}', 400, (10000, None)),
    post(b'{"name": "\xed\xa0\x80"}', 400, (10000, None)),
    post(b'{"name": "\xff"}', 400, (10000, None)),
    post(b'{"name": "\xc0\x80"}', 400, (10000, None)),
    post(b'{"name": "caf\xe9"}', 400, (10000, None)),
    post(b'{"name": "a\x00b"}', 400, (10000, None)),
    post(b'{"name": "a\nb"}', 400, (10000, None)),
    post(b'\xef\xbb\xbf{"name": "Ada"}', 400, (10000, None)),
    post('{"name": "Ada"}'.encode("utf-16"), 400, (10000, None)),
    post(b"\x00" * 100, 400, (10000, None)),
    post(b"[" * 2000, 400, (10000, None)),
    post(b"[" * 1_000_000, 400, (10000, None)),
    post(b"[" * 5000 + b"]" * 5000, 400, (10000, None)),
    post(b"[" * 101 + b"]" * 101, 400, (10001, None)),
    post(b'{"a":' * 500 + b"1" + b"}" * 500, 400, (10001, None)),
    post(b"null", 400, (10001, "")),
    post(b"true", 400, (10001, "")),
    post(b"5", 400, (10001, "")),
    post(b'"text"', 400, (10001, "")),
    post(b"1e400", 400, (10000, None)),
    post(b'{"name": %b}' % (b"1" * 4000), 400, (10000, None)),
    put(b"[]", 400, (10001, "")),
    put(b"", 400, (10002, None)),
    put(b'"x"', 400, (10001, "")),
    patch(b"", 400, (10002, None)),
    patch(b"[]", 400, (10001, "")),
    patch(b"null", 400, (10001, "")),
    patch(b"{]", 400, (10000, None)),
    post(b" " * (10 * 1024 * 1024 + 1), 413, (10005, None)),
    post([GOOD] * 1001, 413, (10005, "")),
    post([], 422, (11005, "")),
    post([GOOD, [], None, 5, "x"], 422, (11004, "/1"), (11004, "/2"), (11004, "/3"), (11004, "/4")),
    post([{**GOOD, "name": 5}, {}], 422, (11004, "/0/name"), (11001, "/1/name"), (11001, "/1/email")),
)

MEDIA = (
    post(GOOD, 415, (10003, "Content-Type"), Content_Type="text/plain"),
    post(GOOD, 415, (10003, "Content-Type"), Content_Type="application/x-www-form-urlencoded"),
    post(GOOD, 415, (10003, "Content-Type"), Content_Type="application/merge-patch+json"),
    post(GOOD, 415, (10003, "Content-Type"), Content_Type="application/jsonp"),
    post(GOOD, 415, (10003, "Content-Type"), Content_Type="json"),
    post(GOOD, 415, (10003, "Content-Type"), Content_Type=";"),
    post(GOOD, 415, (10003, "Content-Type"), Content_Type="application/json; charset=latin-1"),
    post(GOOD, 415, (10003, "Content-Type"), Content_Type="application/json; charset=utf-16"),
    post(GOOD, 415, (10003, "Content-Encoding"), Content_Encoding="gzip"),
    post(GOOD, 415, (10003, "Content-Encoding"), Content_Encoding="identity"),
    put(GOOD, 415, (10003, "Content-Type"), Content_Type=PATCH),
    patch(GOOD, 415, (10003, "Content-Type"), Content_Type="text/json"),
    patch(GOOD, 415, (10003, "Content-Encoding"), Content_Encoding="br"),
    post(GOOD, 406, (10004, "Accept"), Accept="text/html"),
    post(GOOD, 406, (10004, "Accept"), Accept="application/json;q=0"),
    get(ITEM, 406, (10004, "Accept"), Accept="image/*"),
    get("/errors", 406, (10004, "Accept"), Accept="application/xml"),
    get("/health", 406, (10004, "Accept"), Accept="text/plain"),
)

FIELDS = (
    field("name", None, 11003),
    field("name", 5, 11004),
    field("name", True, 11004),
    field("name", ["Ada"], 11004),
    field("name", {"first": "Ada"}, 11004),
    field("name", "", 11005),
    field("name", "x" * 201, 11006),
    field("name", "a\0b", 11013),
    post({"email": "a@example.org"}, 422, (11001, "/name")),
    post({"name": "Ada"}, 422, (11001, "/email")),
    post({}, 422, (11001, "/name"), (11001, "/email")),
    field("email", None, 11003),
    field("email", 5, 11004),
    field("email", "", 11009),
    field("email", "ada", 11009),
    field("email", "ada@", 11009),
    field("email", "@example.org", 11009),
    field("email", "a@b@example.org", 11009),
    field("email", "a\n@example.org", 11009),
    field("phone", 5, 11004),
    field("phone", 1.5, 11004),
    field("phone", "1" * 41, 11006),
    field("phone", "\0", 11013),
    field("notes", [], 11004),
    field("notes", "x" * 10_001, 11006),
    field("notes", "\0", 11013),
    field("birthday", 20150215, 11004),
    field("birthday", {}, 11004),
    field("birthday", "", 11012),
    field("birthday", "15.2.2015", 11012),
    field("birthday", "2015-2-15", 11012),
    field("birthday", "2015-02-30", 11012),
    field("birthday", "0000-01-01", 11012),
    field("birthday", "10000-01-01", 11012),
    field("birthday", "2015-02-15T00:00:00Z", 11012),
    field("birthday", "2015-W07-7", 11012),
    field("birthday", "2015-02-15 ", 11012),
    field("birthday", "\uff12\uff10\uff11\uff15-02-15", 11012),
    field("tags", None, 11003),
    field("tags", "x", 11004),
    field("tags", {}, 11004),
    field("tags", ["x"] * 21, 11006),
    field("tags", ["ok", 5], 11004, "/tags/1"),
    field("tags", ["ok", None], 11003, "/tags/1"),
    field("tags", ["x" * 51], 11006, "/tags/0"),
    field("tags", ["a", "\0"], 11013, "/tags/1"),
    field("tags", [["x"]], 11004, "/tags/0"),
    field("last_contacted_at", 1423977667, 11004),
    field("last_contacted_at", 1e300, 11004),
    field("last_contacted_at", "", 11012),
    field("last_contacted_at", "2015-02-15", 11012),
    field("last_contacted_at", "2015-02-15T05:21Z", 11012),
    field("last_contacted_at", "2015-02-15T05:21:07+0200", 11012),
    field("last_contacted_at", "2015-02-15T25:00:00Z", 11012),
    field("last_contacted_at", "2015-02-15T05:21:61Z", 11012),
    field("last_contacted_at", "2015-02-15T05:21:07+24:00", 11012),
    field("last_contacted_at", "0001-01-01T00:00:00+01:00", 11012),
    field("last_contacted_at", "9999-12-31T23:59:59-01:00", 11012),
    field("last_contacted_at", "2015-W07-7T05:21:07Z", 11012),
    field("last_contacted_at", "yesterday", 11012),
    field("nmae", "Ada", 11002),
    field("", "Ada", 11002, "/"),
    field("a/b~c", "Ada", 11002, "/a~1b~0c"),
    field("_version", 1, 11002),
    field("__class__", 1, 11002),
    field("id", MISSING_ID, 11000),
    field("id", None, 11000),
    post(
        {"id": 1, "name": 2, "email": 3, "x": 4},
        422,
        (11000, "/id"),
        (11004, "/name"),
        (11004, "/email"),
        (11002, "/x"),
    ),
    put({"name": "Ada"}, 422, (11001, "/email")),
    put({**GOOD, "id": MISSING_ID}, 422, (11000, "/id")),
    put({**GOOD, "id": 5}, 422, (11000, "/id")),
    put({**GOOD, "tags": None}, 422, (11003, "/tags")),
    patch({"name": None}, 422, (11003, "/name")),
    patch({"id": MISSING_ID}, 422, (11000, "/id")),
    patch({"nmae": "x"}, 422, (11002, "/nmae")),
    patch({"tags": {"0": "x"}}, 422, (11004, "/tags")),
    patch({"name": "", "birthday": "x"}, 422, (11005, "/name"), (11012, "/birthday")),
)

NUMBERS = tuple(
    post(b'{"name": %b, "email": "a@example.org"}' % number, 422, (11004, "/name"))
    for number in (b"1e308", b"123456789012345678901234567890", b"-0.0", b"1" * 300)
)

PATCHES = (
    operations({}, 400, (10001, "")),
    operations([5], 400, (10001, "/0")),
    operations([{}], 400, (10001, "/0/op")),
    operations([{"op": "burn", "path": "/name"}], 400, (10001, "/0/op")),
    operations([{"op": ["add"], "path": "/name"}], 400, (10001, "/0/op")),
    operations([{"op": "remove"}], 400, (10001, "/0/path")),
    operations([{"op": "remove", "path": 5}], 400, (10001, "/0/path")),
    operations([{"op": "remove", "path": "name"}], 400, (10001, "/0/path")),
    operations([{"op": "remove", "path": "/a~2"}], 400, (10001, "/0/path")),
    operations([{"op": "add", "path": "/name"}], 400, (10001, "/0/value")),
    operations([{"op": "move", "path": "/name"}], 400, (10001, "/0/from")),
    operations([{"op": "move", "from": "/tags", "path": "/tags/0"}], 400, (10001, "/0/path")),
    operations([{"op": "test", "path": "/name", "value": "Bob"}], 409, (13004, "/0")),
    operations([{"op": "remove", "path": "/x"}], 409, (13004, "/0")),
    operations([{"op": "replace", "path": "/tags/9", "value": "x"}], 409, (13004, "/0")),
    operations([{"op": "add", "path": "/tags/01", "value": "x"}], 409, (13004, "/0")),
    operations([{"op": "add", "path": "/name/first", "value": "x"}], 409, (13004, "/0")),
    operations([{"op": "replace", "path": "/name", "value": 5}], 422, (11004, "/name")),
    operations([{"op": "remove", "path": "/name"}], 422, (11003, "/name")),
    operations([{"op": "add", "path": "/x", "value": 5}], 422, (11002, "/x")),
    operations([{"op": "replace", "path": "", "value": []}], 422, (11004, "")),
    operations([{"op": "remove", "path": ""}], 422, (11004, "")),
    operations([{"op": "test", "path": "", "value": 1}] * 1001, 413, (10005, None)),
    operations(
        [{"op": "add", "path": "/tags", "value": []}] + [{"op": "copy", "from": "/tags", "path": "/tags/-"}] * 900,
        413,
        (10005, None),
    ),
)

PATHS = (
    get("/nothing", 404, (13000, None)),
    get("/Contacts", 404, (13000, None)),
    get("//contacts", 404, (13000, None)),
    get("/contacts/5", 404, (13000, None)),
    get("/contacts/me", 404, (13000, None)),
    get("/contacts/0193e4a0-0000-7000-8000-00000000000", 404, (13000, None)),
    get("/contacts/0193e4a0-0000-7000-8000-00000000000g", 404, (13000, None)),
    get("/contacts/{0193e4a0-0000-7000-8000-000000000000}", 404, (13000, None)),
    get("/contacts/0193e4a0000070008000000000000000", 404, (13000, None)),
    get("/contacts/urn:uuid:0193e4a0-0000-7000-8000-000000000000", 404, (13000, None)),
    get("/contacts/" + MISSING_ID, 404, (13000, None)),
    get("/contacts/" + "x" * 5000, 404, (13000, None)),
    get("/contacts/%00", 404, (13000, None)),
    get("/contacts/%FF", 404, (13000, None)),
    get("/%ed%a0%80", 404, (13000, None)),
    get("/contacts/%", 404, (13000, None)),
    get("/contacts/%zz", 404, (13000, None)),
    get("/contacts/..%2f..%2fetc%2fpasswd", 404, (13000, None)),
    get("/contacts/" + MISSING_ID + "/x", 404, (13000, None)),
    get("/contacts/' OR 1=1 --", 400, (10016, None)),
    get("/pegboard", 404, (13000, None)),
    Case("DELETE", COLLECTION, 405, {(13001, None)}),
    Case("PUT", COLLECTION, 405, {(13001, None)}),
    Case("PATCH", COLLECTION, 405, {(13001, None)}),
    Case("POST", ITEM, 405, {(13001, None)}),
    Case("TRACE", COLLECTION, 405, {(13001, None)}),
    Case("POST", "/errors", 405, {(13001, None)}),
    Case("DELETE", "/", 405, {(13001, None)}),
    Case("PROPFIND", COLLECTION, 501, {(15001, None)}),
    Case("BREW", COLLECTION, 501, {(15001, None)}),
    Case("get", COLLECTION, 501, {(15001, None)}),
    Case("DELETE", f"/contacts/{MISSING_ID}", 404, {(13000, None)}),
    write("PATCH", f"/contacts/{MISSING_ID}", {}, 404, (13000, None)),
    write("PUT", f"/contacts/{MISSING_ID}", GOOD, 404, (13000, None)),
    get("/contacts?limit=1" + "0" * 8200, 414, (10006, None)),
)

QUERIES = (
    get("/contacts?limit=0", 400, (10012, "limit")),
    get("/contacts?limit=501", 400, (10012, "limit")),
    get("/contacts?limit=-1", 400, (10012, "limit")),
    get("/contacts?limit=ten", 400, (10012, "limit")),
    get("/contacts?limit=", 400, (10012, "limit")),
    get("/contacts?limit=1.0", 400, (10012, "limit")),
    get("/contacts?limit=" + "9" * 500, 400, (10012, "limit")),
    get("/contacts?limit=1&limit=1", 400, (10012, "limit")),
    get("/contacts?after=", 400, (10014, "after")),
    get("/contacts?after=abc", 400, (10014, "after")),
    get("/contacts?before=" + "A" * 60, 400, (10014, "before")),
    get("/contacts?after=%00", 400, (10012, "after")),
    get("/contacts?after=a&before=b", 400, (10012, "before")),
    get("/contacts?sort=", 400, (10012, "sort")),
    get("/contacts?sort=nmae", 400, (10012, "sort")),
    get("/contacts?sort=name,name", 400, (10012, "sort")),
    get("/contacts?sort=tags", 400, (10012, "sort")),
    get("/contacts?fields=", 400, (10012, "fields")),
    get("/contacts?fields=x", 400, (10012, "fields")),
    get("/contacts?count=yes", 400, (10012, "count")),
    get("/contacts?emial=x", 400, (10013, "emial")),
    get("/contacts?name__near=x", 400, (10013, "name__near")),
    get("/contacts?birthday=x", 400, (10012, "birthday")),
    get("/contacts?birthday__gte=2015-02-30", 400, (10012, "birthday__gte")),
    get("/contacts?created_at__lt=2015-02-15T05:21:07+02:00", 400, (10012, "created_at__lt")),
    get("/contacts?id=5", 400, (10012, "id")),
    get("/contacts?phone__isnull=yes", 400, (10012, "phone__isnull")),
    get("/contacts?name=%00", 400, (10012, "name")),
    get("/contacts?name=%FF", 400, (10012, "name")),
    get("/contacts?name=%2", 400, (10012, "name")),
    get("/contacts?q=", 400, (10012, "q")),
    get("/contacts?expand=x", 400, (10012, "expand")),
    get("/contacts?a=1&b=2&limit=x", 400, (10013, "a"), (10013, "b"), (10012, "limit")),
    get("/contacts?" + "&".join(f"x{n}=1" for n in range(101)), 400, (10012, None)),
    get(ITEM + "?limit=1", 400, (10013, "limit")),
    get(ITEM + "?fields=x", 400, (10012, "fields")),
    write("POST", COLLECTION + "?dry=1", GOOD, 400, (10013, "dry")),
    write("PATCH", ITEM + "?x=1", {}, 400, (10013, "x")),
    Case("DELETE", ITEM + "?force=1", 400, {(10013, "force")}),
)

HEADERS = (
    get(ITEM, 400, (10015, "If-None-Match"), If_None_Match=""),
    get(ITEM, 400, (10015, "If-None-Match"), If_None_Match="abc"),
    get(ITEM, 400, (10015, "If-None-Match"), If_None_Match='"a'),
    get(ITEM, 400, (10015, "If-None-Match"), If_None_Match='"a",b'),
    get(ITEM, 400, (10015, "If-None-Match"), If_None_Match='*, "a"'),
    get(ITEM, 400, (10015, "If-Match"), If_Match='w/"a"'),
    get(COLLECTION, 400, (10015, "If-None-Match"), If_None_Match="'a'"),
    get(ITEM, 412, (13005, "If-Match"), If_Match='"a"'),
    patch({}, 400, (10015, "If-Match"), If_Match="5"),
    patch({}, 412, (13005, "If-Match"), If_Match='"5"'),
    patch({}, 412, (13005, "If-Match"), If_Match='"' + "f" * 400 + '"'),
    patch({}, 412, (13005, "If-Match"), If_Match='W/"5"'),
    put(GOOD, 400, (10015, "If-Match"), If_Match='"a" "b"'),
    put(GOOD, 412, (13005, "If-None-Match"), If_None_Match="*"),
    patch({}, 412, (13005, "If-Unmodified-Since"), If_Unmodified_Since="Sun, 15 Feb 2015 05:21:07 GMT"),
    Case("DELETE", ITEM, 400, {(10015, "If-Match")}, None, {"If-Match": '""x'}),
    Case("DELETE", ITEM, 412, {(13005, "If-Match")}, None, {"If-Match": '"zz"'}),
    post(GOOD, 400, (10015, "Idempotency-Key"), Idempotency_Key=""),
    post(GOOD, 400, (10015, "Idempotency-Key"), Idempotency_Key="x" * 256),
    post(GOOD, 400, (10015, "Idempotency-Key"), Idempotency_Key="a\tb"),
    post(GOOD, 400, (10015, "Idempotency-Key"), Idempotency_Key="é"),
    get(COLLECTION, 417, (10007, None), Expect="miracles"),
    get(COLLECTION, 431, (10008, None), X="x" * 33_000),
    get(COLLECTION, 401, (12000, "Authorization"), Authorization="Bearer x"),
    get(COLLECTION, 401, (12000, "Authorization"), Authorization="Basic"),
    get(COLLECTION, 401, (12000, "Authorization"), Authorization="Basic %%%"),
    get(COLLECTION, 401, (12000, "Authorization"), Authorization="Basic YWRtaW4="),
    get(COLLECTION, 401, (12000, "Authorization"), Authorization="Basic /////w=="),
)

IGNORED = (
    get(ITEM, 200, Prefer="=;,return"),
    get(ITEM, 200, Prefer="return=nothing"),
    get(ITEM, 200, Accept=";;;,,,"),
    get(ITEM, 200, Accept_Encoding="klingon;q=9"),
    get(ITEM, 200, If_Modified_Since="yesterday"),
    get(ITEM, 200, If_Unmodified_Since="Sun, 99 Feb 2015 05:21:07 GMT"),
    get(ITEM, 200, If_Modified_Since="Mon, 01 Jan 99999 00:00:00 GMT"),
    get(ITEM, 200, If_Modified_Since="Sun, 15 Feb 2015 05:21:07 +9999"),
    get(ITEM, 200, Range="bytes=0-4"),
    get(ITEM, 200, X_Request_Id="a b"),
    get(ITEM, 200, Content_Type="nonsense"),
    write("GET", ITEM, b"{]", 200),
    write("DELETE", f"{COLLECTION}/{MISSING_ID}", b"{]", 404, (13000, None)),
    patch(b'{"name": "Bob", "name": "Ada"}', 200),
    patch({"created_at": 5, "updated_at": None}, 200),
    post(b'{"name": "\\ud83d\\ude00", "email": "smile@example.org"}', 201),
    post(b'{"name": "%b", "email": "long@example.org"}' % ("\U0001f600" * 200).encode(), 201),
)
"""Unusual but valid requests."""

TABLES = (BODIES, MEDIA, FIELDS, NUMBERS, PATCHES, PATHS, QUERIES, HEADERS, IGNORED)
CASES = [case for table in TABLES for case in table]


@pytest.fixture(scope="module")
async def item(running: Api) -> str:
    """Return the id of a contact shared by all cases."""
    await running.service.database.write.execute("TRUNCATE contacts.contacts")
    response = await running.post("/contacts", {"name": "Item", "email": "item@example.org"})
    return str(response.json["id"])


def name_of(case: Case) -> str:
    body = "" if case.body is None else repr(case.body[:30])
    return f"{case.method} {case.path[:40]} {body} {case.status}"


@pytest.mark.parametrize("case", CASES, ids=name_of)
async def test_a_bad_request_gets_every_error(running: Api, item: str, case: Case) -> None:
    path = case.path.replace("{id}", item)
    # As bytes on the wire, since a client library would correct some of it.
    response = await send(running, case.method, path, case.body, case.headers)
    assert response.status == case.status, response.body
    if case.status >= 400:
        check_error(response, case)
    check_headers(response)
    alive = await running.get(f"/contacts/{item}")
    assert alive.status == 200


def check_error(response: Response, case: Case) -> None:
    assert response.headers["Content-Type"] == "application/json"
    assert set(response.json) == {"errors"}
    for error in response.json["errors"]:
        assert {"message", "code"} <= set(error) <= {"message", "code", "pointer", "parameter", "header"}
        assert len(error) <= 3
        assert isinstance(error["message"], str)
        assert error["message"]
        assert type(error["code"]) is int
    assert set(response.errors) == case.errors
    assert len(response.errors) == len(case.errors)
    assert response.headers["Cache-Control"] == "no-store"
    assert not re.search(rb"Traceback|pegboard\.|asyncpg|SELECT|\.py", response.body)
    if case.status == 405:
        assert "OPTIONS" in response.headers["Allow"]
    if case.status == 415:
        assert response.headers["Accept-Patch" if case.method == "PATCH" else "Accept"]
    if case.status == 401:
        assert response.headers["WWW-Authenticate"] == 'Basic realm="pegboard", charset="UTF-8"'
    if case.status == 501:
        assert response.headers["X-Request-Id"] in response.body.decode()


def check_headers(response: Response) -> None:
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", response.headers["X-Request-Id"])
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cache-Control"] in ("no-store", "private, no-cache")


async def send(api: Api, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Response:
    lines = {"Host": "test", **api.headers, **headers, "Connection": "close"}
    if body is not None:
        lines["Content-Length"] = str(len(body))
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return await send_raw(api, f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + (body or b""))


async def send_raw(api: Api, data: bytes) -> Response:
    """Send bytes, and return the single response before the connection is closed."""
    url = URL(api.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        writer.write(data)
        async with asyncio.timeout(10):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    if "Content-Length" in headers:
        assert len(body) == int(headers["Content-Length"])
    return Response(int(status.split(" ")[1]), headers, body)


RAW: tuple[tuple[bytes, int, int], ...] = (
    (b"hello\r\n\r\n", 400, 10016),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, 10016),
    (b"GET /contacts HTTP/1.1\r\n\r\n", 400, 10016),
    (b"GET /contacts HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, 10016),
    (b"GET /contacts HTTP/1.1\r\nHost: a\r\nBroken\r\n\r\n", 400, 10016),
    (b"GET /contacts HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", 400, 10016),
    (b"GET /contacts HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n", 400, 10016),
    (b"GET /contacts\x00 HTTP/1.1\r\nHost: a\r\n\r\n", 400, 10016),
    (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400, 10016),
    (b"GET /contacts?name=\xe9 HTTP/1.1\r\nHost: a\r\n\r\n", 400, 10016),
    (b"GET /contacts HTTP/3.0\r\nHost: a\r\n\r\n", 505, 10011),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, 10011),
    (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400, 10016),
    (b"POST /contacts HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400, 10016),
    (b"POST /contacts HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400, 10016),
    (b"POST /contacts HTTP/1.1\r\nHost: a\r\nContent-Length: five\r\n\r\n", 400, 10016),
    (b"POST /contacts HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 400, 10016),
    (b"POST /contacts HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, 10016),
    (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, 10006),
    (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431, 10008),
)


@pytest.mark.parametrize(("data", "status", "code"), RAW, ids=range(len(RAW)))
async def test_malformed_http_is_rejected(running: Api, item: str, data: bytes, status: int, code: int) -> None:
    response = await send_raw(running, data)
    assert (response.status, [code for code, _ in response.errors]) == (status, [code])
    check_headers(response)
    assert response.headers["Connection"] == "close"
    assert (await running.get(f"/contacts/{item}")).status == 200


async def test_rejected_requests_changed_nothing(running: Api, item: str) -> None:
    page = (await running.get("/contacts?count=exact")).json
    assert page["total"] == 1 + sum(case.status == 201 for case in CASES)
    shown = (await running.get(f"/contacts/{item}")).json
    assert (shown["name"], shown["email"]) == ("Ada", "item@example.org")
