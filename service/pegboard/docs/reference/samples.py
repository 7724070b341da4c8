"""Samples for an operation: a command, the response, and the form to try it."""

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
_FILE, _BODY_FILE = "-T FILE", "-d @body.json"


@dataclass(frozen=True, slots=True)
class Command:
    """Hold the parts of a curl command; `payload` is an option, `json` a body that is written inline."""

    option: str
    path: str
    headers: tuple[str, ...]
    media_type: str = ""
    payload: str = ""
    json: str = ""


@dataclass(frozen=True, slots=True)
class Response:
    """Hold the response to a successful request: its status, and its body if there is one."""

    status: str
    json: str


@dataclass(frozen=True, slots=True)
class Form:
    """Hold the initial values and placeholders of a form."""

    query: str
    header: str = ""
    has_body: bool = False
    has_file: bool = False
    body: str = ""


def commands(site: Site, operation: Operation) -> Sequence[Command]:
    """Return the commands that send the request, one for each kind of body."""
    path = _path(site, operation)
    required = [f'{field.name}: "..."' for field in operation.headers if "required" in field.rules]
    if not operation.bodies:
        return [Command(_option(operation.verb, "GET"), path, tuple(required))]
    return [_command(operation.verb, path, required, body) for body in operation.bodies]


def pretty(value: Any) -> str:
    """Return a value as indented JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def response(operation: Operation) -> Response | None:
    """Return the response to a successful request; None if there is none."""
    if operation.success is None:
        return None
    status = HTTPStatus(int(operation.success.status))
    is_empty = operation.success.value is None or operation.verb == "HEAD"
    return Response(f"{status.value} {status.phrase}", "" if is_empty else pretty(operation.success.value))


def form(operation: Operation) -> Form:
    """Return the form that sends the request by a script."""
    query = "limit=2&sort=-created_at" if any(field.name == "limit" for field in operation.parameters) else "fields=id"
    if not operation.bodies:
        return Form(query)
    body = operation.bodies[0]
    example = "" if body.value is None else pretty(body.value)
    return Form(query, f"Content-Type: {_request_media_type(body)}", not body.is_file, body.is_file, example)


def _command(verb: str, path: str, required: Sequence[str], body: Body) -> Command:
    option = _option(verb, "PUT" if body.is_file else "POST")
    payload = _FILE if body.is_file else _BODY_FILE if body.value is None else ""
    example = "" if payload else pretty(body.value).replace("'", "'\\''")
    return Command(
        option, path, (*required, f"Content-Type: {_request_media_type(body)}"), body.media_type, payload, example
    )


def _option(verb: str, usual: str) -> str:
    """Return the option of curl for the method, unless it is the default one."""
    return " -I" if verb == "HEAD" else "" if verb == usual else f" -X {verb}"


def _request_media_type(body: Body) -> str:
    """Return a media type for a request: the type itself, or a concrete one for a wildcard."""
    return _ANY if "*" in body.media_type else body.media_type


def _path(site: Site, operation: Operation) -> str:
    """Return the path with the id of the example item, or with an arbitrary one."""
    value = operation.success.value if operation.success else None
    id = value.get("id", _ID) if isinstance(value, Mapping) else _ID
    return site.prefix + operation.path.replace("{id}", str(id))
