"""The loading of request bodies by a schema, for each verb."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import Any

import marshmallow
from marshmallow import ValidationError, missing
from marshmallow.decorators import POST_LOAD, VALIDATES_SCHEMA
from marshmallow.fields import Field

from pegboard import errors
from pegboard.errors import ApiError, ErrorDetail
from pegboard.rendering import short
from pegboard.schema import hidden
from pegboard.schema.fast_path import reader
from pegboard.schema.fields import CANONICAL_UUID, Decimal, Dict, Nested, Raw
from pegboard.schema.patching import same
from pegboard.schema.schema import Schema, error_details, messages_of

_EXACT = (Decimal, Dict, Raw, marshmallow.fields.Decimal, marshmallow.fields.Mapping, marshmallow.fields.Raw)

STANDARD = ("id", "created_at", "updated_at")
"""The read-only fields that the service adds to every item."""

Steps = tuple[str | int, ...]


class Loader:
    """Load bodies by one schema: `create` and `replace` require a complete item, `update` accepts any of its fields.

    All methods return the loaded data by attribute name. Read-only fields in a body are ignored, so that clients can
    send back an item that they have read; `load` is for bodies that are not items, in which no field is ignored. All
    raise `ApiError` 422 with all errors at once, with pointers that begin with `steps`.
    """

    def __init__(self, schema: type[Schema], standard: tuple[str, ...] = STANDARD) -> None:
        self._schema: Schema = schema()
        self._has_schema_validators = bool(self._schema._hooks[VALIDATES_SCHEMA])
        self._has_hooks = any(self._schema._hooks.values())
        self.exact = _needs_exact_numbers(self._schema, frozenset())
        """Whether bodies must be parsed without a loss of digits."""
        # A hook may return any object as the data of an operation, but items must be mappings by attribute.
        self._post_load_hooks = [name for name, *_ in self._schema._hooks[POST_LOAD]] if standard else []
        named = {_name(name, field): (name, field) for name, field in self._schema.load_fields.items()}
        shown = {_name(name, field) for name, field in self._schema.dump_fields.items()}
        self._read_only = frozenset((shown | set(standard)) - named.keys())
        self._fields = {key: (field.attribute or name, field) for key, (name, field) in named.items()}
        self._loadable = frozenset(named)
        self._readers = [(key, name, field.attribute or name, reader(field)) for key, (name, field) in named.items()]
        self._resettable = {key: entry for key, entry in self._fields.items() if _resettable(entry[1])}
        self._without_default = frozenset(
            key for key, (_, field) in self._resettable.items() if field.load_default is missing
        )
        self._objects = frozenset(key for key, (_, field) in named.items() if isinstance(field, Dict | Nested | Raw))
        self._nested = {
            key: entry
            for key, entry in self._fields.items()
            if any(isinstance(part, marshmallow.fields.Nested) for part in each_part(entry[1]))
        }
        self._names = frozenset(self._schema.load_fields)
        self._write_only = frozenset(name for name, field in self._schema.load_fields.items() if field.load_only)

    def load(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Load the data of an operation."""
        return self._load(body, (), None)

    def create(self, body: Mapping[str, Any], steps: Steps = ()) -> dict[str, Any]:
        """Load a new item, which must not contain an `id`."""
        id_error = None
        if "id" in body:
            id_error = ErrorDetail(
                errors.InvalidValue.code, "The service assigns the id; leave it out.", errors.pointer((*steps, "id"))
            )
        return self._load(body, steps, id_error)

    def replace(self, body: Mapping[str, Any], id: str, *, new: bool = False) -> dict[str, Any]:
        """Load a complete item to replace the one with the id `id`; missing optional fields get their defaults.

        Unless the item is `new`, missing write-only fields are left out, as clients cannot read them to send them back.
        """
        if not self._without_default.isdisjoint(body):
            # Clients may send back a null that an item has because its field was never set.
            body = {key: value for key, value in body.items() if value is not None or key not in self._without_default}
        partial = frozenset() if new else self._write_only
        return self._load(body, (), self._id_mismatch(body, id), partial)

    def update(self, body: Mapping[str, Any], id: str) -> dict[str, Any]:
        """Load only the fields in a merge patch; a null for a field that does not allow it resets it to its default."""
        resets = [key for key, value in body.items() if value is None and key in self._resettable]
        rest = {key: value for key, value in body.items() if key not in resets} if resets else body
        loaded = self._load(rest, (), self._id_mismatch(body, id), self._names)
        for key in resets:
            name, field = self._resettable[key]
            loaded[name] = default_of(field)
        return loaded

    def needs_item(self, body: Mapping[str, Any]) -> bool:
        """Return whether the merge patch `body` can be loaded only with the item that it changes."""
        return self._has_schema_validators or any(
            isinstance(body[key], dict) for key in self._objects.intersection(body)
        )

    def with_hidden(self, shown: Mapping[str, Any], stored: Any) -> Mapping[str, Any]:
        """Return a shown item to patch, whose nested objects keep what only the `stored` item has."""
        read = self._schema.get_attribute
        nested = {
            key: hidden.attach(field, shown[key], read(stored, name, None))
            for key, (name, field) in self._nested.items()
            if key in shown
        }
        return {**shown, **nested} if nested else shown

    def change(self, before: Mapping[str, Any], after: Mapping[str, Any], id: str) -> dict[str, Any]:
        """Load the differences between an item before and after a patch."""
        nested = [(key, *entry) for key, entry in self._nested.items() if key in after]
        visible = {**after, **{key: hidden.loadable(field, after[key]) for key, _, field in nested}}
        removed = dict.fromkeys(before.keys() - after.keys())
        different = {
            key: visible[key] for key, value in after.items() if key not in before or not same(before[key], value)
        }
        loaded = self._load_changes(different | removed, {**visible, **removed}, id)
        for key, name, field in nested:
            hidden.restore(field, after[key], loaded.get(name))
        return loaded

    def _load_changes(self, body: Mapping[str, Any], item: Mapping[str, Any], id: str) -> dict[str, Any]:
        """Load the changes `body` to an item; all of the item is loaded if the schema validates fields together."""
        if not self._has_schema_validators:
            return self.update(body, id)
        complete = {k: v for k, v in item.items() if v is not None or k not in self._resettable}
        try:
            loaded = self._load(complete, (), self._id_mismatch(body, id), self._write_only)
        except ApiError as error:
            if not self._has_outdated(complete.keys() - body.keys(), complete):
                raise
            loaded = self._load_changed(body, error)
        changed = [self._fields[key] for key in body if key in self._fields]
        return {name: loaded[name] if name in loaded else default_of(field) for name, field in changed}

    def _has_outdated(self, keys: Set[str], item: Mapping[str, Any]) -> bool:
        """Return whether some of an item's fields have values that were stored before the schema was changed."""
        try:
            for key in keys & self._fields.keys():
                self._fields[key][1].deserialize(item[key], key, item)
        except ValidationError:
            return True
        return False

    def _load_changed(self, body: Mapping[str, Any], error: ApiError) -> dict[str, Any]:
        """Load only the changed fields, unless `error` is about one of them.

        As always after an error of a field, validators of the schema are not called.
        """
        own = [detail for detail in error.details if _top_level(detail) in (None, *body)]
        if own:
            raise error.with_details(own)
        loaded = {}
        for key, value in body.items():
            if key in self._fields and (value is not None or key not in self._resettable):
                name, field = self._fields[key]
                try:
                    loaded[name] = field.deserialize(value, key, body)
                except ValidationError as problem:
                    raise errors.InvalidValue(details=tuple(error_details(problem.messages, (key,)))) from None
        return loaded

    def _load(
        self, body: Mapping[str, Any], steps: Steps, id_error: ErrorDetail | None, partial: frozenset[str] = frozenset()
    ) -> dict[str, Any]:
        """Load `body`, in which fields with names in `partial` may be missing; nested objects must be complete."""
        if not self._loadable.issuperset(body):
            body = {key: value for key, value in body.items() if key not in self._read_only}
        details: tuple[ErrorDetail, ...] = () if id_error is None else (id_error,)
        try:
            loaded: dict[str, Any] = self._load_quickly(body, partial) or self._schema.load(body, partial=partial)
        except ValidationError as error:
            details += tuple(error_details(messages_of(error), steps))
        if details:
            raise errors.InvalidValue(details=details)
        if self._post_load_hooks:
            self._refuse_object(loaded)
        return loaded

    def _refuse_object(self, loaded: Any) -> None:
        """Raise `TypeError` if a hook of the schema returned an item that is not a mapping."""
        if not isinstance(loaded, Mapping):
            name = f"{type(self._schema).__name__}.{' or '.join(self._post_load_hooks)}"
            raise TypeError(f"{name} returned {short(loaded)}: it must return a dict")

    def _load_quickly(self, body: Mapping[str, Any], partial: frozenset[str]) -> dict[str, Any] | None:
        """Return what `schema.load` would return for a valid body, or None if only marshmallow can load it."""
        if self._has_hooks or not self._loadable.issuperset(body):
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

    def _id_mismatch(self, body: Mapping[str, Any], id: str) -> ErrorDetail | None:
        sent = body.get("id", id)
        if isinstance(sent, str) and id in (sent, sent.lower()):
            return None
        return ErrorDetail(
            errors.InvalidValue.code, "The id of an item cannot be changed; it must match the URL.", "/id"
        )


