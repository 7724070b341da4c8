"""A table as PostgreSQL's catalogue describes it, every name in it written with its schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

VIEWLIKE = frozenset("vmf")
"""The kinds of relations without indexes or constraints that could be required: views and foreign tables."""


@dataclass(frozen=True, slots=True)
class ActualColumn:
    """Describe a column; `generated` and `identity` are PostgreSQL's letters.

    `base` is the type under a domain, `domain` is its name if it does not allow null.
    """

    name: str
    type: str
    nullable: bool
    default: str | None
    generated: str
    identity: str
    collation: str | None
    base: str | None
    domain: str | None
    readable: bool

    @property
    def is_optional(self) -> bool:
        """Return whether a row can be inserted without a value for the column."""
        allows_null = self.nullable and self.domain is None
        return allows_null or self.default is not None or bool(self.generated or self.identity)

    @property
    def is_computed(self) -> bool:
        """Return whether PostgreSQL refuses a value for the column."""
        return bool(self.generated) or self.identity == "a"


@dataclass(frozen=True, slots=True)
class Constraint:
    """Describe a constraint; a foreign key has the `target` table and its columns."""

    name: str
    kind: str
    columns: tuple[str, ...]
    definition: str
    target: tuple[str, str] | None = None
    target_columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ActualIndex:
    """Describe an index: its keys as SQL, and their columns (None for an expression)."""

    name: str
    definition: str
    unique: bool
    valid: bool
    partial: bool
    keys: tuple[str, ...]
    columns: tuple[str | None, ...]

    @property
    def is_enforced(self) -> bool:
        """Return whether the index allows no duplicates, at the latest when a transaction commits."""
        return self.unique and self.valid and not self.partial


@dataclass(frozen=True, slots=True)
class Trigger:
    """Describe a trigger; `{table}` stands for the table in its definition."""

    name: str
    definition: str
    enabled: bool


@dataclass(frozen=True, slots=True)
class Actual:
    """Describe a table: its parts by name.

    `kind` is PostgreSQL's letter, `accepts` the statements that it accepts (`INSERT`, `UPDATE`, `DELETE`), `allowed`
    those that the role may run. `hides_rows` is whether row security applies, with or without `policies`; `heirs` are
    the tables that inherit from it, `unchecked` is whether its foreign keys are switched off.
    """

    kind: str
    columns: Mapping[str, ActualColumn]
    constraints: Mapping[str, Constraint]
    indexes: Mapping[str, ActualIndex]
    triggers: Mapping[str, Trigger]
    accepts: tuple[str, ...]
    allowed: tuple[str, ...]
    hides_rows: bool
    policies: bool
    unlogged: bool
    unchecked: bool
    heirs: tuple[str, ...]

    @property
    def checks(self) -> dict[str, Constraint]:
        """Return the check constraints by name."""
        return {name: one for name, one in self.constraints.items() if one.kind == "c"}

    @property
    def references(self) -> dict[str, Constraint]:
        """Return the foreign keys by name."""
        return {name: one for name, one in self.constraints.items() if one.kind == "f"}

    def unique_over(self, *columns: str) -> bool:
        """Return whether an index allows no two rows with the same values in these columns."""
        return any(index.is_enforced and set(index.columns) == set(columns) for index in self.indexes.values())

    def indexes_over(self, column: str) -> Iterator[ActualIndex]:
        """Yield the indexes of which the column is a key."""
        return (index for index in self.indexes.values() if column in index.columns)
