"""The settings of a plugin: what its schema makes of the variables that begin with its name."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

import orjson
from marshmallow import ValidationError

from pegboard import errors
from pegboard.errors import ErrorDetail
from pegboard.query import mapping
from pegboard.schema import fields
from pegboard.schema.schema import Schema, error_details, messages_of
from pegboard.settings import FILE_SUFFIX, PREFIX, SETTINGS, SettingsError, read_value

_MESSAGES: Mapping[int, str] = {code.code: code.message for code in errors.CATALOGUE}
_OWN = frozenset(name for setting in SETTINGS for name in (setting.variable, setting.file_variable))


def prefix_of(plugin: str) -> str:
    """Return what the variables of a plugin begin with."""
    return f"{PREFIX}{plugin.upper().replace('-', '_')}_"


def read(
    schema: type[Schema] | None, plugin: str, environ: Mapping[str, str], plugins: Collection[str] = ()
) -> Mapping[str, Any]:
    """Return the settings of `plugin` as its schema loads them, by attribute; without a schema there are none.

    Each is read from `PEGBOARD_<PLUGIN>_<FIELD>`, or from the file that the same with `_FILE` names. An empty variable
    counts as not set. Text is what it says; numbers and booleans are read as in a URL; a list is separated by commas,
    or is JSON, as whatever else is. A variable belongs to the plugin of `plugins` with the longest name that fits.

    Raises `SettingsError`, in one line and without the value of a `load_only` field, for what is missing, wrong or
    unknown.
    """
    loader = (schema or Schema)()
    prefix = prefix_of(plugin)
    known = {prefix + mapping.name_of(field, name).upper(): name for name, field in loader.load_fields.items()}
    present = {name: value for name, value in environ.items() if value and _owner(name, plugin, plugins) == plugin}
    _refuse_taken(known)
    _refuse_unknown(plugin, known, present)
    variables = {name: variable for variable, name in known.items()}
    values: dict[str, Any] = {}
    found: list[ErrorDetail] = []
    for name, variable in variables.items():
        if variable not in present and variable + FILE_SUFFIX not in present:
            continue
        field = loader.load_fields[name]
        key = mapping.name_of(field, name)
        try:
            values[key] = _value(field, read_value(variable, present)[1])
        except ValueError as error:
            found.append(ErrorDetail(errors.WrongType.code, str(error), errors.pointer((key,))))
    loaded = _loaded(loader, values, found)
    if found:
        raise SettingsError("; ".join(dict.fromkeys(_told(loader, prefix, found))))
    return MappingProxyType(loaded)


def _owner(variable: str, plugin: str, plugins: Collection[str]) -> str | None:
    if variable in _OWN:
        return None
    fitting = [name for name in (plugin, *plugins) if variable.startswith(prefix_of(name))]
    return max(fitting, key=len, default=None)


def _refuse_taken(known: Collection[str]) -> None:
    for name in known:
        if name in _OWN:
            raise SettingsError(f"the setting {name} belongs to the service: rename the field of the plugin")
        if name + FILE_SUFFIX in known:
            raise SettingsError(f"{name + FILE_SUFFIX} is the file that {name} is read from: rename one of them")


def _refuse_unknown(plugin: str, known: Collection[str], present: Collection[str]) -> None:
    names = [*known, *(name + FILE_SUFFIX for name in known)]
    for name in sorted(present):
        if name in names:
            continue
        wanted = [one for one in names if one.endswith(FILE_SUFFIX) == name.endswith(FILE_SUFFIX)]
        start = len(prefix_of(plugin))
        near = get_close_matches(name[start:], [one[start:] for one in wanted], n=1)
        hint = f"; did you mean {name[:start]}{near[0]}?" if near else "" if known else ", which has none"
        raise SettingsError(f"{name} is not a setting of {plugin}{hint}")


def _value(field: Any, text: str) -> Any:
    """Return what the text of a variable says, as JSON would have it; raises `ValueError` with what is wrong."""
    if isinstance(field, fields.Integer | fields.Float | fields.Boolean):
        return fields.query_parser(field)(text.strip())
    if isinstance(field, fields.List) and not text.lstrip().startswith("["):
        return [_value(field.inner, part.strip()) for part in text.split(",")]
    if isinstance(field, fields.List | fields.Dict | fields.Nested | fields.Raw):
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            raise ValueError("Not valid JSON.") from None
    return text


def _loaded(loader: Schema, values: Mapping[str, Any], found: list[ErrorDetail]) -> dict[str, Any]:
    """Return what the schema loads, and add what is wrong to what was `found` already."""
    wrong = {fault.pointer for fault in found}
    try:
        loaded: dict[str, Any] = loader.load(values)
    except ValidationError as error:
        found += [fault for fault in error_details(messages_of(error)) if fault.pointer not in wrong]
        return {}
    return loaded


def _told(loader: Schema, prefix: str, found: Collection[ErrorDetail]) -> Iterator[str]:
    secret = {mapping.name_of(field, name) for name, field in loader.load_fields.items() if field.load_only}
    for fault in found:
        name = (fault.pointer or "").removeprefix("/").partition("/")[0]
        # What an author says of a secret may hold it.
        message = _MESSAGES.get(fault.code, errors.InvalidValue.message) if name in secret else fault.message
        text = " ".join(message.split()).rstrip(".")
        missing = fault.code == errors.MissingField.code and fault.pointer == f"/{name}"
        yield f"{prefix}{name.upper()} is not set: {text}" if missing else f"{prefix}{name.upper() or '*'}: {text}"
