"""The settings of plugins, loaded by their schemas from the environment."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

import orjson
from marshmallow import ValidationError

from pegboard import errors, links
from pegboard.errors import ErrorDetail
from pegboard.query import mapping
from pegboard.schema import fields
from pegboard.schema.schema import Schema, error_details, messages_of
from pegboard.settings import FILE_SUFFIX, VARIABLES, SettingsError, prefix_of, read_value

_MESSAGES: Mapping[int, str] = {code.code: code.message for code in errors.CATALOGUE}


def read(
    schema: type[Schema] | None, plugin: str, environ: Mapping[str, str], plugins: Collection[str] = ()
) -> Mapping[str, Any]:
    """Return the settings of `plugin` as its schema loads them, by attribute; without a schema there are none.

    Each is read from `PEGBOARD_<PLUGIN>_<FIELD>`, or from the file that the variable with the suffix `_FILE` names. An
    empty variable counts as not set. Text is taken as it is, numbers and booleans are parsed as in a URL, a list is
    separated by commas or is JSON, and everything else is JSON. A variable belongs to the plugin of `plugins` with the
    longest matching name. Variables of Kubernetes and Docker are ignored.

    Raises `SettingsError`, on one line and without the value of a `load_only` field, for settings that are missing,
    invalid or unknown.
    """
    loader = (schema or Schema)()
    prefix = prefix_of(plugin)
    declared = {prefix + mapping.name_of(field, name).upper(): name for name, field in loader.load_fields.items()}
    names = {*declared, *(name + FILE_SUFFIX for name in declared)}
    ignored = links.names_in(environ, prefix, names)
    present = {
        name: value
        for name, value in environ.items()
        if value and name not in ignored and _owner(name, plugin, plugins) == plugin
    }
    _check_reserved(declared)
    _check_unknown(plugin, declared, present)
    variables = {name: variable for variable, name in declared.items()}
    values: dict[str, Any] = {}
    details: list[ErrorDetail] = []
    for name, variable in variables.items():
        if variable not in present and variable + FILE_SUFFIX not in present:
            continue
        field = loader.load_fields[name]
        key = mapping.name_of(field, name)
        try:
            values[key] = _parse(field, read_value(variable, present)[1])
        except ValueError as error:
            details.append(ErrorDetail(errors.WrongType.code, str(error), errors.pointer((key,))))
    loaded = _load(loader, values, details)
    if details:
        raise SettingsError("; ".join(dict.fromkeys(_messages(loader, prefix, details))))
    return MappingProxyType(loaded)


def _owner(variable: str, plugin: str, plugins: Collection[str]) -> str | None:
    if variable in VARIABLES:
        return None
    candidates = [name for name in (plugin, *plugins) if variable.startswith(prefix_of(name))]
    return max(candidates, key=len, default=None)


def _check_reserved(declared: Collection[str]) -> None:
    for name in declared:
        if not re.fullmatch(r"[A-Z0-9_]+", name, re.ASCII):
            raise SettingsError(f"{name} is not a name of a variable: use a-z, 0-9 and _ for the name of the field")
        if name in VARIABLES:
            raise SettingsError(f"the setting {name} belongs to the service: rename the field of the plugin")
        if name + FILE_SUFFIX in declared:
            raise SettingsError(f"{name + FILE_SUFFIX} is the file that {name} is read from: rename one of them")


def _check_unknown(plugin: str, declared: Collection[str], present: Collection[str]) -> None:
    names = [*declared, *(name + FILE_SUFFIX for name in declared)]
    for name in sorted(present):
        if name in names:
            continue
        candidates = [candidate for candidate in names if candidate.endswith(FILE_SUFFIX) == name.endswith(FILE_SUFFIX)]
        start = len(prefix_of(plugin))
        matches = get_close_matches(name[start:], [candidate[start:] for candidate in candidates], n=1)
        hint = f"; did you mean {name[:start]}{matches[0]}?" if matches else "" if declared else ", which has none"
        raise SettingsError(f"{name} is not a setting of {plugin}{hint}")


def _parse(field: Any, text: str) -> Any:
    """Return the value of a variable as JSON would have it; raises `ValueError` with a message."""
    if isinstance(field, fields.Integer | fields.Float | fields.Boolean):
        return fields.query_parser(field)(text.strip())
    if isinstance(field, fields.List) and not text.lstrip().startswith("["):
        return [_parse(field.inner, part.strip()) for part in text.split(",")]
    if isinstance(field, fields.List | fields.Dict | fields.Nested | fields.Raw):
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            raise ValueError("Not valid JSON.") from None
    return text


def _load(loader: Schema, values: Mapping[str, Any], details: list[ErrorDetail]) -> dict[str, Any]:
    """Return what the schema loads, and add its errors to `details`, at most one for each pointer."""
    reported = {detail.pointer for detail in details}
    try:
        loaded: dict[str, Any] = loader.load(values)
    except ValidationError as error:
        details += [detail for detail in error_details(messages_of(error)) if detail.pointer not in reported]
        return {}
    return loaded


def _messages(loader: Schema, prefix: str, details: Collection[ErrorDetail]) -> Iterator[str]:
    secret = {mapping.name_of(field, name) for name, field in loader.load_fields.items() if field.load_only}
    for detail in details:
        name = (detail.pointer or "").removeprefix("/").partition("/")[0]
        # The author's own message about a secret may contain it.
        message = _MESSAGES.get(detail.code, errors.InvalidValue.message) if name in secret else detail.message
        text = " ".join(message.split()).rstrip(".")
        missing = detail.code == errors.MissingField.code and detail.pointer == f"/{name}"
        yield f"{prefix}{name.upper()} is not set: {text}" if missing else f"{prefix}{name.upper() or '*'}: {text}"
