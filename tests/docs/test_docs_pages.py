"""The pages of the reference: their contents, how they are served, and that they run and fetch nothing."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files

import pytest

from pegboard import ApiError, Schema, TableResource, error_codes, errors, validate
from pegboard.api import declared
from pegboard.docs.reference import pages
from pegboard.hosting.discovery import Plugin, State
from pegboard.schema import fields
from tests.conftest import ADMIN, PASSWORD, Api, Serve, plugin

VOID = {"input", "link", "meta"}
# Elements with phrasing content, and those that they must not contain.
PHRASING = {"p", "h1", "h2", "h3", "h4", "h5", "h6", "title", "summary", "button", "code", "span"}
BLOCKS = {"p", "div", "table", "ul", "ol", "pre", "section", "details", "h1", "h2", "h3", "h4", "form"}
HOSTILE = '"><script>alert(1)</script><img src=http://elsewhere.example/x.png onerror=alert(1)>'


class Page(HTMLParser):
    """Parse a page and check that it is well-formed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.headings: list[int] = []
        assert text.startswith("<!doctype html>\n")
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute of <{tag}> is there twice"
        assert not (tag in BLOCKS and PHRASING.intersection(self.open)), f"<{tag}> in {self.open}"
        assert not (tag == "a" and "a" in self.open)
        self.tags.append((tag, dict(attrs)))
        if re.fullmatch(r"h\d", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def links(self) -> set[str]:
        return {str(link["href"]) for link in self.all("a")}

    @property
    def addresses(self) -> set[str]:
        """Return the URLs that the page loads or links to."""
        names = ("href", "src", "action", "srcset", "data")
        return {str(value) for _, attributes in self.tags for name, value in attributes.items() if name in names}


class Line(Schema):
    amount = fields.Decimal(required=True, places=2)
    text = fields.String(validate=validate.Length(max=80))


class Bill(Schema):
    title = fields.String(required=True, validate=validate.Length(2, 60), metadata={"description": f"Called {HOSTILE}"})
    state = fields.String(load_default="draft", validate=validate.OneOf(["draft", HOSTILE]))
    pin = fields.String(load_only=True, allow_none=True)
    due = fields.Date(allow_none=True)
    lines = fields.List(fields.Nested(Line), load_default=list, validate=validate.Length(max=5))


class Paid(ApiError, number=9, status=409, message="The bill is <paid>."): ...


class Bills(TableResource):
    __doc__ = f"""Bills & what they are for: {HOSTILE}

    ### Main

    Each has *lines*. [Run](javascript:alert(1)) ![seen](http://elsewhere.example/seen.png)
    """

    schema = Bill
    verbs = "GET", "HEAD", "POST", "PATCH", "DELETE"
    error_codes = (Paid,)


class Notes(TableResource):
    """Read-only notes."""

    schema = Line
    verbs = ("GET",)


def broken(name: str, state: State = State.FAILED, distribution: str = "pegboard-broken") -> Plugin:
    return Plugin(name, distribution, "2.0", state, "/usr/lib/secret/place.py is broken")


@pytest.fixture(scope="module")
async def documented(serve: Serve) -> Api:
    plugins = [
        broken("away"),
        plugin("bills", Bills, version="1.5"),
        plugin("notes", Notes),
        broken("off", State.DISABLED),
        broken("torn", State.CONFLICT, "pegboard-one"),
        broken("torn", State.CONFLICT, "pegboard-other"),
        broken('a"><b/name'),
    ]
    return (await serve(plugins)).as_client("", "")


async def read(api: Api, path: str) -> Page:
    response = await api.get(path)
    assert response.status == 200
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    return Page(response.body.decode())


PAGES = ["/docs", "/docs/bills", "/docs/notes", "/docs/away", "/docs/off", "/docs/torn"]


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_is_well_formed(documented: Api, path: str) -> None:
    page = await read(documented, path)
    assert page.all("html") == [{"lang": "en"}]
    for landmark in ("header", "main", "aside", "h1", "title"):
        assert len(page.all(landmark)) == 1
    assert page.headings[0] == 1
    assert all(later <= earlier + 1 for earlier, later in zip(page.headings, page.headings[1:], strict=False))
    anchors = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(anchors)) == len(anchors)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(anchors)
    assert page.links.issuperset({"#main", "/docs"})
    assert [link["href"] for link in page.all("a") if link.get("aria-current")] == [path] * 2
    labels = [attributes for tag, attributes in page.tags if tag in ("input", "textarea", "label")]
    assert len(labels) == 2 * len(page.all("label")), "a field without a label"


@pytest.mark.parametrize("path", PAGES)
async def test_assets_of_a_page_exist_and_are_cacheable(documented: Api, path: str) -> None:
    page = await read(documented, path)
    loaded = [link["href"] for link in page.all("link")] + [script["src"] for script in page.all("script")]
    assert len(loaded) == 3
    for address in loaded:
        assert address
        response = await documented.get(address)
        assert response.status == 200
        assert response.headers["Cache-Control"] == "max-age=31536000, immutable"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert not re.search(r"(?:url\(|@import|https?:)", (await documented.get(str(loaded[1]))).body.decode())


