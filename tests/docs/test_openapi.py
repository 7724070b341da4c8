"""The OpenAPI document: how it describes resources, that it is valid, and how it is served."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

import jsonschema_rs
import marshmallow.fields
import pytest
from openapi_spec_validator import validate as validate_document

from pegboard import ApiError, Content, ContentResource, Resource, Schema, TableResource, validate
from pegboard.api import declared
from pegboard.endpoints.describe.errors import ACTIONS
from pegboard.endpoints.describe.json_fields import ecma
from pegboard.errors import CATALOGUE
from pegboard.hosting import discovery
from pegboard.hosting.discovery import State
from pegboard.schema import fields
from tests.conftest import Api, Serve, document_of, plugin

Document = dict[str, Any]


class Locked(ApiError, number=7, status=409, message="The thing is locked."): ...


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Address(Schema):
    """Where something is."""

    street = fields.String(required=True)
    city = fields.String(load_default="London")


class Thing(Schema):
    """One thing."""

    name = fields.String(required=True, validate=validate.Length(1, 40), metadata={"description": "What it is called."})
    price = fields.Decimal(required=True, places=2, validate=validate.Range(min=Decimal("0.00")))
    ratio = fields.Float(validate=validate.Range(0, 1, min_inclusive=False))
    amount = fields.Integer(load_default=0, validate=validate.Range(max=10))
    code = fields.String(validate=validate.Regexp(r"^[^\x00]*\Z"))
    kinds = fields.List(fields.String(), load_default=list, validate=validate.ContainsOnly(["a", "b"]))
    kind = fields.String(validate=validate.OneOf(["a", "b"]), allow_none=True)
    link = fields.Url()
    at = fields.Time()
    since = fields.Date(load_default=date(2015, 2, 15), metadata={"example": date(2020, 1, 1)})
    address = fields.Nested(Address, allow_none=True)
    addresses = fields.List(fields.Nested(Address), load_default=list)
    notes = fields.Dict(values=fields.String())
    secret = fields.Password()
    maker = fields.Reference("makers")
    seen = fields.DateTime(dump_only=True)
    spec = fields.Raw(data_key="spec.sheet")


class Things(TableResource):
    """Things you have.

    And more about **them**.
    """

    schema = Thing
    verbs = "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"
    error_codes = (Locked,)
    needs_match = True
    creates_by_put = True
    max_limit = 20
    default_limit = 10
    search_fields = ("name",)


class MakerSchema(Schema):
    name = fields.String(required=True)


class Makers(TableResource):
    schema = MakerSchema
    verbs = "GET", "POST"


class Picture(Schema):
    title = fields.String(required=True)
    media_type = fields.String(dump_only=True)
    size = fields.Integer(dump_only=True)
    sha256 = fields.String(dump_only=True)


class Pictures(ContentResource):
    """Pictures of things."""

    schema = Picture
    verbs = "GET", "POST"
    content = Content(types=("image/*",), max_size=5000)


class Readings(Resource):
    """Readings, identified by the name of the quantity."""

    class schema(Schema):
        """One reading."""

        colour = marshmallow.fields.Enum(Colour, by_value=True)
        pair = marshmallow.fields.Tuple((fields.Integer(), fields.String()))
        host = marshmallow.fields.IP()
        unit = fields.Constant("metre")

    verbs = ("GET",)

    def parse_id(self, text: str) -> str | None:
        return text

    async def retrieve(self, context: Any, id: str) -> Any:
        return {"id": id}


PLUGINS = [
    plugin("makers", Makers),
    plugin("pictures", Pictures),
    plugin("readings", Readings),
    plugin("things", Things),
]


@pytest.fixture(scope="module")
def document() -> Document:
    return document_of(PLUGINS)


def resolved(document: Document, part: Any) -> Any:
    while "$ref" in part:
        target: Any = document
        for step in part["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        part = target
    return part


def installed() -> Document:
    return document_of(discovery.discover(discovery.installed()))


def media(part: Any) -> Iterator[Mapping[str, Any]]:
    """Yield everything with a schema and examples."""
    if isinstance(part, dict):
        if "schema" in part:
            yield part
        for inner in part.values():
            yield from media(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from media(inner)


@pytest.mark.parametrize("make", [installed, lambda: document_of(PLUGINS, path_prefix="/api", docs_public=False)])
def test_the_document_is_valid_and_its_examples_match_their_schemas(make: Any) -> None:
    document = make()
    validate_document(document)
    shown = 0
    for part in media(document):
        schema = {**part["schema"], "components": document["components"]}
        validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
        values = [part["example"]] if "example" in part else []
        values += [example["value"] for example in part.get("examples", {}).values()]
        for value in values:
            assert validator.is_valid(value), (value, part["schema"])
            shown += 1
    assert shown > 100


def test_the_document_is_deterministic() -> None:
    assert json.dumps(installed()) == json.dumps(installed())


PROPERTIES = {
    "name": {"type": "string", "minLength": 1, "maxLength": 40, "description": "What it is called."},
    "price": {"type": ["string", "number"], "pattern": r"^-?\d{1,100}(\.\d{1,2})?$", "minimum": 0.0},
    "ratio": {"type": "number", "format": "double", "exclusiveMinimum": 0, "maximum": 1},
    "amount": {"type": "integer", "format": "int64", "minimum": -(2**63), "maximum": 10, "default": 0},
    "code": {"type": "string", "pattern": r"^[^\u0000]*$"},
    "kinds": {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}, "default": []},
    "kind": {"type": ["string", "null"], "enum": ["a", "b", None]},
    "link": {"type": "string", "format": "uri"},
    "at": {"type": "string", "pattern": r"^([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?$"},
    "since": {"type": "string", "format": "date", "default": "2015-02-15", "examples": ["2020-01-01"]},
    "address": {"anyOf": [{"$ref": "#/components/schemas/Address"}, {"type": "null"}]},
    "addresses": {"type": "array", "items": {"$ref": "#/components/schemas/Address"}, "default": []},
    "notes": {"type": "object", "additionalProperties": {"type": "string"}},
    "secret": {
        "type": "string",
        "format": "password",
        "minLength": 8,
        "maxLength": 1024,
        "pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$",
        "writeOnly": True,
    },
    "maker": {"type": "string", "format": "uuid", "description": "The id of an item of `/makers`."},
    "spec.sheet": {},
}


def test_the_schema_of_a_new_item_describes_every_field(document: Document) -> None:
    create = document["components"]["schemas"]["ThingCreate"]
    assert create["properties"] == PROPERTIES
    assert create["required"] == ["name", "price"]
    assert create["additionalProperties"] is False


def test_marshmallow_fields_are_described_correctly(document: Document) -> None:
    item = document["components"]["schemas"]["Readings"]["properties"]
    assert item["colour"] == {"type": ["string", "null"], "enum": ["red", "blue", None]}
    assert item["pair"]["prefixItems"][0]["type"] == "integer"
    assert (item["pair"]["minItems"], item["pair"]["maxItems"]) == (2, 2)
    assert item["host"]["anyOf"] == [{"format": "ipv4"}, {"format": "ipv6"}]
    assert item["unit"]["const"] == "metre"


def test_the_schema_of_an_item_has_only_readable_fields(document: Document) -> None:
    item = document["components"]["schemas"]["Thing"]
    names = list(item["properties"])
    assert names[0] == "id"
    assert names[-2:] == ["created_at", "updated_at"]
    assert "secret" not in names
    assert item["properties"]["seen"]["readOnly"] is True
    assert item["properties"]["price"]["type"] == "string"
    assert item["properties"]["ratio"]["type"] == ["number", "null"]
    assert item["properties"]["maker"]["anyOf"][1:] == [{"$ref": "#/components/schemas/Maker"}, {"type": "null"}]
    assert "default" not in item["properties"]["amount"]


def test_the_schema_of_a_patch_requires_nothing_and_allows_null_for_defaults(document: Document) -> None:
    schemas = document["components"]["schemas"]
    update = schemas["ThingUpdate"]
    assert "required" not in update
    properties = update["properties"]
    assert properties["name"]["type"] == "string"
    assert properties["amount"]["type"] == ["integer", "null"]
    assert properties["address"]["anyOf"] == [{"$ref": "#/components/schemas/AddressUpdate"}, {"type": "null"}]
    assert properties["addresses"]["items"] == {"$ref": "#/components/schemas/Address"}
    assert properties["notes"]["additionalProperties"] == {"type": ["string", "null"]}
    assert schemas["AddressUpdate"]["properties"]["street"]["type"] == ["string", "null"]
    assert "required" not in schemas["AddressUpdate"]


def test_the_schema_of_a_replacement_accepts_an_item_that_was_read(document: Document) -> None:
    replace = document["components"]["schemas"]["ThingReplace"]
    for name in ("id", "created_at", "updated_at", "seen"):
        assert replace["properties"][name]["readOnly"] is True
    assert replace["properties"]["ratio"]["type"] == ["number", "null"]


def test_the_document_has_exactly_the_declared_methods(document: Document) -> None:
    paths = document["paths"]
    assert set(paths["/things"]) == {"get", "head", "post", "options"}
    assert set(paths["/things/{id}"]) == {"parameters", "get", "head", "put", "patch", "delete", "options"}
    assert set(paths["/makers"]) == {"get", "post", "options"}
    assert set(paths["/makers/{id}"]) == {"parameters", "get", "options"}
    assert "/readings" not in paths
    assert paths["/things/{id}"]["parameters"][0]["schema"]["format"] == "uuid"
    assert paths["/readings/{id}"]["parameters"][0]["schema"] == {"type": "string"}
    assert set(paths["/things/{id}"]["patch"]["requestBody"]["content"]) == {
        "application/json",
        "application/merge-patch+json",
        "application/json-patch+json",
    }
    assert set(paths["/things/{id}"]["put"]["responses"]) >= {"200", "201", "204"}
    assert set(paths["/things"]["get"]["responses"]["200"]["content"]) == {
        "application/json",
        "application/x-ndjson",
        "text/csv",
    }


def test_the_document_has_every_query_parameter(document: Document) -> None:
    parameters = [resolved(document, one) for one in document["paths"]["/things"]["get"]["parameters"]]
    queried = {one["name"]: one for one in parameters if one["in"] == "query"}
    rules = declared.rules(Things)
    assert (
        queried.keys() == {"limit", "after", "before", "sort", "fields", "count", "q", "expand"} | rules.filters.keys()
    )
    assert queried["limit"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 20, "default": 10}
    assert queried["amount__lte"]["schema"]["type"] == "integer"
    assert queried["since"]["schema"] == {"type": "string", "format": "date"}
    assert queried["kinds__has"]["schema"] == {"type": "string"}
    sort = re.compile(queried["sort"]["schema"]["pattern"])
    assert sort.search("-name,id")
    assert not sort.search("secret")


def test_the_document_states_required_preconditions(document: Document) -> None:
    for verb in ("put", "patch", "delete"):
        operation = document["paths"]["/things/{id}"][verb]
        parameters = [resolved(document, one) for one in operation["parameters"]]
        assert next(one for one in parameters if one["name"] == "If-Match")["required"] is True
        assert "428" in operation["responses"]


def codes(document: Document, path: str, verb: str) -> dict[int, str]:
    """Return every error code of an operation, and its status."""
    result = {}
    for status, response in document["paths"][path][verb]["responses"].items():
        for code in re.findall(r"^- `(\d{5})`", resolved(document, response)["description"], re.MULTILINE):
            result[int(code)] = status
    return result


def test_error_codes_are_listed_for_the_operations_that_return_them(document: Document) -> None:
    codes_of_post = codes(document, "/things", "post")
    assert {code.code for code in ACTIONS["create"]} <= codes_of_post.keys()
    assert codes_of_post[Locked.code] == "409"
    assert Locked.code not in codes(document, "/makers", "post")
    everywhere = {
        code
        for path, item in document["paths"].items()
        for verb in item
        if verb != "parameters"
        for code in codes(document, path, verb)
    }
    # Errors that occur before an operation is known: unknown and undeclared methods.
    assert {code.code for code in CATALOGUE} - everywhere == {13001, 15001}


def test_examples_of_validation_errors_are_real(document: Document) -> None:
    response = resolved(document, document["paths"]["/things"]["post"]["responses"]["422"])
    errors = response["content"]["application/json"]["examples"]["errors"]["value"]["errors"]
    assert {(error["code"], error["pointer"]) for error in errors} == {(11001, "/name"), (11001, "/price")}


def test_only_public_operations_need_no_credentials() -> None:
    for public in (True, False):
        paths = document_of(PLUGINS, docs_public=public)["paths"]
        free = {path for path, item in paths.items() if item["get"].get("security") == []} if public else set()
        closed = {path for path, item in paths.items() if "get" in item and item["get"].get("security") == []}
        reference = {"/docs", "/docs/{resource}", "/openapi.json"}
        assert closed == {"/health", "/ready"} | (reference if public else set())
        assert not public or free == closed


def test_a_failed_plugin_is_listed_without_its_error() -> None:
    broken = plugin("broken", Things)
    broken.fail("/etc/secret is not there")
    twice = [plugin("torn", Things), plugin("torn", Makers)]
    for one in twice:
        one.fail("2 distributions claim it", State.CONFLICT)
    off = plugin("off", Makers)
    off.state = State.DISABLED
    document = document_of([broken, off, *twice, plugin("makers", Makers)])
    validate_document(document)
    tags = {tag["name"]: tag["description"] for tag in document["tags"]}
    assert tags["broken"] == "Unavailable (failed)."
    assert tags["torn"] == "Unavailable (conflict)."
    assert tags["off"] == "Unavailable (disabled)."
    assert "Unavailable: `broken`, `off`, `torn`." in document["info"]["description"]
    assert "secret" not in json.dumps(document)
    assert not {"/broken", "/torn", "/off"} & document["paths"].keys()
    assert "/makers" in document["paths"]


def test_a_plugin_that_cannot_be_described_does_not_affect_others(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Odd(Makers):
        """Odd."""

    def fail() -> Any:
        raise RuntimeError("no rules today")

    found = [plugin("odd", Odd), plugin("makers", Makers)]
    # Only now: otherwise it would have failed earlier.
    monkeypatch.setattr(Odd, "schema", fail)
    document = document_of(found)
    validate_document(document)
    assert "/makers" in document["paths"]
    assert "/odd" not in document["paths"]
    assert found[0].state is State.FAILED
    assert "its endpoints cannot be described: RuntimeError: no rules today" in caplog.text


def test_schemas_with_equal_names_are_distinguished() -> None:
    document = document_of([plugin("makers", Makers), plugin("old-makers", Makers)])
    validate_document(document)
    assert {"Maker", "OldMakers"} <= document["components"]["schemas"].keys()


@pytest.mark.parametrize(
    ("pattern", "flags", "expected"),
    [
        (r"^[a-z]+$", 0, "^[a-z]+$"),
        (r"[a-z]+", 0, "^(?:[a-z]+)"),
        (r"^a|b", 0, "^(?:^a|b)"),
        (r"\A\x41(?P<n>b)\Z", 0, r"^\u0041(?<n>b)$"),
        (r"^a$", re.IGNORECASE, None),
        (r"^(?i:a)$", 0, None),
        (r"^a++$", 0, None),
        (r"(a)\1", 0, None),
    ],
)
def test_patterns_use_javascript_syntax(pattern: str, flags: int, expected: str | None) -> None:
    assert ecma(re.compile(pattern, flags)) == expected


# Serving ----------------------------------------------------------------------------------------------------


async def test_the_document_is_public_and_cacheable(running: Api) -> None:
    stranger = running.as_client("", "")
    first = await stranger.get("/openapi.json")
    assert first.status == 200
    assert first.json == running.service.specification.document()
    again = await stranger.get("/openapi.json", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")
    head = await stranger.head("/openapi.json")
    assert (head.status, head.headers["Content-Length"]) == (200, first.headers["Content-Length"])
    assert (await running.post("/openapi.json")).headers["Allow"] == "GET, HEAD, OPTIONS"
    assert (await stranger.get("/openapi.json", headers={"Accept": "text/csv"})).status == 406


async def test_the_document_can_require_credentials(serve: Serve) -> None:
    api = await serve(docs_public=False, path_prefix="/api")
    assert (await api.as_client("", "").get("/openapi.json")).status == 401
    document = (await api.get("/openapi.json")).json
    assert document["servers"][0]["url"] == "/api"
    assert "security" not in document["paths"]["/openapi.json"]["get"]


async def test_the_document_changes_with_the_plugins(serve: Serve) -> None:
    api = await serve([plugin("makers", Makers)])
    before = await api.get("/openapi.json")
    assert "/makers" in before.json["paths"]
    api.service.plugins[0].fail("it broke")
    after = await api.get("/openapi.json")
    assert "/makers" not in after.json["paths"]
    assert before.headers["ETag"] != after.headers["ETag"]


def test_the_document_is_printed_without_a_database(tmp_path: Path) -> None:
    others = {name: value for name, value in os.environ.items() if not name.startswith("PEGBOARD_")}
    settings = {"PEGBOARD_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing", "PEGBOARD_PATH_PREFIX": "/api"}
    command = [str(Path(sys.executable).parent / "pegboard"), "openapi"]
    done = subprocess.run(command, env=others | settings, cwd=tmp_path, capture_output=True, check=True)
    plugins = discovery.discover(discovery.installed())
    assert json.loads(done.stdout) == document_of(plugins, path_prefix="/api")
    assert not list(tmp_path.iterdir())


def test_content_is_described_as_bytes_with_media_types_ranges_and_limit(document: Document) -> None:
    path = document["paths"]["/pictures/{id}/content"]
    assert list(path) == ["parameters", "get", "head", "put", "options"]
    assert path["put"]["requestBody"] == {
        "required": True,
        "description": "The content, of at most 5,000 bytes.",
        "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
    }
    assert {"201", "204", "400", "411", "412", "413", "415"} <= path["put"]["responses"].keys()
    assert path["get"]["responses"]["206"]["content"] == {"image/*": {"schema": {"type": "string", "format": "binary"}}}
    assert "Content-Range" in path["get"]["responses"]["206"]["headers"]
    assert {"200", "206", "304", "406", "416"} <= path["get"]["responses"].keys()
    taken = {resolved(document, parameter)["name"] for parameter in path["get"]["parameters"]}
    assert {"Range", "If-Range", "If-None-Match"} <= taken
    assert not any(path.endswith("/content") for path in document["paths"] if path != "/pictures/{id}/content")
