"""Whether a table can be read and written as a whole: its kind, its privileges, row security and inheritance."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from pegboard.migrations.actual import Actual
from pegboard.migrations.plan import ManualStep
from pegboard.schema.ddl import TableSpec

ALL = ("INSERT", "UPDATE", "DELETE")
"""The statements that a resource with all verbs runs."""


def problems(spec: TableSpec, actual: Actual, statements: Collection[str]) -> Iterator[ManualStep]:
    """Yield what keeps a resource that runs `statements` from reading and writing the rows of a table."""
    name = spec.sql_name
    refused = [statement for statement in statements if statement not in actual.accepts]
    if refused:
        sql = "; ".join(
            f"CREATE TRIGGER ... INSTEAD OF {one} ON {name} FOR EACH ROW EXECUTE FUNCTION ..." for one in refused
        )
        yield ManualStep(
            f"it does not accept {_listed(refused)}: declare fewer verbs, or change it", sql, needs_author=True
        )
    missing = [one for one in statements if one not in actual.allowed]
    missing += ["SELECT"] if not any(column.readable for column in actual.columns.values()) else []
    if missing:
        sql = f"GRANT {', '.join(missing)} ON {name} TO CURRENT_USER"
        yield ManualStep(f"the service's role may not {_listed(missing)} in it", sql, needs_author=True)
    if actual.hides_rows and not actual.policies:
        yield ManualStep(
            "row security hides its rows", f"ALTER TABLE {name} DISABLE ROW LEVEL SECURITY", needs_author=True
        )
    if actual.unchecked:
        reason = "its foreign keys are switched off, so rows may violate them"
        yield ManualStep(reason, f"ALTER TABLE {name} ENABLE TRIGGER ALL", needs_author=True)


def storage_problems(spec: TableSpec, actual: Actual) -> Iterator[ManualStep]:
    """Yield what makes the rows of a table that the service has created other than those that it has stored."""
    name = spec.sql_name
    if actual.unlogged:
        reason = "it is unlogged, so a crash of the database empties it"
        yield ManualStep(reason, f"ALTER TABLE {name} SET LOGGED", "The table is rewritten.", needs_author=True)
    for heir in actual.heirs:
        reason = f"{heir} inherits from it, so its rows are also those of this table"
        yield ManualStep(reason, f"ALTER TABLE {heir} NO INHERIT {name}", needs_author=True)


def _listed(words: Collection[str]) -> str:
    return ", ".join(words)
