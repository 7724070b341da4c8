"""The format of requests and responses: media types, codings, ids, limits and the headers of every response."""

from __future__ import annotations

import gzip
import re
from typing import Any

import pytest

from tests.conftest import Api, Response, Serve

ADA = {"name": "Ada", "email": "ada@example.org"}
LONG = {**ADA, "notes": "x" * 2000}
ZIPPED = {"Accept-Encoding": "gzip"}


async def create_contact(api: Api, **fields: Any) -> str:
    response = await api.post("/contacts", {**ADA, **fields})
    assert response.status == 201, response.body
    return f"/contacts/{response.json['id']}"


# Media types -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "accept",
    [
        None,
        "*/*",
        "application/json",
        "application/*",
        "APPLICATION/JSON",
        "text/html, application/json;q=0.1",
        "text/html;q=1, */*;q=0.01",
        "application/json; charset=utf-8",
        "text/html;q=0, */*",
        "",
    ],
)
async def test_an_accept_header_that_allows_json_gets_json(api: Api, accept: str | None) -> None:
    headers = {} if accept is None else {"Accept": accept}
    response = await api.get("/contacts", headers=headers)
    assert (response.status, response.headers["Content-Type"]) == (200, "application/json")


@pytest.mark.parametrize(
    "accept", ["text/html", "application/json;q=0", "image/*, text/plain", "*/*;q=0", "application/jsonx"]
)
@pytest.mark.parametrize("path", ["/contacts", "{item}", "/", "/errors", "/plugins", "/health"])
async def test_an_accept_header_that_excludes_json_is_406(api: Api, accept: str, path: str) -> None:
    response = await api.get(path.replace("{item}", await create_contact(api)), headers={"Accept": accept})
    assert (response.status, response.errors) == (406, [(10004, "Accept")])
    assert response.headers["Vary"] == "Accept, Accept-Encoding"
    assert response.headers["Content-Type"] == "application/json"


async def test_several_accept_headers_are_combined(api: Api) -> None:
    headers = [*api.headers.items(), ("Accept", "text/html"), ("Accept", "application/json")]
    async with api.session.get(api.url + "/contacts", headers=headers) as response:
        assert response.status == 200


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/json; charset=utf-8", 'Application/JSON;charset="UTF-8"', "application/json;"],
)
async def test_a_json_body_in_utf_8_is_accepted(api: Api, content_type: str) -> None:
    response = await api.post("/contacts", ADA, headers={"Content-Type": content_type})
    assert response.status == 201


async def test_an_unsupported_media_type_is_415_with_accepted_types(api: Api) -> None:
    item = await create_contact(api)
    for method, path, header in (
        ("POST", "/contacts", "Accept"),
        ("PUT", item, "Accept"),
        ("PATCH", item, "Accept-Patch"),
    ):
        for headers in ({"Content-Type": "text/csv"}, {"Content-Encoding": "gzip"}):
            response = await api.request(method, path, ADA, headers=headers)
            assert response.status == 415
            assert response.headers[header].startswith("application/json")
    assert "application/json-patch+json" in response.headers["Accept-Patch"]


async def test_a_body_without_a_type_is_415(api: Api) -> None:
    response = await api.request("POST", "/contacts", data=b"{}", skip_auto_headers=["Content-Type"])
    assert (response.status, response.errors) == (415, [(10003, "Content-Type")])


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
async def test_an_unexpected_body_is_ignored(api: Api, method: str) -> None:
    response = await api.request(method, await create_contact(api), data=b"{]", headers={"Content-Type": "text/csv"})
    assert response.status in (200, 204)


async def test_text_is_stored_unchanged(api: Api) -> None:
    text = ' \u200be\u0301\ufeff\U0001f469\u200d\U0001f680\u202e\x7f\\"</script> '
    item = await create_contact(api, name=text)
    response = await api.get(item)
    assert response.json["name"] == text
    assert "\U0001f469".encode() in response.body


