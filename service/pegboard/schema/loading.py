"""What a schema makes of a body: one loader per verb, made at start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError, missing
from marshmallow.decorators import POST_LOAD, VALIDATES_SCHEMA
from marshmallow.fields import Field

from pegboard import errors
from pegboard.errors import ErrorDetail
from pegboard.rendering import short
from pegboard.schema.fields import CANONICAL_UUID, Dict, Nested, Raw
from pegboard.schema.patching import same
from pegboard.schema.quick import reader
from pegboard.schema.schema import Schema, faults, messages_of

STANDARD = ("id", "created_at", "updated_at")
"""The read-only fields that the service gives every item."""

Steps = tuple[str | int, ...]


class Loader:
    """Load bodies by one schema: `create` and `replace` want a whole item, `update` takes what there is.

    Each returns the loaded data by attribute name. Read-only fields in a body are ignored, so that an item which was
    read can be sent back; `load` takes what is no item, where nothing is ignored. Each raises `ApiError` 422 with every
    fault at once, the pointers beginning with `steps`.
    """

    def __init__(self, schema: type[Schema], standard: tuple[str, ...] = STANDARD) -> None:
        self._schema: Schema = schema()
        self._validates_whole = bool(self._schema._hooks[VALIDATES_SCHEMA])
        self._has_hooks = any(self._schema._hooks.values())
        # An operation may be given any object; an item is loaded by attribute.
        self._makers = [name for name, *_ in self._schema._hooks[POST_LOAD]] if standard else []
        named = {_name(name, field): (name, field) for name, field in self._schema.load_fields.items()}
        shown = {_name(name, field) for name, field in self._schema.dump_fields.items()}
        self._read_only = frozenset((shown | set(standard)) - named.keys())
        self._fields = {key: (field.attribute or name, field) for key, (name, field) in named.items()}
        self._known = frozenset(named)
        self._readers = [(key, name, field.attribute or name, reader(field)) for key, (name, field) in named.items()]
        self._resettable = {key: entry for key, entry in self._fields.items() if _resettable(entry[1])}
        self._bare = frozenset(key for key, (_, field) in self._resettable.items() if field.load_default is missing)
        self._objects = frozenset(key for key, (_, field) in named.items() if isinstance(field, Dict | Nested | Raw))
        self._names = frozenset(self._schema.load_fields)
        self._write_only = frozenset(name for name, field in self._schema.load_fields.items() if field.load_only)

    def load(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Load what an operation is given."""
        return self._load(body, (), None)

    def create(self, body: Mapping[str, Any], steps: Steps = ()) -> dict[str, Any]:
        """Load a new item; one that brings its own `id` is refused."""
        fault = None
        if "id" in body:
            fault = ErrorDetail(
                errors.InvalidValue.code, "The service assigns the id; leave it out.", errors.pointer((*steps, "id"))
            )
        return self._load(body, steps, fault)

    def replace(self, body: Mapping[str, Any], identity: str, *, new: bool = False) -> dict[str, Any]:
        """Load a whole item in place of the one called `identity`; absent optional fields get their defaults.

        Unless the item is `new`, an absent write-only field stays as it is: nobody could read it to send it back.
        """
        if not self._bare.isdisjoint(body):
            # What an item shows as null because it never had it can be sent back.
            body = {key: value for key, value in body.items() if value is not None or key not in self._bare}
        partial = frozenset() if new else self._write_only
        return self._load(body, (), self._contradiction(body, identity), partial)

    def update(self, body: Mapping[str, Any], identity: str) -> dict[str, Any]:
        """Load the fields that a merge patch gives, no others; a null where none is allowed brings the default back."""
        resets = [key for key, value in body.items() if value is None and key in self._resettable]
        rest = {key: value for key, value in body.items() if key not in resets} if resets else body
        loaded = self._load(rest, (), self._contradiction(body, identity), self._names)
        for key in resets:
            name, field = self._resettable[key]
            loaded[name] = default_of(field)
        return loaded

    def needs_whole(self, body: Mapping[str, Any]) -> bool:
        """Tell whether the merge patch `body` cannot be loaded without the item it changes."""
        return self._validates_whole or any(isinstance(body[key], dict) for key in self._objects.intersection(body))

    def change(self, before: Mapping[str, Any], after: Mapping[str, Any], identity: str) -> dict[str, Any]:
        """Load the difference between an item as it was read and as a patch left it."""
        removed = dict.fromkeys(before.keys() - after.keys())
        different = {key: value for key, value in after.items() if key not in before or not same(before[key], value)}
        body = different | removed
        if not self._validates_whole:
            return self.update(body, identity)
        whole = {k: v for k, v in {**after, **removed}.items() if v is not None or k not in self._resettable}
        loaded = self._load(whole, (), self._contradiction(body, identity), self._write_only)
        changed = [self._fields[key] for key in body if key in self._fields]
        return {name: loaded[name] if name in loaded else default_of(field) for name, field in changed}

    def _load(
        self, body: Mapping[str, Any], steps: Steps, fault: ErrorDetail | None, partial: frozenset[str] = frozenset()
    ) -> dict[str, Any]:
        """Load `body`, which may lack the fields whose names are in `partial`; what is nested in it is whole."""
        if not self._known.issuperset(body):
            body = {key: value for key, value in body.items() if key not in self._read_only}
        found: tuple[ErrorDetail, ...] = () if fault is None else (fault,)
        try:
            loaded: dict[str, Any] = self._load_quickly(body, partial) or self._schema.load(body, partial=partial)
        except ValidationError as error:
            found += tuple(faults(messages_of(error), steps))
        if found:
            raise errors.InvalidValue(details=found)
        if self._makers:
            self._refuse_object(loaded)
        return loaded

    def _refuse_object(self, loaded: Any) -> None:
        """Raise `TypeError` where a hook of the schema made something of an item that has no fields by attribute."""
        if not isinstance(loaded, Mapping):
            name = f"{type(self._schema).__name__}.{' or '.join(self._makers)}"
            raise TypeError(f"{name} returned {short(loaded)}: it must return a dict")

    def _load_quickly(self, body: Mapping[str, Any], partial: frozenset[str]) -> dict[str, Any] | None:
        """Return what `schema.load` would for a body without a fault; None where it takes marshmallow to say."""
        if self._has_hooks or not self._known.issuperset(body):
            return None
        loaded = {}
        try:
            for key, name, target, read in self._readers:
                value = body.get(key, missing)
                if value is missing and name in partial:
                    continue
                value = read(value, key, body)
                if value is not missing:
                    loaded[target] = value
        except ValidationError:
            return None
        return loaded

    def _contradiction(self, body: Mapping[str, Any], identity: str) -> ErrorDetail | None:
        given = body.get("id", identity)
        if isinstance(given, str) and identity in (given, given.lower()):
            return None
        return ErrorDetail(
            errors.InvalidValue.code, "The id of an item cannot be changed; it must match the URL.", "/id"
        )


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
    return text.lower() if CANONICAL_UUID.fullmatch(text) else None
