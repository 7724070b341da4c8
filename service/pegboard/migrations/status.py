"""Where the migrations of each plugin stand: what its package holds beside what the database has recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from pegboard.migrations import sqlfiles
from pegboard.migrations.sqlfiles import MigrationError, SqlFile
from pegboard.schema import ddl
from pegboard.schema.ddl import TableSpec

CORE = "pegboard"
SCHEMA_ROW = 0, "schema"  # number and name under which a table made from a description is recorded

_RESERVED = frozenset({"public", "information_schema"})


@dataclass(frozen=True, slots=True)
class PluginMigrations:
    """Say where a plugin's tables come from: the SQL files of `folder` or, where it has none, `table`.

    With both, the files make the table, and `table` tells which plugins have to come before.
    """

    plugin: str
    folder: Traversable | None = None
    table: TableSpec | None = None

    @property
    def needs(self) -> frozenset[str]:
        """Return the names of the other plugins whose tables this one refers to."""
        columns = self.table.columns if self.table else ()
        return frozenset(c.references[0] for c in columns if c.references) - {self.plugin}


@dataclass(frozen=True, slots=True)
class Outcome:
    """Say where one plugin's migrations stand; `schema` is the name of what is made from a table's description.

    `applied` is all that the database has, `now` what this call added, `pending` what is yet to come, and `missing`
    what the database has from another version of the package. A plugin that is not installed has nothing but `missing`.
    """

    applied: tuple[str, ...] = ()
    now: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    failure: str | None = None
    installed: bool = True


class NewerSchema(MigrationError):
    """Say that the core's tables were made by a version of it that is newer than this one."""


Applied = Mapping[int, tuple[str, str]]  # names and checksums by number
Records = Mapping[str, Applied]


def ordered(plugins: Iterable[PluginMigrations]) -> list[PluginMigrations]:
    """Return the core, then the plugins by name, each after those it refers to as far as that is possible."""
    waiting = sorted(plugins, key=lambda source: source.plugin)
    ordered = [PluginMigrations(CORE, files("pegboard") / "migrations")]
    while waiting:
        names = {source.plugin for source in waiting}
        source = next((source for source in waiting if not source.needs & names), waiting[0])
        waiting.remove(source)
        ordered.append(source)
    return ordered


def standing(sources: Sequence[PluginMigrations], records: Records) -> dict[str, Outcome]:
    """Return where every plugin stands, those that are only recorded last."""
    outcomes = {source.plugin: stands(source, records.get(source.plugin, {})) for source in sources}
    for plugin in records.keys() - outcomes.keys():
        outcomes[plugin] = Outcome(missing=tuple(name for name, _ in records[plugin].values()), installed=False)
    return outcomes


def stands(source: PluginMigrations, records: Applied) -> Outcome:
    """Return where one plugin stands."""
    applied = tuple(name for name, _ in records.values())
    try:
        sql_files, pending = steps_pending(source, records)
    except (MigrationError, OSError) as error:
        return Outcome(applied, failure=str(error))
    known = {file.version for file in sql_files} | {SCHEMA_ROW[0]}
    missing = tuple(name for version, (name, _) in records.items() if version not in known)
    return Outcome(applied, pending=tuple(file.name for file in pending), missing=missing)


def steps_pending(source: PluginMigrations, records: Applied) -> tuple[tuple[SqlFile, ...], tuple[SqlFile, ...]]:
    """Return all steps of a plugin and those that are pending; a table's description is the step of number 0.

    Raises `MigrationError` where nothing can be applied.
    """
    if source.plugin in _RESERVED or source.plugin.startswith("pg_"):
        raise MigrationError(f"{source.plugin} is a name that PostgreSQL reserves")
    sql_files = sqlfiles.read(source.folder)
    checksums = {version: checksum for version, (_, checksum) in records.items()}
    described = checksums.pop(SCHEMA_ROW[0], None)
    if not sql_files:
        # Where files of another version have taken over, the table is theirs.
        current = source.table is None or bool(checksums) or described == ddl.fingerprint(source.table)
        return (), () if current else (SqlFile(*SCHEMA_ROW, ""),)
    first = sql_files[0]
    if described and not checksums and first.baseline and first.baseline != described:
        raise MigrationError(
            f"{first.name} does not match the table, which was created from another version of the schema: "
            "first start the version of the plugin from which this file was written"
        )
    return sql_files, sqlfiles.pending(sql_files, checksums)
