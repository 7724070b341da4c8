"""What an author can get wrong in the declaration of a resource, each told with its place and how to mend it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from pegboard.api.content import Content
from pegboard.api.resource import COLLECTION_ACTIONS, ITEM_ACTIONS, VERBS, Resource
from pegboard.api.table import TableResource
from pegboard.errors import ApiError
from pegboard.hosting.checks import content, operations, overrides, schemas, spelling, tables
from pegboard.query import mapping
from pegboard.query.existing import Existing
from pegboard.rendering import short
from pegboard.schema import fields
from pegboard.schema.column import Column
from pegboard.schema.ddl import OWNER, STANDARD, Unique
from pegboard.schema.schema import Schema

_FIRST_CODE = 20_000
_MOST_NAMES = 10  # so many are told
_TABLE = re.compile(r'[^\s."\x00]{1,63}\.[^\s."\x00]{1,63}')

_PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "list": ("context",),
    "create": ("context", "data"),
    "retrieve": ("context", "id"),
    "replace": ("context", "id", "data"),
    "update": ("context", "id", "data"),
    "delete": ("context", "id"),
}
"""What each action is given, beside the resource itself."""

_MISNAMED: Mapping[str, str] = {
    "get": "retrieve",
    "read": "retrieve",
    "index": "list",
    "post": "create",
    "put": "replace",
    "patch": "update",
    "remove": "delete",
    "destroy": "delete",
}
"""What actions are called elsewhere."""

_PUBLIC_VERBS = ("GET", "HEAD", "POST")
_OWN_VERBS = ("GET", "HEAD", "PATCH")
_TRUTHS = ("needs_match", "creates_by_put", "checks_version", "owned")
_NAMES = ("filterable", "sortable", "me", "me_writable", "public", "indexes", "search")
_LIMITS = ("default_limit", "max_limit")


def mistake(found: Any, name: str = "") -> str | None:
    """Return what is wrong with what an entry point named `name` leads to, and how to mend it; None for a sound one.

    Raises whatever the code of the author raises.
    """
    if not (inspect.isclass(found) and issubclass(found, Resource)):
        hint = ", not an instance: name the class" if isinstance(found, Resource) else ""
        return f"an entry point of pegboard.resources must name a subclass of pegboard.Resource{hint}"
    for check in _CHECKS:
        fault = check(found)
        if fault is not None:
            return fault
    return _self_mistake(found, name) or _built(found)


def _schema_mistake(found: type[Resource]) -> str | None:
    schema = getattr(found, "schema", None)
    if isinstance(schema, Schema):
        return f"set schema to a subclass of pegboard.Schema, not to an instance: schema = {type(schema).__name__}"
    if not (inspect.isclass(schema) and issubclass(schema, Schema)):
        return "set schema to a subclass of pegboard.Schema"
    return schemas.mistake(schema)


def _verb_mistake(found: type[Resource]) -> str | None:
    verbs: Any = getattr(found, "verbs", None)
    if not isinstance(verbs, tuple) or not verbs:
        return 'set verbs to a tuple of methods, as in verbs = "GET", "POST"'
    for verb in verbs:
        if verb == "OPTIONS":
            return "verbs contains 'OPTIONS', which the service handles itself: leave it out"
        if verb not in VERBS:
            meant = isinstance(verb, str) and verb.upper() in VERBS
            hint = f": write {verb.upper()!r}" if meant else ""
            return f"verbs contains {short(verb)}; use only {', '.join(VERBS)}, each at most once{hint}"
    return "verbs names a method twice: leave one out" if len(set(verbs)) < len(verbs) else None


def _action_mistake(found: type[Resource]) -> str | None:
    there = found.actions()
    for name in sorted(there):
        action = getattr(found, name)
        written = f"async def {name}({', '.join(('self', *_PARAMETERS[name]))})"
        if not inspect.iscoroutinefunction(action):
            return f"the action {name} must be a coroutine: write {written}"
        try:
            inspect.signature(action).bind(None, *_PARAMETERS[name])
        except TypeError:
            return f"the action {name} has the wrong parameters: write {written}"
    for verb in found.verbs:
        wanted = {table[verb] for table in (COLLECTION_ACTIONS, ITEM_ACTIONS) if verb in table}
        if not wanted & there:
            near = [other for other, action in _MISNAMED.items() if action in wanted and hasattr(found, other)]
            hint = (
                f": did you mean {_MISNAMED[near[0]]} by {near[0]}?"
                if near
                else f": write it, or leave {verb} out of verbs"
            )
            return f"verbs contains {verb}, but there is no action {' or '.join(sorted(wanted))}{hint}"
    declared = {table[verb] for table in (COLLECTION_ACTIONS, ITEM_ACTIONS) for verb in found.verbs if verb in table}
    writing = [verb for verb in ("PUT", "PATCH", "DELETE") if verb in found.verbs]
    if writing and "retrieve" not in there:
        return f"verbs contains {writing[0]}, whose preconditions need the current item: write async def retrieve"
    if writing or any(one.on == "item" for one in found.operations().values()):
        declared.add("retrieve")
    extra = sorted(set(vars(found)) & there - declared)
    return f"the action {extra[0]} is defined, but no method in verbs uses it: add one to verbs" if extra else None


def _beside_mistake(found: type[Resource]) -> str | None:
    """Hold what is declared beside the actions against the form it has to have."""
    content: Any = found.content
    if not isinstance(content, Content | None):
        return f"content is {short(content)}: set it to an instance of pegboard.Content, or leave it out"
    if found.settings is not None and not (inspect.isclass(found.settings) and issubclass(found.settings, Schema)):
        return "set settings to a subclass of pegboard.Schema, or leave it out"
    existing = found.existing() if issubclass(found, TableResource) else None
    return None if existing is None else existing.mistake()


def _other_schema_mistake(found: type[Resource]) -> str | None:
    """Hold the decorated methods of the schemas of operations and settings against how they are called."""
    declared = found.operations().values()
    parts: list[Any] = [found.settings, *(part for one in declared for part in (one.request, one.response))]
    faults = (
        schemas.hooks_mistake(schema) for schema in parts if isinstance(schema, type) and issubclass(schema, Schema)
    )
    return next((fault for fault in faults if fault is not None), None)


def _form_mistake(found: type[Resource]) -> str | None:
    """Hold each attribute against the form it has to have."""
    text: Any = found.__doc__
    if not isinstance(text, str | None):
        return "the docstring is not a string: write one, or leave it out"
    for name in _TRUTHS:
        value = getattr(found, name, False)
        if not isinstance(value, bool):
            return f"{name} is {short(value)}: set it to True or False"
    for name in _LIMITS:
        value = getattr(found, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            return f"{name} is {short(value)}: set it to an integer of at least 1"
    if found.default_limit > found.max_limit:
        return f"default_limit is {found.default_limit}, greater than max_limit, {found.max_limit}: lower it"
    for name in _NAMES:
        fault = _names_mistake(name, getattr(found, name, ()))
        if fault is not None:
            return fault
    return None


def _names_mistake(name: str, value: Any) -> str | None:
    if value is None and name in ("filterable", "sortable", "me_writable"):
        return None
    if isinstance(value, str):
        return f"{name} is a string, not a tuple: write {name} = ({short(value)},)"
    if not isinstance(value, tuple) or not all(isinstance(part, str) for part in value):
        return f'{name} is {short(value)}: set it to a tuple of strings, as in {name} = ("name",)'
    twice = next((part for part in value if value.count(part) > 1), None)
    return None if twice is None else f"{name} names {twice!r} twice: leave one out"


def _code_mistake(found: type[Resource]) -> str | None:
    codes: Any = found.error_codes
    if not isinstance(codes, tuple):
        return f"error_codes is {short(codes)}: set it to a tuple, as in error_codes = (Taken,)"
    for declared in codes:
        if not _is_error(declared):
            return f"error_codes contains {short(declared)}; use only subclasses of pegboard.ApiError"
        code, status, message = (getattr(declared, name, None) for name in ("code", "status", "message"))
        if isinstance(code, bool) or not isinstance(code, int):
            return f"the error code {short(code)} is not an integer: use one from {_FIRST_CODE} up"
        if code < _FIRST_CODE:
            return f"the error code {code} is reserved for the service: use one from {_FIRST_CODE} up"
        if isinstance(status, bool) or not isinstance(status, int) or not 400 <= status <= 599:
            return (
                f"the error code {code} has the status {short(status)}, which is not from 400 to 599: use one that is"
            )
        if not isinstance(message, str) or not message:
            return f"the error code {code} has no message: write one for people to read"
    numbers = [declared.code for declared in codes]
    twice = next((number for number in numbers if numbers.count(number) > 1), None)
    return None if twice is None else f"the error code {twice} is declared twice: use another number for one of them"


def _is_error(declared: object) -> bool:
    return isinstance(declared, type) and issubclass(declared, ApiError) and declared is not ApiError


def _public_mistake(found: type[Resource]) -> str | None:
    for attribute, verbs, possible in (("public", found.public, _PUBLIC_VERBS), ("me", found.me, _OWN_VERBS)):
        for verb in verbs:
            if verb not in possible or verb not in found.verbs:
                kind = "the method " if attribute == "me" else ""
                return (
                    f"{attribute} names {kind}{verb!r}; use only those of {', '.join(possible)} that are in verbs too"
                )
    return None


def _me_mistake(found: type[Resource]) -> str | None:
    if found.me_writable is not None and "PATCH" not in found.me:
        return "me_writable is set, but me does not contain PATCH: add it, or leave me_writable out"
    names = [mapping.name_of(field, name) for name, field in found.schema().load_fields.items()]
    return _unknown("me_writable", found.me_writable or (), names)


def _query_mistake(found: type[Resource]) -> str | None:
    existing = found.existing() if issubclass(found, TableResource) else None
    columns = {column.field: column for column in mapping.columns(found.schema(), existing)}
    for attribute, doing, able in (
        ("filterable", "filtered", lambda column: bool(column.operators)),
        ("sortable", "sorted", lambda column: column.is_sortable),
    ):
        for name in getattr(found, attribute) or ():
            fault = _unknown(attribute, (name,), columns) or _unsuitable(attribute, columns[name], doing, able)
            if fault is not None:
                return fault
    filters = {f"{name}__{operator}": name for name, column in columns.items() for operator in column.operators}
    clash = next((name for name in columns if name in filters), None)
    if clash is not None:
        return f"the field {clash} has the name of a filter of the field {filters[clash]}: rename it"
    return None


def _unsuitable(attribute: str, column: Column, doing: str, able: Callable[[Column], bool]) -> str | None:
    if not column.readable:
        return f"{attribute} names {column.field}, which is write-only: leave it out"
    return None if able(column) else f"{attribute} names {column.field}, which cannot be {doing}: leave it out"


def _table_mistake(found: type[Resource]) -> str | None:
    if not issubclass(found, TableResource):
        return None
    table: Any = found.table
    name = table.table if isinstance(table, Existing) else table
    if name is not None and not (isinstance(name, str) and _TABLE.fullmatch(name)):
        return f'table is {short(name)}: name it with its schema and without quotes, as in table = "crm.people"'
    return _conflict_mistake(found) or _unique_mistake(found) or _index_mistake(found)


def _sound_mistake(found: type[Resource]) -> str | None:
    return tables.mistake(found) if issubclass(found, TableResource) else None


def _conflict_mistake(found: type[TableResource]) -> str | None:
    conflicts: Any = found.conflicts
    if not isinstance(conflicts, Mapping):
        return f'conflicts is {short(conflicts)}: map names of constraints to errors, as in {{"no_overlap": Taken}}'
    for name, code in conflicts.items():
        if not isinstance(name, str) or not _is_error(code):
            pair = f"{short(name)} to {short(code)}"
            return f"conflicts maps {pair}; map the name of a constraint to a subclass of pegboard.ApiError"
        if code.code >= _FIRST_CODE and code not in found.error_codes:
            return f"conflicts uses the error code {code.code}, which is not in error_codes: add it there"
    return None


def _unique_mistake(found: type[TableResource]) -> str | None:
    uniques: Any = found.unique
    if isinstance(uniques, Unique):
        return "unique is a single Unique, not a tuple: add a comma after it, as in unique = (Unique(...),)"
    if not isinstance(uniques, tuple) or not all(isinstance(unique, Unique) for unique in uniques):
        return f'unique is {short(uniques)}: set it to a tuple, as in unique = (Unique("email"),)'
    columns = _columns(found)
    texts = {column.name for column in mapping.columns(found.schema()) if column.is_text}
    for unique in uniques:
        if not unique.columns:
            return "unique has a Unique without fields: name the fields that must be unique"
        fault = _unknown("unique", unique.columns, columns)
        if fault is not None:
            return fault
        if len(set(unique.columns)) < len(unique.columns):
            return f"unique names a field twice in one Unique: {', '.join(unique.columns)}"
        if unique.ignore_case and texts.isdisjoint(unique.columns):
            return (
                f"unique ignores the case of {', '.join(unique.columns)}, which contains no text: leave ignore_case out"
            )
    return "unique has the same Unique twice: leave one out" if len(set(uniques)) < len(uniques) else None


def _index_mistake(found: type[TableResource]) -> str | None:
    own = {column.name: column for column in mapping.columns(found.schema())}
    for index in found.indexes:
        parts = [part.strip().removeprefix("-") for part in index.split(",")]
        fault = _unknown("indexes", parts, _columns(found))
        if fault is not None:
            return fault
        if len(set(parts)) < len(parts):
            return f"indexes names a field twice in {short(index)}: leave one out"
        for column in (own[part] for part in parts if part in own):
            if not (column.is_sortable or (column.is_list and len(parts) == 1 and column.readable)):
                return _unsuitable("indexes", column, "sorted", lambda _: False)
    for name in found.search:
        fault = _unknown("search", (name,), own) or _unsuitable("search", own[name], "searched", lambda c: c.is_text)
        if fault is not None:
            return fault
    return None


def _columns(found: type[TableResource]) -> list[str]:
    """Return the columns that an index can be about."""
    own = [column.name for column in mapping.table_columns(found.schema())]
    return [*own, *(column.name for column in STANDARD), *([OWNER] if found.owned else [])]


def _unknown(attribute: str, names: Iterable[str], known: Collection[str]) -> str | None:
    """Say which of the names is none of those known, and which one was probably meant."""
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            more = ["..."] if len(known) > _MOST_NAMES else []
            hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join([*known][:_MOST_NAMES] + more)}"
            return f"{attribute} names {short(name)}, which is not a field of the schema: {hint}"
    return None


def _put_mistake(found: type[Resource]) -> str | None:
    if found.creates_by_put and not {"PUT", "POST"} <= set(found.verbs):
        return "creates_by_put is set, but verbs does not contain both PUT and POST: add them, or leave it out"
    return None


def _self_mistake(found: type[Resource], name: str) -> str | None:
    for attribute, field, _ in mapping.stored(found.schema()):
        if isinstance(field, fields.Reference) and field.resource == name and field.required and not field.allow_none:
            return f"the field {attribute} refers to {name} itself, so it cannot be required: leave required out"
    return None


def _built(found: type[Resource]) -> str | None:
    """Make what is made of the declaration at the start, which finds what is left."""
    try:
        fault = overrides.result_mistake(found, "rules", found.rules())
        if fault is None and issubclass(found, TableResource):
            fault = overrides.result_mistake(found, "spec", found.spec("it"))
    except ValueError as error:
        return str(error)
    return fault


_CHECKS: tuple[Callable[[type[Resource]], str | None], ...] = (
    spelling.mistake,
    _schema_mistake,
    _verb_mistake,
    operations.mistake,
    overrides.mistake,
    _action_mistake,
    _beside_mistake,
    _other_schema_mistake,
    _form_mistake,
    _code_mistake,
    _me_mistake,
    _query_mistake,
    _table_mistake,
    _put_mistake,
    _sound_mistake,
    _public_mistake,
    content.mistake,
)
"""What a declaration is held against, in turn: each may rely on what those before it have found sound."""
