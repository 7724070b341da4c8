"""The catalogue of errors: code ranges, the list for clients, and a request for every code."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from yarl import URL

from pegboard import (
    ApiError,
    Content,
    Context,
    Resource,
    Schema,
    Stored,
    TableResource,
    Unique,
    Upload,
    errors,
    validate,
)
from pegboard.errors import CATALOGUE, ErrorDetail, gather, pointer
from pegboard.schema import fields
from tests.conftest import Api, Response, Serve, plugin

RANGES = (
    (range(10_000, 11_000), {400, 406, 408, 411, 413, 414, 415, 416, 417, 431, 505}),
    (range(11_000, 12_000), {422}),
    (range(12_000, 13_000), {401, 403, 429}),
    (range(13_000, 14_000), {404, 405, 409, 412, 422, 428}),
    (range(15_000, 16_000), {500, 501, 503, 504}),
)


class Own(ApiError, number=2, status=418, message="This is a teapot."): ...


class Everything(Schema):
    text = fields.String(validate=validate.Length(2, 5))
    choice = fields.String(validate=validate.OneOf(["a", "b"]))
    odd = fields.Integer(validate=validate.Equal(1))
    email = fields.Email()
    url = fields.Url()
    uuid = fields.UUID()
    date = fields.Date()
    must = fields.Integer(required=True)


class Things(TableResource):
    """Things with fields of all types."""

    schema = Everything
    verbs = "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"
    unique = (Unique("must"),)


class Faulty(Resource):
    """Fails in the way the id demands."""

    schema = Everything
    verbs = ("GET",)
    error_codes = (Own,)
    content = Content()

    def parse_id(self, text: str) -> str | None:
        return text

    async def read_content(self, context: Context, id: str) -> Stored:
        async def read(start: int, stop: int) -> AsyncGenerator[bytes, None]:
            yield b"hello"[start:stop]

        return Stored(5, "text/plain", sha256(b"hello").digest(), read)

    async def write_content(self, context: Context, id: str, upload: Upload) -> None:
        pass

    async def retrieve(self, context: Context, id: str) -> Any:
        if id == "lost":
            await self.database.write.fetchval("SELECT pg_terminate_backend(pg_backend_pid())")
        if id == "own":
            raise Own("Short and stout.", headers={"X-Tea": "yes"})
        raise {"slow": TimeoutError, "crash": KeyError}[id]


class Guarded(TableResource):
    """Things whose writes require If-Match."""

    schema = Everything
    verbs = "GET", "POST", "DELETE"
    needs_match = True


@pytest.fixture(scope="module")
async def api(serve: Serve) -> Api:
    failed = plugin("failed", Things)
    failed.fail("it is broken")
    plugins = [plugin("things", Things), plugin("faulty", Faulty), plugin("guarded", Guarded), failed]
    api = await serve(plugins, receive_timeout=0.3, max_body=2000)
    await api.service.clients.add("nobody", "without grants", [])
    return api


async def send(api: Api, data: bytes) -> Response:
    url = URL(api.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(data)
    async with asyncio.timeout(10):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return Response(int(head.split(b" ")[1]), {}, body)


class Case(NamedTuple):
    code: type[ApiError]
    method: str
    path: str
    body: Any = None
    headers: dict[str, str] = {}


CASES = (
    Case(errors.InvalidJson, "POST", "/things", b"{"),
    Case(errors.InvalidBody, "POST", "/things", b"5"),
    Case(errors.MissingBody, "POST", "/things", b""),
    Case(errors.UnsupportedMediaType, "POST", "/things", b"{}", {"Content-Type": "text/csv"}),
    Case(errors.NotAcceptable, "GET", "/things", None, {"Accept": "image/png"}),
    Case(errors.BodyTooLarge, "POST", "/things", b" " * 2001),
    Case(errors.UrlTooLong, "GET", "/" + "x" * 9000),
    Case(errors.HeadersTooLarge, "GET", "/things", None, {"X": "x" * 40_000}),
    Case(errors.InvalidParameter, "GET", "/things?limit=x"),
    Case(errors.UnknownParameter, "GET", "/things?x=1"),
    Case(errors.InvalidCursor, "GET", "/things?after=xyz"),
    Case(errors.InvalidHeader, "GET", "/things", None, {"If-None-Match": "x"}),
    Case(errors.RangeNotSatisfiable, "GET", "/faulty/any/content", None, {"Range": "bytes=5-"}),
    Case(errors.DigestMismatch, "PUT", "/faulty/any/content", b"x", {"Content-Digest": f"sha-256=:{'A' * 43}=:"}),
    Case(errors.InvalidValue, "POST", "/things", {"must": 1, "odd": 2}),
    Case(errors.MissingField, "POST", "/things", {}),
    Case(errors.UnknownField, "POST", "/things", {"must": 1, "x": 1}),
    Case(errors.NullNotAllowed, "POST", "/things", {"must": None}),
    Case(errors.WrongType, "POST", "/things", {"must": "x"}),
    Case(errors.TooShort, "POST", "/things", {"must": 1, "text": "x"}),
    Case(errors.TooLong, "POST", "/things", {"must": 1, "text": "x" * 6}),
    Case(errors.OutOfRange, "POST", "/things", {"must": 2**63}),
    Case(errors.InvalidChoice, "POST", "/things", {"must": 1, "choice": "c"}),
    Case(errors.InvalidEmail, "POST", "/things", {"must": 1, "email": "x"}),
    Case(errors.InvalidUrl, "POST", "/things", {"must": 1, "url": "x"}),
    Case(errors.InvalidUuid, "POST", "/things", {"must": 1, "uuid": "x"}),
    Case(errors.InvalidDate, "POST", "/things", {"must": 1, "date": "x"}),
    Case(errors.InvalidCharacters, "POST", "/things", {"must": 1, "text": "x\0"}),
    Case(errors.NotAuthenticated, "GET", "/things", None, {"Authorization": "Bearer x"}),
    Case(errors.WrongCredentials, "GET", "/things", None, {"Authorization": "Basic YWRtaW46d3JvbmcgcGFzc3dvcmQ="}),
    Case(errors.NotFound, "GET", "/nothing"),
    Case(errors.MethodNotAllowed, "DELETE", "/things"),
    Case(errors.Conflict, "POST", "/things", {"must": 7}),
    Case(errors.StillReferenced, "DELETE", "{item}"),
    Case(
        errors.PatchConflict,
        "PATCH",
        "{item}",
        [{"op": "remove", "path": "/x"}],
        {"Content-Type": "application/json-patch+json"},
    ),
    Case(errors.PreconditionFailed, "DELETE", "{item}", None, {"If-Match": '"0"'}),
    Case(errors.PreconditionRequired, "DELETE", "{guarded}"),
    Case(errors.IdempotencyKeyReused, "POST", "/guarded", {"must": 9}, {"Idempotency-Key": "used"}),
    Case(errors.IdempotencyKeyInUse, "POST", "/guarded", {"must": 9}, {"Idempotency-Key": "held"}),
    Case(errors.InternalError, "GET", "/faulty/crash"),
    Case(errors.PluginUnavailable, "GET", "/failed"),
    Case(errors.DatabaseUnavailable, "GET", "/faulty/lost"),
    Case(errors.TimedOut, "GET", "/faulty/slow"),
    Case(Own, "GET", "/faulty/own"),
)

MALFORMED = (
    (errors.ExpectationFailed, b"GET / HTTP/1.1\r\nHost: a\r\nExpect: miracles\r\n\r\n"),
    (errors.RequestTimeout, b"GET / HTTP/1.1\r\nHost: a\r\n"),
    (
        errors.LengthRequired,
        b"POST /things HTTP/1.1\r\nHost: a\r\nAuthorization: Basic YWRtaW46Y29ycmVjdCBob3JzZQ==\r\n"
        b"Content-Type: application/json\r\n\r\n",
    ),
    (errors.HttpVersionNotSupported, b"GET / HTTP/3.0\r\nHost: a\r\n\r\n"),
    (errors.BadRequest, b"GET / HTTP/1.1\r\n\r\n"),
    (errors.MethodNotImplemented, b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n"),
)

TESTED_BELOW = (errors.Forbidden, errors.TooManyRequests, errors.ShuttingDown)
TESTED_ELSEWHERE = (errors.Busy,)
"""Only exports raise it."""


# The catalogue -----------------------------------------------------------------------------------------------


def test_every_code_is_in_its_range() -> None:
    for code in CATALOGUE:
        ((_, statuses),) = [(numbers, statuses) for numbers, statuses in RANGES if code.code in numbers]
        assert code.status in statuses
        assert code.message.endswith(".")
        assert code.message == code.message.strip()


def test_codes_are_unique_and_ordered() -> None:
    numbers = [code.code for code in CATALOGUE]
    assert numbers == sorted(set(numbers))
    assert CATALOGUE[0] is errors.InvalidJson


def test_codes_never_change() -> None:
    assert [(code.code, code.status) for code in CATALOGUE] == [
        *((10000, 400), (10001, 400), (10002, 400), (10003, 415), (10004, 406), (10005, 413), (10006, 414)),
        *((10007, 417), (10008, 431), (10009, 408), (10010, 411), (10011, 505), (10012, 400), (10013, 400)),
        *((10014, 400), (10015, 400), (10016, 400), (10017, 416), (10018, 400)),
        *((number, 422) for number in range(11000, 11014)),
        *((12000, 401), (12001, 401), (12002, 403), (12003, 429)),
        *((13000, 404), (13001, 405), (13002, 409), (13003, 409), (13004, 409), (13005, 412), (13006, 428)),
        *((13007, 422), (13008, 409)),
        *((15000, 500), (15001, 501), (15002, 503), (15003, 503), (15004, 503), (15005, 504)),
        (15006, 503),
    ]


def test_every_code_is_tested() -> None:
    tested = {case.code for case in CASES} | {code for code, _ in MALFORMED} | {*TESTED_BELOW, *TESTED_ELSEWHERE}
    assert tested == {*CATALOGUE, Own}


async def test_the_catalogue_lists_codes_of_plugins(api: Api) -> None:
    items = (await api.get("/errors")).json["items"]
    assert [item for item in items if item["plugin"] is None] == [
        {"code": code.code, "status": code.status, "message": code.message, "plugin": None} for code in CATALOGUE
    ]
    plugin_items = [item for item in items if item["plugin"] is not None]
    assert plugin_items == [{"code": 20002, "status": 418, "message": "This is a teapot.", "plugin": "faulty"}]


# Each of them over HTTP --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
async def paths(api: Api) -> dict[str, str]:
    """Return the paths of a referenced item and of a guarded one."""
    item = (await api.post("/things", {"must": 7})).headers["Location"]
    guarded = (await api.post("/guarded", {"must": 1}, headers={"Idempotency-Key": "used"})).headers["Location"]
    write = api.service.database.write
    await write.execute("CREATE TABLE things.other (thing uuid NOT NULL REFERENCES things.things)")
    await write.execute("INSERT INTO things.other SELECT id FROM things.things")
    return {"item": item, "guarded": guarded}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.code.__name__)
async def test_a_request_gets_its_error_code(api: Api, paths: dict[str, str], case: Case) -> None:
    path = case.path.replace("{item}", paths["item"]).replace("{guarded}", paths["guarded"])
    body = {"data": case.body} if isinstance(case.body, bytes) else {"json": case.body}
    headers = {"Content-Type": "application/json", **case.headers}
    client = await api.service.database.write.fetchval("SELECT id::text FROM pegboard.client WHERE username = 'admin'")
    async with api.service.database.write.transaction() as connection:
        # Like a first request with this key that is still running.
        claim = f"{client}\n/guarded\nheld"
        await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", claim)
        response = await api.request(case.method, path, headers=headers, **body)
    assert (response.status, [code for code, _ in response.errors]) == (case.code.status, [case.code.code]), (
        response.body
    )
    if case.code.status in (409, 429, 503) and case.code not in (errors.Conflict,):
        waits = case.code in (errors.IdempotencyKeyInUse, errors.PluginUnavailable, errors.DatabaseUnavailable)
        assert ("Retry-After" in response.headers) is waits
    if case.code.status >= 500:
        assert response.headers["X-Request-Id"] in response.json["errors"][0]["message"]


@pytest.mark.parametrize(("code", "data"), MALFORMED, ids=lambda value: str(getattr(value, "code", "")))
async def test_malformed_http_gets_its_error_code(api: Api, code: type[ApiError], data: bytes) -> None:
    response = await send(api, data)
    assert (response.status, [number for number, _ in response.errors]) == (code.status, [code.code])


async def test_a_missing_grant_is_403(api: Api) -> None:
    response = await api.as_client("nobody", "without grants").get("/things")
    assert (response.status, response.errors) == (403, [(12002, None)])


async def test_a_plugin_defines_its_own_error_messages(api: Api) -> None:
    response = await api.get("/faulty/own")
    assert response.json == {"errors": [{"message": "Short and stout.", "code": 20002}]}
    assert response.headers["X-Tea"] == "yes"


async def test_details_of_a_crash_are_only_in_the_log(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    name = uuid4().hex
    response = await api.get("/faulty/crash", headers={"X-Request-Id": name})
    assert response.json == {"errors": [{"message": f"Internal error. Request ID: {name}.", "code": 15000}]}
    (record,) = [record for record in caplog.records if record.exc_info]
    assert name in record.getMessage()


async def test_a_draining_service_is_503(serve: Serve) -> None:
    api = await serve([])
    api.service.draining = True
    response = await api.get("/ready")
    assert (response.status, response.errors) == (503, [(15004, None)])


async def test_password_guesses_are_throttled(serve: Serve) -> None:
    api = await serve([])
    guesser = api.as_client("somebody", "wrong password")
    async with asyncio.timeout(30):
        while (response := await guesser.get("/")).status == 401:
            assert response.errors == [(12001, None)]
    assert (response.status, response.errors) == (429, [(12003, None)])
    assert int(response.headers["Retry-After"]) >= 1


# Construction of errors --------------------------------------------------------------------------------------


def test_an_error_without_details_has_one_entry() -> None:
    error = errors.NotFound(pointer="/a")
    assert error.details == (ErrorDetail(13000, "Not found.", pointer="/a"),)
    assert (str(error), error.status) == ("Not found.", 404)


def test_an_error_has_a_location_only_if_set() -> None:
    assert ErrorDetail(1, "x").as_json() == {"message": "x", "code": 1}
    assert ErrorDetail(1, "x", pointer="").as_json() == {"message": "x", "code": 1, "pointer": ""}
    assert ErrorDetail(1, "x", header="Accept").as_json() == {"message": "x", "code": 1, "header": "Accept"}


@pytest.mark.parametrize(("steps", "text"), [((), ""), (("a", 0), "/a/0"), (("a/b", "~1"), "/a~1b/~01"), (("",), "/")])
def test_pointers_are_escaped(steps: tuple[str | int, ...], text: str) -> None:
    assert pointer(steps) == text


def test_gathered_errors_are_reported_together() -> None:
    def fail(code: type[ApiError]) -> None:
        raise code

    assert gather(lambda: 1, lambda: None) == [1, None]
    with pytest.raises(ApiError) as caught:
        gather(lambda: fail(errors.InvalidHeader), lambda: 5, lambda: fail(errors.InvalidCursor))
    assert type(caught.value) is errors.InvalidHeader
    assert [detail.code for detail in caught.value.details] == [10015, 10014]
