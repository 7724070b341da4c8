"""`pegboard serve --reload`: the service in a process of its own, and in a new one whenever code has changed."""

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

_LOOK = 0.2  # seconds from one look at the files to the next: each costs about a millisecond
_SETTLED = 0.05  # seconds in which nothing more has to be written
_GRACE = 3.0  # seconds that the end is waited for of what was told to stop

Stamp = tuple[int, int]


class Watch:
    """Know the files of the core and of every plugin that is installed, whatever they hold: code, SQL, templates."""

    def __init__(self) -> None:
        self._sites: tuple[int, ...] = ()
        self._installed: dict[str, Stamp] = {}
        self._roots: list[Path] = []
        self._seen = self._look()

    def changed(self) -> str | None:
        """Return the path of a file that is not as it was when last asked, or a plugin; None when all is."""
        before, seen = self._seen, self._look()
        while seen != self._seen:
            # An editor may write several files, and one of them in steps.
            self._seen = seen
            time.sleep(_SETTLED)
            seen = self._look()
        return min((name for name, _ in before.items() ^ seen.items()), default=None)

    def _look(self) -> dict[str, Stamp]:
        # What is installed or removed changes a folder that Python imports from; to find what it was takes longer.
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
    """Return where the files of a package are, or of a single module, without importing it."""
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    places = spec.submodule_search_locations or ([spec.origin] if spec.origin else [])
    return [Path(place) for place in places]


def _files(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name != "__pycache__" and not name.startswith(".")]
        yield from (Path(folder, name) for name in names if not name.startswith("."))


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def serve(settings: Settings, listening: socket.socket) -> NoReturn:
    """Serve on `listening` in a child until a signal ends this process; begin anew with a new one after each change.

    The socket is kept, so that whoever connects meanwhile waits for the new code; so is the database.
    """
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(0))
    watch = Watch()
    children = {_start(settings, listening)}
    try:
        while True:
            time.sleep(_LOOK)
            for child in _ended(children):
                click.echo("The service has stopped; waiting for a change", err=True)
                children.discard(child)
            changed = watch.changed()
            if changed is None:
                continue
            click.echo(f"Restarting: {changed} has changed", err=True)
            leaving = _stop(children)
            children = {_start(settings, listening)}
            _part(leaving)
    finally:
        running.ignore_signals()
        _part(_stop(children))


def _start(settings: Settings, listening: socket.socket) -> int:
    """Start a process that runs this command without `--reload`, and return its id.

    It is a fork, and imports the core and the plugins anew; what they are built on it has already, which spares most of
    the time that a start takes.
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
    # Python takes what it has compiled for current where a file of the same size was written within the same second.
    sys.dont_write_bytecode = True
    packages = {"pegboard", *(point.module.partition(".")[0] for point in discovery.installed())}
    for name in [name for name in sys.modules if name.partition(".")[0] in packages]:
        del sys.modules[name]
    importlib.invalidate_caches()
    sys.argv[1:] = [*arguments, "--workers", "1"]
    runpy.run_module("pegboard", run_name="__main__")


def _ended(children: set[int]) -> list[int]:
    """Return those that have ended by themselves."""
    return [child for child in children if os.waitpid(child, os.WNOHANG)[0]]


def _stop(children: set[int]) -> set[int]:
    for child in children:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM)
    return children


def _part(leaving: set[int]) -> None:
    """Wait for those that were told to stop, and end those that hang on."""
    give_up = time.monotonic() + _GRACE
    for child in leaving:
        while not os.waitpid(child, os.WNOHANG)[0]:
            if time.monotonic() > give_up:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                break
            time.sleep(0.01)