async def test_the_overview_contains_the_required_text(documented: Api) -> None:
    text = re.sub(r"\s+", " ", (await read(documented, "/docs")).text)
    for sentence in (
        "This pages contains general documentation about the API. Use the links on the right to navigate to specific resources.",
        "The API uses the JSON format. Unless specified otherwise, all requests and response should have the Content-Type: application/json header.",
        "The API uses the standard HTTP verbs to perform CRUD operations (Create, Retrieve, Update, Delete) on resources, following standard RESTful API practices.",
        "Notice that this verb is only available for some resources.",
        "Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
        "The code identifies the error type and can be used to handle specific errors differently or for translation purposes.",
        "All dates returned by the API are in UTC and use the ISO-8601 format (ex: 2015-02-15T05:21:07Z).",
    ):
        assert sentence in text
    assert "template: api.jade" not in text
    assert "$" not in text


async def test_the_overview_lists_every_error_code(documented: Api) -> None:
    page = await read(documented, "/docs")
    rows = [attributes["id"] for attributes in page.all("tr") if "id" in attributes]
    codes: tuple[type[ApiError], ...] = (*errors.CATALOGUE, *Bills.error_codes)
    assert rows == [f"error-{code.code}" for code in codes]
    for code in codes:
        assert code.message in page.text


async def test_the_overview_shows_the_configured_limits(serve: Serve) -> None:
    api = (await serve([], max_body=3 * 1024**2, max_url=1000, max_nesting=17)).as_client("", "")
    text = (await read(api, "/docs")).text
    assert "3 MiB" in text
    assert "1000 bytes" in text
    assert "17 levels" in text


async def test_the_overview_lists_query_parameters(documented: Api) -> None:
    guide = (files("pegboard.docs.reference") / "guide.md").read_text()
    rules = replace(declared.rules(Bills), searchable=True, expandable=("due",))
    [parameters] = re.findall(r"### Reading collections\n(.*?)\n\n\n", guide, re.DOTALL)
    assert set(re.findall(r"`(\w+)`(?=[^|\n]* \|)", parameters)) == rules.reserved
    text = (await read(documented, "/docs/bills")).text
    assert {f"__{operator}" for _, operator in declared.rules(Bills).filters.values()} - {"__eq"} <= set(text.split())


def test_every_error_code_is_in_a_group_of_the_overview() -> None:
    codes = [error.code for error in errors.CATALOGUE]
    codes += [first + number for first in (error_codes.DECLARED[0], error_codes.DERIVED[-100]) for number in (0, 99)]
    groups = pages._code_groups([{"code": code} for code in codes])
    assert [code["code"] for _, group in groups for code in group] == codes


async def test_paths_in_the_overview_exist(documented: Api) -> None:
    guide = (files("pegboard.docs.reference") / "guide.md").read_text()
    paths = re.findall(r"^\| `(/[^`]*)` \|", guide, re.MULTILINE)
    assert len(paths) > 5
    for path in paths:
        assert (await documented.as_client(ADMIN, PASSWORD).get(path)).status == 200


@pytest.mark.parametrize("path", PAGES)
async def test_every_resource_is_linked_and_unavailable_ones_are_marked(documented: Api, path: str) -> None:
    page = await read(documented, path)
    links = [link["href"] for link in page.all("a") if str(link["href"]).startswith("/docs/")]
    assert links == 2 * ["/docs/bills", "/docs/notes", "/docs/away", "/docs/off", "/docs/torn"]
    assert " ".join(page.text.split()).count("Unavailable away") == 2
    for note in ("away unavailable", "off disabled", "torn in conflict", 'a"><b/name unavailable'):
        assert page.text.count(note) == 2


async def test_an_unavailable_plugin_has_a_page_with_its_state(documented: Api) -> None:
    page = await read(documented, "/docs/torn")
    assert "This resource is in conflict." in page.text
    assert "pegboard-one 2.0" in page.text
    assert "pegboard-other 2.0" in page.text
    assert "secret" not in (await read(documented, "/docs/away")).text


async def test_a_plugin_that_fails_later_is_shown_as_failed(serve: Serve) -> None:
    late = plugin("late", Notes)
    api = (await serve([late])).as_client("", "")
    assert "Unavailable" not in (await read(api, "/docs")).text
    late.fail("it broke")
    assert "late unavailable" in (await read(api, "/docs")).text
    assert "This resource is unavailable." in (await read(api, "/docs/late")).text


async def test_the_page_of_a_resource_describes_its_fields(documented: Api) -> None:
    text = " ".join((await read(documented, "/docs/bills")).text.split())
    rows = (
        "idUUID read-only",
        "titlestring required2 to 60 characters",
        "pinstring may be nullwrite-only",
        "duedate may be null",
        "lineslist of objects at most 5 elements",
        "lines[].amount",
        "created_attimestamp read-only",
    )
    positions = [text.find(row) for row in rows]
    assert -1 not in positions, dict(zip(rows, positions, strict=True))