def _needs_exact_numbers(schema: marshmallow.Schema, within: frozenset[type]) -> bool:
    """Return whether a number of a schema, nested in the schemas `within`, may have more digits than a double."""
    if type(schema) in within:
        return False
    parts = [part for field in schema.load_fields.values() for part in each_part(field)]
    return any(isinstance(part, _EXACT) for part in parts) or any(
        _needs_exact_numbers(part.schema, within | {type(schema)}) for part in parts if isinstance(part, Nested)
    )


def each_part(field: Any) -> Iterator[Any]:
    """Yield a field, and the fields of the elements or the values inside it."""
    yield field
    for name in ("inner", "value_field"):
        inner = getattr(field, name, None)
        if inner is not None:
            yield from each_part(inner)


def _top_level(detail: ErrorDetail) -> str | None:
    """Return the member of the body that an error points into; None if it concerns all of it."""
    step = (detail.pointer or "").partition("/")[2].partition("/")[0]
    return step.replace("~1", "/").replace("~0", "~") if detail.pointer else None


def default_of(field: Field[Any]) -> Any:
    """Return the value of a field that is missing in a complete item."""
    default = field.load_default
    if default is missing:
        return None
    return default() if callable(default) else default


def _resettable(field: Field[Any]) -> bool:
    return not field.allow_none and not field.required


def _name(name: str, field: Field[Any]) -> str:
    return name if field.data_key is None else field.data_key


def parse_uuid(text: str) -> str | None:
    """Return a UUID in lower case, or None if `text` is not a UUID."""
    return text.lower() if CANONICAL_UUID.fullmatch(text) else None
