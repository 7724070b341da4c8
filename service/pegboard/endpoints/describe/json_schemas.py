"""A resource's items as JSON Schema: as they are read, made, replaced and patched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from marshmallow import missing
from marshmallow.fields import Field

from pegboard.api.resource import Resource
from pegboard.endpoints.describe.json_fields import JsonSchema, mend, ref, with_null
from pegboard.endpoints.write import MAX_ITEMS
from pegboard.query import mapping
from pegboard.schema import fields
from pegboard.schema.schema import Schema

_SUFFIXES = ("", "Page", "Items", "Create", "Replace", "Update", "UpdateOwn")
_ID = "The item's own id, assigned by the service."
_CREATED = "When the item was made."
_UPDATED = "When the item was last changed."


def camel(name: str) -> str:
    """Return the name of a resource as that of a class."""
    return "".join(part.capitalize() for part in name.replace("_", "-").split("-"))


@dataclass(frozen=True, slots=True)
class Names:
    """Name the components that describe one resource: an item, a page, the items of an array, and each kind of body."""

    item: str
    page: str
    items: str
    create: str
    replace: str
    update: str


class Schemas:
    """Gather the schemas of a document; `taken` are the names of those that are there already."""

    def __init__(self, taken: Iterable[str]) -> None:
        # apispec is only of use here: a worker that is never asked for the document does without it.
        from apispec import APISpec
        from apispec.ext.marshmallow import MarshmallowPlugin

        self._taken = {name.casefold() for name in taken}
        plugin = MarshmallowPlugin(schema_name_resolver=self._nested_name)
        self._spec = APISpec("", "", "3.1.1", plugins=[plugin])
        converter: Any = plugin.converter
        converter.add_attribute_function(mend)
        self._converter = converter
        self._own: dict[str, JsonSchema] = {}
        self._patches: dict[str, JsonSchema] = {}

    @property
    def components(self) -> dict[str, JsonSchema]:
        """Return all schemas by their names."""
        found = self._own | self._spec.components.schemas | self._patches
        return {name: found[name] for name in sorted(found)}

    def names(self, resource: type[Resource], path: str) -> Names:
        """Return the names of the components that describe `resource`; no other has them."""
        own = _bare(resource.schema)
        for base in (own, camel(path), camel(path) + own):
            names = [base + suffix for suffix in _SUFFIXES]
            if base and self._taken.isdisjoint(map(str.casefold, names)):
                break
        self._taken.update(map(str.casefold, names))
        return Names(*names[:6])

    def add(self, resource: type[Resource], names: Names, expansions: Mapping[str, JsonSchema]) -> None:
        """Add the schemas of `resource`; `expansions` says what may stand in place of a reference."""
        stamps = _stamps(resource)
        schema = resource.schema()
        properties = [_Property(self._converter, name, field) for name, field in schema.fields.items()]
        readable = [one for one in properties if not one.field.load_only]
        writable = [one for one in properties if not one.field.dump_only]
        identity = _identity(resource)
        about = (type(schema).__doc__ or "").strip().partition("\n")[0] or f"An item of {names.page}."
        item = {one.name: one.read(expansions.get(one.name)) for one in readable}
        self._own[names.item] = {
            "type": "object",
            "description": about,
            "properties": {"id": identity, **item, **stamps},
            "required": ["id"],
        }
        self._own[names.page] = _page(names.item)
        self._own[names.items] = _items(names.item)
        required = [one.name for one in writable if one.field.required]
        create = {one.name: one.create() for one in writable}
        self._own[names.create] = _body("What a new item is made of.", create, required)
        read_only = {one.name: one.shape | {"readOnly": True} for one in properties if one.field.dump_only}
        replace = {"id": identity, **{one.name: one.replace() for one in writable}, **read_only, **stamps}
        self._own[names.replace] = _body("A whole item: what is left out goes back to its default.", replace, required)
        update = {"id": identity, **{one.name: one.update(self) for one in writable}, **read_only, **stamps}
        text = "What changes of an item, as a merge patch (RFC 7396): null takes a value away or brings a default back."
        self._own[names.update] = _body(text, update, [])

    def behind(self, names: Iterable[str]) -> dict[str, JsonSchema]:
        """Return the components of these names, and those that they lead to."""
        there, found, waiting = self.components, dict[str, JsonSchema](), [*names]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found[name] = there[name]
                waiting += referred(there[name])
        return found

    def own(self, names: Names, writable: Iterable[str]) -> str:
        """Return the name of what a client may change of its own item: the fields `writable` and no others."""
        whole, name = self._own[names.update], f"{names.update}Own"
        properties = {key: part for key, part in whole["properties"].items() if key in writable}
        self._own[name] = whole | {"properties": properties}
        return name

    def other(self, schema: type[Schema]) -> JsonSchema:
        """Return what leads to a schema that is no resource's, and add it."""
        found: JsonSchema = self._converter.resolve_nested_schema(schema)
        return found

    def patch(self, shape: JsonSchema) -> JsonSchema:
        """Return what a merge patch may say where a whole item has `shape`."""
        if "$ref" in shape:
            name = shape["$ref"].rpartition("/")[2]
            return {**shape, **ref(self._patch_of(name))}
        if "anyOf" in shape:
            return {**shape, "anyOf": [self.patch(part) for part in shape["anyOf"]]}
        values = shape.get("additionalProperties")
        if isinstance(values, dict) and values:
            return {**shape, "additionalProperties": with_null_over(self.patch(values))}
        return shape

    def _patch_of(self, name: str) -> str:
        whole, patched = self._spec.components.schemas[name], f"{name}Update"
        if patched not in self._patches:
            self._patches[patched] = {}  # There before it is made, since it may refer to itself.
            properties = {key: with_null_over(self.patch(part)) for key, part in whole["properties"].items()}
            rest = {key: value for key, value in whole.items() if key not in ("required", "properties")}
            self._patches[patched] = {**rest, "properties": properties}
        return patched

    def _nested_name(self, schema: Any) -> str:
        """Return the name of a schema that is nested in another, as apispec asks for it: once for each variant."""
        from apispec.ext.marshmallow.common import resolve_schema_instance

        base = _bare(type(resolve_schema_instance(schema))) or "Nested"
        for name in _numbered(base):
            wanted = {name.casefold(), f"{name}Update".casefold()}
            if self._taken.isdisjoint(wanted):
                self._taken |= wanted
                return name
        raise RuntimeError("numbers have an end")


