"""`pegboard serve --reload`: runs the service in a child process and replaces it when code changes."""

from __future__ import annotations

import importlib
import os
import runpy
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import click

from pegboard import running
from pegboard.hosting import discovery
from pegboard.settings import Settings

_INTERVAL = 0.2  # seconds between two checks of the files, each of which takes about a millisecond
_QUIET = 0.05  # seconds without changes after which a change is complete
_GRACE = 3.0  # seconds that a child has to stop

Stamp = tuple[int, int]


class Watch:
    """Watch the files of the core and of every installed plugin: code, SQL, templates and others."""

    def __init__(self) -> None:
        self._sites: tuple[int, ...] = ()
        self._installed: dict[str, Stamp] = {}
        self._roots: list[Path] = []
        self._last = self._snapshot()

    def changed(self) -> str | None:
        """Return a file or plugin that has changed since the last call; None if there is none."""
        before, current = self._last, self._snapshot()
        while current != self._last:
            # An editor may write several files, and a file in several steps.
            self._last = current
            time.sleep(_QUIET)
            current = self._snapshot()
        return min((name for name, _ in before.items() ^ current.items()), default=None)

    def _snapshot(self) -> dict[str, Stamp]:
        # Installing or removing a distribution changes a folder of `sys.path`, which is faster to check than discovery.
        sites = tuple(_stamp(Path(site))[0] for site in sys.path)
        if sites != self._sites:
            importlib.invalidate_caches()
            points = discovery.installed()
            self._installed = {f"the plugin {point.name} ({point.value})": (0, 0) for point in points}
            packages = dict.fromkeys(("pegboard", *(point.module.partition(".")[0] for point in points)))
            self._roots = [root for package in packages for root in _roots(package)]
            self._sites = sites
        files = {str(file): _stamp(file) for root in self._roots for file in _files(root)}
        return files | self._installed


def _roots(package: str) -> list[Path]:
    """Return where the files of a package or of a single module are, without importing it."""
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    locations = spec.submodule_search_locations or ([spec.origin] if spec.origin else [])
    return [Path(location) for location in locations]


def _files(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name != "__pycache__" and not name.startswith(".")]
        yield from (Path(folder, name) for name in names if not name.startswith("."))


def _stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_mtime_ns, status.st_size


def serve(settings: Settings, listening: socket.socket) -> NoReturn:
    """Serve on `listening` in a child process, replaced after each change, until a signal ends this process.

    The socket and the database are kept: a client that connects during a restart waits for the new child.
    """
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(0))
    watch = Watch()
    children = {_start(settings, listening)}
    try:
        while True:
            time.sleep(_INTERVAL)
            for child in _ended(children):
                click.echo("The service has stopped; waiting for a change", err=True)
                children.discard(child)
            changed = watch.changed()
            if changed is None:
                continue
            click.echo(f"Restarting: {changed} has changed", err=True)
            stopping = _stop(children)
            children = {_start(settings, listening)}
            _reap(stopping)
    finally:
        running.ignore_signals()
        _reap(_stop(children))


def _start(settings: Settings, listening: socket.socket) -> int:
    """Start a process that runs this command without `--reload`, and return its id.

    It is a fork that imports the core and the plugins again. Their dependencies are loaded already, which saves most of
    the time of a start.
    """
    child = os.fork()
    if child:
        return child
    status: object = 1
    try:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        if settings.database_url:
            os.environ["PEGBOARD_DATABASE_URL"] = settings.database_url
            os.environ.pop("PEGBOARD_DATABASE_URL_FILE", None)
        os.environ["PEGBOARD_DRAIN_SECONDS"] = "0"
        os.environ.pop("PEGBOARD_DRAIN_SECONDS_FILE", None)
        running.pass_descriptor(listening.detach())
        _run([argument for argument in sys.argv[1:] if argument != "--reload"])
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status if isinstance(status, int) else 0 if status is None else 1)


def _run(arguments: list[str]) -> None:
    # Python would use stale bytecode for a file that was changed within the same second and has the same size.
    sys.dont_write_bytecode = True
    packages = {"pegboard", *(point.module.partition(".")[0] for point in discovery.installed())}
    for name in [name for name in sys.modules if name.partition(".")[0] in packages]:
        del sys.modules[name]
    importlib.invalidate_caches()
    sys.argv[1:] = [*arguments, "--workers", "1"]
    runpy.run_module("pegboard", run_name="__main__")


def _ended(children: set[int]) -> list[int]:
    """Return the children that have exited by themselves."""
    return [child for child in children if os.waitpid(child, os.WNOHANG)[0]]


def _stop(children: set[int]) -> set[int]:
    for child in children:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)
    return children


def _reap(stopping: set[int]) -> None:
    """Wait for children that were asked to stop, and kill those that do not."""
    deadline = time.monotonic() + _GRACE
    for child in stopping:
        while not os.waitpid(child, os.WNOHANG)[0]:
            if time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                break
            time.sleep(0.01)