async def test_the_page_of_a_resource_lists_exactly_its_methods(documented: Api) -> None:
    page = await read(documented, "/docs/notes")
    assert {attributes["data-verb"] for attributes in page.all("form")} == {"GET"}
    assert {attributes["data-path"] for attributes in page.all("form")} == {"/notes", "/notes/{id}"}
    assert "PATCH" not in page.text
    bills = await read(documented, "/docs/bills")
    verbs = {(attributes["data-verb"], attributes["data-path"]) for attributes in bills.all("form")}
    assert verbs == {
        *(("GET", "/bills"), ("HEAD", "/bills"), ("POST", "/bills")),
        *((verb, "/bills/{id}") for verb in ("GET", "HEAD", "PATCH", "DELETE")),
    }


async def test_the_page_of_a_resource_has_commands_examples_filters_and_sort_keys(documented: Api) -> None:
    text = (await read(documented, "/docs/bills")).text
    assert 'curl https://api.example.org/bills \\\n  -u "$API_USER:$API_PASSWORD"' in text
    assert "-H 'Content-Type: application/merge-patch+json'" in text
    assert "200 OK" in text
    assert "201 Created" in text
    assert "204 No Content" in text
    assert "due = __ne __lt __lte __gt __gte __in __isnull yes" in " ".join(text.split())
    assert "lines__isnull" not in text


async def test_text_of_a_plugin_is_escaped(documented: Api) -> None:
    for path in PAGES:
        page = await read(documented, path)
        assert len(page.all("script")) == 1
        assert not page.all("img")
        assert not any(name.startswith("on") or name == "style" for _, attributes in page.tags for name in attributes)
        assert not any(address.lower().startswith(("javascript:", "data:")) for address in page.addresses)
    text = (await read(documented, "/docs/bills")).text
    assert f"Bills & what they are for: {HOSTILE}" in text
    assert f"Called {HOSTILE}" in text


async def test_a_page_has_a_strict_content_security_policy(documented: Api) -> None:
    headers = (await documented.get("/docs/bills")).headers
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert set(policy.values()) == {"'none'", "'self'", "'script'"}
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Vary"] == "Accept, Accept-Encoding"


async def test_a_page_is_sent_again_only_if_it_has_changed(documented: Api) -> None:
    response = await documented.get("/docs")
    assert response.headers["Cache-Control"] == "private, no-cache"
    again = await documented.get("/docs", headers={"If-None-Match": response.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")
    assert again.headers["ETag"] == response.headers["ETag"]
    assert again.headers["Content-Security-Policy"] == response.headers["Content-Security-Policy"]
    packed = await documented.get("/docs", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert len(packed.body) < len(response.body) / 3
    assert (await documented.get("/docs", headers={"If-None-Match": packed.headers["ETag"]})).status == 304
    assert (await documented.get("/docs", headers={"If-None-Match": "broken"})).status == 400


async def test_head_has_the_headers_of_get(documented: Api) -> None:
    for path in ("/docs", "/docs/bills"):
        got, head = await documented.get(path), await documented.head(path)
        assert head.body == b""
        assert head.headers["Content-Length"] == str(len(got.body))
        assert head.headers["ETag"] == got.headers["ETag"]


async def test_unknown_paths_and_methods_of_the_reference_are_errors(documented: Api) -> None:
    admin = documented.as_client(ADMIN, PASSWORD)
    assert (await admin.get("/docs/nothing")).status == 404
    assert (await admin.get("/docs/assets/style.css")).status == 404
    assert (await documented.post("/docs", {})).headers["Allow"] == "GET, HEAD, OPTIONS"
    assert (await documented.get("/docs", headers={"Accept": "application/json"})).errors == [(10004, "Accept")]
    redirect = await documented.get("/docs/bills/")
    assert (redirect.status, redirect.headers["Location"]) == (308, "/docs/bills")


async def test_every_url_has_the_prefix(serve: Serve) -> None:
    api = (await serve([plugin("bills", Bills), broken("away")], path_prefix="/api")).as_client("", "")
    for path in ("/docs", "/docs/bills", "/docs/away"):
        page = await read(api, path)
        assert all(address.startswith(("/api/", "#")) for address in page.addresses), page.addresses
        assert all(str(attributes["data-path"]).startswith("/api/bills") for attributes in page.all("form"))
    assert "curl https://api.example.org/api/bills " in (await read(api, "/docs/bills")).text


async def test_the_reference_can_require_credentials(serve: Serve) -> None:
    api = await serve([plugin("bills", Bills)], docs_public=False)
    for path in ("/docs", "/docs/bills"):
        assert (await api.as_client("", "").get(path)).status == 401
        assert (await api.get(path)).status == 200


async def test_the_reference_of_the_installed_plugins_is_complete(running: Api) -> None:
    for item in running.service.plugins:
        page = await read(running, f"/docs/{item.name}")
        assert {attributes["data-verb"] for attributes in page.all("form")} >= set(item.verbs)