class _Property:
    """One field of a schema, as each verb sees it."""

    def __init__(self, converter: Any, attribute: str, field: Field[Any]) -> None:
        self.name = mapping.name_of(field, attribute)
        self.field = field
        self.shape: JsonSchema = converter.field2property(field)

    def read(self, expansion: JsonSchema | None) -> JsonSchema:
        shape = _written(self.field, {key: value for key, value in self.shape.items() if key != "default"})
        if expansion is not None:
            about = {key: shape.pop(key) for key in ("description",) if key in shape}
            shape = {**about, "anyOf": [shape, expansion, {"type": "null"}]}
        return with_null_over(shape) if mapping.is_nullable(self.field) else shape

    def create(self) -> JsonSchema:
        return self.shape

    def replace(self) -> JsonSchema:
        # What an item shows as null because it never had it can be sent back.
        bare = not self.field.required and self.field.load_default is missing
        return with_null_over(self.shape) if bare else self.shape

    def update(self, schemas: Schemas) -> JsonSchema:
        shape = {key: value for key, value in schemas.patch(self.shape).items() if key != "default"}
        return shape if self.field.required else with_null_over(shape)


def with_null_over(shape: JsonSchema) -> JsonSchema:
    """Return a copy of `shape` that takes null as well."""
    copied = dict(shape)
    return copied | with_null(copied) if "$ref" not in shape else _without_ref(copied) | with_null(dict(shape))


def _without_ref(shape: JsonSchema) -> JsonSchema:
    return {key: value for key, value in shape.items() if key != "$ref"}


def _written(field: Any, shape: JsonSchema) -> JsonSchema:
    """Return what goes out where more is taken in: exact numbers as text only."""
    if isinstance(field, fields.Decimal):
        return shape | {"type": ["string", "null"] if field.allow_none else "string"}
    if isinstance(field, fields.List):
        return shape | {"items": _written(field.inner, shape["items"])}
    return shape


def referred(part: Any) -> Iterator[str]:
    """Yield the names of the components that a part of a document leads to."""
    if isinstance(part, Mapping):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"].rpartition("/")[2]
        for inner in part.values():
            yield from referred(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from referred(inner)


def _identity(resource: type[Resource]) -> JsonSchema:
    return {**identity(resource), "description": _ID, "readOnly": True}


def identity(resource: type[Resource]) -> JsonSchema:
    """Return the form of the ids of `resource`: UUIDs, unless it reads ids in its own way."""
    return {"type": "string"} | ({"format": "uuid"} if resource.has_uuids() else {})


def _stamps(resource: type[Resource]) -> dict[str, JsonSchema]:
    stamp = {"type": "string", "format": "date-time", "readOnly": True}
    there = {column.field for column in resource.rules().columns}
    told = {"created_at": _CREATED, "updated_at": _UPDATED}
    return {name: {**stamp, "description": about} for name, about in told.items() if name in there}


def _body(about: str, properties: Mapping[str, JsonSchema], required: list[str]) -> JsonSchema:
    body = {"type": "object", "description": about, "properties": dict(properties), "additionalProperties": False}
    return body | ({"required": required} if required else {})


def _page(item: str) -> JsonSchema:
    url = {"type": ["string", "null"], "format": "uri-reference"}
    return {
        "type": "object",
        "description": "One page of a collection, and where its neighbours are.",
        "properties": {
            "items": {"type": "array", "items": ref(item)},
            "next": {**url, "description": "Where the next page is; null on the last one."},
            "prev": {**url, "description": "Where the page before is; null on the first one."},
            "total": {"type": "integer", "minimum": 0, "description": "How many there are, where `count` asked."},
        },
        "required": ["items", "next", "prev"],
    }


def _items(item: str) -> JsonSchema:
    return {
        "type": "object",
        "description": "What an array of new items was made into, in the same order.",
        "properties": {"items": {"type": "array", "items": ref(item), "minItems": 1, "maxItems": MAX_ITEMS}},
        "required": ["items"],
    }


def _bare(schema: type) -> str:
    """Return what a schema's class is about: its name without `Schema`."""
    name = schema.__name__.removesuffix("Schema").removesuffix("schema").strip("_")
    return name[:1].upper() + name[1:]


def _numbered(base: str) -> Iterator[str]:
    yield base
    number = 2
    while True:
        yield f"{base}{number}"
        number += 1
