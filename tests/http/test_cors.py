"""CORS: allowed origins, and responses to all others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from yarl import URL

from tests.conftest import Api, Response, Serve

APP = "https://app.example.com"
EVIL = "https://app.example.com.evil.example"
PREFLIGHT = {"Access-Control-Request-Method": "PATCH", "Access-Control-Request-Headers": "authorization,if-match"}


@pytest.fixture(scope="module")
async def two_origins(serve: Serve) -> Api:
    """Allow two origins."""
    return await serve(cors_origins=(APP, "http://localhost:3000"), receive_timeout=0.5)


@pytest.fixture(scope="module")
async def all_origins(serve: Serve) -> Api:
    """Allow all origins."""
    return await serve(cors_origins=("*",))


def cors_headers(response: Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name.startswith("Access-Control-")}


def split_header(response: Response, name: str) -> set[str]:
    return {part.strip() for part in response.headers[name].split(",")}


async def test_a_preflight_needs_no_authentication(two_origins: Api) -> None:
    anonymous = two_origins.as_client("", "")
    response = await anonymous.request("OPTIONS", "/contacts", headers={"Origin": APP, **PREFLIGHT})
    assert (response.status, response.body) == (204, b"")
    assert response.headers["Access-Control-Allow-Origin"] == APP
    assert split_header(response, "Access-Control-Allow-Methods") == {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}
    assert {"Authorization", "Content-Type", "If-Match", "Idempotency-Key"} < split_header(
        response, "Access-Control-Allow-Headers"
    )
    assert int(response.headers["Access-Control-Max-Age"]) > 0
    assert response.headers["Vary"] == "Origin"
    assert response.headers["X-Request-Id"]
    assert "Access-Control-Allow-Credentials" not in response.headers


SAFELISTED = {
    "Cache-Control",
    "Content-Language",
    "Content-Length",
    "Content-Type",
    "Expires",
    "Last-Modified",
    "Pragma",
}
"""The response headers that a browser shows to every page (the Fetch standard)."""


async def test_a_preflight_allows_every_documented_request_header(two_origins: Api) -> None:
    parameters = (await two_origins.get("/openapi.json")).json["components"]["parameters"].values()
    documented = {parameter["name"] for parameter in parameters if parameter["in"] == "header"}
    assert documented > {"Content-Digest", "Repr-Digest", "Range", "If-Range", "X-Request-Id"}
    response = await two_origins.request("OPTIONS", "/contacts", headers={"Origin": APP, **PREFLIGHT})
    allowed = split_header(response, "Access-Control-Allow-Headers")
    # OpenAPI describes these two in other places.
    assert allowed == {*documented, "Authorization", "Content-Type"}


async def test_a_page_sees_every_documented_response_header(two_origins: Api) -> None:
    documented = set((await two_origins.get("/openapi.json")).json["components"]["headers"])
    assert documented > {
        "Content-Range",
        "Accept-Ranges",
        "Content-Disposition",
        "Repr-Digest",
        "Allow",
        "Accept-Patch",
    }
    response = await two_origins.get("/contacts", headers={"Origin": APP})
    assert split_header(response, "Access-Control-Expose-Headers") >= documented - SAFELISTED


async def test_a_preflight_does_not_reveal_existing_resources(two_origins: Api) -> None:
    anonymous = two_origins.as_client("", "")
    responses = [
        await anonymous.request("OPTIONS", path, headers={"Origin": APP, **PREFLIGHT})
        for path in ("/contacts", "/nowhere", "/clients/me")
    ]
    assert [(response.status, cors_headers(response)) for response in responses] == [
        (204, cors_headers(responses[0]))
    ] * 3


async def test_options_other_than_preflights_require_credentials(two_origins: Api) -> None:
    anonymous = two_origins.as_client("", "")
    for headers in ({}, {"Origin": APP}, PREFLIGHT):
        assert (await anonymous.request("OPTIONS", "/contacts", headers=headers)).status == 401
    response = await two_origins.request("OPTIONS", "/contacts", headers={"Origin": APP})
    assert response.status == 204
    assert "GET" in response.headers["Allow"]
    assert response.headers["Access-Control-Allow-Origin"] == APP


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/contacts", {}, 200),
        ("GET", "/contacts", {"headers": {"Accept": "text/csv"}}, 200),
        ("GET", "/health", {}, 200),
        ("GET", "/contacts/", {}, 308),
        ("GET", "/nowhere", {}, 404),
        ("GET", "/contacts?limit=0", {}, 400),
        ("GET", "/contacts", {"headers": {"Accept": "text/html"}}, 406),
        ("GET", "/contacts", {"headers": {"Authorization": "none"}}, 401),
        ("POST", "/contacts", {"json": {}}, 422),
        ("POST", "/contacts", {"data": b"x"}, 415),
        ("DELETE", "/contacts", {}, 405),
    ],
)
async def test_every_response_is_readable_from_an_allowed_origin(
    two_origins: Api, method: str, path: str, options: dict[str, Any], status: int
) -> None:
    headers = {**options.get("headers", {}), "Origin": APP}
    response = await two_origins.request(method, path, **{**options, "headers": headers})
    assert response.status == status
    assert response.headers["Access-Control-Allow-Origin"] == APP
    assert {"ETag", "Link", "Location", "Retry-After", "X-Request-Id"} < split_header(
        response, "Access-Control-Expose-Headers"
    )
    assert "Origin" in split_header(response, "Vary")


async def test_vary_includes_origin_and_the_other_headers(two_origins: Api) -> None:
    response = await two_origins.get("/contacts")
    assert split_header(response, "Vary") == {"Accept", "Accept-Encoding", "Origin"}
    not_modified = await two_origins.get(
        "/contacts", headers={"If-None-Match": response.headers["ETag"], "Origin": APP}
    )
    assert (not_modified.status, not_modified.headers["Vary"]) == (304, response.headers["Vary"])
    assert not_modified.headers["Access-Control-Allow-Origin"] == APP


@pytest.mark.parametrize("origin", [EVIL, "http://app.example.com", APP + ":8443", APP.upper(), "null", "*", ""])
async def test_an_unknown_origin_gets_no_cors_headers(two_origins: Api, origin: str) -> None:
    for response in (
        await two_origins.get("/contacts", headers={"Origin": origin}),
        await two_origins.request("OPTIONS", "/contacts", headers={"Origin": origin, **PREFLIGHT}),
        await two_origins.get("/nowhere", headers={"Origin": origin}),
    ):
        assert cors_headers(response) == {}
        assert "Origin" in split_header(response, "Vary") or origin == ""


async def test_a_request_without_an_origin_gets_no_cors_headers(two_origins: Api) -> None:
    response = await two_origins.get("/contacts")
    assert (response.status, cors_headers(response)) == (200, {})


async def test_all_origins_can_be_allowed(all_origins: Api) -> None:
    response = await all_origins.get("/contacts", headers={"Origin": EVIL})
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    response = await all_origins.request("OPTIONS", "/contacts", headers={"Origin": "null", **PREFLIGHT})
    assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (204, "*")
    assert (await all_origins.as_client("", "").get("/contacts", headers={"Origin": EVIL})).status == 401


async def test_cors_is_off_by_default(running: Api) -> None:
    response = await running.get("/contacts", headers={"Origin": APP})
    assert (response.status, cors_headers(response)) == (200, {})
    assert "Origin" not in response.headers["Vary"]
    preflight = await running.as_client("", "").request("OPTIONS", "/contacts", headers={"Origin": APP, **PREFLIGHT})
    assert (preflight.status, cors_headers(preflight)) == (401, {})


# Errors before there is a request.


async def send_malformed(api: Api, *pieces: bytes) -> tuple[int, dict[str, str]]:
    """Send a malformed request, piece by piece, and return the status and the headers related to origins."""
    url = URL(api.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(0.02)
    async with asyncio.timeout(5):
        status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
    writer.close()
    headers = dict(line.split(": ", 1) for line in lines)
    return int(status.split()[1]), {
        name: value for name, value in headers.items() if name.startswith("Access-Control-") or name == "Vary"
    }


TOO_LONG = b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: a\r\n"
ORIGIN = f"Origin: {APP}\r\n".encode()
REFUSED = {
    "url": (414, (TOO_LONG + ORIGIN + b"\r\n",)),
    "head": (431, (b"GET / HTTP/1.1\r\nHost: a\r\n" + ORIGIN, b"X: " + b"a" * 20_000, b"a" * 20_000)),
    "headers": (431, (b"GET / HTTP/1.1\r\nHost: a\r\noRIGIN:" + APP.encode() + b" \r\n" + b"X: a\r\n" * 200,)),
    "slow": (408, (b"GET / HTTP/1.1\r\nHost: a\r\n" + ORIGIN,)),
    "host": (400, (b"GET / HTTP/1.1\r\n", ORIGIN, b"\r\n")),
    "version": (505, (b"GET / HTTP/3.0\r\n" + ORIGIN + b"\r\n",)),
    "method": (501, (b"BREW / HTTP/1.1\r\nHost: a\r\n" + ORIGIN + b"\r\n",)),
    "expectation": (417, (b"GET / HTTP/1.1\r\nHost: a\r\nExpect: miracles\r\n" + ORIGIN + b"\r\n",)),
    "header": (400, (b"GET / HTTP/1.1\r\nHost: a\r\n" + ORIGIN + b"X y: z\r\n\r\n",)),
}


@pytest.mark.parametrize(("status", "pieces"), REFUSED.values(), ids=REFUSED)
async def test_rejections_of_malformed_requests_have_cors_headers(
    two_origins: Api, all_origins: Api, running: Api, status: int, pieces: tuple[bytes, ...]
) -> None:
    response = await send_malformed(two_origins, *pieces)
    assert (response[0], response[1]["Access-Control-Allow-Origin"], response[1]["Vary"]) == (status, APP, "Origin")
    assert "X-Request-Id" in response[1]["Access-Control-Expose-Headers"]
    foreign = [piece.replace(APP.encode(), EVIL.encode()) for piece in pieces]
    assert await send_malformed(two_origins, *foreign) == (status, {"Vary": "Origin"})
    if status != 408:
        assert (await send_malformed(all_origins, *foreign))[1]["Access-Control-Allow-Origin"] == "*"
        assert await send_malformed(running, *pieces) == (status, {})


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\n" + ORIGIN + b"Origin: http://localhost:3000\r\n\r\n",
    ],
    ids=["none", "two"],
)
async def test_malformed_requests_without_a_readable_origin_get_no_cors_headers(
    two_origins: Api, all_origins: Api, data: bytes
) -> None:
    assert await send_malformed(two_origins, data) == (400, {"Vary": "Origin"})
    assert (await send_malformed(all_origins, data))[1]["Access-Control-Allow-Origin"] == "*"


async def test_a_rejected_request_does_not_use_the_origin_of_the_previous_one(two_origins: Api) -> None:
    good = f"GET /health HTTP/1.1\r\nHost: a\r\nOrigin: {APP}\r\n\r\n".encode()
    url = URL(two_origins.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    for piece in (good, b"garbage\r\n\r\n"):
        writer.write(piece)
        await asyncio.sleep(0.05)
    first, second = (await reader.read()).split(b"HTTP/1.1 ")[1:]
    writer.close()
    assert APP.encode() in first
    assert second.startswith(b"400")
    assert APP.encode() not in second
