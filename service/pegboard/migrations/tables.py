"""What is compared: a declaration with its past, the table that it would create, and the existing one."""

from __future__ import annotations

from dataclasses import dataclass

from pegboard.migrations.actual import Actual
from pegboard.schema.ddl import TableSpec


@dataclass(frozen=True, slots=True)
class Past:
    """Describe the declarations that were applied before: the `latest` (None if it is not known), and all `columns`.

    `changed` is whether the current declaration is another one than the latest.
    """

    latest: TableSpec | None = None
    columns: frozenset[str] = frozenset()
    changed: bool = True

    def declared(self, column: str) -> bool:
        """Return whether an earlier declaration had the column; if none is known, it may have had any."""
        return self.latest is None or column in self.columns

    def removes(self, column: str) -> bool:
        """Return whether the latest declaration had the column that the current one does not have."""
        return self.changed and (self.latest is None or column in {c.name for c in self.latest.all_columns})


@dataclass(frozen=True, slots=True)
class Tables:
    """Hold what is compared: the declaration, the table that it would create, and the existing one.

    `deferred` are the references whose tables do not exist yet. `by_files` is whether SQL files create the table: what
    a reference does when its item is deleted is then up to them.
    """

    spec: TableSpec
    wanted: Actual
    actual: Actual
    past: Past
    deferred: frozenset[str] = frozenset()
    by_files: bool = False

    @property
    def name(self) -> str:
        """Return the name of the table in SQL."""
        return self.spec.sql_name
