"""What nested objects hold besides what clients see and send: it follows them through patches."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import repeat
from typing import Any, TypeGuard

import marshmallow
from marshmallow.fields import Dict, List, Nested

Visit = Callable[[marshmallow.Schema, dict[str, Any], dict[str, Any], Any], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Members:
    """Hold how the members of the objects of a nested schema are seen and sent.

    `known` are the stored names of those that are both shown and loaded. `write_only` has the names in JSON by the
    stored ones; `required` are those of them that a complete object needs. `read_only` are names in JSON.
    """

    schema: type
    known: frozenset[str]
    write_only: Mapping[str, str]
    required: frozenset[str]
    read_only: frozenset[str]


class Shown(dict[str, Any]):
    """Represent a nested object as clients see it, with the other members that it has in the table.

    `hidden` are these members by their stored names. No operation of a patch can read them.
    """

    def __init__(self, visible: Mapping[str, Any], members: Members, hidden: Mapping[str, Any]) -> None:
        super().__init__(visible)
        self.members = members
        self.hidden = hidden

    def __copy__(self) -> Shown:
        """Return a copy with the same hidden members."""
        return Shown(self, self.members, self.hidden)

    def __deepcopy__(self, memo: dict[int, Any]) -> Shown:
        """Return a deep copy with the same hidden members, which are never changed."""
        return Shown({key: copy.deepcopy(value, memo) for key, value in self.items()}, self.members, self.hidden)

    def resets(self, name: str) -> bool:
        """Return whether a null for the member `name` must be kept, because it resets a write-only one."""
        return name in self.members.write_only.values()


def attach(field: Any, shown: Any, stored: Any) -> Any:
    """Return the shown value of a field with the hidden members of its `stored` value attached to each object."""
    return _visit(_attach, field, shown, stored)


def loadable(field: Any, patched: Any) -> Any:
    """Return a patched value for the schema to load: without read-only members, with what a complete object needs."""
    return _visit(_loadable, field, patched, None)


def restore(field: Any, patched: Any, loaded: Any) -> None:
    """Put the hidden members of the objects in a patched value, unless the patch has set them, into the loaded one."""
    _visit(_restore, field, patched, loaded)


def _attach(schema: marshmallow.Schema, _: dict[str, Any], parts: dict[str, Any], stored: Any) -> dict[str, Any]:
    if not isinstance(stored, Mapping):
        return parts
    members = _members(schema)
    return Shown(parts, members, {key: value for key, value in stored.items() if key not in members.known})


def _loadable(schema: marshmallow.Schema, value: dict[str, Any], parts: dict[str, Any], _: Any) -> dict[str, Any]:
    if not _is_shown_by(value, schema):
        return parts
    members = value.members
    unset = {name for name in members.write_only.values() if name in parts and parts[name] is None}
    sent = {name: part for name, part in parts.items() if name not in members.read_only and name not in unset}
    needed = {
        name: value.hidden[key]
        for key, name in members.write_only.items()
        if name in members.required and name not in parts and key in value.hidden
    }
    return sent | needed


def _restore(schema: marshmallow.Schema, value: dict[str, Any], parts: dict[str, Any], loaded: Any) -> dict[str, Any]:
    if _is_shown_by(value, schema) and isinstance(loaded, dict):
        for key, part in value.hidden.items():
            name = value.members.write_only.get(key)
            if name is None:
                loaded.setdefault(key, part)
            elif name not in value:
                loaded[key] = part
    return parts


def _is_shown_by(value: Any, schema: marshmallow.Schema) -> TypeGuard[Shown]:
    """Return whether an object has been shown by the same schema: another one may show what this one hides."""
    return isinstance(value, Shown) and value.members == _members(schema)


def _members(schema: marshmallow.Schema) -> Members:
    loads, dumps = schema.load_fields, schema.dump_fields
    write_only = {name: field for name, field in loads.items() if name not in dumps}
    return Members(
        type(schema),
        frozenset(_stored(name, field).partition(".")[0] for name, field in loads.items() if name in dumps),
        {_stored(name, field): _name(name, field) for name, field in write_only.items()},
        frozenset(_name(name, field) for name, field in write_only.items() if field.required),
        frozenset(_name(name, field) for name, field in dumps.items() if name not in loads),
    )


def _visit(visit: Visit, field: Any, value: Any, other: Any) -> Any:
    """Return a value with each object of a nested schema replaced by what `visit` returns for it.

    `other` is the same value in the form in which it is stored; `visit` gets the object of it at the same place.
    """
    if isinstance(field, Nested):
        if not field.many:
            return _visit_object(visit, field.schema, value, other)
        if isinstance(value, list):
            return [_visit_object(visit, field.schema, *pair) for pair in _pairs(value, other)]
    elif isinstance(field, List) and isinstance(value, list):
        return [_visit(visit, field.inner, *pair) for pair in _pairs(value, other)]
    elif isinstance(field, Dict) and field.value_field is not None and isinstance(value, dict):
        others = {str(key): part for key, part in other.items()} if isinstance(other, Mapping) else {}
        return {key: _visit(visit, field.value_field, part, others.get(key)) for key, part in value.items()}
    return value


def _visit_object(visit: Visit, schema: marshmallow.Schema, value: Any, other: Any) -> Any:
    if not isinstance(value, dict):
        return value
    source = other if isinstance(other, Mapping) else {}
    parts = dict(value)
    for name, field in schema.fields.items():
        key = _name(name, field)
        if key in parts:
            parts[key] = _visit(visit, field, parts[key], schema.get_attribute(source, _stored(name, field), None))
    return visit(schema, value, parts, other)


def _pairs(value: list[Any], other: Any) -> Iterable[tuple[Any, Any]]:
    same_length = isinstance(other, list) and len(other) == len(value)
    return zip(value, other if same_length else repeat(None), strict=False)


def _stored(name: str, field: Any) -> str:
    return field.attribute or name


def _name(name: str, field: Any) -> str:
    return name if field.data_key is None else field.data_key
