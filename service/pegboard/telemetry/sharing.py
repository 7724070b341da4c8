"""What the workers of one service tell each other of their counts: a file for each, in a folder of their own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from pegboard.telemetry.families import BY_NAME, Snapshot, lasting, merge

_ENDED = "ended.json"
_REMEMBERED = 100


class Shared:
    """Publish the counts of one worker, and read those of all.

    A count that anybody was told never gets smaller: what a worker tells, it publishes first; and what an ended worker
    has counted stays. Otherwise Prometheus would take it for a restart, and count all of it once more.
    """

    def __init__(self, folder: Path, worker: int) -> None:
        self._folder = folder
        self._worker = worker

    def publish(self, snapshot: Snapshot) -> None:
        """Let the other workers see `snapshot` from now on."""
        _write(self._folder / f"{self._worker}.json", {"counts": _rows(snapshot)})

    def read(self) -> Snapshot:
        """Return what all workers, this one included, have published last, and what those that ended have left."""
        return merge(_all(self._folder))


def end(folder: Path, worker: int) -> None:
    """Add the counts of a worker that has ended to those of the others that have; for the process that started it."""
    ended = _read(folder / _ENDED)
    file = folder / f"{worker}.json"
    left = lasting(_snapshot(_read(file)))
    workers = [*ended.get("workers", ()), worker][-_REMEMBERED:]
    # From this moment on the file no longer counts for those who read, who look here last.
    _write(folder / _ENDED, {"workers": workers, "counts": _rows(merge((_snapshot(ended), left)))})
    file.unlink(missing_ok=True)


def _all(folder: Path) -> Iterable[Snapshot]:
    """Return what there is; a worker that ends meanwhile is there once."""
    found = {file.stem: _read(file) for file in folder.glob("[0-9]*.json")}
    ended = _read(folder / _ENDED)
    for worker in ended.get("workers", ()):
        found.pop(str(worker), None)
    return [_snapshot(part) for part in (*found.values(), ended)]


def _rows(snapshot: Snapshot) -> list[tuple[Any, list[float]]]:
    return list(snapshot.items())


def _snapshot(content: Mapping[str, Any]) -> Snapshot:
    # After a reload, a worker of another version may have metrics that are not known here.
    return {tuple(key): values for key, values in content.get("counts", ()) if key[0] in BY_NAME}


def _read(file: Path) -> Mapping[str, Any]:
    with suppress(FileNotFoundError):
        content: Mapping[str, Any] = orjson.loads(file.read_bytes())
        return content
    return {}


def _write(file: Path, content: Mapping[str, Any]) -> None:
    """Write a file that is there whole or not at all."""
    made = file.with_suffix(f".{os.getpid()}")
    made.write_bytes(orjson.dumps(content))
    made.replace(file)
