"""The order of the SQL files and tables of all plugins: `-- pegboard: after NAME NNNN` may interleave them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pegboard.migrations.sqlfiles import SqlFile
from pegboard.migrations.status import SCHEMA_ROW, PluginMigrations


@dataclass(frozen=True, slots=True)
class Step:
    """Apply one file of a plugin or, without a file, compare its table with the schema after all of its files."""

    source: PluginMigrations
    file: SqlFile | None


Numbers = Mapping[str, Collection[int]]
"""The numbers of files, by plugin."""


def schedule(
    sources: Sequence[PluginMigrations], pending: Mapping[str, Sequence[SqlFile]], applied: Numbers
) -> tuple[list[Step], dict[str, str]]:
    """Return the steps in their order, and why a plugin cannot take all of its own.

    The plugins take turns in the order of `sources`, each as far as the files of the others allow. A table that is
    made by its schema counts as the file 0000.
    """
    steps: list[Step] = []
    done = {name: set(numbers) for name, numbers in applied.items()}
    left = {source.plugin: list(pending.get(source.plugin, ())) for source in sources}
    by_schema = {s.plugin for s in sources if _is_made_by_schema(s, done.get(s.plugin, ()), left[s.plugin])}
    waiting = list(sources)
    while waiting:
        before = len(steps)
        for source in list(waiting):
            files = left[source.plugin]
            while files and unmet(files[0], done) is None:
                file = files.pop(0)
                steps.append(Step(source, file))
                done.setdefault(source.plugin, set()).add(file.version)
            if not files:
                steps.append(Step(source, None))
                if source.plugin in by_schema:
                    done.setdefault(source.plugin, set()).add(SCHEMA_ROW[0])
                waiting.remove(source)
        if len(steps) == before:
            break
    return steps, {source.plugin: _blocked(left[source.plugin][0], done, left, by_schema) for source in waiting}


def unmet(file: SqlFile, applied: Numbers) -> tuple[str, int] | None:
    """Return the file that must be applied before this one, and is not; None if there is none."""
    return next((need for need in file.after if need[1] not in applied.get(need[0], ())), None)


def _is_made_by_schema(source: PluginMigrations, applied: Collection[int], pending: Sequence[SqlFile]) -> bool:
    by_files = bool(pending) or any(number != SCHEMA_ROW[0] for number in applied)
    return source.table is not None and source.use.existing is None and not by_files


def _blocked(file: SqlFile, applied: Numbers, left: Mapping[str, Sequence[SqlFile]], by_schema: Collection[str]) -> str:
    need = unmet(file, applied) or ("", 0)
    waits = any(need[1] == other.version for other in left.get(need[0], ()))
    cure = ", as it waits in turn: remove one of the lines" if waits else ""
    if need[0] in by_schema:
        cure = f": the table of {need[0]} is made by its schema, so write after {need[0]} {SCHEMA_ROW[0]:04}"
    return not_applied(file, need) + cure


def not_applied(file: SqlFile, need: tuple[str, int]) -> str:
    """Return the error of a file that must run after one that is not applied."""
    return f"{file.name} must run after {need[0]} {need[1]:04}, which is not applied"
