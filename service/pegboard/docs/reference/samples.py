"""What stands beside an operation: the command that makes the request, the response to it, and the form to try it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from pegboard.docs.reference.frame import Site
from pegboard.docs.reference.manual import Body, Operation

_ANY = "application/octet-stream"
_ID = "01a20a92-91ce-78eb-8a99-a723a3b707a3"
_FILE, _UNKNOWN = "-T FILE", "-d @body.json"


@dataclass(frozen=True, slots=True)
class Command:
    """Hold what a command line is put together of; `payload` is an option, `json` a body that is written out."""

    option: str
    path: str
    headers: tuple[str, ...]
    media_type: str = ""
    payload: str = ""
    json: str = ""


@dataclass(frozen=True, slots=True)
class Response:
    """Hold the response to a request that went well: its status, and its body if there is one."""

    status: str
    json: str


@dataclass(frozen=True, slots=True)
class Form:
    """Hold what a form has in its fields before anything is typed."""

    query: str
    header: str = ""
    has_body: bool = False
    has_file: bool = False
    body: str = ""


def commands(site: Site, one: Operation) -> Sequence[Command]:
    """Return the command lines that make the request, one for each kind of body."""
    path = _path(site, one)
    needed = [f'{field.name}: "..."' for field in one.headers if "required" in field.rules]
    if not one.bodies:
        return [Command(_option(one.verb, "GET"), path, tuple(needed))]
    return [_sending(one.verb, path, needed, body) for body in one.bodies]


def pretty(value: Any) -> str:
    """Return a value as JSON that people can read."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def response(one: Operation) -> Response | None:
    """Return the response to a request that went well."""
    if one.success is None:
        return None
    status = HTTPStatus(int(one.success.status))
    is_empty = one.success.value is None or one.verb == "HEAD"
    return Response(f"{status.value} {status.phrase}", "" if is_empty else pretty(one.success.value))


def form(one: Operation) -> Form:
    """Return the form that sends the request; it is of use only where scripts run."""
    query = "limit=2&sort=-created_at" if any(field.name == "limit" for field in one.parameters) else "fields=id"
    if not one.bodies:
        return Form(query)
    body = one.bodies[0]
    example = "" if body.value is None else pretty(body.value)
    return Form(query, f"Content-Type: {_sent_as(body)}", not body.is_file, body.is_file, example)


def _sending(verb: str, path: str, needed: Sequence[str], body: Body) -> Command:
    option = _option(verb, "PUT" if body.is_file else "POST")
    payload = _FILE if body.is_file else _UNKNOWN if body.value is None else ""
    example = "" if payload else pretty(body.value).replace("'", "'\\''")
    return Command(option, path, (*needed, f"Content-Type: {_sent_as(body)}"), body.media_type, payload, example)


def _option(verb: str, usual: str) -> str:
    """Return the option of curl that chooses the verb, where it is not the usual one."""
    return " -I" if verb == "HEAD" else "" if verb == usual else f" -X {verb}"


def _sent_as(body: Body) -> str:
    """Return a media type that a request can have."""
    return _ANY if "*" in body.media_type else body.media_type


def _path(site: Site, one: Operation) -> str:
    """Return the path with an id in it, that of the item in the example where there is one."""
    value = one.success.value if one.success else None
    identity = value.get("id", _ID) if isinstance(value, Mapping) else _ID
    return site.prefix + one.path.replace("{id}", str(identity))
