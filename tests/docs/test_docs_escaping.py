"""The pages of the reference: everything that a plugin contributes is escaped."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
from jinja2 import UndefinedError

from pegboard.docs.reference import pages, templating
from pegboard.docs.reference.frame import Site
from pegboard.docs.reference.manual import manual
from pegboard.hosting.discovery import Plugin, State
from pegboard.query.query import Rules
from pegboard.schema.column import Column
from tests.docs.test_docs_pages import Page

ASSETS = {name: f"/docs/assets/{name}" for name in ("icon.svg", "style.css", "page.js")}
ATTRIBUTES = {
    "aria-current", "aria-label", "autocapitalize", "autocomplete", "charset", "class", "colspan", "content", "data-path",
    "data-verb", "href", "id", "lang", "name", "placeholder", "rel", "required", "role", "rows", "scope", "spellcheck",
    "src", "tabindex", "type",
}  # fmt: skip


def hostile(label: str) -> str:
    """Return a text that would close an attribute and open a script; `label` identifies where it is inserted."""
    return f"\"'><script>alert({label})</script> &"


def unescaped(label: str) -> str:
    """Return the part of it that JSON and a shell do not escape."""
    return f"><script>alert({label})</script> &"


def plugin(name: str, state: State) -> Plugin:
    return Plugin(name, hostile("distribution"), hostile("plugin_version"), state, hostile("fault"))


def site(*plugins: Plugin) -> Site:
    return Site(f"/{hostile('prefix')}", hostile("version"), ASSETS, plugins)


def hostile_text(label: str) -> dict[str, Any]:
    return {"description": hostile(label)}


def docstring() -> str:
    """Return Markdown with hostile text in a paragraph, an image, and code spans and blocks."""
    image = f"![{hostile('image')}](http://elsewhere.example/seen.png)"
    fences = (f"```{language}\n{hostile(label)}\n```" for language, label in (("json", "json"), ("", "plain")))
    return "\n\n".join((hostile("paragraph"), image, *fences))


def hostile_operation(verb: str) -> dict[str, Any]:
    """Return an operation with hostile text in all of its fields."""
    example = {hostile("key"): hostile("value"), "id": hostile("id"), "list": [hostile("element")]}
    content = {"application/json": {"schema": {"$ref": "#/item"}, "example": example}}
    return {
        "summary": hostile("title"),
        **hostile_text("operation"),
        "parameters": [
            {
                "in": "query",
                "name": hostile("parameter"),
                "schema": {"type": hostile("kind")},
                **hostile_text("parameter_text"),
            },
            {"in": "query", "name": "sort", "schema": {}},
            {"in": "header", "name": hostile("header"), "required": True, "schema": {}, **hostile_text("header_text")},
        ],
        "requestBody": {"content": {**content, hostile("media_type"): {"schema": {}, "example": hostile("body")}}},
        "responses": {
            "201": {**hostile_text("response"), "content": content},
            "409": hostile_text("error"),
        },
    } | ({"requestBody": {"content": {"*/*": {}}}} if verb == "put" else {})


def document() -> dict[str, Any]:
    item = {
        "properties": {
            hostile("field"): {"type": "string", **hostile_text("field_text"), "enum": [hostile("choice")]},
            "inner": {"properties": {hostile("inner"): {"default": hostile("default")}}},
        },
        "required": [hostile("field")],
    }
    path = f"/bills/{{id}}/{hostile('path')}"
    return {
        "item": item,
        "paths": {"/bills": {"post": hostile_operation("post")}, path: {"put": hostile_operation("put")}},
    }


def check(html: bytes, *labels: str) -> None:
    """Check that a page contains the inserted text as text or attribute value, and no scripts."""
    page = Page(html.decode())
    values = [str(value) for _, attributes in page.tags for value in attributes.values()]
    all_text = "\n".join((page.text, *values))
    assert [label for label in labels if unescaped(label) not in all_text] == []
    assert page.all("script") == [{"type": "module", "src": ASSETS["page.js"]}]
    assert {name for _, attributes in page.tags for name in attributes} <= ATTRIBUTES
    assert html.count(b"<script") == 1


def test_the_page_of_a_resource_escapes_text_of_its_plugin() -> None:
    column = Column("column", "text", nullable=False, field=hostile("column"))
    bills = plugin("bills", State.READY)
    html = pages.resource(site(bills), bills, manual(document(), "bills"), Rules((column,)), docstring())
    labels = set(re.findall(r"alert\((\w+)\)", repr(document()) + docstring()))
    check(html, *labels, "column", "distribution", "plugin_version", "version", "prefix")


def test_the_overview_escapes_names_and_codes() -> None:
    code = {"code": 20900, "status": 409, "message": hostile("message"), "plugin": hostile("owner")}
    odd = plugin(hostile("name"), State.READY)
    html = pages.overview(site(odd), [f"## {hostile('heading')}\n\n$limit"], {"limit": hostile("limit")}, [code])
    check(html, "message", "owner", "name", "heading", "limit", "version", "prefix")


@pytest.mark.parametrize("state", [State.FAILED, State.DISABLED, State.CONFLICT])
def test_the_page_of_an_unavailable_plugin_escapes_text_and_hides_the_error(state: State) -> None:
    odd = plugin(hostile("name"), state)
    html = pages.outage(site(odd), [odd])
    check(html, "name", "distribution", "plugin_version", "version", "prefix")
    assert b"alert(fault)" not in html


def test_a_value_that_is_missing_from_a_page_is_an_error() -> None:
    view = {"site": site(), "current": "", "title": "", "menu": [], "plugins": [], "state": "unavailable"}
    assert "unavailable" in templating.render("outage.html", **view, reason="")
    with pytest.raises(UndefinedError, match="reason"):
        templating.render("outage.html", **view)


def test_template_libraries_are_loaded_only_for_pages() -> None:
    code = "import sys, pegboard.app, pegboard.cli; print({'jinja2', 'markupsafe', 'markdown_it'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