async def test_length_is_counted_in_code_points(api: Api) -> None:
    await create_contact(api, name="\U0001f680" * 200)
    response = await api.post("/contacts", {"name": "\U0001f680" * 201, "email": "b@example.org"})
    assert response.errors == [(11006, "/name")]


async def test_the_last_of_duplicate_keys_is_used(api: Api) -> None:
    body = b'{"name": 5, "email": "ada@example.org", "name": "Ada"}'
    response = await api.request("POST", "/contacts", data=body, headers={"Content-Type": "application/json"})
    assert (response.status, response.json["name"]) == (201, "Ada")


# Compression -------------------------------------------------------------------------------------------------


async def test_long_responses_are_compressed_if_accepted(api: Api) -> None:
    item = await create_contact(api, notes="x" * 2000)
    for path in (item, "/contacts"):
        plain, zipped = await api.get(path), await api.get(path, headers=ZIPPED)
        assert "Content-Encoding" not in plain.headers
        assert zipped.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(zipped.body) == plain.body
        assert zipped.headers["ETag"] == plain.headers["ETag"][:-1] + '-gzip"'
        assert plain.headers["Vary"] == zipped.headers["Vary"] == "Accept, Accept-Encoding"


async def test_short_responses_are_not_compressed(api: Api) -> None:
    item = await create_contact(api)
    response = await api.get(item, headers=ZIPPED)
    assert "Content-Encoding" not in response.headers
    assert response.json["name"] == "Ada"


@pytest.mark.parametrize("coding", ["identity", "gzip;q=0", "br, deflate", "gzip;q=0.1, identity;q=0.5", ""])
async def test_a_client_that_does_not_accept_gzip_gets_none(api: Api, coding: str) -> None:
    item = await create_contact(api, notes="x" * 2000)
    assert "Content-Encoding" not in (await api.get(item, headers={"Accept-Encoding": coding})).headers


async def test_etags_of_both_encodings_are_valid_in_preconditions(api: Api) -> None:
    item = await create_contact(api, notes="x" * 2000)
    for headers in ({}, ZIPPED):
        tag = (await api.get(item, headers=headers)).headers["ETag"]
        for other in ({}, ZIPPED):
            response = await api.get(item, headers={**other, "If-None-Match": tag})
            assert (response.status, response.body) == (304, b"")
            # A cache selects the stored response to update by exactly this ETag (RFC 9111 §4.3.4).
            assert response.headers["ETag"] == tag
        changed = await api.patch(item, {"phone": tag}, headers={"If-Match": tag})
        assert changed.status == 200


async def test_errors_are_compressed(api: Api) -> None:
    body = [{"name": ""}] * 50
    plain, zipped = await api.post("/contacts", body), await api.post("/contacts", body, headers=ZIPPED)
    assert plain.status == zipped.status == 422
    assert gzip.decompress(zipped.body) == plain.body
    assert "Accept-Encoding" in zipped.headers["Vary"]


async def test_head_has_the_length_of_the_compressed_response(api: Api) -> None:
    item = await create_contact(api, notes="x" * 2000)
    for headers in ({}, ZIPPED):
        get, head = await api.get(item, headers=headers), await api.head(item, headers=headers)
        assert head.headers["Content-Length"] == str(len(get.body))
        assert head.headers["ETag"] == get.headers["ETag"]
        assert head.body == b""


