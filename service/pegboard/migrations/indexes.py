"""The difference of the indexes of two tables, and of the column for full-text search."""

from __future__ import annotations

from collections.abc import Iterator

from pegboard.migrations.actual import ActualIndex
from pegboard.migrations.plan import CheckedStep, ManualStep, Steps
from pegboard.migrations.tables import Tables
from pegboard.schema import ddl
from pegboard.schema.column import quoted
from pegboard.schema.ddl import TableSpec, Unique

_NEW_INDEX = "pegboard_new_index"


def changes(tables: Tables) -> Steps:
    """Yield the steps that make the indexes, and what search reads, those of the declared table."""
    yield from _search_changes(tables)
    yield from _unique_changes(tables)
    yield from _index_changes(tables)


def _search_changes(tables: Tables) -> Steps:
    wanted, found = tables.wanted.columns.get(ddl.SEARCH), tables.actual.columns.get(ddl.SEARCH)
    if wanted is None or (found and (found.generated, found.default) == (wanted.generated, wanted.default)):
        return
    add = f"ALTER TABLE {tables.name} ADD COLUMN {ddl.search_definition(tables.spec)}"
    drop = f"ALTER TABLE {tables.name} DROP COLUMN {quoted(ddl.SEARCH)}"
    if found is None:
        yield add
    elif found.generated:
        yield drop
        yield add
    else:
        effect = "The values of the column that is there are lost."
        yield ManualStep(f"the column {ddl.SEARCH} is not generated", f"{drop};\n{add}", effect, needs_author=True)


def _unique_changes(tables: Tables) -> Steps:
    spec, statements = tables.spec, ddl.uniques(tables.spec)
    for unique in spec.uniques:
        name = ddl.unique_name(spec, unique)
        wanted, found = tables.wanted.indexes[name], tables.actual.indexes.get(name)
        if found is not None and _is_same(found, wanted):
            continue
        moved = _moved_index(tables, wanted)
        columns = ", ".join(unique.columns)
        if found is not None:
            reason = f"{columns} is to be unique in another way than before, which these rows violate (by id)"
            step = ManualStep(reason, _rebuilt(spec, name, statements[name]), "Change these rows first.")
            yield CheckedStep(_collisions(tables, wanted), step)
        elif moved is not None:
            yield f"ALTER INDEX {quoted(spec.schema)}.{quoted(moved)} RENAME TO {quoted(name)}"
        elif _all_null(tables, unique):
            yield statements[name]
        else:
            reason = f"{columns} is declared unique, which existing rows may violate"
            yield ManualStep(reason, statements[name], "It fails on duplicate values.")


def _is_same(found: ActualIndex, wanted: ActualIndex) -> bool:
    return found.valid and (found.unique, found.definition) == (wanted.unique, wanted.definition)


def _moved_index(tables: Tables, wanted: ActualIndex) -> str | None:
    """Return the index that is the declared one under another name."""
    return next(
        (
            index.name
            for index in tables.actual.indexes.values()
            if _is_same(index, wanted) and index.name not in tables.wanted.indexes
        ),
        None,
    )


def _rebuilt(spec: TableSpec, name: str, statement: str) -> str:
    """Return the statements that replace an index: never is there a moment without one."""
    schema, new = quoted(spec.schema), quoted(_NEW_INDEX)
    return (
        f"{statement.replace(quoted(name), new, 1)};\nDROP INDEX {schema}.{quoted(name)};\n"
        f"ALTER INDEX {schema}.{new} RENAME TO {quoted(name)}"
    )


def _collisions(tables: Tables, wanted: ActualIndex) -> str:
    """Return the query for the first ten groups of rows that a unique index would not allow, by their ids."""
    keys = ", ".join(wanted.keys)
    present = " AND ".join(f"{key} IS NOT NULL" for key in wanted.keys)
    return (
        f"SELECT string_agg(id::text, ', ' ORDER BY id::text) FROM {tables.name} WHERE {present} "
        f"GROUP BY {keys} HAVING count(*) > 1 ORDER BY min(id::text) LIMIT 10"
    )


def _all_null(tables: Tables, unique: Unique) -> bool:
    """Return whether one of the columns is new and null in every row, so that there are no duplicates."""
    new = (c for c in tables.spec.columns if c.name in unique.columns and c.name not in tables.actual.columns)
    return any(column.nullable and column.default is None for column in new)


def _index_changes(tables: Tables) -> Iterator[str]:
    # Dropping the search column above also dropped its index.
    rebuilt = any("DROP COLUMN" in step for step in _search_changes(tables) if isinstance(step, str))
    gone = {ddl.object_name(tables.spec.name, (ddl.SEARCH,), ddl.INDEX)} if rebuilt else set()
    for name, statement in ddl.indexes(tables.spec).items():
        found = None if name in gone else tables.actual.indexes.get(name)
        if found is None:
            yield statement
        elif not _is_same(found, tables.wanted.indexes[name]):
            yield f"DROP INDEX {quoted(tables.spec.schema)}.{quoted(name)}"
            yield statement
