"""What stands beside an operation: the command that makes the request, the answer to it, and the form to try it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from pegboard.reference import markup
from pegboard.reference.frame import Site
from pegboard.reference.manual import Body, Operation
from pegboard.reference.markup import Html, element
from pegboard.reference.prose import code

_ORIGIN = element("span", "https://api.example.org", class_="origin")
"""Where the service is: a script puts in what it was reached as."""
_ANY = "application/octet-stream"
_ID = "01a20a92-91ce-78eb-8a99-a723a3b707a3"


def requests(site: Site, one: Operation) -> Sequence[Html]:
    """Return the command lines that make the request, one for each kind of body; all but the first folded away."""
    if not one.bodies:
        return [panel("Request", _curl(site, one, None))]
    first, *others = one.bodies
    folded = [
        element("details", element("summary", f"As {other.media_type}"), _curl(site, one, other)) for other in others
    ]
    return [panel("Request", _curl(site, one, first), *folded)]


def panel(title: str, *content: Html | None) -> Html:
    """Return a dark panel with a title."""
    return element("div", element("p", title, class_="caption"), content, class_="panel")


def _curl(site: Site, one: Operation, body: Body | None) -> Html:
    usual = "GET" if body is None else "PUT" if body.is_file else "POST"
    option = " -I" if one.verb == "HEAD" else "" if one.verb == usual else f" -X {one.verb}"
    url = markup.join((_ORIGIN, _path(site, one)))
    lines: list[Any] = [f"curl{option} ", url, ' \\\n  -u "$API_USER:$API_PASSWORD"']
    lines += [f" \\\n  -H '{field.name}: \"...\"'" for field in one.headers if "required" in field.rules]
    if body is not None:
        lines += (f" \\\n  -H 'Content-Type: {_sent_as(body)}'",)
        if body.is_file:
            lines += (" \\\n  -T FILE",)
        else:
            lines += (
                " \\\n  -d ",
                *(["@body.json"] if body.value is None else ["'", markup.json(_quoted(body.value)), "'"]),
            )
    return element("pre", element("code", lines))


def _sent_as(body: Body) -> str:
    """Return a media type that a request can have."""
    return _ANY if "*" in body.media_type else body.media_type


def _path(site: Site, one: Operation) -> str:
    """Return the path with an id in it, that of the item in the example where there is one."""
    value = one.success.value if one.success else None
    identity = value.get("id", _ID) if isinstance(value, Mapping) else _ID
    return site.prefix + one.path.replace("{id}", str(identity))


def _quoted(value: Any) -> str:
    return pretty(value).replace("'", "'\\''")


def pretty(value: Any) -> str:
    """Return a value as JSON that people can read."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def answer(one: Operation) -> Html | None:
    """Return the answer to a request that went well."""
    if one.success is None:
        return None
    status = HTTPStatus(int(one.success.status))
    line = element("p", f"{status.value} {status.phrase}", class_="status")
    body = None if one.success.value is None or one.verb == "HEAD" else code(pretty(one.success.value), "json")
    return panel("Answer", line, body)


def form(site: Site, one: Operation) -> Html:
    """Return the form that sends the request; it is of use only where scripts run."""
    body = one.bodies[0] if one.bodies else None
    example = "limit=2&sort=-created_at" if any(field.name == "limit" for field in one.parameters) else "fields=id"
    header = f"Content-Type: {_sent_as(body)}" if body else ""
    content = (
        _input("Id", "id", required=True) if "{id}" in one.path else None,
        _input("Query", "query", placeholder=example) if one.parameters else None,
        _area("Headers", "headers", header, 2 if body else 1),
        _sending(body) if body else None,
        element(
            "div",
            _input("User name", "username", autocomplete="username"),
            _input("Password", "password", type="password", autocomplete="current-password"),
            class_="pair",
        ),
        element("button", f"Send {one.verb}", type="submit"),
        element("div", class_="outcome", role="status"),
    )
    fields = element("form", content, data_verb=one.verb, data_path=site.prefix + one.path)
    return element("details", element("summary", "Try it"), fields, class_="panel try")


def _sending(body: Body) -> Html:
    if body.is_file:
        return _input("Body", "body", type="file")
    return _area("Body", "body", "" if body.value is None else pretty(body.value), 8)


def _input(label: str, name: str, **attributes: Any) -> Html:
    field = element("input", name=name, spellcheck="false", autocapitalize="off", **attributes)
    return element("label", element("span", label), field)


def _area(label: str, name: str, value: str, rows: int) -> Html:
    # A line break right after the tag is dropped by HTML.
    field = element("textarea", f"\n{value}", name=name, rows=rows, spellcheck="false", autocapitalize="off")
    return element("label", element("span", label), field)
