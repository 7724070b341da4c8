"""The resource under test: its declaration, and creating, finding and deleting items through the API."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
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
from pegboard.api import declared
from pegboard.api.resource import Resource
from pegboard.api.table import TableResource
from pegboard.endpoints.endpoint import Endpoint
from pegboard.errors import ApiError
from pegboard.http.request import VERBS
from pegboard.query import mapping
from pegboard.query.existing import ExistingTable
from pegboard.schema.column import INTEGER_KEY
from pegboard.schema.loading import STANDARD, Loader, default_of
from pegboard.testing import openapi
from pegboard.testing.client import Client, Response
from pegboard.testing.service import Running
from pegboard.testing.strategies import StrategyBuilder

Body = dict[str, Any]
Draw = Callable[[SearchStrategy[Any]], Any]

_MOST_PAGES = 2_000
_SHOWN = 600
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d.*")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


class ContractViolation(AssertionError):
    """Report which rule of the contract a resource violates, and how."""


class Subject:
    """Represent one resource of a running service. Requests are sent as a client that holds all grants."""

    def __init__(self, running: Running, name: str) -> None:
        resources = {plugin.name: plugin.resource for plugin in running._plugins}
        if resources.get(name) is None:
            raise LookupError(f"no plugin serves {name}; available are {', '.join(resources) or 'none'}")
        self.running = running
        self.name = name
        self.path = f"/{name}"
        self.resource: type[Resource] = resources[name]  # type: ignore[assignment]  # not None, as checked above
        self.resources = resources
        self.verbs = declared.verbs(self.resource)
        self.rules = declared.rules(self.resource)
        self.loader = Loader(self.resource.schema)
        self.schema = self.resource.schema()
        self.document: Any = openapi.checker_of(running._service).document
        self._recent: deque[str] = deque(maxlen=4)
        self.fields = {mapping.name_of(field, name): field for name, field in self.schema.fields.items()}
        self.writable = [name for name, field in self.fields.items() if not field.dump_only]
        self.normalized: tuple[str, ...] = ()
        """The fields that the resource stores in another form than they were sent."""
        self.in_table = issubclass(self.resource, TableResource)
        self.columns = {column.field: column for column in self.rules.columns}
        existing = declared.existing_table(self.resource)
        writable = self.schema.load_fields.items()
        keys = [mapping.name_of(field, name) for name, field in writable if _stored_in(field, name, existing)]
        self.key_field = keys[0] if keys else None
        """The field of the schema that is the key of an existing table: it has the value of the id."""

    @cached_property
    def bodies(self) -> SearchStrategy[Body]:
        """Return the strategy for the bodies of new items: that which is assigned, or made from the document."""
        return self.generated()

    @property
    def item_verbs(self) -> list[str]:
        """Return the verbs of an item."""
        return [verb for verb in VERBS if verb in self._endpoints(item=True)]

    @property
    def collection_verbs(self) -> list[str]:
        """Return the verbs of the collection."""
        return [verb for verb in VERBS if verb in self._endpoints(item=False)]

    def _endpoints(self, *, item: bool) -> Mapping[str, Endpoint]:
        path = self.running._service.table.paths.get(self.path + ("/{id}" if item else ""))
        return path.endpoints if path else {}

    def operation(self, verb: str, *, item: bool = False) -> Any:
        """Return the operation of the document for a verb; None if there is none."""
        return self.document["paths"].get(self.path + ("/{id}" if item else ""), {}).get(verb.lower())

    def is_public(self, verb: str, *, item: bool = False) -> bool:
        """Return whether a verb needs no credentials."""
        return self._endpoints(item=item)[verb].access.public

    def body_schema(self) -> Any:
        """Return the schema of the body of a new item, or of one that replaces another."""
        verb = "POST" if self.operation("POST") else "PUT"
        schema = self.operation(verb, item=verb == "PUT")["requestBody"]["content"]["application/json"]["schema"]
        ref = schema.get("$ref") or schema["anyOf"][0]["$ref"]
        return self.document["components"]["schemas"][ref.rpartition("/")[2]]

    def accepts(self, name: str, value: Any) -> bool:
        """Return whether the document allows `value` in the field `name`, apart from its format."""
        schema = {**self.body_schema()["properties"][name], "components": self.document["components"]}
        return jsonschema_rs.Draft202012Validator(schema, validate_formats=False).is_valid(value)

    # Requests

    def send(self, method: str, path: str, body: Any = None, client: Client | None = None, **options: Any) -> Response:
        """Send a request and return the response; raises `ContractViolation` for a 5xx."""
        headers = dict(options.pop("headers", {}))
        if body is not None:
            # Unlike the client's own serializer, this one supports integers of any size.
            options["data"] = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        sending = (client or self.running.client).request(method, path, headers=headers, **options)
        response = self.running.loop.run(sending)
        sent = f" {_short(options['data'])}" if options.get("data") else ""
        self._recent.append(f"{method} {path}{sent} -> {response.status} {_short(response.body)}")
        is_expected = response.status < 500 or response.status == 501
        self.expect(is_expected, f"{method} {path}: expected no server error, got the status {response.status}")
        return response

    def expect(self, condition: object, rule: str) -> None:
        """Raise `ContractViolation`, with the last requests and responses, unless `condition` holds."""
        __tracebackhide__ = True
        if not condition:
            raise ContractViolation("\n  ".join((f"{self.name}: {rule}", *self._recent)))

    def expect_equal(self, got: Any, expected: Any, rule: str) -> None:
        """Raise `ContractViolation`, with both values, unless they are equal."""
        __tracebackhide__ = True
        self.expect(got == expected, differing(rule, got, expected))

    def expect_status(self, response: Response, *statuses: int, request: str = "") -> None:
        """Raise `ContractViolation` unless the response has one of `statuses`; `request` describes what was sent."""
        __tracebackhide__ = True
        expected = f"expected the status {' or '.join(map(str, statuses))}, got {response.status}"
        self.expect(response.status in statuses, f"{request}: {expected}" if request else expected)

    def expect_error_at(self, response: Response, pointer: str) -> None:
        """Raise `ContractViolation` unless the response is a 422 with an error that points to `pointer`."""
        __tracebackhide__ = True
        self.expect_status(response, 422)
        pointers = [location for _, location in response.errors]
        self.expect(pointer in pointers, f"expected an error that points to {pointer}, got errors at {pointers}")

    # Items

    def path_of(self, item: Mapping[str, Any]) -> str:
        """Return the path of an item."""
        return f"{self.path}/{quote(str(item['id']), safe='')}"

    def with_key(self, body: Body, id: Any) -> Body:
        """Return a body for the item with this id: a field that is the key of the table has its value."""
        if self.key_field is None:
            return body
        is_number = self.columns["id"].type == INTEGER_KEY and str(id).removeprefix("-").isdecimal()
        return {**body, self.key_field: int(id) if is_number else id}

    def can_replace(self, body: Body, id: str) -> bool:
        """Return whether a body is valid for replacing the item with this id; an author's error counts as valid."""
        try:
            self.loader.replace(body, id)
        except ApiError:
            return False
        except Exception:
            return True
        return True

    def match_headers(self, item: Mapping[str, Any]) -> dict[str, str]:
        """Return the header `If-Match` if the resource requires it for changes."""
        return {"If-Match": "*"} if self.resource.needs_match else {}

    def create(self, body: Body, **options: Any) -> Response:
        """Create an item; after a conflict with an existing item, Hypothesis tries other data."""
        response = self.send("POST", self.path, body, **options)
        if response.status == 409:
            hypothesis.reject()
        self.expect_status(response, 201)
        return response

    @contextmanager
    def item(self, draw: Draw, body: Body | None = None) -> Iterator[Body]:
        """Yield a temporary item, or an existing one if clients cannot create any."""
        with self.items(draw, 1, None if body is None else [body]) as items:
            if not items:
                pytest.skip(f"{self.name} has no item, and none can be made")
            yield items[0]

    @contextmanager
    def items(self, draw: Draw, count: int, bodies: Sequence[Body] | None = None) -> Iterator[list[Body]]:
        """Yield at most `count` items; created ones are removed afterwards, if possible."""
        if "POST" not in self.verbs:
            yield self.send("GET", f"{self.path}?limit={count}").json["items"] if "GET" in self.collection_verbs else []
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
        """Remove an item, if possible."""
        if "DELETE" in self.verbs:
            self.send("DELETE", self.path_of(item), headers=self.match_headers(item))

    def walk(self, **parameters: str | int) -> list[Body]:
        """Return the items of all pages; raises `ContractViolation` if the pages do not end."""
        path: str | None = f"{self.path}?{urlencode(parameters)}" if parameters else self.path
        found: list[Body] = []
        for _ in range(_MOST_PAGES):
            response = self.send("GET", str(path))
            self.expect_status(response, 200)
            found += response.json["items"]
            path = response.json["next"]
            if path is None:
                return found
        self.expect(False, f"expected the last page to have no next one, got more than {_MOST_PAGES} pages")
        return found

    # Data

    def generated(self) -> SearchStrategy[Body]:
        """Return a strategy for the bodies of new items, made from the document; references are ids of real items."""
        if not {"POST", "PUT"}.intersection(self.verbs):
            return st.nothing()
        body_schema, builder = self.body_schema(), StrategyBuilder(self.document["components"]["schemas"])
        parts = {}
        for name, part in body_schema["properties"].items():
            if name in self.writable:
                parts[name] = self._property_strategy(name, part, builder)
        required = {name: parts.pop(name) for name in body_schema.get("required", ()) if name in parts}
        return st.fixed_dictionaries(required, optional=parts).filter(self._loads)

    def _property_strategy(self, name: str, schema: Mapping[str, Any], builder: StrategyBuilder) -> SearchStrategy[Any]:
        field = self.fields[name]
        target = getattr(field, "resource", None)
        if isinstance(target, str):
            # Items of other resources are created at once, those of the resource itself when a body is drawn.
            own = st.none().flatmap(lambda _: st.sampled_from(self._reference_ids(target)))
            ids = own if target == self.name else st.sampled_from(self._reference_ids(target))
            return st.none() | ids if field.allow_none else ids

        def is_valid(value: Any) -> bool:
            try:
                field.deserialize(value)
            except ValueError:
                return False
            except Exception:
                # An error in the author's code, which the response of the service will reveal.
                return True
            return True

        return builder.of(schema).filter(is_valid)

    def outside(self, name: str) -> SearchStrategy[Any]:
        """Return a strategy for values just outside the bounds of the field `name`."""
        return StrategyBuilder(self.document["components"]["schemas"]).outside(self.body_schema()["properties"][name])

    def _reference_ids(self, name: str) -> list[Any]:
        """Return ids of items of a resource; create one if there are none, except of the resource itself."""
        other = self if name == self.name else Subject(self.running, name)
        items = other.send("GET", f"{other.path}?limit=3").json["items"]
        if not items and name != self.name:
            items = [other.create_referenced()]
        return [item["id"] for item in items] or [None]

    def create_referenced(self) -> Body:
        """Create an item that is not removed."""
        made: list[Body] = []

        @hypothesis.settings(
            database=None,
            deadline=None,
            derandomize=True,  # So that a seed determines the data of the item under test.
            max_examples=1,
            suppress_health_check=list(hypothesis.HealthCheck),
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

    def expected_item(self, body: Body) -> Body:
        """Return the fields of the item that a body creates, including defaults."""
        # Through JSON, where orjson reads an integer of more than 64 bits as a float.
        data = self.loader.create(orjson.loads(json.dumps(body)))
        names = {name: field for name, field in self.schema.fields.items() if not field.dump_only}
        for name, field in names.items():
            data.setdefault(field.attribute or name, default_of(field))
        shown = [name for name, field in names.items() if not field.load_only]
        dumped = self.resource.schema(only=shown).dump(data) if shown else {}
        return dict(orjson.loads(rendering.dumps(dumped)))

    def check_item(self, item: Any, sent: Mapping[str, Any] | None = None) -> None:
        """Raise `ContractViolation` for an item without an id, with write-only fields or with another date format."""
        self.expect(isinstance(item, dict) and "id" in item, f"expected an item with an id, got {shortened(item)}")
        hidden = [name for name, field in self.fields.items() if field.load_only and name in item]
        self.expect(not hidden, f"expected no write-only fields in an item, got {hidden}")
        for name, value in item.items():
            if isinstance(value, str) and _MOMENT.fullmatch(value) and name not in (sent or self.client_fields):
                rule = f"{name}: expected an instant in UTC, in seconds, with Z, got {value!r}"
                self.expect(_INSTANT.fullmatch(value), rule)

    @property
    def has_schema_validators(self) -> bool:
        """Return whether the validity of a field can depend on other fields."""
        return bool(self.schema._hooks[VALIDATES_SCHEMA])

    @property
    def client_fields(self) -> list[str]:
        """Return the fields that clients write, except standard ones."""
        return [name for name in self.writable if name not in STANDARD]


def differing(rule: str, got: Any, expected: Any) -> str:
    """Return the message for a value that differs from the expected one."""
    return f"{rule}: expected {shortened(expected)}, got {shortened(got)}"


def shortened(value: Any) -> str:
    """Return the representation of a value, cut if it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"


def _short(body: bytes) -> str:
    text = body.decode("utf-8", "replace")
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(body)} bytes)"


def _stored_in(field: Any, name: str, existing: ExistingTable | None) -> bool:
    """Return whether a field is stored in the key of an existing table."""
    return existing is not None and (field.attribute or name) == existing.key
