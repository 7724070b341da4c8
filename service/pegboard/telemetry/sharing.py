"""The metrics that the workers of one service share: a file for each worker, in a temporary folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from pegboard.telemetry.families import BY_NAME, Snapshot, cumulative, merge

_ENDED = "ended.json"
_MAX_ENDED = 100


class SharedMetrics:
    """Publish the metrics of one worker, and read those of all.

    A counter that was served never decreases: a worker publishes its metrics before it serves them, and the counts of
    an ended worker are kept. Otherwise Prometheus would assume a restart, and count everything again.
    """

    def __init__(self, folder: Path, worker: int) -> None:
        self._folder = folder
        self._worker = worker

    def publish(self, snapshot: Snapshot) -> None:
        """Write `snapshot` for all workers to read."""
        _write(self._folder / f"{self._worker}.json", {"counts": _rows(snapshot)})

    def read(self) -> Snapshot:
        """Return the latest metrics of all workers, including this one, and the counts of ended workers."""
        return merge(_published(self._folder))


def merge_ended(folder: Path, worker: int) -> None:
    """Add the counts of a worker that has ended to those of earlier ones; called by the parent process."""
    ended = _read(folder / _ENDED)
    file = folder / f"{worker}.json"
    counts = cumulative(_snapshot(_read(file)))
    workers = [*ended.get("workers", ()), worker][-_MAX_ENDED:]
    # From now on readers ignore the worker's own file: they read this one last.
    _write(folder / _ENDED, {"workers": workers, "counts": _rows(merge((_snapshot(ended), counts)))})
    file.unlink(missing_ok=True)


def _published(folder: Path) -> Iterable[Snapshot]:
    """Return all published snapshots; a worker that ends meanwhile is included once."""
    contents = {file.stem: _read(file) for file in folder.glob("[0-9]*.json")}
    ended = _read(folder / _ENDED)
    for worker in ended.get("workers", ()):
        contents.pop(str(worker), None)
    return [_snapshot(content) for content in (*contents.values(), ended)]


def _rows(snapshot: Snapshot) -> list[tuple[Any, list[float]]]:
    return list(snapshot.items())


def _snapshot(content: Mapping[str, Any]) -> Snapshot:
    # After a reload, a worker of another version may have metrics that are unknown here.
    return {tuple(key): values for key, values in content.get("counts", ()) if key[0] in BY_NAME}


def _read(file: Path) -> Mapping[str, Any]:
    with suppress(FileNotFoundError):
        content: Mapping[str, Any] = orjson.loads(file.read_bytes())
        return content
    return {}


def _write(file: Path, content: Mapping[str, Any]) -> None:
    """Write a file atomically."""
    temporary = file.with_suffix(f".{os.getpid()}")
    temporary.write_bytes(orjson.dumps(content))
    temporary.replace(file)
