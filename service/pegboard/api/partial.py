"""Items that their schema cannot dump, or that JSON cannot represent: shown as nearly as possible, field by field."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from marshmallow import missing
from marshmallow.decorators import POST_DUMP, PRE_DUMP
from marshmallow.fields import Constant, Dict, Function, List, Method, Nested, String

from pegboard import rendering
from pegboard.schema.fields import column_type
from pegboard.schema.loading import each_part

log = logging.getLogger("pegboard.plugins")

Report = Callable[[str, Exception], None]
"""A function that is called with the name of a field, or of the hooks, and with the error that it raised."""

_MOST_REPORTS = 100
_MOST_LEVELS = 100
"""How deep the parts of a value are searched for one that JSON cannot represent."""
_LIBRARIES = ("pegboard", "marshmallow")
_SCALARS = (str, int, float)
_WITH_PARTS = (Dict, List, Nested)
_COMPUTED = (Constant, Function, Method)


class Reports:
    """Log what of the items of a resource cannot be shown: each field of each item once, and a limited number."""

    def __init__(self, resource: str) -> None:
        self._resource = resource
        self._seen: set[tuple[str, str]] = set()

    def of(self, id: object) -> Report:
        """Return the function to report the errors of one item."""
        return lambda field, error: self._add(str(id), field, error)

    def _add(self, id: str, field: str, error: Exception) -> None:
        if (id, field) in self._seen or len(self._seen) >= _MOST_REPORTS:
            return
        self._seen.add((id, field))
        log.warning("%s of the item %s of %s cannot be shown as declared", field, id, self._resource, exc_info=error)
        if len(self._seen) == _MOST_REPORTS:
            log.warning("further fields of %s that cannot be shown are not logged", self._resource)


def has_parts(schema: Any) -> bool:
    """Return whether a schema has lists or objects, whose shapes `fits` compares."""
    return not schema._hooks[PRE_DUMP] and any(isinstance(field, _WITH_PARTS) for field in schema.dump_fields.values())


def hides(schema: Any, within: tuple[type, ...] = ()) -> bool:
    """Return whether a schema nested in `schema`, which is nested in the schemas `within`, has write-only fields."""
    nested = [part.schema for field in schema.fields.values() for part in each_part(field) if isinstance(part, Nested)]
    return any(
        any(field.load_only for field in inner.fields.values()) or hides(inner, (*within, type(inner)))
        for inner in nested
        if type(inner) not in within
    )


def fits(schema: Any, item: Any) -> bool:
    """Return whether the lists, objects and scalars of an item are where its schema expects them.

    Otherwise marshmallow may dump them as something else, without an error.
    """
    return all(
        _fits(field, schema.get_attribute(item, field.attribute or name, None))
        for name, field in schema.dump_fields.items()
        if not isinstance(field, _COMPUTED)
    )


def _fits(field: Any, value: Any) -> bool:
    if value is None:
        return True
    if not isinstance(field, _WITH_PARTS):
        if isinstance(value, bool):
            return not (isinstance(field, String) and _is_known(field))
        return not isinstance(value, list | Mapping) or not _is_scalar(field)
    if not _is_known(field):
        return True
    if isinstance(field, List):
        return _parts_fit(value, lambda part: _fits(field.inner, part))
    if isinstance(field, Nested):
        if field.many:
            return _parts_fit(value, lambda part: _object_fits(field.schema, part))
        return _object_fits(field.schema, value)
    if isinstance(value, (*_SCALARS, list)):
        return False
    return field.value_field is None or all(_fits(field.value_field, part) for part in value.values())


def _parts_fit(values: Any, check: Callable[[Any], bool]) -> bool:
    if isinstance(values, (*_SCALARS, Mapping)):
        return False
    # Other iterables may be read only once.
    return not isinstance(values, list) or all(map(check, values))


def _object_fits(schema: Any, value: Any) -> bool:
    if value is None or schema._hooks[PRE_DUMP]:
        return True
    return not isinstance(value, (*_SCALARS, list)) and fits(schema, value)


def _is_known(field: Any) -> bool:
    """Return whether a field dumps values by our code or marshmallow's, which hides no part of them."""
    return type(field)._serialize.__module__.partition(".")[0] in _LIBRARIES


