"""The status of the migrations of each plugin: those of its package compared with those the database has recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from pegboard.migrations import sqlfiles
from pegboard.migrations.fitness import ALL_VERBS, Use
from pegboard.migrations.sqlfiles import MigrationError, SqlFile
from pegboard.schema.ddl import TableSpec

CORE = "pegboard"
SCHEMA_ROW = 0, "schema"  # number and name of the record of a declared table

_RESERVED = frozenset({"public", "information_schema"})


@dataclass(frozen=True, slots=True)
class PluginMigrations:
    """Describe the source of a plugin's tables: the SQL files of `folder` or, without any, the declaration `table`.

    With both, the files create the table, and the references of `table` determine the order of plugins. `use` is how
    the resource uses the table, which may be an existing one. `version` is that of the distribution.
    """

    plugin: str
    folder: Traversable | None = None
    table: TableSpec | None = None
    distribution: str = ""
    installed: frozenset[str] = frozenset()
    """The distributions of all installed plugins."""
    names: tuple[str, ...] = ()
    """Other names of schemas that may have the plugin's data; if one does, `hint` is how to use it."""
    hint: str = ""
    version: str = ""
    use: Use = ALL_VERBS

    @property
    def table_name(self) -> tuple[str, str] | None:
        """Return the schema and the name of the table."""
        return (self.table.schema, self.table.name) if self.table else None

    @property
    def needs(self) -> frozenset[str]:
        """Return the names of the other plugins whose tables this one refers to."""
        columns = self.table.columns if self.table else ()
        return frozenset(c.references[0] for c in columns if c.references) - {self.plugin}


@dataclass(frozen=True, slots=True)
class Outcome:
    """Describe the status of one plugin's migrations, by name; that of a declared table is called `schema`.

    `applied` are all that the database has, `now` those applied by this call, `pending` those not yet applied, and
    `missing` those of another version of the package. A plugin that is not installed has only `missing`. `notices`
    describe what becomes of existing rows.
    """

    applied: tuple[str, ...] = ()
    now: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    failure: str | None = None
    installed: bool = True
    notices: tuple[str, ...] = ()


class NewerSchema(MigrationError):
    """Report that a newer version of the core created its tables."""


Applied = Mapping[int, tuple[str, str]]  # names and checksums by number
Records = Mapping[str, Applied]


def ordered(plugins: Iterable[PluginMigrations]) -> list[PluginMigrations]:
    """Return the core, then the plugins by name, each after those it refers to if possible."""
    waiting = sorted(plugins, key=lambda source: source.plugin)
    ordered = [PluginMigrations(CORE, files("pegboard") / "migrations")]
    while waiting:
        names = {source.plugin for source in waiting}
        source = next((source for source in waiting if not source.needs & names), waiting[0])
        waiting.remove(source)
        ordered.append(source)
    return ordered


def statuses(sources: Sequence[PluginMigrations], records: Records) -> dict[str, Outcome]:
    """Return the status of every plugin; those that are only recorded come last."""
    outcomes = {source.plugin: status_of(source, records.get(source.plugin, {})) for source in sources}
    for plugin in records.keys() - outcomes.keys():
        outcomes[plugin] = Outcome(missing=tuple(name for name, _ in records[plugin].values()), installed=False)
    return outcomes


def status_of(source: PluginMigrations, records: Applied) -> Outcome:
    """Return the status of one plugin."""
    applied = tuple(name for name, _ in records.values())
    try:
        sql_files, pending = files_pending(source, records)
    except (MigrationError, OSError) as error:
        return Outcome(applied, failure=str(error))
    known = {file.version for file in sql_files} | {SCHEMA_ROW[0]}
    missing = tuple(name for version, (name, _) in records.items() if version not in known)
    return Outcome(applied, pending=tuple(file.name for file in pending), missing=missing)


def files_pending(source: PluginMigrations, records: Applied) -> tuple[tuple[SqlFile, ...], tuple[SqlFile, ...]]:
    """Return all SQL files of a plugin and the pending ones; raises `MigrationError` if none can be applied."""
    if source.plugin in _RESERVED or source.plugin.startswith("pg_"):
        raise MigrationError(f"{source.plugin} is a name that PostgreSQL reserves")
    sql_files = sqlfiles.read(source.folder)
    if not sql_files:
        return (), ()
    checksums = {version: checksum for version, (_, checksum) in records.items()}
    described = checksums.pop(SCHEMA_ROW[0], None)
    first = sql_files[0]
    if described and not checksums and first.baseline and first.baseline != described:
        raise MigrationError(
            f"{first.name} does not match the table, which was created from another version of the schema: "
            "first start the version of the plugin from which this file was written"
        )
    return sql_files, sqlfiles.pending(sql_files, checksums)


def is_made_by_schema(source: PluginMigrations, sql_files: Sequence[SqlFile], records: Applied) -> bool:
    """Return whether the schema creates the table: once files of any version have been applied, it belongs to them."""
    by_files = bool(sql_files) or any(version != SCHEMA_ROW[0] for version in records)
    return source.table is not None and source.use.existing is None and not by_files
