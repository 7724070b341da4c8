"""Changes of the nested schemas that JSON columns hold, and the SQL that would change the rows."""

from __future__ import annotations

from collections.abc import Iterator

from pegboard.schema.column import Column, Part, quoted
from pegboard.schema.ddl import TableSpec


def notices(before: TableSpec, after: TableSpec) -> Iterator[str]:
    """Yield what the values in existing rows lack or have too much, one line each."""
    shapes = {column.name: column.shape for column in before.columns}
    for column in after.columns:
        old = shapes.get(column.name)
        if old is not None and column.shape is not None:
            yield from (
                _notice(after, column, path, change, part) for path, change, part in _changes(old, column.shape)
            )


_Change = tuple[tuple[Part, ...], str, Part]
"""The parts that lead to a value, what has happened to it, and what it is now (or was)."""


def _changes(before: Part, after: Part, path: tuple[Part, ...] = ()) -> Iterator[_Change]:
    path = (*path, after)
    if before.type != after.type:
        yield path[:-1], "has another type", after
        return
    if after.type in ("list", "map"):
        for old, new in zip(before.parts, after.parts, strict=False):
            yield from _changes(old, new, path)
        return
    old_parts, new_parts = ({part.name: part for part in one.parts} for one in (before, after))
    for name, part in new_parts.items():
        former = old_parts.get(name)
        if part.required and (former is None or not former.required):
            yield path, "is new and required" if former is None else "is now required", part
        if former is not None:
            yield from _changes(former, part, path)
    for name, part in old_parts.items():
        if name not in new_parts:
            yield path, "is no longer declared", part


def _notice(spec: TableSpec, column: Column, path: tuple[Part, ...], change: str, part: Part) -> str:
    where = "/".join(
        (column.name, *(step.name for step in path[1:] if step.name), *((part.name,) if part.name else ()))
    )
    name = quoted(column.name)
    sql = f"UPDATE {spec.sql_name} SET {name} = {_expression(name, path, change, part)} WHERE {name} IS NOT NULL"
    return f"{where} {change}, which existing rows do not follow; to change them, run a statement like {sql}"


def _expression(value: str, path: tuple[Part, ...], change: str, part: Part) -> str:
    """Return the SQL that changes one value within another; `path` leads from that other one to it."""
    if not path:
        return f"{value} /* as {part.type} */"
    step, rest = path[0], path[1:]
    element = f"element_{len(path)}"
    if step.type in ("list", "map"):
        inner = _expression(f"{element}.value", rest, change, part)
        if step.type == "list":
            return f"(SELECT coalesce(jsonb_agg({inner}), '[]') FROM jsonb_array_elements({value}) {element})"
        return f"(SELECT coalesce(jsonb_object_agg({element}.key, {inner}), '{{}}') FROM jsonb_each({value}) {element})"
    key = (rest[0] if rest else part).name.replace("'", "''")
    if rest:
        inner = _expression(f"({value} -> '{key}')", rest, change, part)
        return f"jsonb_set({value}, ARRAY['{key}'], {inner})"
    if change == "is no longer declared":
        return f"{value} - '{key}'"
    return f"{value} || jsonb_build_object('{key}', NULL /* a value */)"
