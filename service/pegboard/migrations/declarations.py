"""The ledger of declarations: which ones were applied to the table of each plugin, in order, and which is older."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from hashlib import sha256
from typing import Any

import asyncpg
from packaging.version import InvalidVersion, Version

from pegboard.migrations.tables import Past
from pegboard.schema import ddl
from pegboard.schema.column import Column, Part
from pegboard.schema.ddl import Index, TableSpec, Unique

_EXISTS = "SELECT EXISTS (SELECT FROM pg_tables WHERE (schemaname, tablename) = ('pegboard', 'declaration'))"
_RECORDED = "SELECT plugin, fingerprint, version, declared, verified FROM pegboard.declaration ORDER BY plugin, number"
_RECORD = """
    INSERT INTO pegboard.declaration (plugin, number, fingerprint, version, declared, verified)
    SELECT $1, coalesce(max(number), 0) + 1, $2, $3, $4::text::jsonb, $5 FROM pegboard.declaration WHERE plugin = $1
"""
_RENEW = """
    UPDATE pegboard.declaration SET fingerprint = $2, version = $3, declared = $4::text::jsonb, verified = $5
    WHERE plugin = $1 AND number = (SELECT max(number) FROM pegboard.declaration WHERE plugin = $1)
"""
# What the migration that creates the ledger copies into it.
_FORMER = """
    SELECT plugin, checksum AS fingerprint, '' AS version, NULL AS declared, '' AS verified
    FROM pegboard.migration WHERE version = 0
"""
FORGET = "DELETE FROM pegboard.declaration WHERE plugin = $1"


@dataclass(frozen=True, slots=True)
class Declaration:
    """Describe a declaration: the digest of its JSON, the version of its distribution, and the JSON if it is known.

    `verified` is the digest of the table when it last had no difference. `table_fingerprint` is that of the table
    alone, by which earlier versions of the core recorded it.
    """

    fingerprint: str
    version: str
    declared: str | None
    verified: str = ""
    table_fingerprint: str = ""

    def is_same(self, recorded: Declaration) -> bool:
        """Return whether it is the recorded one."""
        own = self.fingerprint if recorded.declared is not None else self.table_fingerprint
        return recorded.fingerprint == own


Ledger = Mapping[str, Sequence[Declaration]]


async def recorded(connection: asyncpg.Connection) -> Ledger:
    """Return the applied declarations of each plugin, the latest last."""
    try:
        rows = await connection.fetch(_RECORDED if await connection.fetchval(_EXISTS) else _FORMER)
    except asyncpg.UndefinedTableError:
        return {}
    ledger: dict[str, list[Declaration]] = {}
    for row in rows:
        plugin, *values = row
        ledger.setdefault(plugin, []).append(Declaration(*values))
    return ledger


def declaration_of(spec: TableSpec, version: str) -> Declaration:
    """Return the declaration of a table by a version of its distribution."""
    declared = ddl.declaration(spec)
    return Declaration(sha256(declared.encode()).hexdigest(), version, declared, "", ddl.fingerprint(spec))


def is_recorded(current: Declaration, applied: Sequence[Declaration], verified: str) -> bool:
    """Return whether the declaration is the latest, recorded with its version or a higher one and this digest."""
    latest = applied[-1] if applied else None
    if latest is None or latest.fingerprint != current.fingerprint:
        return False
    return latest.verified == verified and not _is_higher(current, latest)


def is_older(current: Declaration, applied: Sequence[Declaration]) -> bool:
    """Return whether a newer declaration was applied: by the versions or, if they are equal, by the order."""
    latest = applied[-1] if applied else None
    if latest is None or current.is_same(latest) or _is_higher(current, latest):
        return False
    return _is_higher(latest, current) or any(current.is_same(one) for one in applied)


def _is_higher(one: Declaration, other: Declaration) -> bool:
    try:
        return Version(one.version) > Version(other.version)
    except InvalidVersion:
        return False


def past_of(current: Declaration, applied: Sequence[Declaration]) -> Past:
    """Return what is known of the earlier declarations of a table."""
    specs = [_spec(json.loads(one.declared)) for one in applied if one.declared is not None]
    known = bool(applied) and applied[-1].declared is not None
    names = frozenset(column.name for spec in specs for column in spec.all_columns)
    changed = not applied or not current.is_same(applied[-1])
    return Past(specs[-1] if known else None, names, changed)


async def record(
    connection: asyncpg.Connection, plugin: str, current: Declaration, applied: Sequence[Declaration]
) -> None:
    """Record a declaration as the latest, or the higher version of the latest."""
    statement = _RENEW if applied and current.is_same(applied[-1]) else _RECORD
    values = current.fingerprint, current.version, current.declared, current.verified
    await connection.execute(statement, plugin, *values)


def _spec(plain: Mapping[str, Any]) -> TableSpec:
    """Return a declaration from its JSON, without attributes that only a newer version of the core knows."""
    known = _known(TableSpec, plain)
    return TableSpec(
        **{
            **known,
            "columns": tuple(_column(column) for column in known["columns"]),
            "uniques": tuple(
                Unique(*unique["columns"], ignore_case=unique.get("ignore_case", False))
                for unique in known.get("uniques", ())
            ),
            "indexes": tuple(Index(tuple(index["columns"])) for index in known.get("indexes", ())),
            "search": tuple(known.get("search", ())),
        }
    )


def _column(plain: Mapping[str, Any]) -> Column:
    known = _known(Column, plain)
    lists = {name: tuple(value) for name, value in known.items() if isinstance(value, list)}
    shape = known.get("shape")
    return Column(**{**known, **lists, "shape": shape and _part(shape)})


def _part(plain: Mapping[str, Any]) -> Part:
    known = _known(Part, plain)
    return Part(**{**known, "parts": tuple(_part(part) for part in known.get("parts", ()))})


def _known(kind: type[Any], plain: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in plain.items() if name in names}
