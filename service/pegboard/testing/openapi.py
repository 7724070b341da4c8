"""Checks of responses against the service's own OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import jsonschema_rs
import orjson

from pegboard.app import Service

# The headers that any response may have and that the document does not describe.
GENERAL_HEADERS = frozenset(
    ("date", "server", "connection", "content-type", "content-length", "content-encoding", "transfer-encoding")
)
LINES = "application/x-ndjson"
MAX_LINES = 20


class Undescribed(AssertionError):
    """Report a response that the document does not describe."""


class ResponseChecker:
    """Check responses against an OpenAPI document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self._validators: dict[str, jsonschema_rs.Draft202012Validator] = {}
        self._components = {"schemas": {n: _close(s) for n, s in document["components"]["schemas"].items()}}
        self._plain = {path: item for path, item in document["paths"].items() if "{" not in path}
        self._templates = {tuple(path.split("/")): item for path, item in document["paths"].items() if "{" in path}

    def check(self, method: str, path: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Raise `Undescribed` unless the document describes such a response to such a request."""
        try:
            self._check(method.lower(), path.partition("?")[0], status, headers, body)
        except Undescribed as error:
            raise Undescribed(f"{method} {path} -> {status} {dict(headers)} {body[:500]!r}: {error}") from None

    def _check(self, method: str, path: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
        if status == 308 or "Access-Control-Allow-Methods" in headers:
            return
        item = self._find(path)
        operation = None if item is None else item.get(method)
        if operation is None:
            self._check_undocumented(method, path, status, headers, body)
            return
        described = self._resolve(operation["responses"].get(str(status)))
        if described is None:
            raise Undescribed(f"the status is none of {', '.join(operation['responses'])}")
        # An author's errors may have further headers.
        self._check_headers(described.get("headers", {}), headers, others=status >= 400)
        self._check_body(method, described.get("content", {}), headers, body)

    def _find(self, path: str) -> Any:
        if unquote(path) in self._plain:
            return self._plain[unquote(path)]
        steps = [unquote(step) for step in path.split("/")]
        for template, item in self._templates.items():
            if len(template) == len(steps) and all(
                (part.startswith("{") and step) or part == step for part, step in zip(template, steps, strict=True)
            ):
                return item
        return None

    def _check_undocumented(self, method: str, path: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Accept an error of the usual form and the assets of pages, which the document does not describe."""
        if status >= 400:
            self._check_body(
                method, {"application/json": {"schema": {"$ref": "#/components/schemas/Errors"}}}, headers, body
            )
        elif not (path.startswith("/docs/assets/") or (method == "options" and path == "*")):
            raise Undescribed("there is no such operation")

    def _check_headers(self, described: Mapping[str, Any], headers: Mapping[str, str], *, others: bool) -> None:
        allowed = GENERAL_HEADERS | {name.lower() for name in described}
        for name in headers if not others else ():
            if name.lower() not in allowed and not name.lower().startswith("access-control-"):
                raise Undescribed(f"the header {name} is not described")
        for name, header in described.items():
            header = self._resolve(header)
            if name not in headers:
                if header.get("required"):
                    raise Undescribed(f"the header {name} is missing")
                continue
            value: Any = headers[name]
            if header["schema"].get("type") == "integer":
                value = int(value)
            self._validate(header["schema"], value)

    def _check_body(self, method: str, content: Mapping[str, Any], headers: Mapping[str, str], body: bytes) -> None:
        if method == "head":
            if body:
                raise Undescribed("there is a body")
            return
        if not body and (not content or "Preference-Applied" in headers):
            return
        media_type = headers.get("Content-Type", "").partition(";")[0]
        family = media_type.partition("/")[0]
        if {media_type, f"{family}/*", "*/*"}.isdisjoint(content):
            raise Undescribed(f"the media type is none of {', '.join(content)}")
        if "Content-Encoding" in headers:
            return
        if media_type == "application/json" and media_type in content:
            self._validate(content[media_type]["schema"], orjson.loads(body))
        elif media_type == LINES:
            item = self._resolve(content["application/json"]["schema"])["properties"]["items"]["items"]
            for line in body.splitlines()[:MAX_LINES]:
                self._validate(item, orjson.loads(line))

    def _validate(self, schema: Mapping[str, Any], value: Any) -> None:
        key = orjson.dumps(schema).decode()
        validator = self._validators.get(key)
        if validator is None:
            complete = {**schema, "components": self._components}
            validator = jsonschema_rs.Draft202012Validator(complete, validate_formats=True)
            self._validators[key] = validator
        if not validator.is_valid(value):
            problems = "; ".join(f"{error.message} at {error.instance_path}" for error in validator.iter_errors(value))
            raise Undescribed(problems)

    def _resolve(self, part: Any) -> Any:
        while isinstance(part, dict) and "$ref" in part:
            target: Any = self.document
            for step in part["$ref"].removeprefix("#/").split("/"):
                target = target[step]
            part = target
        return part


def _close(schema: Any) -> Any:
    """Return a stricter schema: its objects have no properties but those described."""
    if isinstance(schema, list):
        return [_close(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _close(part) for key, part in schema.items()}
    return closed if "properties" not in schema else {"additionalProperties": False} | closed


_CHECKERS: dict[tuple[Any, ...], ResponseChecker] = {}


def checker_of(service: Service) -> ResponseChecker:
    """Return the checker for the current document of `service`; equal services share one."""
    plugins = tuple((plugin.name, plugin.state, plugin.resource) for plugin in service.plugins)
    key = (plugins, service.settings.path_prefix, service.settings.docs_public)
    if key not in _CHECKERS:
        _CHECKERS[key] = ResponseChecker(service.specification.document())
    return _CHECKERS[key]