def _is_scalar(field: Any) -> bool:
    """Return whether a known field has neither lists nor objects."""
    if not _is_known(field):
        return False
    type_of = column_type(field) or "jsonb"
    return isinstance(field, String) or not (type_of.startswith("json") or type_of.endswith("[]"))


def dump(schema: Any, item: Any, report: Report, *, shows_objects: bool) -> dict[str, Any]:
    """Dump each field of an item on its own.

    A field that cannot be dumped is shown as it is stored. It is null if it is computed or of a class of the author's,
    which may hide a part of the value; of nested objects, only the fields of their schema are shown. An object in place
    of a scalar is null unless `shows_objects`: it may be one of a nested schema, with what that hides.
    """
    source = _call_hooks(schema, PRE_DUMP, item, item, report)
    dumped = {}
    for name, field in schema.dump_fields.items():
        key = name if field.data_key is None else field.data_key
        value = _dump_field(schema, name, field, source, key, report, shows_objects)
        if value is not missing:
            dumped[key] = value
    result: dict[str, Any] = _call_hooks(schema, POST_DUMP, dumped, item, report)
    return result


def _call_hooks(schema: Any, tag: str, data: Any, item: Any, report: Report) -> Any:
    if not schema._hooks[tag]:
        return data
    try:
        return schema._invoke_dump_processors(tag, data, many=False, original_data=item)
    except Exception as error:
        report(f"the {tag} of the schema", error)
        return data


def _dump_field(schema: Any, name: str, field: Any, source: Any, key: str, report: Report, shows_objects: bool) -> Any:
    stored = None
    try:
        stored = schema.get_attribute(source, field.attribute or name, missing)
        if stored is missing or _fits(field, stored):
            return field.serialize(name, source, accessor=schema.get_attribute)
        raise TypeError(f"the stored value has another shape than {type(field).__name__}")
    except Exception as error:
        report(key, error)
    if stored is missing or isinstance(field, _COMPUTED):
        return None
    try:
        return _nearest(field, stored, lambda _, error: report(key, error), shows_objects)
    except RecursionError:
        return None


def _nearest(field: Any, value: Any, report: Report, shows_objects: bool) -> Any:
    """Return a stored value as nearly as its field can show it, without what the field may hide."""

    def nearest(part: Any, value: Any) -> Any:
        return _nearest(part, value, report, shows_objects)

    is_scalar = _is_scalar(field)
    if isinstance(value, list) and (is_scalar or isinstance(field, _WITH_PARTS)):
        part = field.inner if isinstance(field, List) else field.value_field if isinstance(field, Dict) else field
        return [nearest(part or field, each) for each in value]
    if isinstance(field, List):
        return nearest(field.inner, value)
    if isinstance(field, Nested) and isinstance(value, Mapping):
        return dump(field.schema, value, report, shows_objects=shows_objects)
    if isinstance(field, Dict) and isinstance(value, Mapping) and field.value_field is not None:
        return {key: nearest(field.value_field, part) for key, part in value.items()}
    if is_scalar and isinstance(value, Mapping):
        return value if shows_objects else None
    try:
        return field._serialize(value, None, None) if _fits(field, value) else value
    except Exception as error:
        report("", error)
        return value if _is_known(field) else None


def representable(dumped: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """Return dumped fields with null for each value, or part of one, that JSON cannot represent."""
    return {name: _fragment(name, value, report) for name, value in dumped.items()}


def _fragment(name: str, value: Any, report: Report, depth: int = 0) -> Any:
    try:
        return orjson.Fragment(rendering.dumps(value))
    except TypeError as error:
        report(name, error)
    if isinstance(value, list) and depth < _MOST_LEVELS:
        return [_fragment(name, part, report, depth + 1) for part in value]
    if isinstance(value, Mapping) and depth < _MOST_LEVELS:
        return {str(key): _fragment(name, part, report, depth + 1) for key, part in value.items()}
    if inspect.iscoroutine(value):
        value.close()
    return None
