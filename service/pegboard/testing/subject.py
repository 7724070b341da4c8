"""The resource under test: what it declares, and how items of it are made, found and removed through the API."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlencode

import hypothesis
import jsonschema_rs
import orjson
import pytest
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from marshmallow.decorators import VALIDATES_SCHEMA

from pegboard import rendering
from pegboard.api.resource import VERBS, Resource
from pegboard.endpoints.endpoint import Endpoint
from pegboard.errors import ApiError
from pegboard.query import mapping
from pegboard.schema.loading import STANDARD, Loader, default_of
from pegboard.testing import promise
from pegboard.testing.client import Client, Response
from pegboard.testing.service import Running
from pegboard.testing.strategies import Making

Body = dict[str, Any]
Draw = Callable[[SearchStrategy[Any]], Any]

_MOST_PAGES = 2_000
_SHOWN = 600
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d.*")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


class Broken(AssertionError):
    """Say which rule of the contract a resource breaks, and what was seen."""


class Subject:
    """Know one resource of a running service. What it sends, it sends as a client that holds all grants."""

    def __init__(self, running: Running, name: str) -> None:
        found = {plugin.name: plugin.resource for plugin in running.plugins}
        if found.get(name) is None:
            raise LookupError(f"no plugin serves {name}; available are {', '.join(found) or 'none'}")
        self.running = running
        self.name = name
        self.path = f"/{name}"
        self.resource: type[Resource] = found[name]  # type: ignore[assignment]  # it is there: looked at above
        self.resources = found
        self.verbs = self.resource.verbs
        self.rules = self.resource.rules()
        self.loader = Loader(self.resource.schema)
        self.schema = self.resource.schema()
        self.document: Any = promise.of(running.client.service).document
        self._trail: deque[str] = deque(maxlen=4)
        self.fields = {mapping.name_of(field, name): field for name, field in self.schema.fields.items()}
        self.writable = [name for name, field in self.fields.items() if not field.dump_only]
        self.bodies: SearchStrategy[Body] = self.generated()
        """What new items are made of."""
        self.changed: tuple[str, ...] = ()
        """The fields that are not stored as they are sent."""

    @property
    def on_items(self) -> list[str]:
        """Return the verbs of an item."""
        return [verb for verb in VERBS if verb in self._endpoints(item=True)]

    @property
    def on_collection(self) -> list[str]:
        """Return the verbs of the collection."""
        return [verb for verb in VERBS if verb in self._endpoints(item=False)]

    def _endpoints(self, *, item: bool) -> Mapping[str, Endpoint]:
        path = self.running.client.service.table.paths.get(self.path + ("/{id}" if item else ""))
        return path.endpoints if path else {}

    def operation(self, verb: str, *, item: bool = False) -> Any:
        """Return what the document has of a verb, None where it is not there."""
        return self.document["paths"].get(self.path + ("/{id}" if item else ""), {}).get(verb.lower())

    def is_public(self, verb: str, *, item: bool = False) -> bool:
        """Tell whether a verb needs no credentials."""
        return self._endpoints(item=item)[verb].access.public

    def shape(self) -> Any:
        """Return the schema of what a new item is made of, or one that replaces another."""
        verb = "POST" if self.operation("POST") else "PUT"
        schema = self.operation(verb, item=verb == "PUT")["requestBody"]["content"]["application/json"]["schema"]
        ref = schema.get("$ref") or schema["anyOf"][0]["$ref"]
        return self.document["components"]["schemas"][ref.rpartition("/")[2]]

    def takes(self, name: str, value: Any) -> bool:
        """Tell whether the document has `value` taken in the field `name`, whatever its format."""
        schema = {**self.shape()["properties"][name], "components": self.document["components"]}
        return jsonschema_rs.Draft202012Validator(schema, validate_formats=False).is_valid(value)

    # What is sent

    def send(self, method: str, path: str, body: Any = None, client: Client | None = None, **options: Any) -> Response:
        """Send a request and wait for its answer; raise `Broken` for a 5xx, whatever was asked."""
        headers = dict(options.pop("headers", {}))
        if body is not None:
            # Numbers of any size, which the client itself would not write.
            options["data"] = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        sending = (client or self.running.client).request(method, path, headers=headers, **options)
        response = self.running.loop.run(sending)
        sent = f" {_short(options['data'])}" if options.get("data") else ""
        self._trail.append(f"{method} {path}{sent} -> {response.status} {_short(response.body)}")
        self.expect(response.status < 500 or response.status == 501, "no response is an error of the service")
        return response

    def expect(self, holds: object, rule: str, *seen: Any) -> None:
        """Raise `Broken`, with the last requests and their answers, unless `rule` holds."""
        __tracebackhide__ = True
        if not holds:
            raise Broken("\n  ".join((f"{self.name}: {rule}", *map(repr, seen), *self._trail)))

    def expect_status(self, response: Response, *statuses: int) -> None:
        """Raise `Broken` unless the answer has one of `statuses`."""
        self.expect(
            response.status in statuses, f"the status is {' or '.join(map(str, statuses))}, not {response.status}"
        )

    # Items

    def at(self, item: Mapping[str, Any]) -> str:
        """Return the path of an item."""
        return f"{self.path}/{quote(str(item['id']), safe='')}"

    def match(self, item: Mapping[str, Any]) -> dict[str, str]:
        """Return the headers that a change needs, where the resource wants `If-Match`."""
        return {"If-Match": "*"} if self.resource.needs_match else {}

    def create(self, body: Body, **options: Any) -> Response:
        """Make an item; a conflict with one that is there is no fault of anybody's: then other data is tried."""
        response = self.send("POST", self.path, body, **options)
        if response.status == 409:
            hypothesis.reject()
        self.expect_status(response, 201)
        return response

    @contextmanager
    def item(self, draw: Draw, body: Body | None = None) -> Iterator[Body]:
        """Lend an item that is made for the time, or one that is there where the resource lets nobody make any."""
        with self.items(draw, 1, None if body is None else [body]) as items:
            if not items:
                pytest.skip(f"{self.name} has no item, and none can be made")
            yield items[0]

    @contextmanager
    def items(self, draw: Draw, count: int, bodies: Sequence[Body] | None = None) -> Iterator[list[Body]]:
        """Lend at most `count` items; those that were made are removed again, where that is possible."""
        if "POST" not in self.verbs:
            yield self.send("GET", f"{self.path}?limit={count}").json["items"] if "GET" in self.on_collection else []
            return
        made: list[Body] = []
        try:
            for body in bodies or draw(st.lists(self.bodies, min_size=count, max_size=count)):
                response = self.send("POST", self.path, body)
                if response.status != 409:
                    self.expect_status(response, 201)
                    made.append(response.json)
            if not made:
                hypothesis.reject()
            yield made
        finally:
            for item in made:
                self.remove(item)

    def remove(self, item: Mapping[str, Any]) -> None:
        """Remove an item, where that is possible."""
        if "DELETE" in self.verbs:
            self.send("DELETE", self.at(item), headers=self.match(item))

    def walk(self, **parameters: str | int) -> list[Body]:
        """Return the items of all pages from the first on; raise `Broken` where the pages do not end."""
        path: str | None = f"{self.path}?{urlencode(parameters)}" if parameters else self.path
        found: list[Body] = []
        for _ in range(_MOST_PAGES):
            response = self.send("GET", str(path))
            self.expect_status(response, 200)
            found += response.json["items"]
            path = response.json["next"]
            if path is None:
                return found
        raise Broken(f"{self.name}: the pages have an end")

    # What is known of data

    def generated(self) -> SearchStrategy[Body]:
        """Return a strategy for the bodies of new items, made from the document; references lead to real items."""
        if not {"POST", "PUT"}.intersection(self.verbs):
            return st.nothing()
        shape, making = self.shape(), Making(self.document["components"]["schemas"])
        parts = {}
        for name, part in shape["properties"].items():
            if name in self.writable:
                parts[name] = self._part(name, part, making)
        required = {name: parts.pop(name) for name in shape.get("required", ()) if name in parts}
        return st.fixed_dictionaries(required, optional=parts).filter(self._loads)

    def _part(self, name: str, shape: Mapping[str, Any], making: Making) -> SearchStrategy[Any]:
        field = self.fields[name]
        target = getattr(field, "resource", None)
        if isinstance(target, str):
            # Others are made at once, one's own kind when an item is drawn.
            own = st.none().flatmap(lambda _: st.sampled_from(self._targets(target)))
            ids = own if target == self.name else st.sampled_from(self._targets(target))
            return st.none() | ids if field.allow_none else ids

        def is_taken(value: Any) -> bool:
            try:
                field.deserialize(value)
            except ValueError:
                return False
            except Exception:
                # A mistake of the author's: the service is to be asked, and its answer to tell.
                return True
            return True

        return making.of(shape).filter(is_taken)

    def outside(self, name: str) -> SearchStrategy[Any]:
        """Return a strategy for what lies just outside of what the field `name` takes."""
        return Making(self.document["components"]["schemas"]).outside(self.shape()["properties"][name])

    def _targets(self, name: str) -> list[Any]:
        """Return ids of items of another resource, one made where there is none; null of one's own kind."""
        other = self if name == self.name else Subject(self.running, name)
        there = other.send("GET", f"{other.path}?limit=3").json["items"]
        if not there and name != self.name:
            there = [other.make_one()]
        return [item["id"] for item in there] or [None]

    def make_one(self) -> Body:
        """Make an item that stays."""
        made: list[Body] = []

        @hypothesis.settings(
            database=None, deadline=None, max_examples=1, suppress_health_check=list(hypothesis.HealthCheck)
        )
        @hypothesis.given(self.bodies)
        def make(body: Body) -> None:
            made.append(self.create(body).json)

        make()
        return made[0]

    def _loads(self, body: Body) -> bool:
        try:
            self.loader.create(body)
        except ApiError:
            return False
        except Exception:
            return True
        return True

    def written(self, body: Body) -> Body:
        """Return what an item shows of the body that it was made of, its defaults included."""
        # As it is read from JSON, where a whole number beyond 64 bits is a float.
        data = self.loader.create(orjson.loads(json.dumps(body)))
        names = {name: field for name, field in self.schema.fields.items() if not field.dump_only}
        for name, field in names.items():
            data.setdefault(field.attribute or name, default_of(field))
        shown = [name for name, field in names.items() if not field.load_only]
        dumped = self.resource.schema(only=shown).dump(data) if shown else {}
        return dict(orjson.loads(rendering.dumps(dumped)))

    def check_item(self, item: Any, sent: Mapping[str, Any] | None = None) -> None:
        """Raise `Broken` for an item that lacks an id, shows what is write-only, or formats a date by itself."""
        self.expect(isinstance(item, dict) and "id" in item, "every item has an id", item)
        hidden = [name for name, field in self.fields.items() if field.load_only and name in item]
        self.expect(not hidden, "what is write-only is never shown", hidden)
        for name, value in item.items():
            if isinstance(value, str) and _MOMENT.fullmatch(value) and name not in (sent or self.texts):
                self.expect(_INSTANT.fullmatch(value), f"instants are in UTC, whole seconds, with Z: {name}", value)

    @property
    def judges_whole(self) -> bool:
        """Tell whether what a field takes can depend on the others."""
        return bool(self.schema._hooks[VALIDATES_SCHEMA])

    @property
    def texts(self) -> list[str]:
        """Return the fields in which a client writes what it wants."""
        return [name for name in self.writable if name not in STANDARD]


def _short(body: bytes) -> str:
    text = body.decode("utf-8", "replace")
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(body)} bytes)"
