"""The items of a resource as JSON Schema: for reading, creating, replacing and patching."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from marshmallow import missing
from marshmallow.fields import Field

from pegboard.api import declared
from pegboard.api.resource import Resource
from pegboard.endpoints.describe.json_fields import JsonSchema, correct_property, ref, with_null
from pegboard.endpoints.write import MAX_ITEMS
from pegboard.query import mapping
from pegboard.schema import fields
from pegboard.schema.schema import Schema

_SUFFIXES = ("", "Page", "Items", "Create", "Replace", "Update", "UpdateOwn")
_ID = "The item's own id, assigned by the service."
_CREATED = "When the item was created."
_UPDATED = "When the item was last changed."


def camel(name: str) -> str:
    """Return the name of a resource in CamelCase."""
    return "".join(part.capitalize() for part in name.replace("_", "-").split("-"))


@dataclass(frozen=True, slots=True)
class Names:
    """Hold the names of the components of one resource: an item, a page, created items, and each kind of body."""

    item: str
    page: str
    items: str
    create: str
    replace: str
    update: str


class Schemas:
    """Collect the schemas of a document; `taken` are the names of its other schemas."""

    def __init__(self, taken: Iterable[str]) -> None:
        # Imported here, so that a worker loads apispec only if it makes the document.
        from apispec import APISpec
        from apispec.ext.marshmallow import MarshmallowPlugin

        self._taken = {name.casefold() for name in taken}
        plugin = MarshmallowPlugin(schema_name_resolver=self._nested_name)
        self._spec = APISpec("", "", "3.1.1", plugins=[plugin])
        converter: Any = plugin.converter
        converter.add_attribute_function(correct_property)
        self._converter = converter
        self._resource_schemas: dict[str, JsonSchema] = {}
        self._patches: dict[str, JsonSchema] = {}

    @property
    def components(self) -> dict[str, JsonSchema]:
        """Return all schemas by name."""
        found = self._resource_schemas | self._spec.components.schemas | self._patches
        return {name: found[name] for name in sorted(found)}

    def names(self, resource: type[Resource], path: str) -> Names:
        """Return unique names for the components of `resource`."""
        own = _base_name(resource.schema)
        for base in (own, camel(path), camel(path) + own):
            names = [base + suffix for suffix in _SUFFIXES]
            if base and self._taken.isdisjoint(map(str.casefold, names)):
                break
        self._taken.update(map(str.casefold, names))
        return Names(*names[:6])

    def add(self, resource: type[Resource], names: Names, expansions: Mapping[str, JsonSchema]) -> None:
        """Add the schemas of `resource`; `expansions` has the schemas of the items that `expand` embeds, by field."""
        stamps = _stamps(resource)
        schema = resource.schema()
        properties = [_Property(self._converter, name, field) for name, field in schema.fields.items()]
        readable = [p for p in properties if not p.field.load_only]
        writable = [p for p in properties if not p.field.dump_only]
        id_property = _shown_id(resource)
        about = (type(schema).__doc__ or "").strip().partition("\n")[0] or f"An item of {names.page}."
        item = {p.name: p.read(expansions.get(p.name)) for p in readable}
        self._resource_schemas[names.item] = {
            "type": "object",
            "description": about,
            "properties": {"id": id_property, **item, **stamps},
            "required": ["id"],
        }
        self._resource_schemas[names.page] = _page(names.item)
        self._resource_schemas[names.items] = _items(names.item)
        required = [p.name for p in writable if p.field.required]
        create = {p.name: p.create() for p in writable}
        self._resource_schemas[names.create] = _body("The fields of a new item.", create, required)
        read_only = {p.name: p.shape | {"readOnly": True} for p in properties if p.field.dump_only}
        replace = {"id": id_property, **{p.name: p.replace() for p in writable}, **read_only, **stamps}
        self._resource_schemas[names.replace] = _body(
            "A complete item: an omitted field gets its default.", replace, required
        )
        update = {"id": id_property, **{p.name: p.update(self) for p in writable}, **read_only, **stamps}
        text = "The fields to change, as a merge patch (RFC 7396): null removes a value or restores a default."
        self._resource_schemas[names.update] = _body(text, update, [])

    def with_references(self, names: Iterable[str]) -> dict[str, JsonSchema]:
        """Return the components with these names, and those that they refer to."""
        components, found, pending = self.components, dict[str, JsonSchema](), [*names]
        while pending:
            name = pending.pop()
            if name not in found:
                found[name] = components[name]
                pending += references_in(components[name])
        return found

    def own_update(self, names: Names, writable: Iterable[str]) -> str:
        """Add the schema of an update that is restricted to the fields `writable`, and return its name."""
        schema, name = self._resource_schemas[names.update], f"{names.update}Own"
        properties = {key: part for key, part in schema["properties"].items() if key in writable}
        self._resource_schemas[name] = schema | {"properties": properties}
        return name

    def reference_to(self, schema: type[Schema]) -> JsonSchema:
        """Add a schema that belongs to no resource, and return a reference to it."""
        found: JsonSchema = self._converter.resolve_nested_schema(schema)
        return found

    def patch(self, shape: JsonSchema) -> JsonSchema:
        """Return the schema of a merge patch for values of the schema `shape`."""
        if "$ref" in shape:
            name = shape["$ref"].rpartition("/")[2]
            return {**shape, **ref(self._patch_of(name))}
        if "anyOf" in shape:
            return {**shape, "anyOf": [self.patch(part) for part in shape["anyOf"]]}
        values = shape.get("additionalProperties")
        if isinstance(values, dict) and values:
            return {**shape, "additionalProperties": nullable(self.patch(values))}
        return shape

    def _patch_of(self, name: str) -> str:
        schema, patch_name = self._spec.components.schemas[name], f"{name}Update"
        if patch_name not in self._patches:
            self._patches[patch_name] = {}  # Registered first, since the schema may refer to itself.
            properties = {key: nullable(self.patch(part)) for key, part in schema["properties"].items()}
            rest = {key: value for key, value in schema.items() if key not in ("required", "properties")}
            self._patches[patch_name] = {**rest, "properties": properties}
        return patch_name

    def _nested_name(self, schema: Any) -> str:
        """Return the name of a nested schema; apispec calls this once for each variant of it."""
        from apispec.ext.marshmallow.common import resolve_schema_instance

        base = _base_name(type(resolve_schema_instance(schema))) or "Nested"
        for name in _numbered(base):
            wanted = {name.casefold(), f"{name}Update".casefold()}
            if self._taken.isdisjoint(wanted):
                self._taken |= wanted
                return name
        raise RuntimeError("unreachable: the numbers are infinite")


class _Property:
    """One field of a schema, and its JSON Schema for each verb."""

    def __init__(self, converter: Any, attribute: str, field: Field[Any]) -> None:
        self.name = mapping.name_of(field, attribute)
        self.field = field
        self.shape: JsonSchema = converter.field2property(field)

    def read(self, expansion: JsonSchema | None) -> JsonSchema:
        shape = _dumped(self.field, {key: value for key, value in self.shape.items() if key != "default"})
        if expansion is not None:
            about = {key: shape.pop(key) for key in ("description",) if key in shape}
            shape = {**about, "anyOf": [shape, expansion, {"type": "null"}]}
        return nullable(shape) if mapping.is_nullable(self.field) else shape

    def create(self) -> JsonSchema:
        return self.shape

    def replace(self) -> JsonSchema:
        # An absent optional field is shown as null, which a client may send back.
        bare = not self.field.required and self.field.load_default is missing
        return nullable(self.shape) if bare else self.shape

    def update(self, schemas: Schemas) -> JsonSchema:
        shape = {key: value for key, value in schemas.patch(self.shape).items() if key != "default"}
        return shape if self.field.required else nullable(shape)


def nullable(shape: JsonSchema) -> JsonSchema:
    """Return a copy of `shape` that allows null, too."""
    copied = dict(shape)
    return copied | with_null(copied) if "$ref" not in shape else _without_ref(copied) | with_null(dict(shape))


def _without_ref(shape: JsonSchema) -> JsonSchema:
    return {key: value for key, value in shape.items() if key != "$ref"}


def _dumped(field: Any, shape: JsonSchema) -> JsonSchema:
    """Return the schema of a dumped value if it is narrower than that of a loaded one: decimals are dumped as text."""
    if isinstance(field, fields.Decimal):
        return shape | {"type": ["string", "null"] if field.allow_none else "string"}
    if isinstance(field, fields.List):
        return shape | {"items": _dumped(field.inner, shape["items"])}
    return shape


def references_in(part: Any) -> Iterator[str]:
    """Yield the names of the components that a part of a document refers to."""
    if isinstance(part, Mapping):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"].rpartition("/")[2]
        for inner in part.values():
            yield from references_in(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from references_in(inner)


def _shown_id(resource: type[Resource]) -> JsonSchema:
    return {**id_schema(resource), "description": _ID, "readOnly": True}


def id_schema(resource: type[Resource]) -> JsonSchema:
    """Return the schema of the ids of `resource`: UUIDs, unless it overrides `parse_id`."""
    return {"type": "string"} | ({"format": "uuid"} if declared.has_uuids(resource) else {})


def _stamps(resource: type[Resource]) -> dict[str, JsonSchema]:
    stamp = {"type": "string", "format": "date-time", "readOnly": True}
    columns = {column.field for column in declared.rules(resource).columns}
    descriptions = {"created_at": _CREATED, "updated_at": _UPDATED}
    return {name: {**stamp, "description": about} for name, about in descriptions.items() if name in columns}


def _body(about: str, properties: Mapping[str, JsonSchema], required: list[str]) -> JsonSchema:
    body = {"type": "object", "description": about, "properties": dict(properties), "additionalProperties": False}
    return body | ({"required": required} if required else {})


def _page(item: str) -> JsonSchema:
    url = {"type": ["string", "null"], "format": "uri-reference"}
    return {
        "type": "object",
        "description": "One page of a collection, with links to its neighbours.",
        "properties": {
            "items": {"type": "array", "items": ref(item)},
            "next": {**url, "description": "The path of the next page; null on the last one."},
            "prev": {**url, "description": "The path of the previous page; null on the first one."},
            "total": {"type": "integer", "minimum": 0, "description": "The number of items, if `count` requested it."},
        },
        "required": ["items", "next", "prev"],
    }


def _items(item: str) -> JsonSchema:
    return {
        "type": "object",
        "description": "The created items, in the order of the request.",
        "properties": {"items": {"type": "array", "items": ref(item), "minItems": 1, "maxItems": MAX_ITEMS}},
        "required": ["items"],
    }


def _base_name(schema: type) -> str:
    """Return the name of a schema's class without the suffix `Schema`."""
    name = schema.__name__.removesuffix("Schema").removesuffix("schema").strip("_")
    return name[:1].upper() + name[1:]


def _numbered(base: str) -> Iterator[str]:
    yield base
    number = 2
    while True:
        yield f"{base}{number}"
        number += 1
