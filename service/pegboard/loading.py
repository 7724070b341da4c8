"""What a schema makes of a body: one loader per verb, made at start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from marshmallow import ValidationError, missing
from marshmallow.decorators import VALIDATES_SCHEMA
from marshmallow.fields import Field

from pegboard import errors
from pegboard.errors import ApiError, Fault
from pegboard.fields import Dict, Nested, Raw, reader
from pegboard.schema import Schema, faults, messages_of

STANDARD = ("id", "created_at", "updated_at")
"""The read-only fields that the service gives every item."""

Steps = tuple[str | int, ...]


class Loader:
    """Load bodies by one schema: `create` and `replace` want a whole item, `update` takes what there is.

    Each returns the loaded data by attribute name. Read-only fields in a body are ignored, so that an item which was
    read can be sent back. Each raises `ApiError` 422 with every fault at once, the pointers beginning with `steps`.
    """

    def __init__(self, schema: type[Schema]) -> None:
        self._whole = schema()
        self._partial = schema(partial=True)
        self._validates_whole = bool(self._whole._hooks[VALIDATES_SCHEMA])
        self._read_only = frozenset(_name(name, field) for name, field in self._whole.dump_fields.items())
        self._read_only = (self._read_only | set(STANDARD)) - {
            _name(name, field) for name, field in self._whole.load_fields.items()
        }
        self._resets = {_name(name, field): (name, field) for name, field in self._whole.load_fields.items()}
        self._objects = frozenset(
            key for key, (_, field) in self._resets.items() if isinstance(field, Dict | Nested | Raw)
        )
        self._readers = {key: (field.attribute or name, reader(field)) for key, (name, field) in self._resets.items()}
        self._has_hooks = any(self._whole._hooks.values())
        self._write_only = tuple(name for name, field in self._whole.load_fields.items() if field.load_only)

    def create(self, body: Mapping[str, Any], steps: Steps = ()) -> dict[str, Any]:
        """Load a new item; one that brings its own `id` is refused."""
        fault = None
        if "id" in body:
            fault = Fault(
                errors.INVALID.code, "The service gives the id: leave it out.", errors.pointer((*steps, "id"))
            )
        return self._load(self._whole, body, steps, fault)

    def replace(self, body: Mapping[str, Any], identity: str) -> dict[str, Any]:
        """Load a whole item in place of the one called `identity`; absent optional fields get their defaults."""
        return self._load(self._whole, body, (), self._contradiction(body, identity))

    def update(self, body: Mapping[str, Any], identity: str) -> dict[str, Any]:
        """Load the fields that a merge patch gives, no others; a null where none is allowed brings the default back."""
        resets = {
            key: self._resets[key]
            for key, value in body.items()
            if value is None and key in self._resets and _resettable(self._resets[key][1])
        }
        rest = {key: value for key, value in body.items() if key not in resets} if resets else body
        loaded = self._load(self._partial, rest, (), self._contradiction(body, identity))
        for name, field in resets.values():
            loaded[field.attribute or name] = default_of(field)
        return loaded

    def needs_whole(self, body: Mapping[str, Any]) -> bool:
        """Tell whether the merge patch `body` cannot be loaded without the item it changes."""
        return self._validates_whole or any(isinstance(body[key], dict) for key in self._objects.intersection(body))

    def change(self, before: Mapping[str, Any], after: Mapping[str, Any], identity: str) -> dict[str, Any]:
        """Load the difference between an item as it was read and as a patch left it."""
        body = {key: value for key, value in after.items() if key not in before or before[key] != value}
        body |= dict.fromkeys(before.keys() - after.keys())
        loaded = self.update(body, identity)
        if self._validates_whole:
            writable = {key: value for key, value in after.items() if key not in self._read_only}
            self._load(self._whole, writable, (), None, partial=self._write_only)
        return loaded

    def _load(
        self,
        schema: Schema,
        body: Mapping[str, Any],
        steps: Steps,
        fault: Fault | None,
        partial: tuple[str, ...] | None = None,
    ) -> dict[str, Any]:
        if not self._read_only.isdisjoint(body):
            body = {key: value for key, value in body.items() if key not in self._read_only}
        found: tuple[Fault, ...] = () if fault is None else (fault,)
        try:
            loaded: dict[str, Any] = self._load_quickly(schema, body) or schema.load(body, partial=partial)
        except ValidationError as error:
            found += tuple(faults(messages_of(error), steps))
        if found:
            raise ApiError(errors.INVALID, faults=found)
        return loaded

    def _load_quickly(self, schema: Schema, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return what `schema.load` would for a body without a fault; None where it takes marshmallow to say."""
        if self._has_hooks or not self._readers.keys() >= body.keys():
            return None
        partial = schema.partial is True
        loaded = {}
        try:
            for key, (name, read) in self._readers.items():
                value = body.get(key, missing)
                if value is missing and partial:
                    continue
                value = read(value, key, body, partial=True) if partial else read(value, key, body)
                if value is not missing:
                    loaded[name] = value
        except ValidationError:
            return None
        return loaded

    def _contradiction(self, body: Mapping[str, Any], identity: str) -> Fault | None:
        given = body.get("id", identity)
        if isinstance(given, str) and given.lower() == identity:
            return None
        return Fault(errors.INVALID.code, "The id of an item cannot change: it is the one in the URL.", "/id")


def default_of(field: Field[Any]) -> Any:
    """Return what a field that is absent from a whole item holds."""
    default = field.load_default
    if default is missing:
        return None
    return default() if callable(default) else default


def _resettable(field: Field[Any]) -> bool:
    return not field.allow_none and not field.required


def _name(name: str, field: Field[Any]) -> str:
    return name if field.data_key is None else field.data_key


def parse_uuid(text: str) -> str | None:
    """Return a UUID in lower case and with its hyphens; None where `text` is none."""
    if len(text) != 36:
        return None
    try:
        lower = str(UUID(text))
    except ValueError:
        return None
    return lower if lower == text.lower() else None