# Headers of every response -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "cached"),
    [
        ("GET", "/contacts", True),
        ("GET", "{item}", True),
        ("HEAD", "{item}", True),
        ("PATCH", "{item}", True),
        ("DELETE", "{item}", False),
        ("OPTIONS", "/contacts", False),
        ("GET", "/", False),
        ("GET", "/errors", False),
        ("GET", "/health", False),
        ("GET", "/contacts/", False),
        ("GET", "/nothing", False),
        ("PUT", "/contacts", False),
        ("PROPFIND", "/contacts", False),
    ],
)
async def test_responses_have_their_headers(api: Api, method: str, path: str, cached: bool) -> None:
    item = await create_contact(api)
    json: Any = {} if method == "PATCH" else None
    response = await api.request(method, path.replace("{item}", item), json)
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", response.headers["X-Request-Id"])
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cache-Control"] == ("private, no-cache" if cached else "no-store")
    assert ("ETag" in response.headers) is cached
    assert len({name.lower() for name in response.headers}) == len(list(response.headers))


@pytest.mark.parametrize(
    ("request_id", "kept"), [("abc-1._X", True), ("x" * 128, True), ("x" * 129, False), ("a b", False), ("", False)]
)
@pytest.mark.parametrize("path", ["/contacts", "/nothing", "/health"])
async def test_a_valid_request_id_is_returned(api: Api, request_id: str, kept: bool, path: str) -> None:
    response = await api.get(path, headers={"X-Request-Id": request_id})
    assert (response.headers["X-Request-Id"] == request_id) is kept


async def test_a_304_has_the_headers_of_the_200_except_content_type(api: Api) -> None:
    for path in (await create_contact(api), "/contacts"):
        full = await api.get(path)
        response = await api.get(path, headers={"If-None-Match": full.headers["ETag"]})
        assert response.status == 304
        for name in ("ETag", "Vary", "Cache-Control", "Last-Modified", "Link"):
            assert response.headers.get(name) == full.headers.get(name)
        assert "Content-Type" not in response.headers
        assert "Content-Length" not in response.headers


async def test_head_has_a_length_and_no_body(api: Api) -> None:
    item = await create_contact(api)
    for path in (item, "/contacts", "/", "/errors", "/plugins", "/health", "/ready", "/nothing"):
        get, head = await api.get(path), await api.head(path)
        assert (head.status, head.body) == (get.status, b"")
        assert head.headers["Content-Length"] == str(len(get.body))


# Prefer ------------------------------------------------------------------------------------------------------


async def test_minimal_responses_have_no_body(api: Api) -> None:
    minimal = {"Prefer": "return=minimal"}
    new = await api.post("/contacts", ADA, headers=minimal)
    assert (new.status, new.body, new.headers["Preference-Applied"]) == (201, b"", "return=minimal")
    item = new.headers["Location"]
    assert new.headers["ETag"] == (await api.get(item)).headers["ETag"]
    assert "Content-Type" not in new.headers
    for method, body in (("PUT", {**ADA, "phone": "1"}), ("PATCH", {"phone": "2"})):
        response = await api.request(method, item, body, headers=minimal)
        assert (response.status, response.body, response.headers["Preference-Applied"]) == (204, b"", "return=minimal")
        assert response.headers["ETag"] == (await api.get(item)).headers["ETag"]
    many = await api.post("/contacts", [{**ADA, "email": "b@example.org"}], headers=minimal)
    assert (many.status, many.body) == (201, b"")


@pytest.mark.parametrize("prefer", ["return=representation", "return", "minimal", "return=minimalist", ";;", "=,="])
async def test_another_preference_is_ignored(api: Api, prefer: str) -> None:
    response = await api.post("/contacts", ADA, headers={"Prefer": prefer})
    assert (response.status, response.json["name"]) == (201, "Ada")
    assert "Preference-Applied" not in response.headers


async def test_a_preference_is_found_in_any_prefer_header(api: Api) -> None:
    headers = [*api.headers.items(), ("Prefer", "wait=5"), ("Prefer", 'RETURN="minimal"')]
    async with api.session.post(api.url + "/contacts", json=ADA, headers=headers) as response:
        assert (response.status, response.headers["Preference-Applied"]) == (201, "return=minimal")


# Paths and ids -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
async def test_a_trailing_slash_redirects(api: Api, method: str) -> None:
    item = await create_contact(api)
    for path in ("/contacts", item, "/errors"):
        for slashes, query in (("/", ""), ("//", "?limit=1&name=%C3%A9")):
            response = await api.request(method, path + slashes + query)
            assert (response.status, response.headers["Location"]) == (308, path + query)


@pytest.mark.parametrize(
    "path", ["//", "/nothing/", "//contacts/", "//example.org/", "/contacts/x/", "/%2Fexample.org/"]
)
async def test_a_trailing_slash_on_an_unknown_path_is_404(api: Api, path: str) -> None:
    response = await api.get(path)
    assert (response.status, response.headers.get("Location")) == (404, None)


async def test_ids_are_case_insensitive_and_returned_in_lower_case(api: Api) -> None:
    item = await create_contact(api)
    upper = "/contacts/" + item.rpartition("/")[2].upper()
    assert (await api.get(upper)).json["id"] == item.rpartition("/")[2]
    assert (await api.patch(upper, {"phone": "1"})).status == 200
    assert (await api.get(f"/contacts?id={upper.rpartition('/')[2]}")).json["items"]
    assert (await api.delete(upper)).status == 204


async def test_percent_encoding_in_paths_is_decoded(api: Api) -> None:
    item = await create_contact(api)
    assert (await api.get(item.replace("contacts", "%63ontacts").replace("-", "%2D"))).status == 200
    assert (await api.get("/%65rrors")).status == 200
    assert (await api.get("/contacts%2F" + item.rpartition("/")[2])).status == 404


async def test_read_only_fields_in_a_body_are_ignored(api: Api) -> None:
    odd = {"created_at": "x", "updated_at": 5}
    new = await api.post("/contacts", {**ADA, **odd})
    assert new.status == 201
    item = new.headers["Location"]
    assert (await api.put(item, {**ADA, **odd})).json["created_at"] == new.json["created_at"]
    assert (await api.patch(item, odd)).json == new.json


# Settings ----------------------------------------------------------------------------------------------------


async def test_limits_are_configurable(serve: Serve) -> None:
    api = await serve(max_body=2000, max_head=2048, max_url=300, max_nesting=3)
    body = b'{"name": "%b"}'
    headers = {"Content-Type": "application/json"}
    too_large = await api.request("POST", "/contacts", data=body % (b"x" * 2000), headers=headers)
    assert (too_large.status, too_large.errors) == (413, [(10005, None)])
    assert (await api.get("/contacts?name=" + "x" * 300)).status == 414
    assert (await api.get("/contacts", headers={"X": "x" * 2100})).status == 431
    nested = await api.post("/contacts", {"name": [[[[]]]]})
    assert (nested.status, nested.errors) == (400, [(10001, None)])
    assert (await api.post("/contacts", {"name": [[]]})).errors == [(11004, "/name"), (11001, "/email")]


def urls(response: Response) -> list[str]:
    page = response.json
    return [page["next"], page["prev"], *re.findall(r"<(.*?)>", response.headers["Link"])]


async def test_every_url_has_the_prefix_of_the_proxy(serve: Serve) -> None:
    api = await serve(path_prefix="/api/v1")
    people = [{"name": str(n), "email": f"prefix{n}@example.org"} for n in range(5)]
    await api.post("/contacts", people)
    first = await api.get("/contacts?limit=2&sort=name")
    second = await api.get(first.json["next"].removeprefix("/api/v1"))
    assert all(url.startswith("/api/v1/contacts?") for url in urls(second))
    new = await api.post("/contacts", {**ADA, "email": "prefixed@example.org"})
    assert new.headers["Location"] == f"/api/v1/contacts/{new.json['id']}"
    paths = [entry["path"] for entry in (await api.get("/")).json["resources"]]
    assert "/api/v1/contacts" in paths
    assert all(path.startswith("/api/v1/") for path in paths)
    assert (await api.get("/contacts/?limit=1")).headers["Location"] == "/api/v1/contacts?limit=1"
